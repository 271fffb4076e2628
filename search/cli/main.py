"""Runs a Typer app so that every failure is one line and an exit code; alone, it offers the verbs that ask."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from search.cli import asking, copies, evaluating, facets, graphs, output, serving, sorting, tuning, verbs
from search.errors import NearkinError

_TRACE = "NEARKIN_TRACEBACK"
_STOPPED = {128 + signal.SIGINT: "interrupted", 128 + signal.SIGTERM: "terminated"}


def application(summary: str) -> typer.Typer:
    """A root command with nearkin's manners and no verbs yet."""
    return typer.Typer(
        name="nearkin",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        help=summary,
    )


def outcome(app: typer.Typer, arguments: list[str] | None) -> int:
    """Run the command; 0 done, 1 failed (one line on stderr), 2 usage, 130 interrupted, 143 terminated."""
    # Model libraries draw bars and warn on their own; here only our own progress is shown.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # OpenMP's threads spin while they wait for each other; where other programs want the cores too, that made
    # encoding 2 to 3 times slower. It is read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with _terminable(), _waiting_told():
            app(args=arguments)
    except SystemExit as stop:  # how the command line library ends, after it has shown a usage error
        if stop.code in _STOPPED:
            what = _STOPPED[stop.code]
            return _failed(f"{what}; what was committed is kept, run again to go on", stop.code)
        return stop.code if isinstance(stop.code, int) else 0
    except NearkinError as error:
        return _failed(str(error), 1)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return _failed(f"{error.strerror or error}{place}; check the path, its permissions and the disk", 1)
    except MemoryError:
        return _failed("out of memory; close other programs or take in less at a time", 1)
    except Exception as error:  # noqa: BLE001 - the last resort of the command line: never a traceback
        if os.environ.get(_TRACE):
            traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        return _failed(f"{said}; this is a bug, please report it with what {_TRACE}=1 prints", 1)
    return 0


class _Said(logging.Handler):
    """Shows what is logged as a line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        output.say(record.getMessage())


@contextmanager
def _waiting_told() -> Iterator[None]:
    """Say that we wait for another writer, while we do."""
    log, handler = logging.getLogger("search.catalog.lock"), _Said()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block in good order, as Ctrl-C does: what is begun is rolled back, and a line says so."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failed(message: str, code: int) -> int:
    output.say("error: " + " ".join(message.split()))
    return code


def run(arguments: list[str] | None = None) -> None:
    """Run the verbs that ask, and exit."""
    app = application("Asks a collection: search, recommend, get and their kin.")
    asking.register(app)
    verbs.register(app)
    sorting.register(app)
    evaluating.register(app)
    graphs.register(app)
    facets.register(app)
    tuning.register(app)
    copies.register(app)
    serving.register(app)
    sys.exit(outcome(app, arguments))
