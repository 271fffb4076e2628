"""Holds what a crash has left against what was acknowledged: whole, exact, and answering as numpy does."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import search
from search.collection import Collection
from tests.crash import workload
from tests.crash.workload import SPACE, Operation, State, metadata_of, stream, text_of, vectors_of

Held = Mapping[str, tuple[dict[str, object], str, np.ndarray]]


def told(seed: int, n: int) -> tuple[list[Operation], list[State]]:
    """The first n operations of a stream; and the states before the first and after each."""
    some = list(itertools.islice(stream(seed), n))
    return [operation for operation, _ in some], [{}, *(state for _, state in some)]


def held_in(c: Collection, target: Path) -> Held:
    """The metadata, text and vectors of each record."""
    c.export(target, vectors=True)
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    return {
        line["id"]: (line["metadata"], line["text"], np.array(line["vectors"].get(SPACE, [])))
        for line in lines
    }


def unit(id: str, kept: workload.Kept) -> np.ndarray:
    """The vectors of a record as the collection keeps them."""
    rows = vectors_of(id, kept)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def is_in(state: State, held: Held) -> bool:
    """Whether exactly this state is held, down to the numbers of each vector."""
    if set(state) != set(held):
        return False
    for id, kept in state.items():
        metadata, text, vectors = held[id]
        expected = unit(id, kept)
        if metadata != metadata_of(kept) or text != text_of(id) or vectors.shape != expected.shape:
            return False
        if not np.allclose(vectors, expected, atol=1e-6):
            return False
    return True


def answers_as(c: Collection, state: State) -> None:
    """Each vector finds its record first; and what a query finds has the scores that numpy gives those records."""
    assert c.count() == len(state)
    if not state:
        assert SPACE not in c.spaces() or c.search(vector=np.ones(workload.DIM), space=SPACE) == []
        return
    owners = [id for id, kept in state.items() for _ in range(kept.n_parts)]
    rows = np.concatenate([unit(id, kept) for id, kept in state.items()])
    for owner, (hit,) in zip(owners, c.search(vector=rows, k=1), strict=True):
        assert (hit.id, round(hit.score, 5)) == (owner, 1.0)
    queries = np.random.default_rng(len(owners)).standard_normal((8, workload.DIM)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    k, n_right, n_asked = 10, 0, 0
    for scores, hits in zip(queries @ rows.T, c.search(vector=queries, k=k), strict=True):
        best: dict[str, float] = {}
        for owner, score in zip(owners, scores.tolist(), strict=True):
            best[owner] = max(score, best.get(owner, -1.0))
        truth = sorted(best.values(), reverse=True)[:k]
        assert len({hit.id for hit in hits}) == len(hits) == len(truth)
        np.testing.assert_allclose([hit.score for hit in hits], [best[hit.id] for hit in hits], atol=1e-5)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        n_right += sum(hit.score >= truth[-1] - 1e-5 for hit in hits)
        n_asked += len(truth)
    assert n_right >= 0.9 * n_asked  # an index may stand between


def verify(
    path: Path,
    acknowledged: int,
    operations: list[Operation],
    states: list[State],
    scratch: Path,
    *,
    since: int = 0,
    spared: tuple[str, ...] = (),
) -> int:
    """Open what a crash has left, and hold it against what was acknowledged; the number of operations done.

    Copies made by operations from `since` on are looked at, and removed. `check` must find nothing, save lines
    that hold one of `spared`: damage that must be told, and not matter.
    """
    with search.open(path) as c:
        said = [line for line in c.check() if not any(word in line for word in spared)]
        assert said == [], f"check: {said}"
        held = held_in(c, scratch)
        n_done = acknowledged + 1
        if not is_in(states[n_done], held):
            n_done += 1
            assert n_done < len(states), "something acknowledged is lost"
            assert is_in(states[n_done], held), "neither without nor with the commit in flight"
        answers_as(c, states[n_done])
    for operation in operations[since : acknowledged + 2]:
        if operation.kind == "backup":
            whole_or_absent(path, operation.number, acknowledged, states, scratch)
    return n_done


def whole_or_absent(path: Path, number: int, acknowledged: int, states: list[State], scratch: Path) -> None:
    """A copy has its name when it is whole, and is there once it was acknowledged."""
    copy = workload.backup_of(path, number)
    if not copy.exists():
        assert number > acknowledged, f"the backup of operation {number} was acknowledged, and is gone"
        return
    with search.open(copy) as c:
        assert (found := c.check()) == [], f"check: {found}"
        assert is_in(states[number], held_in(c, scratch)), (
            f"the backup of operation {number} holds another state"
        )
        answers_as(c, states[number])
    shutil.rmtree(copy)


def next_write_works(path: Path) -> None:
    """A copy, a commit, an index, a compaction and a deletion on what a crash has left."""
    with search.open(path) as c:
        before = c.count()
        with search.open(c.backup(workload.backup_of(path, workload.BACKED_UP))) as copy:
            assert (copy.count(), copy.check()) == (before, [])
        assert list(path.parent.glob(".*partial")) == []  # nor what a copy left that was cut short
        row = np.linspace(1, 2, workload.DIM)
        c.add([{"id": "after"}], [row], space=SPACE)
        c.index()
        assert c.search(vector=row, k=1)[0].id == "after"
        c.compact()
        assert c.delete("after") == 1
        assert (c.count(), c.check()) == (before, [])
