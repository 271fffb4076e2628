"""The verbs that make a collection quicker or smaller: tune, index-field, compact."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from search.cli import output
from search.cli.options import HERE, CollectionOption, JsonOption, must_exist, opened
from search.query.languages import NONE
from search.types import Json

if TYPE_CHECKING:
    from search.indexing import Progress as Told  # brings numpy and faiss, and --help needs neither


@contextmanager
def _bars() -> Iterator[Told | None]:
    """Tells how far an index is, one bar for each space, on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        bars = {}

        def told(space: str, done: int, total: int) -> None:
            if space not in bars:
                bars[space] = drawn.add_task(f"index of {escape(space)}", total=total)
            drawn.update(bars[space], completed=done, total=total)

        yield told


def tune(
    collection: CollectionOption = HERE,
    recall: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="R", help="The least recall@10 of an approximate index, such as 0.99."),
    ] = None,
    memory: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SIZE", help="The most memory a space may take to be searched, such as 4G."),
    ] = None,
    index: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="KIND", help="auto, flat, hnsw, ivf-flat, ivf-sq8, ivf-pq or ivf-rabitq; auto chooses."
        ),
    ] = None,
    language: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="L",
            help="Of the texts, for --hybrid: english, german, …; none looks for words as they are written.",
        ),
    ] = None,
    space: Annotated[str | None, typer.Option(metavar="S", help="One space; all if it is left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the indexes should reach; they are measured, and built anew where they do not reach it."""
    must_exist(collection)
    with opened(collection, "rw") as there, _bars() as progress:
        told = there.tune(
            recall, memory=memory, kind=index, language=language, space=space, progress=progress
        )
    if as_json:
        output.document(told)
        return
    for name, one in told.items():
        output.console().print(f"{escape(name)}: {_said(one)}", soft_wrap=True)
        if language is not None:
            forms = (
                "as they are written"
                if language == NONE
                else f"in all their forms, by the rules of {language}"
            )
            output.console().print(f"{escape(name)}: --hybrid looks for words {forms}", soft_wrap=True)


def _said(index: dict[str, Json]) -> str:
    if index["kind"] == "flat":
        return "every row is scanned, so the answers are exact"
    return (
        f"{index['kind']}, effort {index['effort']}, recall@10 {index['recall']:.3f} "
        f"({index['low']:.3f} to {index['high']:.3f}, 95%) on {index['sample']} {index['queries']}"
    )


def index_field(
    name: Annotated[
        str, typer.Argument(metavar="FIELD", help="A field of the metadata, such as price or maker.city.")
    ],
    collection: CollectionOption = HERE,
    drop: Annotated[bool, typer.Option("--drop", help="No longer keep its values sorted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep the values of a metadata field sorted, so that --where on it is quick."""
    must_exist(collection)
    with opened(collection, "rw") as there:
        there.index_field(name, drop=drop)
    if as_json:
        output.document({"field": name, "declared": not drop})
    else:
        output.console().print(
            f"{escape(name)} is {'no longer declared' if drop else 'declared: filters on it are quick'}"
        )


def compact(collection: CollectionOption = HERE, as_json: JsonOption = False) -> None:
    """Drop deleted vectors from the disk and bring the indexes up to date."""
    must_exist(collection)
    with opened(collection, "rw") as there, _bars() as progress:
        told = there.compact(progress)
    if as_json:
        output.document(told)
    else:
        before, after = told["bytes_before"] / 1e6, told["bytes_after"] / 1e6
        output.console().print(
            f"{told['vectors_dropped']:,} vectors dropped, {before:,.1f} MB before, {after:,.1f} after"
        )


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    for verb in (tune, index_field, compact):
        app.command()(verb)
