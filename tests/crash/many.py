"""Writers and readers of one collection in processes of their own, each of which may be killed at any moment.

    python -m tests.crash.many

imports once and then forks a child for each actor that it is asked for, so that a kill costs a fork.

A writer owns some groups of records. Each commit writes one or two whole groups under a new generation number, or
deletes one; before it, it says in its journal what it will try, and after it, that it was acknowledged. So the groups
of a writer go through a sequence of states that is known to all, and whatever a reader is told must be one of them:
not older than the last acknowledged before it asked, and not newer than the last tried when it had its answer.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import search
from search.collection import Collection
from search.errors import CollectionLocked
from search.index import choose
from search.types import Hit

DIM = 8
FLAT_UP_TO = 60 * DIM
SPACE = "v"
N_WRITERS = 2
GROUPS = range(4)  # of each writer
MEMBERS = 12  # of each group
_EVERYTHING = 1000
_LONGEST_S = 300.0  # then an actor ends by itself, should nobody be left to kill it
_PAUSE_S = 0.02

State = Mapping[int, int]  # the generation of each group that is there


@dataclass(frozen=True)
class Actor:
    """What a child is to be."""

    role: str  # "writer" or "reader"
    number: int
    path: str
    folder: str  # where the journals are
    seed: int

    @property
    def log(self) -> Path:
        """One line for each answer, or what went wrong."""
        return Path(self.folder) / f"{self.role}-{self.number}.log"


def vector_of(writer: int, group: int, generation: int, member: int) -> np.ndarray:
    """The unit vector (DIM,) of a record: near the centre of its group, and different in each generation."""
    centre = np.random.default_rng([writer, group]).standard_normal(DIM)
    own = np.random.default_rng([writer, group, generation, member]).standard_normal(DIM)
    row = centre / np.linalg.norm(centre) + 0.05 * own
    return (row / np.linalg.norm(row)).astype(np.float32)


def ids_of(writer: int, group: int) -> list[str]:
    """The ids of a group."""
    return [f"{writer}-{group}-{member}" for member in range(MEMBERS)]


class Journal:
    """What a writer tried and what was acknowledged, read from its file as that grows."""

    def __init__(self, folder: Path, writer: int) -> None:
        self._path = folder / f"journal-{writer}"
        self._path.touch()
        self._at = 0
        self.states: list[State] = [{}]  # after each try that was not void
        self.acknowledged = 0  # the place in `states` that is surely reached
        self.generation = 0  # the last that was tried

    def say(self, line: str) -> None:
        """Add a line, whole."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line.encode() + b"\n")
        os.close(descriptor)

    def read(self) -> Journal:
        """Take in what has been added."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            *lines, rest = file.read().split(b"\n")
            self._at = file.tell() - len(rest)
        for line in lines:
            self._take(line.decode())
        return self

    def _take(self, line: str) -> None:
        word, *more = line.split()
        if word == "try":
            self.generation = int(more[0])
            state = dict(self.states[-1])
            for group in map(int, more[2:]):
                if more[1] == "put":
                    state[group] = self.generation
                else:
                    state.pop(group, None)
            self.states.append(state)
        elif word == "ok":
            self.acknowledged = len(self.states) - 1
        elif word == "void":
            self.states.pop()

    @property
    def in_flight(self) -> bool:
        """Whether the last try is neither acknowledged nor void."""
        return self.acknowledged < len(self.states) - 1

    def possible(self, since: int) -> Sequence[State]:
        """The states since the place that was acknowledged before a question."""
        return self.states[since:]


class Wrong(AssertionError):
    """A reader was told something that never was."""


def seen(hits: Sequence[Hit], query: np.ndarray) -> list[dict[int, int]]:
    """The state of each writer's groups in an answer that holds all records.

    Raises:
        Wrong: a group is there in part, in two generations, or with scores of other vectors.
    """
    members: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for hit in hits:
        writer, group, member = map(int, hit.id.split("-"))
        assert hit.metadata is not None
        generation = hit.metadata["generation"]
        members[writer, group][member] = generation
        expected = float(vector_of(writer, group, generation, member) @ query)
        if abs(hit.score - expected) > 1e-5:
            raise Wrong(f"{hit.id} of generation {generation} scored {hit.score}, and not {expected}")
    if sum(map(len, members.values())) != len(hits):
        raise Wrong("a record is in an answer twice")
    states: list[dict[int, int]] = [{} for _ in range(N_WRITERS)]
    for (writer, group), generations in members.items():
        if len(generations) != MEMBERS or len(set(generations.values())) != 1:
            raise Wrong(f"half a commit: group {group} of writer {writer} is {generations}")
        states[writer][group] = generations[0]
    return states


def everything(c: Collection, query: np.ndarray) -> list[dict[int, int]]:
    """The state of each writer's groups, from one answer."""
    hits = c.search(vector=query, space=SPACE, k=_EVERYTHING)
    return seen([hit for hit in hits if hit.id != "seed"], query)


