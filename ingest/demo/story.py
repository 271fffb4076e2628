"""What the demo found out, as plain values: what was taken in, what was asked, what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.report import Report
from search.types import Hit

_WORTH_TELLING = 0.05  # seconds that a stage was busy
_SHOWN = 150  # characters of a text that a line shows


@dataclass(frozen=True, slots=True)
class Stage:
    """One ingest: `title` says of what, `seconds` is all of it, the loading or learning of the model too."""

    title: str
    report: Report
    seconds: float

    @property
    def rate(self) -> float | None:
        """Records a second over the whole of it; None where nothing had to be done."""
        return self.report.written / self.seconds if self.report.written else None

    @property
    def rates(self) -> list[tuple[str, float]]:
        """For each stage that took time: its name and records a second while it was busy."""
        report = self.report
        if not report.written:
            return []
        told = [(name, seconds) for name, seconds in report.stages.items() if seconds >= _WORTH_TELLING]
        return [
            (name, (report.read if name in ("read", "compare") else report.written) / s) for name, s in told
        ]


@dataclass(frozen=True, slots=True)
class Answer:
    """A question as a person would put it, the command that asks it, and the hits."""

    question: str
    command: str
    hits: tuple[Hit, ...]
    means: str = ""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A picture, what it shows, and the pictures found nearest to it, each with its file, label and score."""

    picture: Path
    label: str
    near: tuple[tuple[Path, str, float], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured: its value as it is to be read, and what it is to be compared with."""

    what: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that the demo shows."""

    folder: Path
    python: str
    stages: tuple[Stage, ...]
    answers: tuple[Answer, ...]
    digits: tuple[Neighbours, ...]
    figures: tuple[Figure, ...]
    advice: tuple[tuple[str, str], ...]  # what it does, the command
    seconds: float

    @property
    def changed_something(self) -> bool:
        """Whether anything was taken in or removed; otherwise all was there already."""
        return any(stage.report.written or stage.report.removed for stage in self.stages)


def summary(hit: Hit, most: int = _SHOWN) -> str:
    """The first paragraph of a hit's text that says something, on one line: not its name, not a bare call."""
    name = re.escape(hit.id.rpartition(".")[2])
    call = re.compile(rf"[\w.]*\b{name}(\(.*)?")  # or the bare name
    paragraphs = re.split(r"\n\s*\n", (hit.text or "").strip())
    while call.fullmatch(paragraphs[0].partition("\n")[0]):
        rest = paragraphs[0].partition("\n")[2].strip()
        if not rest and len(paragraphs) == 1:
            break
        paragraphs = [rest, *paragraphs[1:]] if rest else paragraphs[1:]
    words = " ".join(paragraphs[0].split())
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def hand_picked(wrong: Sequence[int], labels: Sequence[str], n: int, n_wrong: int) -> list[int]:
    """Which rows to show: of the wrong ones the first few, then the first of each label, in the labels' order."""
    chosen = list(wrong[:n_wrong])
    for label in sorted(set(labels)):
        if len(chosen) < n:
            chosen.append(next(row for row, said in enumerate(labels) if said == label))
    return sorted(set(chosen), key=lambda row: (labels[row], row))
