"""Queries, judgements and runs in the files that people have: TREC's, and BEIR's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from search.errors import SourceError
from search.evaluate.metrics import Judgements, Run, ranking

_HEADER = ("query-id", "corpus-id", "score")  # of BEIR's judgements


def read_queries(path: str | Path) -> dict[str, str]:
    """The words of each query by its id: `.jsonl` lines with `_id` (or `id`) and `text`, else `id<TAB>text` lines.

    Raises:
        SourceError: the file or a line of it cannot be read, an id stands twice, or there is no query.
    """
    file = Path(path).expanduser()
    queries: dict[str, str] = {}
    for number, line in _lines(file):
        id, words = (
            _json_query(line, file, number) if file.suffix == ".jsonl" else _tab_query(line, file, number)
        )
        if id in queries:
            raise SourceError(f"query '{id}' stands twice; give each once", str(file), number)
        if not words.strip():
            raise SourceError(f"query '{id}' is empty; give it some words", str(file), number)
        queries[id] = words
    if not queries:
        raise SourceError("there is no query in it; give lines with _id and text", str(file))
    return queries


def _json_query(line: str, file: Path, number: int) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except ValueError:
        raise SourceError("the line is no JSON; write one object a line", str(file), number) from None
    id = row.get("_id", row.get("id")) if isinstance(row, dict) else None
    words = row.get("text") if isinstance(row, dict) else None
    if isinstance(id, bool) or not isinstance(id, str | int) or not isinstance(words, str):
        raise SourceError(
            "the line is no query; write an object with _id and text, both strings", str(file), number
        )
    return str(id), words


def _tab_query(line: str, file: Path, number: int) -> tuple[str, str]:
    id, tab, words = line.partition("\t")
    if not tab:
        raise SourceError("the line has one column; write the id, a tab, and the words", str(file), number)
    return id.strip(), words


def read_judgements(path: str | Path) -> dict[str, dict[str, int]]:
    """For each query's id the grade of each document judged.

    Lines of four columns are TREC's (query, iteration, document, grade); lines of three are query, document, grade,
    with BEIR's header or without. Columns end at a tab where there is one, else at blanks.

    Raises:
        SourceError: the file or a line of it cannot be read, a pair has two grades, or nothing is judged.
    """
    file = Path(path).expanduser()
    judged: dict[str, dict[str, int]] = {}
    first = True
    for number, line in _lines(file):
        cells = _cells(line)
        if first and tuple(cells) == _HEADER:
            first = False
            continue
        first = False
        if len(cells) not in (3, 4):
            raise SourceError(
                f"the line has {len(cells)} columns; write query, iteration, document and grade (TREC), or query, "
                "document and grade (BEIR)",
                str(file),
                number,
            )
        query, document = cells[0], cells[-2]
        grade = _number(cells[-1], "the grade", file, number)
        if grade != int(grade):
            raise SourceError(f"the grade is {cells[-1]}; write a whole number", str(file), number)
        there = judged.setdefault(query, {})
        if there.setdefault(document, int(grade)) != int(grade):
            raise SourceError(
                f"document '{document}' has two grades for query '{query}'; keep one", str(file), number
            )
    if not judged:
        raise SourceError("nothing is judged in it; give lines of query, document and grade", str(file))
    return judged


def read_run(path: str | Path) -> dict[str, dict[str, float]]:
    """The score of each document found for each query, from a TREC run: query, Q0, document, rank, score, name.

    The rank is not looked at: as with trec_eval, the scores say the order.

    Raises:
        SourceError: the file or a line of it cannot be read, a document stands twice, or there is none.
    """
    file = Path(path).expanduser()
    run: dict[str, dict[str, float]] = {}
    for number, line in _lines(file):
        cells = _cells(line)
        if len(cells) != 6:
            raise SourceError(
                f"the line has {len(cells)} columns; a TREC run has query, Q0, document, rank, score and name",
                str(file),
                number,
            )
        score = _number(cells[4], "the score", file, number)
        found = run.setdefault(cells[0], {})
        if cells[2] in found:
            raise SourceError(
                f"document '{cells[2]}' stands twice for query '{cells[0]}'; keep one", str(file), number
            )
        found[cells[2]] = score
    if not run:
        raise SourceError("there is nothing in it; give a TREC run", str(file))
    return run


def write_run(path: str | Path, run: Run, name: str = "nearkin") -> None:
    """Write a TREC run; ids with blanks in them are told apart by tabs.

    Raises:
        SourceError: an id has a tab or a line end in it, or the file cannot be written.
    """
    lines = []
    for query, scores in run.items():
        for rank, id in enumerate(ranking(scores), 1):
            cells = (_cell(query), "Q0", _cell(id), str(rank), repr(float(scores[id])), name)
            lines.append(_separator(cells).join(cells))
    _write(path, lines)


def write_judgements(path: str | Path, judgements: Judgements) -> None:
    """Write judgements: BEIR's with its header where the name ends in .tsv, else TREC's."""
    beir = Path(path).suffix == ".tsv"
    lines = ["\t".join(_HEADER)] if beir else []
    for query, grades in judgements.items():
        for id, grade in grades.items():
            if beir:
                lines.append("\t".join((_cell(query), _cell(id), str(grade))))
            else:
                cells = (_cell(query), "0", _cell(id), str(grade))
                lines.append(_separator(cells).join(cells))
    _write(path, lines)


def write_queries(path: str | Path, queries: Mapping[str, str]) -> None:
    """Write queries as BEIR has them, a line of JSON each."""
    _write(
        path,
        [json.dumps({"_id": id, "text": words}, ensure_ascii=False) for id, words in queries.items()],
    )


def _separator(cells: tuple[str, ...]) -> str:
    return "\t" if any(" " in cell for cell in cells) else " "


def _cell(id: str) -> str:
    if not id or id != id.strip() or any(letter in id for letter in "\t\n\r"):
        raise SourceError(
            f"the id {id!r} cannot stand in a file of columns; it has a tab, a line end or none"
        )
    return id


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _number(cell: str, what: str, file: Path, number: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SourceError(f"{what} is '{cell}'; write a number", str(file), number)
    return value


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1 on."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise SourceError("the file is no UTF-8 text; save it as such", str(file)) from None
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror}); check the path", str(file)) from None


def _write(path: str | Path, lines: list[str]) -> None:
    file = Path(path).expanduser()
    try:
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot be written ({error.strerror}); check the path", str(file)) from None
