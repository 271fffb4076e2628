"""The one object that users hold: a directory of records, their vectors, and the questions it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, overload

from search import backup, checking, upkeep
from search.catalog import consistency, reads, thumbnails, writes
from search.catalog.database import Database
from search.catalog.full_text import BULK
from search.catalog.lock import WriteLock
from search.catalog.metadata_text import FieldNames, record_of
from search.errors import CollectionError, QueryError
from search.evaluating import Evaluating
from search.graphs import Graphs
from search.index.choose import Wanted, asked_of, due
from search.indexing import Indexer, Progress
from search.layout import Layout
from search.query import plan
from search.query.answer import Question, answer
from search.query.ask import Asker
from search.query.examples import HALF_LIFE_DAYS, examples
from search.query.follow import Views
from search.query.personal import who
from search.query.request import Options
from search.query.request import ids as request_ids
from search.query.request import weights as weights_of
from search.query.shape import Shape
from search.sorting import Sorting
from search.types import EncoderSpec, Hit, Json, Modality, Record, Sense, Space
from search.uncollected import uncollected
from search.vectors import as_floats, checked
from search.writer import Writer

if TYPE_CHECKING:
    from search.encoders.contract import Encoder

_WAIT_S = 20.0  # how long a writer waits for another one


class Collection(Sorting, Graphs, Evaluating):
    """Records and their vectors in a directory; use it as a context manager or `close` it.

    It may be used by several threads, and by other processes at the same time: readers see each commit at their
    next question; one process at a time writes.
    """

    def __init__(self, layout: Layout, database: Database, *, device: str, precision: str = "auto") -> None:
        """Made by `search.open`."""
        self._layout = layout
        self._database = database
        self._lock = WriteLock(layout, _WAIT_S)
        self._threads = threading.RLock()
        self._names = FieldNames()
        self._views = Views(layout)
        self._n_added: dict[int, int] = {}  # rows added to each space since its index was last looked at
        self._asker = Asker(database, self._views, device, precision)
        self._indexer = Indexer(layout, database, self._views, self._asker.real)

    @property
    def path(self) -> Path:
        """The directory."""
        return self._layout.root

    @property
    def layout(self) -> Layout:
        """Where its files stand."""
        return self._layout

    # ---- filling -------------------------------------------------------------------------------------------

    def add(
        self,
        records: Iterable[Record | Mapping[str, Any]],
        vectors: Any = None,
        *,
        space: str | None = None,
    ) -> list[str]:
        """Add records, or update those whose id is there already; durable when it returns.

        Vectors made from a text that an update changes are dropped, so that none is stale: give the new ones
        here, or let `ingest.text` make them.

        Args:
            records: `Record`s, or mappings with the fields of one.
            vectors: (n, dim), one for each record; None stores the records alone.
            space: where the vectors belong; made now if it is absent.

        Returns:
            The ids, in order.

        Raises:
            QueryError: a record or a vector cannot be stored, or an id stands twice; nothing is written.
        """
        if (vectors is None) != (space is None):
            raise QueryError("vectors and space belong together; give both, or neither")
        with uncollected(), self.writing() as writer:
            given = [record_of(one) for one in records]
            if vectors is None or space is None:
                writer.put(given)
            else:
                rows = as_floats(vectors)
                if rows.ndim != 2:
                    rows = checked(vectors)  # says what is wrong
                there = self.spaces().get(space)
                with writer.together():
                    if there is None:
                        spec = EncoderSpec("given", "given", Modality.VECTOR, rows.shape[1])
                        there = writer.space(space, spec)
                    writer.put(given, rows, there)
                self._index_when_due(there, len(given))
        if len(given) >= BULK:
            self._indexer.start(words_alone=True)
        return [record.id for record in given]

    def _index_when_due(self, space: Space, n_added: int) -> None:
        """Have the indexes seen to, but only once enough was added here for one to be behind."""
        added = self._n_added.get(space.key, 0) + n_added
        if due(added, added, space.dim, 1, Wanted()):
            added = 0
            self._indexer.start()
        self._n_added[space.key] = added

    def delete(self, ids: str | Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Delete records by id, or all that match a where-expression; how many were deleted.

        Raises:
            QueryError: neither or both were given.
            FilterError: the expression cannot be used.
        """
        if (ids is None) == (where is None):
            raise QueryError("say what to delete; give ids or where, one of the two")
        with self.writing() as writer:
            with self._database.reading() as transaction:
                if where is not None:
                    keys = _conditions().matching(transaction, where).tolist()
                else:
                    keys = sorted(reads.keys_of(transaction, request_ids(ids, "ids")).values())
            return writer.delete(keys) if keys else 0

    @contextmanager
    def writing(self, wait_s: float | None = None) -> Iterator[Writer]:
        """Hold the write lock for the length of the block; `ingest` writes through this.

        Raises:
            CollectionLocked: another process is writing, and did not finish within the wait.
            CollectionError: the collection was opened to read only.
        """
        self._check_writable()
        with self._threads, self._lock.held(wait_s):
            yield Writer(self._database, self._names)

    # ---- asking --------------------------------------------------------------------------------------------

    def get(self, ids: str | Sequence[str]) -> list[Record | None]:
        """The records of these ids, in their order; None for an id that is not there.

        Raises:
            QueryError: an id is no string.
            CollectionCorrupt: a record does not match its checksum.
        """
        wanted = request_ids(ids, "ids")
        with self._database.reading() as transaction:
            found = reads.records_of(transaction, wanted)
            for id in wanted:
                if id not in found:
                    consistency.check_absent(transaction, id)
        return [found[id].record if id in found else None for id in wanted]

    def thumbnail(self, id: str) -> bytes | None:
        """The small picture that `ingest.images` kept of a record, a WebP file; None where there is none.

        Raises:
            CollectionCorrupt: it does not match its checksum.
        """
        with self._database.reading() as transaction:
            return thumbnails.get(transaction, id)

    def count(self, where: str | None = None) -> int:
        """How many records there are, or match a where-expression.

        Raises:
            FilterError: the expression cannot be used.
        """
        with self._database.reading() as transaction:
            if where is None:
                return int(transaction.value("select count(*) from record"))
            found: int = _conditions().count(transaction, where)
            return found

    def facets(
        self, fields: str | Sequence[str], *, where: str | None = None, limit: int = 20
    ) -> dict[str, list[dict[str, Json]]]:
        """How many records, of all or of those that match a where-expression, have each value of some fields.

        Args:
            fields: of the metadata, nested ones with dots; each element of a list counts.
            where: a condition on the records.
            limit: how many values of each field, the most frequent ones.

        Returns:
            By field, a list of {"value": …, "count": …}, the most frequent first.

        Raises:
            QueryError: no record has such a field. FilterError: the expression cannot be used.
        """
        from search.query import facets

        names = request_ids(fields, "fields")
        with self._database.reading() as transaction:
            matching = None if where is None else _conditions().matching(transaction, where)
            return facets.facets(transaction, names, matching, limit)

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
            weights: in a mix, how much "text", "image", "like" and "vector" count, such as `{"image": 0.5}`; 1 each
                otherwise.
            region: (x, y, width, height) in pixels of the upright picture: what of `image` to search by.
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
            explain: fill `Hit.explain` with the plan taken.

        Raises:
            QueryError: no way of asking, an empty query, a bad k, vector, weight or region.
            ModelError: there is no such cross-encoder, or it cannot be used.
            FilterError, UnknownSpace, UnknownRecord: see their messages.
            WrongModality: the space cannot be asked this way.
            EncoderDrift: the model is not the one that made the space.
        """
        shape = Shape(min_score, offset, diversity, group_by, boost)
        options = Options(k, where, explain, effort, context, rerank, rerank_depth, hybrid, calibrate, shape)
        question = Question(query, image, like, vector, space, weights, region)
        return answer(self._asker, question, options)

    def recommend(
        self,
        likes: str | Sequence[str] | Mapping[str, Any] = (),
        dislikes: str | Sequence[str] | Mapping[str, Any] = (),
        *,
        user: str | None = None,
        history: Mapping[str, float] | Sequence[str] | None = None,
        k: int = 10,
        where: str | None = None,
        spaces: Mapping[str, float] | Sequence[str] | str | None = None,
        diversity: float = 0.0,
        strategy: str = "average",
        pairs: Sequence[tuple[str, str]] = (),
        exclude: str | Sequence[str] = (),
        half_life: float = HALF_LIFE_DAYS,
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
            history: ids of items that somebody took who need not be known, with their weights where given.
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
            half_life: after how many days a like counts half.
            calibrate: tell each space's scores in deviations from what is usual there before they are put together.
            explain: fill `Hit.explain` with the score in each space, and which of the items taken are nearest.

        Raises:
            UnknownRecord: an example or the user is not there, or a like has no vector in any of the spaces.
            QueryError, FilterError, UnknownSpace: see their messages.
        """
        options = Options(k, where, explain, calibrate=calibrate)
        if not 0 <= diversity <= 1:
            raise QueryError(f"diversity is {diversity}; give a number from 0 to 1")
        if user is not None or history is not None:
            if (
                likes
                or dislikes
                or pairs
                or exclude
                or strategy != "average"
                or half_life != HALF_LIFE_DAYS
                or calibrate
            ):
                raise QueryError(
                    "a user or a history is asked by itself; leave likes, dislikes and what says how they count out"
                )
            return self._asker.recommend_to(who(user, history), weights_of(spaces), diversity, options)
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

    def spaces(self) -> dict[str, Space]:
        """The spaces by name."""
        with self._database.reading() as transaction:
            return dict(self._views.spaces(transaction, reads.state(transaction)))

    def ids_in(self, space: Space) -> list[str]:
        """The ids of the records that have vectors in the space."""
        with self._database.reading() as transaction:
            return reads.ids_in(transaction, space)

    def origins(self, space: str) -> list[str]:
        """The files and folders that the vectors of a space came from."""
        with self._database.reading() as transaction:
            return reads.origins(transaction, plan.named(reads.spaces(transaction), space))

    def encoder(self, space: str) -> Encoder:
        """The encoder of a space, loaded once and checked against what it gave when the space was made."""
        return self._asker.encoder(plan.named(self.spaces(), space))

    # ---- upkeep --------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Json]:
        """What the collection holds: records, spaces, models, indexes and their measured recall, bytes on disk."""
        return upkeep.info(self._layout, self._database)

    def check(self) -> list[str]:
        """Look for damage in every file; one line for each thing found, none if all is well."""
        return checking.check(self._layout, self._database)

    def index(self, progress: Progress | None = None, *, wait: bool = True) -> None:
        """Build the indexes that are missing or behind; `ingest` calls it at the end of a run.

        Questions are answered meanwhile, exactly where there is no index yet, and commits go on. With `wait` False
        it is done in the background; `close` waits for it.

        Raises:
            CollectionError: an index cannot be written.
        """
        self._check_writable()
        if wait:
            self._indexer.wait()
            self._indexer.bring_up_to_date(progress)
            self._database.settle()
        else:
            self._indexer.start()

    def tune(
        self,
        recall: float | None = None,
        *,
        memory: str | int | None = None,
        kind: str | None = None,
        space: str | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Json]:
        """Say what the indexes should reach, measure what they do, and build anew what does not.

        Args:
            recall: the least recall@10 of an approximate index, between 0.5 and 1; None leaves it as it is.
            memory: the most that vectors and index of a space may take in memory, such as "4G"; beyond it the
                vectors stay on disk and the index keeps short codes.
            kind: flat, hnsw, ivf-flat, ivf-sq8, ivf-pq or ivf-rabitq; "auto" leaves the choice to nearkin.
            space: one space; None means all.
            progress: is told the space, the rows done and the rows in all.

        Returns:
            For each space what `info` says of its index.

        Raises:
            QueryError: a wish cannot be read. UnknownSpace: there is none of this name.
        """
        self._check_writable()
        wishes = asked_of(recall, memory, kind)
        with self.writing(), self._database.writing() as transaction:
            spaces = reads.spaces(transaction)
            for one in spaces.values() if space is None else [plan.named(spaces, space)]:
                wanted = Wanted.from_json(reads.wanted(transaction, one))
                writes.record_wanted(transaction, one, replace(wanted, **wishes).to_json())
        self.index(progress)
        spaces_now = self.info()["spaces"]
        assert isinstance(spaces_now, list)
        return {one["name"]: one["index"] for one in spaces_now if space in (None, one["name"])}

    def index_field(self, name: str, *, drop: bool = False) -> None:
        """Keep the values of a metadata field sorted, so that a filter on it need not read the records.

        Args:
            name: the field, a nested one with dots.
            drop: forget them again.

        Raises:
            QueryError: no record has such a field, or there is nothing to drop.
        """
        with self.writing(), self._database.writing() as transaction:
            fields = _conditions().fields
            (fields.drop if drop else fields.declare)(transaction, name)

    def compact(self, progress: Progress | None = None) -> dict[str, Json]:
        """Drop deleted vectors from the disk and build the indexes anew where that is due.

        Returns:
            Vectors dropped, and bytes on disk before and after.
        """
        with self.writing():
            said = upkeep.compact(self._layout, self._database)
            self.index(progress)
        return said | {"bytes_after": upkeep.size_on_disk(self._layout)}

    def _check_writable(self) -> None:
        if self._database.read_only:
            raise CollectionError(f"{self.path} was opened to read only; open it with mode 'rw'")

    def backup(self, path: str | Path) -> Path:
        """Copy the collection to a new directory, while it may be written to; `search.restore` brings it back.

        The copy is itself a collection, of one commit; it has its name when it is whole and durable, not before.

        Raises:
            CollectionError: something is at `path` already, or it cannot be written.
        """
        return backup.back_up(self._layout, self._database, Path(path).expanduser())

    def export(self, path: str | Path, *, vectors: bool = False, where: str | None = None) -> int:
        """Write the records to a .parquet or .jsonl file, with their vectors if asked; how many there were.

        With vectors the file describes the spaces too, and `import_file` makes the same ones again, without loss.

        Args:
            path: where to write; an older file of the name is replaced once the new one is whole. What its columns
                are stands in `search.exchange.parquet` and `search.exchange.lines`.
            vectors: whether to write the vectors, the spaces, and what the vectors were made from.
            where: a condition on the records.

        Raises:
            QueryError: the suffix is of neither format.
            FilterError: the expression cannot be used.
            CollectionError: the file cannot be written.
            MissingExtra: Parquet needs pyarrow.
        """
        from search.exchange import (
            write_out,  # with SQLAlchemy, which a question without a filter does without
        )

        with self._database.reading() as transaction:
            return write_out.export(transaction, Path(path).expanduser(), where, vectors=vectors)

    def import_file(self, path: str | Path) -> dict[str, Json]:
        """Take in a .parquet or .jsonl file that `export` wrote: records, spaces, and vectors bit for bit.

        The whole file is checked before anything is written. Then it is committed handful by handful, by id: a
        record that is there already is updated, its vectors in the spaces of the file are replaced, and what is null
        in the file stays as it was. After an interruption, run it again.

        Returns:
            Counts of records, added, updated and vectors.

        Raises:
            SourceError: the file is damaged or no export; it names the line or row.
            CollectionError: a space of the same name was made by another model.
            MissingExtra: Parquet needs pyarrow.
        """
        from search.exchange import take_in

        copy = take_in.opened(Path(path).expanduser())
        take_in.check(copy)
        with self.writing() as writer:
            done = take_in.take_in(writer, copy)
            self.index()
        return done.to_json()

    @property
    def database(self) -> Database:
        """The catalog, for `ingest`."""
        return self._database

    def close(self) -> None:
        """Let an index that is being built be finished, then give back files and memory."""
        self._close(at_once=self._database.read_only)

    def _close(self, *, at_once: bool) -> None:
        self._indexer.close(at_once=at_once)
        self._views.forget()
        self._lock.close()
        self._database.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever interrupts does not want to wait for an index.
        self._close(at_once=self._database.read_only or isinstance(error, KeyboardInterrupt | SystemExit))

    def __repr__(self) -> str:
        return f"Collection({str(self.path)!r})"


# A question without a where-expression needs no SQLAlchemy, which takes as long to import as all else together.


def _conditions() -> ModuleType:
    """What works with where-expressions."""
    from search.catalog import conditions

    return conditions
