"""How well Cranfield's 225 questions are answered: nDCG@10 by vectors, by words (BM25), by both, and ranked again.

    python -m benchmarks.retrieval DATA [--model NAME] [--depth 100] [--rerank M]... [--device auto]

MaxSim is always among the ways of ranking again; --rerank adds a cross-encoder by name or folder.

DATA is a folder with the collection's own files (cran.all.1400, cran.qry, cranqrel). Queries are numbered by their
order in the file, as the judgements number them; a document is its title and abstract; the gain of a document is
1 where it was judged relevant (codes 1 to 4 of the readme), else 0 (-1, of no interest).
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import ingest
import search
from search.catalog import reads
from search.query.keywords import Keywords
from search.types import Json

_FIELD = re.compile(r"^\.([A-Z])\s*$", re.MULTILINE)


def entries(text: str) -> list[dict[str, str]]:
    """The entries of a file in SMART's format, each a dict of its fields by letter."""
    found = []
    for one in re.split(r"^\.I .*$", text, flags=re.MULTILINE)[1:]:
        pieces = _FIELD.split(one)[1:]
        found.append(
            {name: " ".join(body.split()) for name, body in zip(pieces[::2], pieces[1::2], strict=True)}
        )
    return found


def judgements(text: str) -> dict[int, dict[str, float]]:
    """For each query's number the gain of each judged document's id."""
    gains: dict[int, dict[str, float]] = {}
    for line in text.splitlines():
        if line.strip():
            query, document, code = line.split()[:3]
            gains.setdefault(int(query), {})[document] = 1.0 if 1 <= int(code) <= 4 else 0.0
    return gains


def ndcg(ranking: Sequence[str], gains: Mapping[str, float], k: int = 10) -> float:
    """Discounted gain of the first k over that of the best possible order (Järvelin & Kekäläinen 2002)."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    got = np.array([gains.get(id, 0.0) for id in ranking[:k]])
    best = np.sort(list(gains.values()))[::-1][:k]
    ideal = float(best @ discounts[: len(best)])
    return float(got @ discounts[: len(got)]) / ideal if ideal else 0.0


def by_words(shop: search.Collection, queries: Sequence[str]) -> list[list[str]]:
    """For each query the ids of the first ten by BM25 alone."""
    found = []
    with shop.database.reading() as transaction:
        state, words = reads.state(transaction), Keywords()
        ids = dict(transaction.sql("select key, id from record").fetchall())
        for query in queries:
            keys, _ = words.ranking(transaction, state, query).first(np.ones(state.next_record, bool), 10)
            found.append([ids[key] for key in keys.tolist()])
    return found


def told(
    name: str, rankings: Sequence[Sequence[str]], gains: Mapping[int, Mapping[str, float]], started: float
) -> None:
    """Print the mean nDCG@10 over the judged queries."""
    scores = [ndcg(ids, gains[number]) for number, ids in enumerate(rankings, 1) if number in gains]
    seconds = time.perf_counter() - started
    print(f"{name:24} nDCG@10 {np.mean(scores):.4f}  ({len(scores)} queries, {seconds:.1f} s)", flush=True)


def main() -> None:
    """Measure and print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--rerank", action="append", default=[])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    read = lambda name: (options.data / name).read_text(encoding="utf-8", errors="replace")  # noqa: E731
    documents, queries = entries(read("cran.all.1400")), [one["W"] for one in entries(read("cran.qry"))]
    gains = judgements(read("cranqrel"))
    with (
        tempfile.TemporaryDirectory() as folder,
        search.open(Path(folder) / "c", device=options.device) as shop,
    ):
        lines = Path(folder) / "documents.jsonl"
        rows: list[dict[str, Json]] = [
            {"id": str(number), "text": f"{one.get('T', '')}\n{one.get('W', '')}".strip() or "-"}
            for number, one in enumerate(documents, 1)
        ]
        lines.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        ingest.text(shop, lines, model=options.model, options=ingest.Options(device=options.device))
        started = time.perf_counter()
        told("words", by_words(shop, queries), gains, started)
        for rerank in (None, "maxsim", *options.rerank):
            for hybrid in (False, True):
                started = time.perf_counter()
                depth = None if rerank is None else options.depth
                answers = shop.search(queries, k=10, rerank=rerank, rerank_depth=depth, hybrid=hybrid)
                name = ("both" if hybrid else "vectors") + (f", {rerank}" if rerank else "")
                told(name, [[hit.id for hit in hits] for hits in answers], gains, started)


if __name__ == "__main__":
    main()
