"""Answers a question put in one way or in several: picks how it is searched for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.errors import QueryError
from search.query.ask import Asker, vectors
from search.query.cursor import cursor_of, marked, name_of
from search.query.examples import Examples
from search.query.request import Asked, Options, given_ways, graphs, pictures, region_in, texts
from search.query.request import weights as weights_of
from search.query.rerank import DEPTH
from search.query.shape import PLAIN, Page, shaped
from search.types import Hit

_FUSED = 1_000  # hits of each ranking that a page of hybrid search is put together from, whichever page it is


@dataclass(frozen=True, slots=True)
class Question:
    """What `Collection.search` was given, beside the options that all questions have."""

    query: str | Sequence[str] | None = None
    image: Any = None
    like: str | None = None
    vector: Any = None
    space: str | None = None
    weights: Mapping[str, float] | None = None
    region: Sequence[float] | None = None
    graph: Any = None

    @property
    def ways(self) -> list[Asked]:
        """The ways in which it is put.

        Raises:
            QueryError: there is none.
        """
        return given_ways(self.query, self.image, self.like, self.vector, self.graph)


def answer(asker: Asker, question: Question, options: Options) -> list[Hit] | list[list[Hit]]:
    """The hits; a list of them for each question of a batch.

    Raises:
        QueryError: the question or an option makes no sense.
    """
    like, ways = question.like, question.ways
    if like is not None and not isinstance(like, str):
        raise QueryError(f"like is a {type(like).__name__}; give one id, or several to recommend(likes=…)")
    if options.rerank is not None and ways != ["text"]:
        raise QueryError(
            f"rerank compares words with words, not by {' and '.join(ways)}; ask in words, or leave it out"
        )
    if options.hybrid and ways != ["text"]:
        raise QueryError(
            f"hybrid looks for words, and the question is by {' and '.join(ways)}; ask in words, or leave it out"
        )
    if options.calibrate and (options.hybrid or options.rerank is not None):
        other = "hybrid" if options.hybrid else "rerank"
        raise QueryError(
            f"calibrate puts the scores of several spaces together, and {other} asks one; leave one out"
        )
    if options.calibrate and options.effort is not None:
        raise QueryError("over several spaces it is not said how hard an index looks; leave effort out")
    if options.effort is not None and (len(ways) > 1 or ways == ["like"]):
        raise QueryError(f"by {' and '.join(ways)} it is not said how hard an index looks; leave effort out")
    question = replace(question, image=region_in(question.image, question.region))
    if options.shape == PLAIN:
        return _answers(asker, question, options)
    asker.check_fields(options.shape.fields)
    several = _is_batch(question, ways)
    if several and options.shape.after is not None:
        raise QueryError("after goes on with one question; ask them one at a time")

    def ask(k: int) -> list[list[Hit]]:
        found: Any = _answers(asker, question, replace(options, k=k, shape=PLAIN))
        return found if several else [found]

    compared = None if options.rerank is None else options.rerank_depth or DEPTH
    page = None if several else _page(asker, question, options)
    answers = shaped(ask, options.shape, options.k, compared, asker.vectors_of_hits, page)
    if several:
        return answers
    (hits,) = answers
    if page is None:
        return hits
    return marked(hits, page.question, options.shape.offset or page.before, page.now)


def _page(asker: Asker, question: Question, options: Options) -> Page | None:
    """The page that is asked for, if one is.

    Raises:
        QueryError: it is to come after a hit of another question.
    """
    shape = options.shape
    if not shape.paged or shape.diversity:
        return None
    said = (
        *(shape.min_score, shape.group_by, shape.boost, options.where),
        *(options.rerank, options.rerank_depth, options.hybrid, options.calibrate),
    )
    asked = (
        question.query,
        question.image,
        question.like,
        question.vector,
        question.space,
        question.weights,
    )
    name = name_of(asked, said, asker.read(lambda transaction, state, views: state.uuid))
    least = _FUSED if options.hybrid else 0
    if shape.after is None:
        # The same question has the same cursors, but where the moment decides the order.
        now = time.time() if "age_days" in (shape.boost or "") else 0.0
        return Page(name, None, now, least)
    after = cursor_of(shape.after)
    if after.question != name:
        raise QueryError(
            "after is the cursor of another question; ask as for the page before, or leave it out for the first one"
        )
    return Page(name, after, after.now, least)


def _is_batch(question: Question, ways: Sequence[str]) -> bool:
    """Whether several questions were put, each to have its own hits."""
    if ways == ["text"]:
        return not isinstance(question.query, str)
    if ways in (["image"], ["graph"]):
        return isinstance(question.image if ways == ["image"] else question.graph, list | tuple)
    return ways == ["vector"] and question.weights is None and not vectors(question.vector)[0]


def _answers(asker: Asker, question: Question, options: Options) -> list[Hit] | list[list[Hit]]:
    """The hits as they are found."""
    query, image, like, vector = question.query, question.image, question.like, question.vector
    ways = question.ways
    if len(ways) > 1 or question.weights is not None or (options.calibrate and ways != ["like"]):
        from search.query.mix import mixed

        mix = mixed(query, image, like, vector, question.weights, question.graph)
        return asker.mixed(mix, question.space, options)
    if ways == ["like"]:
        return asker.recommend(Examples({str(like): 1.0}), weights_of(question.space), 0.0, options)
    if ways == ["vector"]:
        single, rows = vectors(vector)
        answers = asker.by_vector(rows, question.space, options)
    else:
        single = not _is_batch(question, ways)
        items: list[Any]
        if ways == ["text"]:
            items = list(texts("" if query is None else query))
        else:
            items = pictures(image) if ways == ["image"] else graphs(question.graph)
        answers = asker.by_item(items, ways[0], question.space, options)
    return answers[0] if single else answers
