"""The questions that a collection answers: searches, recommendations, and the senses of a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from search.errors import QueryError
from search.query.answer import Question, answer
from search.query.ask import Asker
from search.query.examples import examples
from search.query.personal import who
from search.query.request import Options, ids
from search.query.request import weights as weights_of
from search.query.shape import Shape
from search.types import Hit, Sense


class Questions:
    """The part of a `Collection` that is asked."""

    _asker: Asker

    @overload
    def search(  # type: ignore[overload-overlap] # a str is a sequence of str, and means one query
        self,
        query: str | None = None,
        *,
        k: int = 10,
        where: str | None = None,
        space: str | None = None,
        image: Any = None,
        like: str | None = None,
        vector: Any = None,
        weights: Mapping[str, float] | None = None,
        region: Sequence[float] | None = None,
        graph: Any = None,
        effort: int | None = None,
        context: int = 0,
        rerank: str | None = None,
        rerank_depth: int | None = None,
        hybrid: bool = False,
        calibrate: bool = False,
        boost: str | None = None,
        min_score: float | None = None,
        diversity: float = 0.0,
        group_by: str | None = None,
        offset: int | None = None,
        after: str | None = None,
        explain: bool = False,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        query: Sequence[str],
        *,
        k: int = 10,
        where: str | None = None,
        space: str | None = None,
        image: None = None,
        like: None = None,
        vector: None = None,
        weights: None = None,
        region: None = None,
        graph: None = None,
        effort: int | None = None,
        context: int = 0,
        rerank: str | None = None,
        rerank_depth: int | None = None,
        hybrid: bool = False,
        calibrate: bool = False,
        boost: str | None = None,
        min_score: float | None = None,
        diversity: float = 0.0,
        group_by: str | None = None,
        offset: int | None = None,
        after: str | None = None,
        explain: bool = False,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        query: str | Sequence[str] | None = None,
        *,
        k: int = 10,
        where: str | None = None,
        space: str | None = None,
        image: Any = None,
        like: str | None = None,
        vector: Any = None,
        weights: Mapping[str, float] | None = None,
        region: Sequence[float] | None = None,
        graph: Any = None,
        effort: int | None = None,
        context: int = 0,
        rerank: str | None = None,
        rerank_depth: int | None = None,
        hybrid: bool = False,
        calibrate: bool = False,
        boost: str | None = None,
        min_score: float | None = None,
        diversity: float = 0.0,
        group_by: str | None = None,
        offset: int | None = None,
        after: str | None = None,
        explain: bool = False,
    ) -> list[Hit] | list[list[Hit]]:
        """The k records nearest to words, a picture, a stored record or a vector, or a mix of these; best first.

        In a mix each way makes a unit vector in each space that can take it (or in the one named); within a space
        their weighted sum is the query; over several spaces the score is the mean of those in each, weighted by the
        ways in it, and 0 where a record has no vector.

        Args:
            query: words; a list of them is answered as one batch, with one list of hits for each.
            k: how many; if so many match, so many come back.
            where: a condition on the records, such as `price < 80 and brand in ('A', 'B')`.
            space: which space to search; needed only where several could answer.
            image: a path or a PIL image (a list of them is a batch).
            like: the id of a stored record, which is itself left out; over all the spaces it has vectors in.
            vector: (dim,) numbers; (n, dim) is a batch.
            weights: in a mix, how much "text", "image", "graph", "like" and "vector" count, such as
                `{"image": 0.5}`; 1 each otherwise.
            region: (x, y, width, height) in pixels of the upright picture: what of `image` to search by.
            graph: a whole graph, where `ingest.graphs` has taken such in: a networkx graph, a sparse matrix of scipy,
                or the path of a file (GraphML, GML, GEXF, Pajek, node-link JSON, edge list); a list of them is a batch.
            effort: how hard an approximate index looks (ef_search of a graph, lists visited of an inverted file);
                None takes what it was tuned to. Not by `like`, nor in a mix.
            context: how many neighbours on either side of a passage to show with it, in `Hit.part`: passages, or
                words around a word.
            rerank: compare the first hits with the words of the query again: "maxsim", token by token, in a space of
                a text encoder; or a cross-encoder by name or folder, which reads the query and each text together.
                The score is then that of this comparison.
            rerank_depth: how many of them; None means 100. All k are, in any case.
            hybrid: look for the words themselves too, among the records of the space; words, "phrases" and
                beginnings*. The rankings by BM25 and by the vectors are fused by their ranks; the score is 1 for the
                first of both.
            calibrate: ask all the spaces that can answer (or the one named), each score told in deviations from what is
                usual for this question in its space; so a space of low cosines counts like one of high ones.
            boost: what is added to the score, over the fields of the metadata and `score`, such as
                `log(1 + sales) * 0.1 - age_days(date) / 365` (docs/asking.md); it can lift any of the first 1,000
                hits, or of those ranked again.
            min_score: leave out hits below it, on the scale of the scores that come back.
            diversity: from 0 (relevance alone) to 1 (difference alone), by maximal marginal relevance.
            group_by: a field of the metadata; only the best hit for each of its values comes back.
            offset: pass over so many hits, for a page; 0 for the first one. Then equals come in the order of their ids.
            after: the page after a hit, given by its `Hit.cursor`, which the hits of a page have (the first page is
                offset=0); for the same question only. Records that come or go meanwhile shift nothing.
            explain: fill `Hit.explain` with the plan taken.

        Raises:
            QueryError: no way of asking, an empty query, a bad k, vector, weight or region.
            ModelError: there is no such cross-encoder, or it cannot be used.
            FilterError, UnknownSpace, UnknownRecord: see their messages.
            WrongModality: the space cannot be asked this way.
            EncoderDrift: the model is not the one that made the space.
        """
        shape = Shape(min_score, offset, diversity, group_by, boost, after)
        options = Options(k, where, explain, effort, context, rerank, rerank_depth, hybrid, calibrate, shape)
        question = Question(query, image, like, vector, space, weights, region, graph)
        return answer(self._asker, question, options)

    def recommend(
        self,
        likes: str | Sequence[str] | Mapping[str, Any] = (),
        dislikes: str | Sequence[str] | Mapping[str, Any] = (),
        *,
        user: str | None = None,
        history: Mapping[str, Any] | Sequence[str] | None = None,
        k: int = 10,
        where: str | None = None,
        spaces: Mapping[str, float] | Sequence[str] | str | None = None,
        diversity: float = 0.0,
        strategy: str = "average",
        pairs: Sequence[tuple[str, str]] = (),
        exclude: str | Sequence[str] = (),
        half_life: float | None = None,
        calibrate: bool = False,
        explain: bool = False,
    ) -> list[Hit]:
        """The k records nearest to the likes and farthest from the dislikes; the examples are left out.

        With `user` or `history` instead: what that user should see next, by the interactions learned from; what was
        taken is left out.

        Args:
            likes: ids of stored records; each counts the same, or by the weight that a mapping gives it, such as
                `{"a": 2.0}`; or by when it was liked (`{"a": "2026-03-11"}` or a datetime), the newest 1.
            dislikes: likewise.
            user: the id of a user, as it stood in the interactions.
            history: ids of items that somebody took who need not be known; with weights or dates as likes have them.
            k: how many.
            where: a condition on the records.
            spaces: which spaces to look at, with their weights; None takes all that the likes have vectors in, or all
                learned from interactions.
            diversity: from 0 (relevance alone) to 1 (difference alone).
            strategy: "average", near the mean of the likes less the dislikes; "best", near any one like, less the
                nearness to the nearest dislike; "linear", by a logistic regression of likes against dislikes and
                records at large, learned on the spot.
            pairs: of each the first is to be nearer than the second; by how much it is not is taken off the score.
                Without likes, the first of each is one.
            exclude: ids that do not come back; those that are not there do no harm.
            half_life: after how many days what has a date counts half; None for 30.
            calibrate: tell each space's scores in deviations from what is usual there before they are put together;
                always so where one of several spaces is not compared by the cosine.
            explain: fill `Hit.explain` with the score in each space, and which of the items taken are nearest.

        Raises:
            UnknownRecord: an example or the user is not there, or a like has no vector in any of the spaces.
            QueryError, FilterError, UnknownSpace: see their messages.
        """
        options = Options(k, where, explain, calibrate=calibrate)
        if not 0 <= diversity <= 1:
            raise QueryError(f"diversity is {diversity}; give a number from 0 to 1")
        if user is not None or history is not None:
            if likes or dislikes or pairs or strategy != "average" or calibrate:
                raise QueryError(
                    "a user or a history is asked by itself; leave likes, dislikes and what says how they count out"
                )
            asked = who(user, history, half_life)
            return self._asker.recommend_to(
                asked, weights_of(spaces), diversity, options, ids(exclude, "exclude")
            )
        given = examples(likes, dislikes, pairs, exclude, strategy, half_life)
        return self._asker.recommend(given, weights_of(spaces), diversity, options)

    def senses(self, word: str, *, space: str = "words", examples: int = 3, context: int = 8) -> list[Sense]:
        """The senses of a word, the most frequent first: its occurrences, clustered by what they mean.

        Args:
            word: as it stands in the texts, whatever its case.
            space: a space of words in their context (`ingest.text` at level word).
            examples: how many of the most central occurrences to show of each sense.
            context: how many words to show on either side of each.

        Raises:
            UnknownRecord: it does not occur. UnknownSpace: there is no such space. WrongModality: it has no words.
            QueryError: no word, or a number that makes no sense.
        """
        Options(examples, context=context)  # says what is wrong with them
        return self._asker.senses(word, space, examples, context)
