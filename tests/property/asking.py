"""Rules of the state machine that ask: every ranking is that of plain numpy, modulo ties."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sklearn.linear_model import LogisticRegression

from search.collection import Collection
from search.types import Hit
from tests.property.model import DIMS, Kept, chosen, ks, rows, wheres

LEAST_LENGTH = 1e-3  # of a sum of vectors: below it float32 says little
seeds = st.integers(0, 10**6)


class Asking(RuleBasedStateMachine):
    """Asks a collection, and another object that reads it."""

    shop: Collection
    reader: Collection
    kept: dict[str, Kept]
    compared: ClassVar[Counter[str]] = Counter()  # by rule, how many answers with hits

    def same(self, hits: list[Hit], scores: dict[str, float], k: int, atol: float = 1e-5) -> None:
        """The best k of `scores`, best first, modulo ties; each with its own score and metadata."""
        assert len({hit.id for hit in hits}) == len(hits) == min(k, len(scores))
        for hit in hits:
            assert hit.score == pytest.approx(scores[hit.id], abs=atol)
            assert hit.metadata == self.kept[hit.id].metadata
            assert hit.text == self.kept[hit.id].text
        np.testing.assert_allclose(
            [hit.score for hit in hits], sorted(scores.values(), reverse=True)[:k], atol=atol
        )

    def able(self, *spaces: str) -> list[str]:
        """The records that have a vector in one of the spaces."""
        return sorted(id for id, held in self.kept.items() if set(spaces) & held.vectors.keys())

    def matching(self, space: str, where: str | None) -> dict[str, np.ndarray]:
        """The vectors in a space of the records that match."""
        return {
            id: held.vectors[space]
            for id, held in self.kept.items()
            if space in held.vectors and chosen(where, held.metadata)
        }

    def cosines(self, space: str, query: np.ndarray, where: str | None = None) -> dict[str, float]:
        """Of the records that match."""
        return {id: float(row @ query) for id, row in self.matching(space, where).items()}

    def calibrated(self, space: str, query: np.ndarray) -> dict[str, float]:
        """The cosines of all in a space, in deviations from their mean."""
        cosines = self.cosines(space, query)
        mean, spread = np.mean(list(cosines.values())), max(np.std(list(cosines.values())), 1e-6)
        return {id: float((score - mean) / spread) for id, score in cosines.items()}

    def summed(self, by_space: dict[str, dict[str, float]], weights: dict[str, float]) -> dict[str, float]:
        """The weighted mean of the scores in each space, where none counts 0."""
        total: dict[str, float] = {}
        for space, scores in by_space.items():
            for id, score in scores.items():
                total[id] = total.get(id, 0.0) + weights[space] / sum(weights.values()) * score
        return total

    def without(self, scores: dict[str, float], ids: list[str], where: str | None) -> dict[str, float]:
        return {
            id: score
            for id, score in scores.items()
            if id not in ids and chosen(where, self.kept[id].metadata)
        }

    def flat(self, scores: dict[str, float]) -> bool:
        """Whether all are so much alike that deviations from their mean are rounding errors."""
        return bool(np.ptp(list(scores.values())) < 1e-4)

    @precondition(lambda self: self.able("v"))
    @rule(data=st.data(), seed=seeds, where=wheres, k=ks, read=st.booleans())
    def mix(self, data: st.DataObject, seed: int, where: str | None, k: int, read: bool) -> None:
        """A vector and a stored record, over the spaces that can take them, their scores made comparable."""
        like = data.draw(st.sampled_from(self.able("v")))
        weight = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
        (vector,) = rows(seed, 1, DIMS["v"])
        here = self.kept[like].vectors
        joined = weight * vector + here["v"]
        if np.linalg.norm(joined) < LEAST_LENGTH:
            return
        queries = {"v": joined / np.linalg.norm(joined)} | ({"w": here["w"]} if "w" in here else {})
        plain = {
            space: {id: float(row @ queries[space]) for id, row in self.matching(space, None).items()}
            for space in queries
        }
        if any(self.flat(scores) for scores in plain.values()):
            return
        scores = self.summed(
            {space: self.calibrated(space, query) for space, query in queries.items()},
            {space: {"v": weight + 1, "w": 1.0}[space] for space in queries},
        )
        who = self.reader if read else self.shop
        hits = who.search(
            vector=vector, like=like, weights={"vector": weight}, calibrate=True, k=k, where=where
        )
        self.compared["mix"] += bool(hits)
        self.same(hits, self.without(scores, [like], where), k, 2e-3)

    @precondition(lambda self: self.able("v", "w"))
    @rule(data=st.data(), where=wheres, k=ks, read=st.booleans())
    def recommend_calibrated(self, data: st.DataObject, where: str | None, k: int, read: bool) -> None:
        able = self.able("v", "w")
        likes = data.draw(st.lists(st.sampled_from(able), min_size=1, max_size=3, unique=True))
        queries = {}
        for space in DIMS:
            some = [self.kept[id].vectors[space] for id in likes if space in self.kept[id].vectors]
            if some:
                total = np.sum(some, axis=0)
                if np.linalg.norm(total) < LEAST_LENGTH:
                    return
                queries[space] = total / np.linalg.norm(total)
        plain = {
            space: {id: float(row @ queries[space]) for id, row in self.matching(space, None).items()}
            for space in queries
        }
        if any(self.flat(scores) for scores in plain.values()):
            return
        scores = self.summed(
            {space: self.calibrated(space, query) for space, query in queries.items()},
            dict.fromkeys(queries, 1.0),
        )
        who = self.reader if read else self.shop
        hits = who.recommend(likes, calibrate=True, k=k, where=where)
        self.compared["recommend_calibrated"] += bool(hits)
        self.same(hits, self.without(scores, likes, where), k, 2e-3)

    @precondition(lambda self: self.able("v"))
    @rule(data=st.data(), where=wheres, k=ks, read=st.booleans())
    def recommend_by_a_line(self, data: st.DataObject, where: str | None, k: int, read: bool) -> None:
        """Learned on the spot, against scikit-learn."""
        able = self.able("v")
        examples = data.draw(st.lists(st.sampled_from(able), min_size=1, max_size=5, unique=True))
        n = data.draw(st.integers(1, len(examples)))
        likes, dislikes = examples[:n], examples[n:]
        every = self.matching("v", None)
        x = np.array([every[id] for id in [*examples, *every]])
        y = np.array([1] * n + [0] * (len(x) - n))
        counts = np.array([1.0] * len(examples) + [n / len(every)] * len(every))
        line = LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(x, y, counts).coef_[0]
        if np.linalg.norm(line) < LEAST_LENGTH:
            return
        scores = {id: float(row @ line / np.linalg.norm(line)) for id, row in every.items()}
        who = self.reader if read else self.shop
        hits = who.recommend(likes, dislikes, strategy="linear", spaces="v", k=k, where=where)
        self.compared["recommend_by_a_line"] += bool(hits)
        self.same(hits, self.without(scores, examples, where), k, 2e-3)

    @rule(seed=seeds, where=wheres, k=ks, diversity=st.sampled_from([0.2, 0.7, 1.0]), read=st.booleans())
    def diverse(self, seed: int, where: str | None, k: int, diversity: float, read: bool) -> None:
        """Each hit is one of the best at its step of maximal marginal relevance."""
        (query,) = rows(seed, 1, DIMS["v"])
        some = self.matching("v", where)
        cosines = {id: float(row @ query) for id, row in some.items()}
        who = self.reader if read else self.shop
        hits = who.search(vector=query, space="v", k=k, where=where, diversity=diversity)
        self.compared["diverse"] += bool(hits)
        assert len({hit.id for hit in hits}) == len(hits) == min(k, len(some))
        if not hits or self.flat(cosines):
            return
        least, spread = min(cosines.values()), np.ptp(list(cosines.values()))
        taken: list[str] = []
        for hit in hits:
            assert hit.score == pytest.approx(cosines[hit.id], abs=1e-5)
            worth = {
                id: (1 - diversity) * (cosines[id] - least) / spread
                - diversity * max([float(row @ some[other]) for other in taken], default=0.0)
                for id, row in some.items()
                if id not in taken
            }
            assert worth[hit.id] == pytest.approx(max(worth.values()), abs=2e-3)
            taken.append(hit.id)

    @rule(seed=seeds, where=wheres, k=ks, field=st.sampled_from(["note", "even"]), read=st.booleans())
    def group(self, seed: int, where: str | None, k: int, field: str, read: bool) -> None:
        """The best of each value; what has none is by itself."""
        (query,) = rows(seed, 1, DIMS["v"])
        cosines = self.cosines("v", query, where)
        best: dict[Any, float] = {}
        for id, score in cosines.items():
            value = self.kept[id].metadata.get(field)
            group = ("alone", id) if value is None else value
            best[group] = max(best.get(group, -2.0), score)
        who = self.reader if read else self.shop
        hits = who.search(vector=query, space="v", k=k, where=where, group_by=field)
        self.compared["group"] += bool(hits)
        groups = [("alone", hit.id) if (value := hit.metadata.get(field)) is None else value for hit in hits]
        assert len(set(groups)) == len(groups) == min(k, len(best))
        for hit, group in zip(hits, groups, strict=True):
            assert hit.score == pytest.approx(best[group], abs=1e-5)
        np.testing.assert_allclose(
            [hit.score for hit in hits], sorted(best.values(), reverse=True)[:k], atol=1e-5
        )

    @rule(where=wheres, field=st.sampled_from(["note", "even", "i"]), read=st.booleans())
    def facets(self, where: str | None, field: str, read: bool) -> None:
        values = [
            value
            for held in self.kept.values()
            if chosen(where, held.metadata) and (value := held.metadata.get(field)) is not None
        ]
        found = (self.reader if read else self.shop).facets(field, where=where, limit=1000)[field]
        self.compared["facets"] += bool(found)
        assert {one["value"]: one["count"] for one in found} == Counter(values)
        told: list[Any] = [one["count"] for one in found]
        assert told == sorted(told, reverse=True)

    @rule(data=st.data(), seed=seeds, where=wheres, size=st.sampled_from([1, 4, 9]))
    def pages(self, data: st.DataObject, seed: int, where: str | None, size: int) -> None:
        """All pages after the first by their cursors, one record being deleted meanwhile."""
        (query,) = rows(seed, 1, DIMS["v"])
        page = self.shop.search(vector=query, space="v", k=size, where=where, offset=0)
        found = [hit.id for hit in page]
        cosines = self.cosines("v", query, where)
        if self.kept:
            gone = data.draw(st.sampled_from(sorted(self.kept)))
            self.shop.delete(gone)
            del self.kept[gone]
        self.compared["pages"] += len(page) == size
        while page:
            last = page[-1]
            page = self.reader.search(vector=query, space="v", k=size, where=where, after=last.cursor)
            for hit in page:
                assert (-hit.score, hit.id) > (-last.score, last.id)
                assert hit.score == pytest.approx(cosines[hit.id], abs=1e-5)
                last = hit
            found += [hit.id for hit in page]
        assert len(set(found)) == len(found)
        assert set(found) >= self.matching("v", where).keys()
