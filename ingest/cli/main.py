"""The command `nearkin`: the verbs that fill a collection beside those that ask it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ingest.cli import graphs, interactions, migrating, verbs
from search.cli import asking, copies, evaluating, facets, serving, sorting, tuning
from search.cli import main as command
from search.cli import verbs as other_verbs
from search.version import __version__

app = command.application("Finds the nearest kin of anything you have: texts, pictures, nodes of a graph.")
app.add_typer(verbs.app, name="ingest")
asking.register(app)
other_verbs.register(app)
sorting.register(app)
evaluating.register(app)
interactions.register(app)
graphs.register(app)
facets.register(app)
tuning.register(app)
migrating.register(app)
copies.register(app)
serving.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nearkin {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Finds the nearest kin of anything you have: texts, pictures, nodes of a graph."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put it.")] = Path("nearkin-demo"),
) -> None:
    """Show it all on what every Python installation has: docstrings, imports, handwritten digits."""
    from ingest.cli.progress import progress
    from ingest.demo.show import show

    show(folder, bars=progress)


def run(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 failed (one line on stderr), 2 usage, 130 interrupted."""
    sys.exit(command.outcome(app, arguments))
