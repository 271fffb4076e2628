"""How many threads FAISS takes for a search: one for a few queries, which on a busy machine are slower with more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import faiss

FEW = 4  # queries; beyond them the threads share the work


class _Here(threading.local):
    """OpenMP keeps the number for each thread by itself; asking it costs more than remembering."""

    single = False


_here = _Here()


@contextmanager
def for_queries(n: int) -> Iterator[None]:
    """Search with one thread for up to `FEW` queries, with as many as FAISS is set to for more."""
    if n > FEW or _here.single:
        yield
        return
    before = faiss.omp_get_max_threads()
    if before == 1:
        yield
        return
    faiss.omp_set_num_threads(1)
    _here.single = True
    try:
        yield
    finally:
        _here.single = False
        faiss.omp_set_num_threads(before)
