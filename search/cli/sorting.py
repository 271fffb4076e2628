"""The verbs that put records in order by their vectors: label, duplicates."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from search.cli import output
from search.cli.options import (
    HERE,
    CollectionOption,
    HtmlOption,
    JsonOption,
    WhereOption,
    must_exist,
    opened,
    write_sheet,
)

if TYPE_CHECKING:
    from search.types import Duplicates, Labelling

_SHOWN = 20  # groups that are listed for people; JSON has them all

SpaceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="S", help="The space in which records are compared; needed where there are several."
    ),
]


def label(
    field: Annotated[str, typer.Option(metavar="F", help="The field of the metadata to guess.")],
    collection: CollectionOption = HERE,
    space: SpaceOption = None,
    known: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from",
            metavar="EXPR",
            help="The records to learn from.",
            show_default="all that have the field",
        ),
    ] = None,
    unknown: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--to", metavar="EXPR", help="The records to label.", show_default="all others"),
    ] = None,
    method: Annotated[
        str,
        typer.Option(metavar="M", help="neighbours (votes of the nearest) or linear (logistic regression)."),
    ] = "neighbours",
    k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("-k", "--k", metavar="N", help="How many neighbours vote.", show_default="10"),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(metavar="P", help="Below it no label is given, 0 to 1.")
    ] = 0.6,
    write: Annotated[
        bool, typer.Option("--write", help="Store the labels, with F_confidence; without it they are told.")
    ] = False,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Guess a field for the records that lack it, from those that have it and are like them."""
    if write:
        must_exist(collection)
    with opened(collection, "rw" if write else "r") as there:
        found = there.label(
            field,
            space=space,
            known=known,
            unknown=unknown,
            method=method,
            k=k,
            min_confidence=min_confidence,
            write=write,
        )
        given = sum(one.given for one in found.labels)
        done = "written" if write else "that --write would store"
        unsure = len(found.labels) - given
        told = f"{given:,} labels {done}; {unsure:,} records are less certain than {min_confidence:g}"
        if html is not None:
            from search.sheet import sheet

            write_sheet(html, sheet.of_labels(found, told, there.thumbnail))
    if as_json:
        output.document(found.to_json() | {"written": write})
        return
    _labels(found)
    output.console().print(told)


def _labels(found: Labelling) -> None:
    how = "by the others" if found.method == "neighbours" else "in five folds"
    output.console().print(
        f"{found.n_examples:,} records have a {escape(found.field)}; guessed {how}, {found.accuracy:.1%} of "
        f"{found.n_judged:,} are right"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("label", "examples", "judged", "right", "given"):
        table.add_column(name, justify="left" if name == "label" else "right", overflow="fold")
    for one in found.classes:
        table.add_row(
            escape(str(one["label"])),
            *(f"{one[name]:,}" for name in ("examples", "judged", "right", "given")),
        )
    output.console().print(table)
    for guess in found.labels[:_SHOWN]:
        sure = f"{guess.confidence:.3f}" if guess.given else f"({guess.confidence:.3f})"
        output.console().print(f"{sure}  {escape(guess.id)}  {escape(str(guess.label))}", soft_wrap=True)
    if len(found.labels) > _SHOWN:
        output.console().print(f"… and {len(found.labels) - _SHOWN:,} more; --json lists them all")


def duplicates(
    collection: CollectionOption = HERE,
    space: SpaceOption = None,
    min_score: Annotated[
        float, typer.Option(metavar="S", help="The least cosine to the record that is kept.")
    ] = 0.97,
    keep: Annotated[
        str, typer.Option(metavar="WHICH", help="largest (pixels, bytes; the longest text) or first.")
    ] = "largest",
    where: WhereOption = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the others; without it they are told.")
    ] = False,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find records that are equal or nearly so, and say which to keep; with --delete, delete the others."""
    if delete:
        must_exist(collection)
    with opened(collection, "rw" if delete else "r") as there, there.writing() if delete else nullcontext():
        found = there.duplicates(space, min_score=min_score, keep=keep, where=where)
        n = sum(len(group.others) for group in found)
        done = "deleted" if delete else "that --delete would delete"
        told = f"{n:,} duplicates {done}, of {len(found):,} records that are kept"
        if html is not None:
            from search.sheet import sheet

            write_sheet(html, sheet.of_duplicates(found, told, there.thumbnail))  # while all are still there
        if delete and found:
            there.delete([hit.id for group in found for hit in group.others])
    if as_json:
        output.document({"groups": [group.to_json() for group in found], "duplicates": n, "deleted": delete})
        return
    _groups(found)
    output.console().print(told)


def _groups(found: list[Duplicates]) -> None:
    for group in found[:_SHOWN]:
        output.console().print(f"[bold]{escape(group.kept.id)}[/bold]", soft_wrap=True)
        for hit in group.others:
            equal = "  equal" if hit.explain and hit.explain["exact"] else ""
            output.console().print(f"  {hit.score:.3f}  {escape(hit.id)}{equal}", soft_wrap=True)
    if len(found) > _SHOWN:
        output.console().print(f"… and {len(found) - _SHOWN:,} more; --json lists them all")


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    for verb in (label, duplicates):
        app.command()(verb)
