"""What every way of asking begins with: one read transaction, the views of the spaces, and their encoders."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from search.catalog import reads
from search.catalog.database import Behind, Database, Transaction
from search.catalog.reads import Row, State
from search.errors import CollectionError
from search.index.view import Look
from search.query.follow import Views
from search.query.keywords import Keywords
from search.query.lately import Lately
from search.query.personal import Users
from search.query.preferences import Preferred
from search.query.queries import Queries
from search.query.words import WordsOfMany
from search.types import EncoderSpec, Space
from search.vectors import Vectors

if TYPE_CHECKING:
    from search.encoders.contract import Encoder, Item
    from search.encoders.cross import CrossEncoder
    from search.query.matches import Matches

Answer = TypeVar("Answer")
_READ_AGAIN = 100  # times a reader starts anew because another thread moved on; each takes microseconds


class Asking:
    """Reads one collection, as of one commit for each question; keeps the encoders it has loaded."""

    def __init__(self, database: Database, views: Views, device: str, precision: str) -> None:
        self._database = database
        self._views = views
        self._device, self._precision = device, precision
        self._encoders: dict[int, tuple[EncoderSpec, Encoder]] = {}
        self._cross: dict[str, CrossEncoder] = {}
        self._loading = threading.Lock()
        self._words: dict[int, tuple[Encoder, Space, WordsOfMany]] = {}
        self._matches: Matches | None = None  # made with the first filter
        # The counters as last read, and whether they were the same the time before: then a glimpse is worth a try.
        self._remembered: tuple[Row, State] | None = None
        self._steady = False
        self._lately = Lately()
        self.keywords = Keywords()
        self._preferred = Preferred()
        self._users = Users()
        self.real = Queries()

    def read(self, question: Callable[[Transaction, State, Views], Answer]) -> Answer:
        """The answer to a question that is put together elsewhere, from one read transaction."""
        return self._read(lambda transaction, state: question(transaction, state, self._views))

    def _read(self, question: Callable[[Transaction, State], Answer], *, by_glimpse: bool = False) -> Answer:
        """Ask within one read transaction; again where another thread has moved on in between.

        With `by_glimpse` a question whose answer ends in `showing.shown`, and needs nothing else from the catalog while
        nothing changes, is first asked without a transaction.
        """
        if by_glimpse and self._steady and (remembered := self._remembered) is not None:
            row, state = remembered
            try:
                with self._database.glimpse(row) as glimpse:
                    return question(glimpse, state)
            except Behind:
                self._steady = False
        for _ in range(_READ_AGAIN):
            try:
                with self._database.reading() as transaction:
                    return question(transaction, self._state(transaction))
            except Behind:
                continue
        raise CollectionError(f"{self._database.path} changes faster than it can be read; ask again")

    def _state(self, transaction: Transaction) -> State:
        row = reads.state_row(transaction)
        remembered = self._remembered
        if remembered is not None and remembered[0] == row:
            self._steady = True
            return remembered[1]
        state = State(*row[:-1])
        self._remembered, self._steady = (row, state), False
        return state

    def looked(self, space: Space, question: Callable[[Transaction, Look], Answer]) -> Answer:
        """The answer to a question about the rows of a space, as of one commit."""
        return self._read(
            lambda transaction, state: question(transaction, self._views.look(transaction, state, space))
        )

    def encoder(self, space: Space) -> Encoder:
        """The encoder that made the space, checked against what it gave then.

        Raises:
            ModelUnavailable: it is not on this machine.
            EncoderDrift: it gives other vectors now.
        """
        with self._loading:
            held = self._encoders.get(space.key)
            if held is None or held[0] != space.encoder:  # another process may have trained it anew
                from search.encoders import load, probes

                with self._database.reading() as transaction:
                    stored = reads.probes(transaction, space)
                    weights = space.encoder.weights
                    data = reads.model(transaction, weights) if weights else None
                device = load.Device(self._device, self._precision)
                encoder = load.load_spec(space.encoder, data=data, device=device)
                if stored is not None:
                    probes.check(encoder, space, stored)
                held = self._encoders[space.key] = (space.encoder, encoder)
            return held[1]

    def _cross_encoder(self, name: str) -> CrossEncoder:
        with self._loading:
            if name not in self._cross:
                from search.encoders.cross import CrossEncoder

                self._cross[name] = CrossEncoder.from_name(
                    name, device=self._device, precision=self._precision
                )
            return self._cross[name]

    def _encoded(self, items: Sequence[Item], space: Space, encoder: Encoder) -> tuple[Vectors, float]:
        """The queries (n, dim), and how many seconds they took."""
        started = time.perf_counter()
        queries = encoder.encode(items, role="query")
        encoding_s = time.perf_counter() - started
        self.real.remember(space, queries)
        return queries, encoding_s

    def _matching(self) -> Matches:
        """The filters asked so far; what they need takes long to import, and many a process asks without one."""
        if self._matches is None:
            from search.query.matches import Matches

            self._matches = Matches()
        return self._matches
