"""What an ingest run did, how long each stage took, and how it tells the user while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ingest.sources.contract import Rejected
from search.encoders.load import check_words
from search.errors import SourceError
from search.types import Json


class Level(StrEnum):
    """What of a text has a vector of its own."""

    PASSAGE = "passage"
    WORD = "word"

    @classmethod
    def named(cls, name: str) -> Level:
        """The level of this name.

        Raises:
            SourceError: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise SourceError(f"there is no level '{name}'; use {' or '.join(cls)}") from None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would take, by a dry run.

    `passages` (or pictures) and `tokens` are those that would be encoded, equal texts once in `tokens`; `seconds` the
    whole run from loading the model on (None for a model that runs elsewhere); `memory_bytes` the most memory of the
    process (None where the system does not tell it); `disk_bytes` what the collection would grow by.
    """

    seconds: float | None
    memory_bytes: int | None
    disk_bytes: int
    passages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class GraphCounts:
    """What a graph holds: `merged` edges stood there again, `isolated` nodes have no edge."""

    nodes: int
    edges: int
    directed: bool
    weighted: bool
    self_loops: int
    merged: int
    isolated: int


@dataclass(frozen=True, slots=True)
class InteractionCounts:
    """What interactions hold: `pairs` of a user and an item, `merged` rows of pairs that stood there again."""

    users: int
    items: int
    pairs: int
    merged: int
    timed: bool


@dataclass(frozen=True, slots=True)
class Attached:
    """What was added to a graph: `edges` that it did not have, and `nodes` that got a vector from their neighbours'.

    `known` edges were there already and keep their weight; `waiting` nodes hang together with no node that has a
    vector, and get theirs when the graph is learned again.
    """

    edges: int
    nodes: int
    known: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Predicted:
    """Node vectors of `space` that were `predicted` from those in `source`, learned from `examples` with both.

    How good they are was measured on `held_out` examples: the share `r2` of the variance that is explained; the mean
    `cosine` to the true vector; `recall`, the share of the ten nearest examples that are found; and `chance`, what
    the same vector for all would find of them.
    """

    space: str
    source: str
    examples: int
    predicted: int
    held_out: int
    r2: float
    cosine: float
    recall: float
    chance: float
    penalty: float

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Limit:
    """The stage that the others waited for, and the share of the time that it was busy, from 0 to 1.

    Stages are `read`, `prepare` (cutting texts, decoding pictures), `encode` (the model) and `commit`.
    """

    stage: str
    busy: float


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run.

    `read` counts the inputs; each of them was added, updated, unchanged or rejected. `removed` counts records
    that had vanished from the source; `unpruned` names the paths where nothing could be said to have vanished,
    as an input there was so broken that even its id could not be read. `rejects` says of the first few that were
    rejected where they stand and why; all of them are in `rejects_file`. `reused` counts the vectors that were
    taken from an equal text instead of being encoded, `tokens` what a remote model has counted (None: nobody
    counts). `seconds` is the whole run, `stages` the seconds that each stage was busy (they overlap), `limit` the
    busiest of them. `decoded`
    counts the inputs that were not plain UTF-8 by the encoding they were read in. With `dry_run` nothing was
    written: the counts say what would have been, `forecast` what it would take (texts and pictures), or `no_forecast`
    why that cannot be said. `graph` and `interactions` count what such hold; of interactions `read` and
    `rejected` count rows, and the others records. `turned` says of a graph that was learned again how near
    its vectors are to the former ones: the nodes `shared`, and the mean of their cosines `cosine_before` and
    `cosine_after` all were turned together. `attached` counts what was added to a graph.
    """

    collection: str
    space: str
    model: str
    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: int = 0
    vectors: int = 0
    reused: int = 0
    tokens: int | None = None
    dry_run: bool = False
    rejects_file: str | None = None
    rejects: tuple[str, ...] = ()
    unpruned: tuple[str, ...] = ()
    decoded: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    limit: Limit | None = None
    forecast: Forecast | None = None
    no_forecast: str | None = None
    graph: GraphCounts | None = None
    interactions: InteractionCounts | None = None
    turned: dict[str, Json] | None = None
    attached: Attached | None = None

    @property
    def written(self) -> int:
        """Records added or updated."""
        return self.added + self.updated

    def after(self, stage: str, seconds: float) -> Report:
        """The report with a stage that went before the others, and counts in the whole run."""
        return replace(self, seconds=self.seconds + seconds, stages={stage: round(seconds, 4), **self.stages})

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return asdict(self)


class Progress:
    """Is told how a run goes on. This one keeps quiet; the command line has one that draws.

    `waits` says whether the run ends only when the indexes are built, or leaves that to the background.
    """

    waits = False

    def begin(self, stage: str, total: int) -> None:
        """A stage begins; `total` is 0 where its size is not known."""

    def advance(self, stage: str, done: int) -> None:
        """So many more are done."""

    def reached(self, stage: str, done: int, total: int) -> None:
        """So many of so many are done."""

    def end(self, stage: str) -> None:
        """The stage is over."""


QUIET = Progress()


@dataclass(frozen=True, slots=True)
class Options:
    """What all ingest verbs can be told beyond their main arguments.

    Args:
        device: auto, cpu, cuda[:n] or mps; or several of a kind with commas (cuda:0,cuda:1), each of which gets a
            process of its own. auto takes all GPUs that there are.
        precision: auto, fp32, bf16 or fp16.
        passage_tokens: the longest passage, in tokens of the text model; None is 256, or what the model sees.
        passage_overlap: how many tokens two neighbouring passages share; None is 32, or what is below half of them.
        progress: is told how the run goes on.

    Raises:
        ModelError: there is no such device or precision.
    """

    device: str = "auto"
    precision: str = "auto"
    passage_tokens: int | None = None
    passage_overlap: int | None = None
    progress: Progress = QUIET

    def __post_init__(self) -> None:
        check_words(self.device, self.precision)


def write_rejects(folder: Path, space: str, rejected: Iterable[Rejected]) -> Path:
    """One JSON object a line for each input that was skipped; where the file is."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    safe = "".join(letter if letter.isalnum() else "-" for letter in space)
    path = folder / f"{stamp}-{safe}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for one in rejected:
            file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
    return path
