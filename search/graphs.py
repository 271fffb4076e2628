"""What a collection answers from the edges of its graphs, and how a space looks in the plane."""

from __future__ import annotations

from pathlib import Path

from search.errors import QueryError
from search.query.ask import Asker
from search.query.request import Options
from search.types import Hit, Place


class Graphs:
    """The part of a `Collection` that knows edges, and draws maps."""

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
        from search.query import graph

        return self._asker.read(
            lambda transaction, state, views: graph.neighbours(
                transaction, state, views, (id, space), None if k is None else options.k
            )
        )

    def export_edges(self, path: str | Path, *, space: str | None = None) -> int:
        """Write the edges of a graph to a .csv or .parquet file, an edge a row; how many there were.

        The columns are source, target and weight, as `ingest.graph` reads them. An undirected edge stands once. What
        was added since the graph was read is there, edges of deleted records are not, nor are nodes without edges.

        Args:
            path: where to write; an older file of the name is replaced once the new one is whole.
            space: whose graph; needed where several spaces have one.

        Raises:
            UnknownSpace: there is no such graph. QueryError: the suffix is of neither format.
            CollectionError: the file cannot be written.
            MissingExtra: Parquet needs pyarrow.
        """
        from search.exchange import edge_tables
        from search.query import graph

        return self._asker.read(
            lambda transaction, state, views: edge_tables.export(
                transaction,
                Path(path).expanduser(),
                graph.of_spaces(transaction, views.spaces(transaction, state), space)[0],
            )
        )

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
            It is learned from the stored edges by logistic regressions on the products of two nodes' vectors
            (Grover & Leskovec 2016, sec. 4.4) and on their degrees, and knows no direction.

        Raises:
            UnknownRecord: no record has the id, or it has no vector there. UnknownSpace: there is no such graph.
            QueryError: a bad k, or nothing to learn from.
        """
        from search.query import graph

        options = Options(k, explain=explain)
        return self._asker.read(
            lambda transaction, state, views: graph.links(
                transaction, state, views, (id, space, seed), options
            )
        )

    def map(
        self,
        space: str | None = None,
        *,
        where: str | None = None,
        method: str = "auto",
        seed: int = 0,
        most: int = 20_000,
    ) -> list[Place]:
        """The records of a space in the plane, in the order of their adding: what is alike stands together.

        Args:
            space: which; needed where there are several, and not one of them of pictures.
            where: a condition on the records.
            method: "umap" (McInnes, Healy & Melville 2018), "pca", or "auto": umap, or pca for fewer than 30.
            seed: the same one gives the same map.
            most: of more records a sample is drawn.

        Raises:
            QueryError: there is nothing to draw, or no such method.
            FilterError, UnknownSpace: see their messages.
            MissingExtra: UMAP needs umap-learn.
        """
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise QueryError(f"most must be a whole number of at least 1, not {most!r}; say how many to draw")
        from search.query import places

        Options(where=where)  # says what is wrong with it
        found = self._asker.read(
            lambda transaction, state, views: places.drawn(
                transaction, state, views, (space, where), (seed, most)
            )
        )
        return places.placed(*found, method, seed)
