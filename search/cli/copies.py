"""The verbs that copy a collection: backup and restore of the whole, export and import of its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from search.cli import output
from search.cli.options import HERE, CollectionOption, JsonOption, WhereOption
from search.errors import QueryError


def backup(
    target: Annotated[Path, typer.Argument(metavar="PATH", help="A new directory for the copy.")],
    collection: CollectionOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Copy a collection, even while it is written to; the copy is a collection."""
    from search.opening import open as open_collection

    with open_collection(collection, "r") as opened:
        made = opened.backup(target)
    if as_json:
        output.document({"backup": str(made)})
    else:
        output.console().print(f"copied to {made}", soft_wrap=True)


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="A directory that backup made.")],
    collection: CollectionOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a new collection from a backup, after checking all of it; nothing is overwritten."""
    from search.backup import restore as restore_backup

    made = restore_backup(source, collection)
    if as_json:
        output.document({"restored": str(made)})
    else:
        output.console().print(f"checked and restored to {made}", soft_wrap=True)


def export(
    target: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Where to write: .parquet (for pandas, polars …) or .jsonl."),
    ],
    collection: CollectionOption = HERE,
    where: WhereOption = None,
    vectors: Annotated[
        bool,
        typer.Option("--vectors", help="With the vectors and the spaces, which import makes again."),
    ] = False,
    edges: Annotated[
        bool,
        typer.Option(
            "--edges", help="The edges of a graph instead: source, target, weight; .csv or .parquet."
        ),
    ] = False,
    space: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="S", help="Whose edges; needed where several spaces have a graph."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the records to a Parquet file or to JSON lines, or the edges of a graph to a table."""
    from search.opening import open as open_collection

    if edges and (vectors or where is not None):
        raise QueryError("--edges writes no records; leave --vectors and --where out")
    if space is not None and not edges:
        raise QueryError("--space is of --edges; leave it out, or choose records with --where")
    with open_collection(collection, "r") as opened:
        n = (
            opened.export_edges(target, space=space)
            if edges
            else opened.export(target, vectors=vectors, where=where)
        )
    if as_json:
        output.document({"exported": n, "file": str(target)})
    else:
        what = "edges" if edges else "records"
        output.console().print(f"{n:,} {what} written to {target}", soft_wrap=True)


def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files that export wrote.")],
    collection: CollectionOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Take in files that export wrote: records, spaces and vectors as they were.

    A file is checked whole before anything of it is written. A record whose id is there already is updated. After an
    interruption run it again.
    """
    from search.exchange.take_in import opened as opened_file
    from search.opening import open as open_collection

    for file in files:  # a mistyped name is found before a collection is made
        opened_file(file)
    told = []
    with open_collection(collection, "rw") as opened:
        for file in files:
            told.append({"file": str(file), **opened.import_file(file)})
            one = told[-1]
            if not as_json:
                output.console().print(
                    f"{file}: {one['records']:,} records, {one['added']:,} added, {one['updated']:,} updated, "
                    f"{one['vectors']:,} vectors",
                    soft_wrap=True,
                )
    if as_json:
        output.document(told)


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    for verb in (backup, restore, export):
        app.command()(verb)
    app.command("import")(import_files)
