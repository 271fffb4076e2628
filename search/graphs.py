"""What a collection answers from the edges of its graphs: who is beside a node, and which edges it may lack."""

from __future__ import annotations

from search.query.ask import Asker
from search.query.request import Options
from search.types import Hit


class Graphs:
    """The part of a `Collection` that knows edges."""

    _asker: Asker

    def neighbours(self, id: str, *, space: str | None = None, k: int | None = None) -> list[Hit]:
        """The records that a node has an edge to or from, those with the heaviest edges first.

        Args:
            id: of a record that is a node.
            space: whose graph; needed where several spaces have one.
            k: at most so many; None takes all.

        Returns:
            Hits whose score is the weight of the edge (of both, where one leads each way); their `explain` holds the
            `edge` and its `direction`: out, in or both.

        Raises:
            UnknownRecord: no record has the id. UnknownSpace: there is no such graph. QueryError: a bad k.
        """
        options = Options() if k is None else Options(k)
        return self._asker.neighbours(id, space, None if k is None else options.k)

    def links(
        self, id: str, *, space: str | None = None, k: int = 10, explain: bool = False, seed: int = 0
    ) -> list[Hit]:
        """The k nodes that a node is likeliest to lack an edge to; those that it has one to or from are left out.

        Args:
            id: of a record that has a vector in the space.
            space: whose graph; needed where several spaces have one.
            k: how many.
            explain: fill `Hit.explain` with the common neighbours or the shortest path.
            seed: of the pairs that are drawn to learn from; the same seed gives the same answer.

        Returns:
            Hits whose score is a probability: that such a pair is an edge, among as many edges as pairs without one.
            It is learned from the stored edges by a logistic regression on the products of two nodes' vectors
            (Grover & Leskovec 2016, sec. 4.4), and knows no direction.

        Raises:
            UnknownRecord: no record has the id, or it has no vector there. UnknownSpace: there is no such graph.
            QueryError: a bad k, or nothing to learn from.
        """
        return self._asker.links(id, space, Options(k, explain=explain), seed)
