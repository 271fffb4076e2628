"""Options that the verbs for filling share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ingest.report import Options, Progress

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders.")]
OnePath = Annotated[Path, typer.Argument(metavar="PATH", help="The file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what came from PATH before and is gone from it now.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail (exit 1) if any input had to be skipped.")]
DevicesOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where models run: auto, cpu, cuda[:n] or mps; cuda:0,cuda:1 uses both, auto all GPUs.",
    ),
]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Space = Annotated[str, typer.Option("--space", metavar="S", help="Where the vectors go.")]


def options_of(
    device: str, precision: str, bars: Progress, tokens: int | None = None, overlap: int | None = None
) -> Options:
    """What all verbs can be told beyond their own arguments."""
    from ingest.report import Options

    return Options(device, precision, tokens, overlap, bars)
