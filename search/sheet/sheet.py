"""Contact sheets: answers as one HTML page that needs nothing beside it and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.encoders.pictures import available_cores
from search.errors import CollectionError
from search.sheet.thumbnails import NONE, Stored, Thumbnail, of_picture, of_record
from search.types import Duplicates, Hit, Json, Labelling, Record
from search.version import __version__

MOST_CARDS = 1000  # on a page: with pictures some 20 MB
_MOST_FIELDS, _MOST_LETTERS = 12, 400
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Card:
    """One record as it is shown: what is said above it, its picture, its id, text and fields."""

    id: str
    said: str = ""
    picture: Thumbnail = NONE
    text: str | None = None
    fields: Sequence[tuple[str, str]] = ()
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Cards under a heading."""

    heading: str
    cards: Sequence[Card]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page: what was asked, and the answers."""

    title: str
    told: str
    sections: Sequence[Section]
    asked: Sequence[Card] = ()
    left_out: int = 0  # cards for which there was no room


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A card before its picture is made."""

    card: Card
    uri: str | None
    metadata: Mapping[str, Json]
    part: Mapping[str, Json] | None = None


def query_cards(
    words: str | None,
    image: Path | None,
    region: Sequence[float] | None,
    like: Record | None,
    stored: Stored | None,
) -> list[Card]:
    """What was asked, for the head of the page: words, a picture and its region, a stored record."""
    cards = []
    if words:
        cards.append(Card(words, "words"))
    if image is not None:
        box = None if region is None else (region[0], region[1], region[2], region[3])
        cards.append(Card(str(image), "picture", of_picture(image, box)))
    if like is not None:
        picture = of_record(like.id, like.uri, like.metadata or {}, None, stored)
        cards.append(Card(like.id, "like", picture, None if like.text is None else _short(like.text)))
    return cards


def of_hits(hits: Sequence[Hit], asked: Sequence[Card], told: str, stored: Stored | None) -> Sheet:
    """The hits of a search, best first."""
    wanted = [_of_hit(hit, f"{hit.score:.3f}  {hit.space}") for hit in hits]
    sections, left_out = _illustrated([("", wanted)], stored)
    return Sheet("Search", told, sections, asked, left_out)


def of_duplicates(groups: Sequence[Duplicates], told: str, stored: Stored | None) -> Sheet:
    """Groups of duplicates, in each the one kept first."""
    wanted = []
    for group in groups:
        cards = [_of_hit(group.kept, "kept", chosen=True)]
        for hit in group.others:
            equal = ", equal" if hit.explain and hit.explain.get("exact") else ""
            cards.append(_of_hit(hit, f"{hit.score:.3f}{equal}"))
        wanted.append((group.kept.id, cards))
    sections, left_out = _illustrated(wanted, stored)
    return Sheet("Duplicates", told, sections, left_out=left_out)


def of_labels(found: Labelling, told: str, stored: Stored | None) -> Sheet:
    """Guessed labels, the surest of each first, and those that were not given last."""
    by_label: dict[str, list[_Wanted]] = {}
    unsure = []
    for one in found.labels:
        card = Card(one.id, f"{one.confidence:.3f}")
        if one.given:
            by_label.setdefault(str(one.label), []).append(_Wanted(card, one.uri, {}))
        else:
            unsure.append(_Wanted(replace(card, said=f"{one.label}? {one.confidence:.3f}"), one.uri, {}))
    wanted = [(f"{found.field}: {label}", cards) for label, cards in by_label.items()]
    if unsure:
        wanted.append(("not sure enough", unsure))
    sections, left_out = _illustrated(wanted, stored)
    return Sheet(f"Labels: {found.field}", told, sections, left_out=left_out)


def _of_hit(hit: Hit, said: str, *, chosen: bool = False) -> _Wanted:
    part = hit.part or {}
    if "label" in part:
        said += f"  {part['label']}" + (f" {float(str(part['score'])):.2f}" if "score" in part else "")
    fields = [(name, _short(value)) for name, value in list(hit.metadata.items())[:_MOST_FIELDS]]
    text = None if hit.text is None else _short(" ".join(hit.text.split()))
    return _Wanted(Card(hit.id, said, NONE, text, fields, chosen), hit.uri, hit.metadata, hit.part)


def _short(value: Json) -> str:
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return told if len(told) <= _MOST_LETTERS else told[: _MOST_LETTERS - 1] + "…"


def _illustrated(
    wanted: Sequence[tuple[str, Sequence[_Wanted]]], stored: Stored | None
) -> tuple[list[Section], int]:
    """The sections with their pictures, as many as there is room for; and how many cards there was none for."""
    room = MOST_CARDS
    sections, left_out = [], 0

    def illustrated(one: _Wanted) -> Card:
        given: Any = None if one.part is None else one.part.get("box")
        box = None if given is None else (given[0], given[1], given[2], given[3])
        return replace(one.card, picture=of_record(one.card.id, one.uri, one.metadata, box, stored))

    with ThreadPoolExecutor(min(_AHEAD, available_cores()), "nearkin-sheet") as threads:
        for heading, cards in wanted:
            some = cards[:room]
            room -= len(some)
            left_out += len(cards) - len(some)
            if some:
                sections.append(Section(heading, list(threads.map(illustrated, some))))
    return sections, left_out


def render(sheet: Sheet) -> str:
    """The page; whatever comes from records is escaped, and pictures stand in it as data."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("search.sheet", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("sheet.html.j2").render(sheet=sheet, version=__version__)


def write(path: Path, sheet: Sheet) -> None:
    """Write the page, whole or not at all.

    Raises:
        CollectionError: it cannot be written there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        # Halves of surrogate pairs, which UTF-8 has no place for, become question marks.
        partial.write_text(render(sheet), encoding="utf-8", errors="replace")
        partial.replace(path)
    except OSError as error:
        raise CollectionError(
            f"{path} cannot be written ({error.strerror}); check the path, its permissions and the disk"
        ) from None
