"""The verbs that ask graphs: neighbours, links."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from search.cli import output
from search.cli.verbs import HERE, CollectionOption, ExplainOption, JsonOption, KOption, opened

if TYPE_CHECKING:
    from search.types import Hit

GraphOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--space", metavar="S", help="Whose graph; needed where several spaces have one."),
]
SeedOption = Annotated[int, typer.Option(help="Of what is drawn by chance; the same gives the same answer.")]


def neighbours(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a node.")],
    collection: CollectionOption = HERE,
    space: GraphOption = None,
    k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("-k", metavar="N", help="At most so many.", show_default="all"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The records that a node has an edge to or from, those with the heaviest edges first."""
    with opened(collection) as there:
        found: list[Hit] = there.neighbours(id, space=space, k=k)
    if as_json:
        output.document([hit.to_json() for hit in found])
        return
    if not found:
        output.console().print("no edges")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("weight", "direction", "id"):
        table.add_column(name, justify="right" if name == "weight" else "left", overflow="fold")
    for hit in found:
        way = (hit.explain or {})["direction"]
        table.add_row(f"{hit.score:g}", str(way), escape(hit.id))
    output.console().print(table)


def links(
    like: Annotated[str, typer.Option(metavar="ID", help="The id of a node.")],
    collection: CollectionOption = HERE,
    space: GraphOption = None,
    k: KOption = 10,
    seed: SeedOption = 0,
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """The nodes that a node is likeliest to lack an edge to, with the probability of each."""
    show_links(collection, like, space, k=k, seed=seed, explain=explain, as_json=as_json)


def show_links(
    collection: Path, like: str, space: str | None, *, k: int, seed: int, explain: bool, as_json: bool
) -> None:
    """Ask for likely links, and print them."""
    with opened(collection) as there:
        found = there.links(like, space=space, k=k, seed=seed, explain=explain)
    if as_json:
        output.document([hit.to_json() for hit in found])
    else:
        output.hits(found, explain=explain)


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    for verb in (neighbours, links):
        app.command()(verb)
