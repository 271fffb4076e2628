"""Asks a space by its own records: known items, spoilt queries, held-out passages, neighbours, and its index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from search.catalog import reads
from search.catalog.database import Transaction
from search.catalog.neighbours import CONTEXTUAL_WORDS
from search.errors import NearkinError, UnknownSpace
from search.evaluate import perturb
from search.evaluate.unlabelled import Unlabelled
from search.index.tune import recall_of_each
from search.index.view import Look
from search.query import run
from search.query.ask import Asker
from search.query.plan import Method
from search.query.run import Found
from search.types import Json, Modality, Record, Space
from search.vectors import Keys, Vectors

if TYPE_CHECKING:
    from search.encoders.contract import Item

_K = 10


@dataclass(frozen=True, slots=True)
class _Queries:
    """Queries about records: row i, plain and spoilt, is about `ids[i]`, whose key is `keys[i]`."""

    ids: list[str] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    plain: Vectors | None = None
    spoilt: Vectors | None = None


@dataclass(frozen=True, slots=True)
class _Sample:
    """The records sampled, and how many there are in the space."""

    records: list[reads.Stored]
    n_records: int


def evaluated(asker: Asker, space: Space, *, sample: int, seed: int) -> Unlabelled:
    """Measure a space.

    Args:
        asker: who asks it.
        space: which one.
        sample: how many records to ask about.
        seed: of their choice, and of what is done to the queries.

    Raises:
        UnknownSpace: there is nothing in it.
        ModelError: its encoder cannot be had.
    """
    drawn = asker.looked(space, lambda transaction, look: _drawn(transaction, look, sample, seed))
    if not drawn.records:
        raise UnknownSpace(f"space '{space.name}' holds no vectors; ingest something into it first")
    queries = _queries(asker, space, drawn.records, seed)
    values, index = asker.looked(
        space, lambda transaction, look: _measured(transaction, look, drawn.records, queries, seed)
    )
    return Unlabelled(
        space=space.name,
        encoder=space.encoder,
        index=index,
        n_records=drawn.n_records,
        seed=seed,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        values={name: one for name, one in values.items() if one},
    )


def _drawn(transaction: Transaction, look: Look, sample: int, seed: int) -> _Sample:
    ids = reads.ids_in(transaction, look.space)
    chosen = perturb.sampled(ids, sample, seed)
    found = reads.records_of(transaction, chosen)
    return _Sample([found[id] for id in chosen if id in found], len(ids))


def _queries(asker: Asker, space: Space, records: Sequence[reads.Stored], seed: int) -> _Queries:
    """What to ask about the records, where the space's encoder can encode it."""
    encoder = space.encoder
    make: Callable[[Record, int], tuple[Item, Item] | None]
    if space.modality is Modality.IMAGE and "image" in encoder.accepts:
        make = _pictures
    elif "text" in encoder.accepts and space.modality is Modality.TEXT and encoder.family != CONTEXTUAL_WORDS:
        make = _sentences
    else:
        return _Queries()
    made = [(one, pair) for one in records if (pair := make(one.record, seed)) is not None]
    if not made:
        return _Queries()
    model = asker.encoder(space)
    return _Queries(
        [one.record.id for one, _ in made],
        [one.key for one, _ in made],
        model.encode([pair[0] for _, pair in made], role="query"),
        model.encode([pair[1] for _, pair in made], role="query"),
    )


def _sentences(record: Record, seed: int) -> tuple[Item, Item] | None:
    chosen = perturb.sentence(record.text or "", perturb.drawn(seed, record.id, "sentence"))
    if chosen is None:
        return None
    return chosen, perturb.misspelt(chosen, perturb.drawn(seed, record.id, "misspelt"))


def _pictures(record: Record, seed: int) -> tuple[Item, Item] | None:
    """The picture and a part of it mirrored; None where the file cannot be read (any more)."""
    if record.uri is None:
        return None
    from search.encoders.pictures import open_picture

    try:
        picture = open_picture(Path(record.uri))
    except (NearkinError, OSError):
        return None
    return picture, perturb.cropped(picture, perturb.drawn(seed, record.id, "cropped"))


