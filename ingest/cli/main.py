"""The command `nearkin`: gathers the verbs, and turns every failure into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import click
import typer

from ingest.cli import verbs
from search.cli import output
from search.cli import verbs as asking
from search.errors import NearkinError
from search.version import __version__

app = typer.Typer(
    name="nearkin",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Finds the nearest kin of anything you have: texts, pictures, nodes of a graph.",
)
app.add_typer(verbs.app, name="ingest")
asking.register(app)

_TRACE = "NEARKIN_TRACEBACK"


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
    """Finds the nearest kin of anything you have."""


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to put it.")] = "nearkin-demo",
) -> None:
    """Show it all on what every Python installation has: docstrings, imports, handwritten digits."""
    from pathlib import Path

    from ingest.demo.show import show

    show(Path(folder))


def run(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 failed (one line on stderr), 2 usage, 130 interrupted."""
    # Model libraries draw bars and warn on their own; here only our own progress is shown.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        outcome = app(args=arguments, standalone_mode=False)
    except click.exceptions.Abort:
        return _failed("interrupted; what was committed is kept, run again to go on", 130)
    except KeyboardInterrupt:
        return _failed("interrupted; what was committed is kept, run again to go on", 130)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except NearkinError as error:
        return _failed(str(error), 1)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain again when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return _failed(f"{error.strerror or error}{place}; check the path, its permissions and the disk", 1)
    except MemoryError:
        return _failed("out of memory; close other programs or take in less at a time", 1)
    except Exception as error:  # noqa: BLE001 - the last resort of the command line: never a traceback
        if os.environ.get(_TRACE):
            traceback.print_exc()
        said = " ".join(str(error).split())
        return _failed(
            f"{type(error).__name__}: {said}; this is a bug, please report it with {_TRACE}=1 set", 1
        )
    return outcome if isinstance(outcome, int) else 0


def _failed(message: str, code: int) -> int:
    output.say("error: " + " ".join(message.split()))
    return code
