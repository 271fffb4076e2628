"""The verbs that put records in order by their vectors: duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape

from search.cli import output
from search.cli.verbs import HERE, CollectionOption, JsonOption, WhereOption, must_exist, opened

if TYPE_CHECKING:
    from search.types import Duplicates

_SHOWN = 20  # groups that are listed for people; JSON has them all

SpaceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="S", help="The space in which records are compared; needed where there are several."
    ),
]


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
    as_json: JsonOption = False,
) -> None:
    """Find records that are equal or nearly so, and say which to keep; with --delete, delete the others."""
    if delete:
        must_exist(collection)
    with opened(collection, "rw" if delete else "r") as there:
        found = there.duplicates(space, min_score=min_score, keep=keep, where=where, delete=delete)
    n = sum(len(group.others) for group in found)
    if as_json:
        output.document({"groups": [group.to_json() for group in found], "duplicates": n, "deleted": delete})
        return
    _groups(found)
    done = "deleted" if delete else "that --delete would delete"
    output.console().print(f"{n:,} duplicates {done}, of {len(found):,} records that are kept")


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
    for verb in (duplicates,):
        app.command()(verb)
