"""What a document comes out as, and how a reader says that it cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from search.types import Json

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a document and what it says of itself.

    `metadata` holds title, author, date, language and the like where the format has them; `encoding` is how its
    bytes were decoded where that was not plain UTF-8, `guessed` if nothing said so (see `encodings.Decoded`);
    `markup` as in `contract.Item`.
    """

    text: str
    metadata: Mapping[str, Json] = field(default_factory=dict)
    encoding: str | None = None
    guessed: bool = False
    markup: bool = True


class Unreadable(Exception):
    """A document that cannot be read; the message is the reason, as the user is told it."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Has whatever another package raises over a damaged file told as `Unreadable`.

    Readers of foreign formats fail on damaged files in every way there is (KeyError, struct.error, recursion);
    hold nothing but calls to them inside.
    """
    try:
        yield
    except (Unreadable, OSError, MemoryError):
        raise
    except Exception as error:
        told = one_line(str(error))[:200] or type(error).__name__
        raise Unreadable(f"damaged, or no {what}: {told}") from error


def one_line(text: str) -> str:
    """The text with each run of white space as one space."""
    return _SPACE.sub(" ", text).strip()


def told(**fields: str | None) -> dict[str, Json]:
    """The fields that say something."""
    return {name: value for name, field in fields.items() if (value := one_line(field or ""))}


def heading(level: int, text: str) -> str:
    """A heading of this level, 1 to 6, as Markdown; nothing where there is no text."""
    text = one_line(text)
    return f"{'#' * min(max(level, 1), 6)} {text}" if text else ""


def fenced(code: str, language: str = "") -> str:
    """Code between fences that are longer than any in it; nothing where there is no code."""
    code = code.strip("\n").rstrip()
    if not code.strip():
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`{3,}", code)), default=0))
    return f"{fence}{language}\n{code}\n{fence}"


def table(rows: Iterable[Iterable[str]]) -> str:
    """A table as Markdown, its first row as the header; nothing where all cells are empty."""
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    if not cells:
        return ""
    width = max(map(len, cells))
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])
