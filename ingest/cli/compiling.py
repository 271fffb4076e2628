"""Says on stderr that code is being compiled, for which the first run of a verb would else seem to hang."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGE = "compiling for this machine, about ten seconds; what is compiled is kept for the next time"


@contextmanager
def told() -> Iterator[None]:
    """Say it once, when the first piece of code is compiled that was not kept from another run."""
    from numba.core.event import Listener, install_listener

    class Telling(Listener):  # type: ignore[misc]
        told = False

        def on_start(self, event: object) -> None:
            if not self.told:
                self.told = True
                sys.stderr.write(f"{MESSAGE}\n")
                sys.stderr.flush()

        def on_end(self, event: object) -> None:
            """Nothing is said of the end."""

    with install_listener("numba:compile", Telling()):
        yield
