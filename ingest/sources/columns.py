"""How the user names the columns of a table: by name, by path into nested objects, by template."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.errors import SourceError
from search.types import Json

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
# What closes the field before it; the rest of a literal opens the one after it.
_CLOSING = re.compile(r"""[)\]}"'”’»]*[.!?…]*""")
_LEADING = " \t\r\n,;:|/–—-·"
_TRAILING = " \t\r\n,;:|/–—-·("


class NoText(ValueError):
    """A cell that is needed as text and holds something else; the message is the reason."""


def find(cells: Mapping[str, Any], path: str) -> Any:
    """The cell of this name, or at this path (`author.name`, `tags.0`); None where there is none."""
    if path in cells:
        return cells[path]
    here: Any = cells
    for step in path.split("."):
        if isinstance(here, Mapping):
            here = here.get(step)
        elif isinstance(here, list) and step.isdecimal() and int(step) < len(here):
            here = here[int(step)]
        else:
            return None
    return here


def has(cells: Mapping[str, Any], path: str) -> bool:
    """Whether there is such a cell, even an empty one."""
    if path in cells:
        return True
    above, _, last = path.rpartition(".")
    parent = find(cells, above) if above else None
    if isinstance(parent, list):
        return last.isdecimal() and int(last) < len(parent)
    return isinstance(parent, Mapping) and last in parent


def without(cells: Mapping[str, Any], paths: Collection[str | None]) -> dict[str, Any]:
    """The cells but those of these names or at these paths; the caller's are left as they are."""
    kept = {name: cell for name, cell in cells.items() if name not in paths}
    for path in paths:
        if path is None or path in cells or "." not in path:
            continue
        first, _, rest = path.partition(".")
        if isinstance(kept.get(first), Mapping):
            kept[first] = without(kept[first], (rest,))
            if not kept[first]:
                del kept[first]
    return kept


def names_of(cells: Mapping[str, Any]) -> Iterator[str]:
    """The columns, and the paths of what is nested in them, two levels down, for a message."""
    for name, cell in cells.items():
        if isinstance(cell, Mapping) and cell:
            for inner, value in cell.items():
                deeper = isinstance(value, Mapping) and value
                yield from (f"{name}.{inner}.{last}" for last in value) if deeper else (f"{name}.{inner}",)
        else:
            yield name


@dataclass(frozen=True, slots=True)
class Template:
    """Text with fields in it, such as `{title}. {abstract}`; `{{` and `}}` are braces.

    `pieces` are (what opens the field, the field's path, what closes it); `end` is what stands after the last.
    Where a row has no value for a field, the field goes with what opens and closes it.
    """

    pieces: tuple[tuple[str, str, str], ...]
    end: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of its fields."""
        return tuple(path for _, path, _ in self.pieces)

    def fill(self, cells: Mapping[str, Any]) -> str:
        """The text for a row; "" where it has a value for none of the fields.

        Raises:
            NoText: a field is an object.
        """
        out = ""
        dropped = False
        for place, (opening, path, closing) in enumerate(self.pieces):
            value = _written(find(cells, path), path)
            dropped = not value
            if dropped:
                continue
            out += (opening if out or place == 0 else opening.lstrip(_LEADING)) + value + closing
        if not out:
            return ""
        return out.rstrip(_TRAILING) if dropped else out + self.end


def _written(value: Any, path: str) -> str:
    """A cell as it stands in a text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        raise NoText(f"{path!r} is an object, not a text")
    if isinstance(value, list):
        return ", ".join(written for each in value if (written := _written(each, path)))
    return str(value)


def template(text: str) -> Template | None:
    """The template that this is; None where it is the plain name of a column.

    Raises:
        SourceError: a brace is not closed, or nothing stands between two.
    """
    if "{" not in text and "}" not in text:
        return None
    literals, paths = [""], list[str]()
    end = 0
    for found in _FIELD.finditer(text):
        literals[-1] += text[end : found.start()]
        end = found.end()
        if found.group() in ("{{", "}}"):
            literals[-1] += found.group()[0]
        elif found.group(1) is None or not found.group(1).strip():
            raise SourceError(
                f"the template {text!r} has a brace alone; write {{column}}, or {{{{ for a brace"
            )
        else:
            paths.append(found.group(1).strip())
            literals.append("")
    literals[-1] += text[end:]
    if not paths:
        raise SourceError(f"the template {text!r} names no column; write {{column}}")
    opening = literals[0]
    pieces: list[tuple[str, str, str]] = []
    for path, literal in zip(paths, literals[1:], strict=True):
        closing = _CLOSING.match(literal)
        cut = closing.end() if closing else 0
        pieces.append((opening, path, literal[:cut]))
        opening = literal[cut:]
    return Template(tuple(pieces), opening)


def paths_of(text: str | None) -> tuple[str, ...]:
    """The paths that this name, path or template asks for."""
    if text is None:
        return ()
    filled = template(text)
    return (text,) if filled is None else filled.paths


def first_of(cells: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of these names that is a column, however it is capitalised."""
    folded = {column.casefold(): column for column in reversed(list(cells))}
    return next((folded[name] for name in names if name in folded), None)


def listed(names: Iterable[str]) -> str:
    """Names for a message: all of them, or the first twenty."""
    every = list(names)
    shortened = [name if len(name) <= 40 else f"{name[:39]}…" for name in every[:20]]
    return ", ".join(shortened) + (", …" if len(every) > 20 else "")


def as_id(cell: object) -> str | None:
    """A cell as an id: a string, or a whole number written out."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    return cell if isinstance(cell, str) else None


Cells = Mapping[str, Json]
