"""The verbs that ask graphs, neighbours and links; and map, which draws any space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from search.cli import output
from search.cli.options import HERE, CollectionOption, ExplainOption, JsonOption, KOption, WhereOption, opened

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


def draw_map(
    collection: CollectionOption = HERE,
    space: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="S", help="Which space; needed where there are several."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write: .html or .png.")] = Path(
        "map.html"
    ),
    colour: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The field of the metadata that gives the colour."),
    ] = None,
    where: WhereOption = None,
    method: Annotated[
        str, typer.Option(metavar="M", help="umap, pca, or auto: umap, or pca for fewer than 30 records.")
    ] = "auto",
    most: Annotated[int, typer.Option(metavar="N", help="Of more records a sample is drawn.")] = 20_000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw a space in the plane: what is alike stands together. A page to look around in, or a picture."""
    from search.maps import page
    from search.maps.colours import coloured

    page.check_suffix(out)
    with output.working("placing the records"), opened(collection) as there:
        found = there.map(space, where=where, method=method, seed=seed, most=most)
    colours = coloured([one.metadata for one in found], colour)
    named = "the collection" if space is None else f"space '{space}'"
    told = f"{len(found):,} records" + (f" where {where}" if where else "") + "."
    title = f"Map of {named} in {collection}" + (f", by {colour}" if colour else "")
    page.write(out, page.Drawing(title, told, found, colours))
    output.say(f"{out} written")
    if as_json:
        output.document([one.to_json() for one in found])


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    for verb in (neighbours, links):
        app.command()(verb)
    app.command("map")(draw_map)
