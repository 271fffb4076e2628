"""Progress bars on stderr, where stderr is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from ingest.report import Progress


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Drawn(Progress):
    """One bar for each stage, with its rate and the time left."""

    waits = True

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("{task.description:>18}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def begin(self, stage: str, total: int) -> None:
        self._task(stage, total)

    def advance(self, stage: str, done: int) -> None:
        self._bars.advance(self._task(stage), done)

    def reached(self, stage: str, done: int, total: int) -> None:
        self._bars.update(self._task(stage), completed=done, total=total)

    def end(self, stage: str) -> None:
        task = self._task(stage)
        done = next(one.completed for one in self._bars.tasks if one.id == task)
        self._bars.update(task, total=done)

    def _task(self, stage: str, total: int = 0) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total or None)
        return self._tasks[stage]

    def __enter__(self) -> Drawn:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


class Silent(Progress):
    """Draws nothing, for a stderr that is not a terminal."""

    waits = True

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def progress() -> Drawn | Silent:
    """Bars on a terminal, nothing elsewhere; a context manager."""
    return Drawn() if sys.stderr.isatty() else Silent()
