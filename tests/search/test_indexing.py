"""The thread that builds indexes: what it cannot build, and what it must not leave behind when it dies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import search
from search import failpoints
from search.failpoints import Step
from search.index import snapshot
from search.index.structure import Kind
from search.indexing import Indexer


@pytest.mark.parametrize("n", [1, 15, 16])
@pytest.mark.parametrize("kind", list(Kind))
def test_any_kind_may_be_wished_for_with_few_rows(tmp_path: Path, kind: Kind, n: int) -> None:
    """Codes are learned from rows; where there are too few, every row is scanned."""
    rows = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": str(i)} for i in range(n)], rows, space="v")
        shop.tune(kind=kind.value)
        answers = shop.search(vector=rows, k=n)
        for number, hits in enumerate(answers):
            assert [hit.id for hit in hits] == [str(i) for i in np.argsort(-(rows @ rows[number]))]
        assert shop.check() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = search.open(tmp_path / "c")
    shop.add([{"id": "a"}], [[1.0, 0.0]], space="v")

    def dies(self: Indexer) -> None:
        raise RuntimeError("something unforeseen")

    with monkeypatch.context() as patched:
        patched.setattr(Indexer, "bring_up_to_date", dies)
        shop.index(wait=False)
        shop.close()  # would never come back
    with search.open(tmp_path / "c") as again:
        again.index()
        assert [hit.id for hit in again.search(vector=[1.0, 0.0])] == ["a"]


@pytest.mark.parametrize("step", [Step.SNAPSHOT_WRITTEN, Step.SNAPSHOT_SYNCED, Step.SNAPSHOT_RENAMED])
def test_a_file_that_another_process_sweeps_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    """Whoever has finished an index sweeps the directory, and may do so while another one is being written."""
    rows = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": str(i)} for i in range(200)], rows, space="v")
        swept: list[int] = []

        def sweeps(reached: Step) -> None:
            if reached is step and not swept:
                swept.append(len(list(shop.layout.indexes.iterdir())))
                snapshot.sweep(shop.layout, set())

        monkeypatch.setattr(failpoints, "hook", sweeps)
        told = shop.tune(kind="hnsw")["v"]
        assert swept == [1]
        assert isinstance(told, dict)
        assert told["kind"] == "hnsw"
        assert len(list(shop.layout.indexes.iterdir())) == 1
        assert shop.check() == []


def test_a_directory_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with search.open(tmp_path / "c") as shop:
        shop.add([{"id": str(i)} for i in range(99)], np.eye(99, dtype=np.float32), space="v")
        monkeypatch.setattr(
            failpoints,
            "hook",
            lambda step: snapshot.sweep(shop.layout, set()) if step is Step.SNAPSHOT_SYNCED else None,
        )
        with pytest.raises(search.CollectionError, match=r"vanishes while it is written.*; "):
            shop.tune(kind="hnsw")
