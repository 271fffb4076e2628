"""nearkin's adapter for the side-by-side harness: one class, in the form that the harness asks for.

Copy it beside the harness's own adapters, add the lines below to its registry, and name the Python that has nearkin:

    PEERS['nearkin'] = ('nearkin_peer', 'Nearkin')
    PEERS['nearkin-flat'] = ('nearkin_peer', 'Flat')
    PEERS['nearkin-fields'] = ('nearkin_peer', 'Indexed')  # price and category declared
    PEER_PY_NEARKIN=.venv/bin/python
"""

from __future__ import annotations

import numpy as np
from base import Peer  # the harness's own

# nearkin is imported where it is used: the harness reads this file with the Python of another system too.

SPACE = "v"


class Nearkin(Peer):
    """Records with metadata and given vectors, by the public face but for `get`, which looks at stored vectors."""

    name = "nearkin"
    venv = "nearkin"
    kind = "hnsw"
    knobs = [12, 16, 24, 32, 48, 64, 96, 128, 192, 256]  # noqa: RUF012 - the harness wants a list
    mods = ("search.opening", "search.index.view", "search.query.ask")

    def threads(self, n: int) -> None:
        """How many FAISS may take."""
        import faiss

        faiss.omp_set_num_threads(n)

    def build(self, vecs: np.ndarray, metas: list[tuple]) -> None:
        """One durable commit; the index follows in the background."""
        import search

        self.shop = search.open(self.path)
        self.shop.add(map(_record, metas), vecs, space=SPACE)

    def open(self) -> None:
        """For reading and writing."""
        import search

        self.shop = search.open(self.path)

    def add(self, vecs: np.ndarray, metas: list[tuple]) -> None:
        """One durable commit, by id."""
        self.shop.add(map(_record, metas), vecs, space=SPACE)

    def delete(self, ids: list[str]) -> None:
        """One durable commit."""
        self.shop.delete(ids)

    def search(self, q: np.ndarray, k: int, flt: tuple | None = None, knob: int | None = None) -> list:
        """For each query a list of (id, score, (id, category, year, price, text))."""
        answers = self.shop.search(vector=q, space=SPACE, k=k, where=_where(flt), effort=knob)
        return [
            [
                (hit.id, hit.score, (hit.id, *map(hit.metadata.get, ("category", "year", "price")), hit.text))
                for hit in hits
            ]
            for hits in answers
        ]

    def get(self, ids: list[str]) -> dict:
        """id -> (vector, meta)."""
        with self.shop.database.reading() as transaction:
            from search.catalog import reads

            state = reads.state(transaction)
            space = self.shop.spaces()[SPACE]
            rows = self.shop._views.look(transaction, state, space).rows
            keys = reads.keys_of(transaction, ids)
            parts = reads.parts_of(transaction, space, keys.values())
        found = {}
        for record in self.shop.get(ids):
            if record is not None:
                (part,) = parts[keys[record.id]]
                vector = rows.matrix[np.searchsorted(rows.part_keys, part)]
                told = record.metadata
                found[record.id] = (
                    vector,
                    (record.id, told["category"], told["year"], told["price"], record.text),
                )
        return found

    def all_ids(self) -> set[str]:
        """Every id."""
        return set(self.shop.ids_in(self.shop.spaces()[SPACE]))

    def count(self) -> int:
        """How many records there are."""
        return self.shop.count()

    def close(self) -> None:
        """Waits for the index."""
        self.shop.close()


class Flat(Nearkin):
    """The same without an approximate index."""

    name = "nearkin-flat"
    kind = "flat"
    knobs = [None]  # noqa: RUF012 - the harness wants a list

    def build(self, vecs: np.ndarray, metas: list[tuple]) -> None:
        """As nearkin, told to scan."""
        import search

        self.shop = search.open(self.path)
        self.shop.add(map(_record, metas[:1]), vecs[:1], space=SPACE)
        self.shop.tune(kind="flat")
        self.shop.add(map(_record, metas[1:]), vecs[1:], space=SPACE)


class Indexed(Nearkin):
    """With `price` and `category` declared, as the other systems' adapters index their columns."""

    name = "nearkin-fields"

    def build(self, vecs: np.ndarray, metas: list[tuple]) -> None:
        """As nearkin; the fields are declared after the first commit."""
        super().build(vecs, metas)
        for name in ("price", "category"):
            self.shop.index_field(name)


def _record(meta: tuple) -> dict:
    id, category, year, price, text = meta
    return {"id": id, "text": text, "metadata": {"category": category, "year": year, "price": price}}


def _where(flt: tuple | None) -> str | None:
    if flt is None:
        return None
    return f"price < {flt[1]}" if flt[0] == "price<" else f"category = '{flt[1]}'"