def write(actor: Actor) -> None:
    """Commit until killed."""
    rng = random.Random(actor.seed)
    own = Journal(Path(actor.folder), actor.number).read()
    c = search.open(actor.path)
    begun = time.monotonic()
    while time.monotonic() - begun < _LONGEST_S:
        time.sleep(rng.uniform(0, _PAUSE_S))  # the other writer wants its turn, too
        dice = rng.random()
        generation = own.read().generation + 1
        try:
            if dice < 0.7:
                groups = rng.sample(GROUPS, rng.randint(1, 2))
                own.say(f"try {generation} put {' '.join(map(str, groups))}")
                _put(c, actor.number, groups, generation)
            elif dice < 0.85:
                group = rng.choice(GROUPS)
                own.say(f"try {generation} delete {group}")
                if rng.random() < 0.5:
                    c.delete(ids_of(actor.number, group))
                else:
                    c.delete(where=f"writer = {actor.number} and group = {group}")
            elif dice < 0.93:
                c.index()
                continue
            else:
                c.compact()
                continue
            own.say(f"ok {generation}")
        except CollectionLocked:  # the other one was faster, for long
            with actor.log.open("a") as log:
                log.write("locked\n")
            if own.read().in_flight:
                own.say(f"void {generation}")


def _put(c: Collection, writer: int, groups: Sequence[int], generation: int) -> None:
    records = [
        {"id": id, "metadata": {"writer": writer, "group": group, "generation": generation}}
        for group in groups
        for id in ids_of(writer, group)
    ]
    rows = [vector_of(writer, group, generation, i) for group in groups for i in range(MEMBERS)]
    c.add(records, np.stack(rows), space=SPACE)


def read(actor: Actor) -> None:
    """Ask until killed, and hold each answer against the journals."""
    rng = random.Random(actor.seed)
    journals = [Journal(Path(actor.folder), writer) for writer in range(N_WRITERS)]
    c = search.open(actor.path, "r" if actor.number % 2 else "rw")
    log = os.open(actor.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begun = time.monotonic()
    while time.monotonic() - begun < _LONGEST_S:
        since = [journal.read().acknowledged for journal in journals]
        way = rng.choice((_ask_everything, _ask_everything, _ask_near, _ask_ids))
        way(c, rng, journals, since)
        os.write(log, b"asked\n")


def _ask_everything(c: Collection, rng: random.Random, journals: list[Journal], since: list[int]) -> None:
    query = np.random.default_rng(rng.randrange(1 << 30)).standard_normal(DIM)
    states = everything(c, (query / np.linalg.norm(query)).astype(np.float32))
    for writer, (journal, state) in enumerate(zip(journals, states, strict=True)):
        possible = journal.read().possible(since[writer])
        if state not in possible:
            raise Wrong(f"writer {writer} is at {state}, which is none of {possible}")


def _ask_near(c: Collection, rng: random.Random, journals: list[Journal], since: list[int]) -> None:
    """The k nearest to the centre of a group, with a filter: all of the group or none of it."""
    writer, group = rng.randrange(N_WRITERS), rng.choice(GROUPS)
    query = np.random.default_rng([writer, group]).standard_normal(DIM).astype(np.float32)
    hits = c.search(vector=query, space=SPACE, k=MEMBERS, where=f"writer = {writer} and group = {group}")
    found = {hit.metadata["generation"] for hit in hits if hit.metadata is not None} or {None}
    possible = {state.get(group) for state in journals[writer].read().possible(since[writer])}
    if len(hits) not in (0, MEMBERS) or len(found) > 1 or not found <= possible:
        raise Wrong(f"of group {group} of writer {writer} came {len(hits)} of {found}, and not of {possible}")


def _ask_ids(c: Collection, rng: random.Random, journals: list[Journal], since: list[int]) -> None:
    writer, group = rng.randrange(N_WRITERS), rng.choice(GROUPS)
    found = {
        None if record is None or record.metadata is None else record.metadata["generation"]
        for record in c.get(ids_of(writer, group))
    }
    possible = {state.get(group) for state in journals[writer].read().possible(since[writer])}
    if len(found) > 1 or not found <= possible:
        raise Wrong(f"group {group} of writer {writer} was read as {found}, and not as {possible}")


def act(actor: Actor) -> None:
    """Be the actor, and leave a word if that ends otherwise than by a kill."""
    choose.FLAT_UP_TO = FLAT_UP_TO
    try:
        (write if actor.role == "writer" else read)(actor)
    except BaseException:
        with actor.log.open("a") as log:
            log.write(traceback.format_exc())
        raise


def serve() -> None:
    """Fork a child for each actor asked for, and say its pid; or wait for a child, and say how it ended."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            try:
                act(Actor(**asked))
            finally:
                os._exit(1)
        print(pid, flush=True)


def asked(actor: Actor) -> str:
    """The line that asks for an actor."""
    return json.dumps(asdict(actor))


if __name__ == "__main__":
    serve()
