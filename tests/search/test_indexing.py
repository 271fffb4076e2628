"""The thread that builds indexes: what it cannot build, and what it must not leave behind when it dies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import search
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
