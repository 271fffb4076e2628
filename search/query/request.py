"""A question as the user put it, checked before any work is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from search.errors import FilterError, QueryError
from search.query.shape import PLAIN, Shape

Asked: TypeAlias = Literal["text", "image", "like", "vector", "graph"]

_LIGHTEST, _HEAVIEST = 1e-6, 1e6  # of the weights that may be given


@dataclass(frozen=True, slots=True)
class Options:
    """What all questions have in common."""

    k: int = 10
    where: str | None = None
    explain: bool = False
    effort: int | None = None  # how hard an approximate index looks; None takes what it was tuned to
    context: int = 0  # how many neighbours of a piece on either side are shown with it
    rerank: str | None = None  # how the first hits are compared again
    rerank_depth: int | None = None  # how many of them; None takes the usual number
    hybrid: bool = False  # whether the texts are searched by their words too
    calibrate: bool = (
        False  # whether scores of several spaces are made comparable before they are put together
    )
    shape: Shape = PLAIN  # what becomes of the hits once they are found

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise QueryError(
                f"k must be a whole number of at least 1, not {self.k!r}; say how many hits you want"
            )
        if self.effort is not None and (
            isinstance(self.effort, bool) or not isinstance(self.effort, int) or self.effort < 1
        ):
            raise QueryError(
                f"effort must be a whole number of at least 1, not {self.effort!r}; leave it out"
            )
        if isinstance(self.context, bool) or not isinstance(self.context, int) or self.context < 0:
            raise QueryError(
                f"context must be a whole number of at least 0, not {self.context!r}; say how many neighbours"
            )
        depth = self.rerank_depth
        if depth is not None and self.rerank is None:
            raise QueryError("rerank_depth was given without rerank; say how to compare, or leave it out")
        if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
            raise QueryError(
                f"rerank_depth must be a whole number of at least 1, not {depth!r}; leave it out"
            )
        if not isinstance(self.hybrid, bool):
            raise QueryError(f"hybrid is {self.hybrid!r}; give True or False")
        if self.where is not None and not isinstance(self.where, str):
            raise FilterError(f"the where-expression is a {type(self.where).__name__}; give a string", None)

    @property
    def plain(self) -> bool:
        """Whether nothing is wanted of the catalog but the hits themselves."""
        return not self.explain and not self.context


def given_ways(
    query: object, image: object, like: object, vector: object, graph: object = None
) -> list[Asked]:
    """Which of the ways of asking were used.

    Raises:
        QueryError: none of them.
    """
    given: list[Asked] = []
    if query is not None:
        given.append("text")
    if image is not None:
        given.append("image")
    if like is not None:
        given.append("like")
    if vector is not None:
        given.append("vector")
    if graph is not None:
        given.append("graph")
    if not given:
        raise QueryError(
            "nothing to search for; give words, an image, a graph, a stored id (like) or a vector"
        )
    return given


def ids(given: object, what: str) -> list[str]:
    """One id or several, as a list.

    Raises:
        QueryError: they are none.
    """
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, Iterable) or isinstance(several, Mapping | bytes):
        raise QueryError(f"{what} is a {type(given).__name__}; give an id as a string, or a list of such")
    found = list(several)
    for id in found:
        if not isinstance(id, str):
            raise QueryError(f"{what} holds a {type(id).__name__}; give ids as strings")
    return found


def texts(query: str | Sequence[str]) -> list[str]:
    """The queries as a list.

    Raises:
        QueryError: one is not a string, or has no words in it.
    """
    if not isinstance(query, Iterable):
        raise QueryError(f"the query is a {type(query).__name__}; give words as a string, or a list of such")
    several = [query] if isinstance(query, str) else list(query)
    for number, words in enumerate(several):
        where = "" if isinstance(query, str) else f" number {number + 1}"
        if not isinstance(words, str):
            raise QueryError(f"query{where} is a {type(words).__name__}; give words as a string")
        if not words.strip():
            raise QueryError(f"query{where} is empty; give some words")
    return several


def pictures(image: Any) -> list[Any]:
    """The pictures as a list of paths or PIL images."""
    several = list(image) if isinstance(image, list | tuple) else [image]
    return [Path(one) if isinstance(one, str) else one for one in several]


def graphs(graph: Any) -> list[Any]:
    """The graphs as a list of paths, or of graphs in memory."""
    return pictures(graph)  # which does the same with names of files


def region_in(image: Any, region: Any) -> Any:
    """The region of a picture, as a picture; the picture itself where `region` is None.

    Raises:
        QueryError: it is no region, reaches beyond the picture, or there is not one picture to cut it from.
        SourceError: the picture cannot be read.
    """
    if region is None:
        return image
    if image is None or isinstance(image, list | tuple):
        raise QueryError("a region is cut from one query picture; give an image with it, or leave it out")
    from search.encoders.pictures import open_picture
    from search.encoders.regions import cut_out, region_of

    box = region_of(region)
    return cut_out(open_picture(pictures(image)[0]), box)


def weights(spaces: Mapping[str, float] | Sequence[str] | str | None) -> dict[str, float] | None:
    """The weight of each space that was named, or None where none was.

    Raises:
        QueryError: a weight is not a positive number.
    """
    if spaces is None:
        return None
    if isinstance(spaces, str):
        return {spaces: 1.0}
    if not isinstance(spaces, Mapping):
        return dict.fromkeys(spaces, 1.0)
    return {name: weight_of(weight, f"space '{name}'") for name, weight in spaces.items()}


def weight_of(given: Any, what: str, otherwise: str = "") -> float:
    """A weight that somebody gave; not so small or great that sums of products lose it, or all else.

    Raises:
        QueryError: it is none; `otherwise` says what could stand there too.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not _LIGHTEST <= given <= _HEAVIEST:
        raise QueryError(
            f"the weight of {what} is {given!r}; "
            f"give a positive number, from {_LIGHTEST:f} to {_HEAVIEST:,.0f}{otherwise}"
        )
    return float(given)