def _measured(
    transaction: Transaction,
    look: Look,
    records: Sequence[reads.Stored],
    queries: _Queries,
    seed: int,
) -> tuple[dict[str, dict[str, float]], dict[str, Json]]:
    values: dict[str, dict[str, float]] = {}
    if queries.plain is not None and queries.spoilt is not None:
        plain, way = run.nearest(look, queries.plain, _K, None)
        spoilt, _ = run.nearest(look, queries.spoilt, _K, None)
        if look.space.modality is Modality.TEXT:  # a picture as it is finds itself
            values["known_item"] = _ranks(queries, plain)
        values["perturbed"] = _ranks(queries, spoilt)
        values["stability"] = {
            id: _overlap(one.record_keys, other.record_keys)
            for id, one, other in zip(queries.ids, plain, spoilt, strict=True)
        }
    parts = reads.parts_of(transaction, look.space, [one.key for one in records])
    placed = [one for one in records if parts.get(one.key)]
    values["held_out"] = _held_out(look, placed, parts, seed)
    first = run.vectors_of(look.rows, [parts[one.key][0] for one in placed])
    values["mutual"] = _mutual(look, placed, first)
    ids, asked = (
        ([one.record.id for one in placed], first) if queries.plain is None else (queries.ids, queries.plain)
    )
    recall = np.ones(len(ids))
    _, way = run.nearest(look, asked[:1], _K, None)
    if way.method is Method.INDEX and look.approximate is not None:
        near = look.approximate.search(asked, _K)
        recall = recall_of_each(near.scores, look.flat.search(asked, _K).scores)
    values["index_recall"] = dict(zip(ids, recall.tolist(), strict=True))
    index: dict[str, Json] = (
        {"kind": "flat"}
        if look.approximate is None
        else {
            "kind": look.approximate.structure.kind.value,
            "effort": look.approximate.effort,
        }
    )
    return values, index


def _ranks(queries: _Queries, found: Sequence[Found]) -> dict[str, float]:
    return {
        id: _reciprocal(key, one.record_keys)
        for id, key, one in zip(queries.ids, queries.keys, found, strict=True)
    }


def _reciprocal(key: int, record_keys: Keys) -> float:
    """1 over the rank of the record; 0 where it was not found."""
    at = np.flatnonzero(record_keys == key)
    return 1.0 / (int(at[0]) + 1) if len(at) else 0.0


def _overlap(one: Keys, other: Keys) -> float:
    return len(np.intersect1d(one, other)) / max(len(one), len(other), 1)


def _held_out(
    look: Look, records: Sequence[reads.Stored], parts: Mapping[int, Sequence[int]], seed: int
) -> dict[str, float]:
    """For records of several pieces: a piece, taken out, finds the record by the others."""
    several = [one for one in records if len(parts[one.key]) > 1]
    if not several:
        return {}
    out = [
        parts[one.key][int(perturb.drawn(seed, one.record.id, "held out").integers(len(parts[one.key])))]
        for one in several
    ]
    rows = run.vectors_of(look.rows, out)
    most = max(len(parts[one.key]) for one in several)
    # So many parts that, each record's best alone counted and the one held out left out, ten records remain.
    near = look.flat.search(rows, min(len(look.rows), _K * most + 1))
    found = {}
    for number, one in enumerate(several):
        owners = near.record_keys[number][near.ids[number] != out[number]]
        _, at = np.unique(owners, return_index=True)
        found[one.record.id] = _reciprocal(one.key, owners[np.sort(at)][:_K])
    return found


def _mutual(look: Look, records: Sequence[reads.Stored], rows: Vectors) -> dict[str, float]:
    """The share of the nearest of each record that have it among their own nearest."""
    around, _ = run.nearest(look, rows, _K + 1, None)
    nearest = [_without(one, own.key) for one, own in zip(around, records, strict=True)]
    parts = sorted({int(part) for one in nearest for part in one.part_keys})
    if not parts:
        return {}
    back, _ = run.nearest(look, run.vectors_of(look.rows, parts), _K + 1, None)
    known = dict(zip(parts, back, strict=True))
    return {
        own.record.id: float(
            np.mean(
                [
                    own.key in _without(known[int(part)], int(key)).record_keys
                    for part, key in zip(one.part_keys, one.record_keys, strict=True)
                ]
            )
        )
        for own, one in zip(records, nearest, strict=True)
        if len(one.part_keys)
    }


def _without(found: Found, record_key: int) -> Found:
    """The first ten, without a record."""
    stays = np.flatnonzero(found.record_keys != record_key)[:_K]
    return Found(found.part_keys[stays], found.record_keys[stays], found.scores[stays])
