"""The verb that counts: facets."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from search.cli import output
from search.cli.options import HERE, CollectionOption, JsonOption, WhereOption, opened


def facets(
    fields: Annotated[list[str], typer.Argument(metavar="FIELD...", help="Fields of the metadata.")],
    collection: CollectionOption = HERE,
    where: WhereOption = None,
    limit: Annotated[int, typer.Option(metavar="N", help="How many values of each field.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Count the records that have each value of some fields."""
    with opened(collection) as there:
        found = there.facets(fields, where=where, limit=limit)
    if as_json:
        output.document(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("field", overflow="fold")
    table.add_column("value", overflow="fold")
    table.add_column("records", justify="right")
    for name, values in found.items():
        for one in values:
            value = one["value"]
            told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            table.add_row(escape(name), escape(told), f"{one['count']:,}")
    output.console().print(table)


def register(app: typer.Typer) -> None:
    """Give the verb to the root command."""
    app.command()(facets)
