"""Options that several verbs have, and what all of them begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from search.cli import output

if TYPE_CHECKING:
    from search.sheet.sheet import Sheet

CollectionOption = Annotated[
    Path,
    typer.Option(
        "-c",
        "--collection",
        metavar="DIR",
        envvar="NEARKIN_COLLECTION",
        help="The collection's directory.",
        show_default="./nearkin-data",
    ),
]
HERE = Path("nearkin-data")
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")
]
KOption = Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")]
WhereOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it
    typer.Option(
        "--where", metavar="EXPR", help="Only records that match, such as \"price < 80 and brand = 'A'\"."
    ),
]
ContextOption = Annotated[
    int,
    typer.Option(
        metavar="N", help="Show each passage whole, with N passages on either side; a word with N words."
    ),
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Say how each hit was found.")]
HtmlOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--html", metavar="FILE", help="Write a page with the pictures too, whole in one file."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="Where models run: auto, cpu, cuda[:n] or mps.")]


def opened(path: Path, mode: Any = "r", device: str = "auto", precision: str = "auto") -> Any:
    from search.opening import open as open_collection

    return open_collection(path, mode, device=device, precision=precision)


def write_sheet(path: Path, page: Sheet) -> None:
    """Write the page, and say so."""
    from search.sheet import sheet

    sheet.write(path, page)
    output.say(f"{path} written; open it in a browser")


def must_exist(collection: Path) -> None:
    """Raise CollectionNotFound, without making anything, where there is no collection."""
    from search.opening import must_exist

    must_exist(collection)
