"""Texts by models of static words: vectors from a file or learned now, of passages or of the words themselves."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ingest import pipeline
from ingest.learn.words.settings import WordSettings
from ingest.passages import Lengths
from ingest.pipeline import Job, Ready
from ingest.prepare import Known, Passages
from ingest.report import Level, Options, Progress, Report
from ingest.sources.contract import Item, Rejected, Source
from ingest.verbs.opening import opened
from search.collection import Collection
from search.encoders.load import LEARNED_WORDS, ModelChoice
from search.encoders.packaged import file_sha256
from search.encoders.static import FAMILY, StaticEncoder, first_component
from search.encoders.word_table import WordTable
from search.encoders.words import words_of
from search.errors import CollectionError, EncoderDrift
from search.types import WHOLE, Record

KEPT_WHOLE = 64 << 20  # bytes of vectors up to which a file's words are kept in the catalog itself
SAMPLE = 20_000  # texts that the common component is learned from
_SAMPLE_LETTERS = 2_000  # of each: about a passage
FEWEST_TEXTS = 100  # of fewer, what they have in common is what they are about


@dataclass(frozen=True, slots=True)
class WordsRun:
    """What a run is to do: `settings` says how words are learned, where they are."""

    space: str
    model: str
    choice: ModelChoice
    level: Level
    settings: WordSettings
    prune: bool
    options: Options

    @property
    def learns(self) -> bool:
        """Whether the vectors are learned from the texts themselves."""
        return self.model in LEARNED_WORDS


def static_text(
    collection: Collection | str | Path, source: Source, run: WordsRun, passages: str, *, dry_run: bool
) -> Report:
    """Bring a space up to date with texts by a model of static words.

    Args:
        collection: an open collection, or the path of one.
        source: the texts; it is read more than once.
        run: the model and the space.
        passages: what the vectors of passages depend on beside the model, for the sync.
        dry_run: say what would be done, and do nothing.

    Raises:
        ModelUnavailable: the file of vectors cannot be used.
        ModelError: the choice means nothing for this model.
        CollectionError: the space was made by another model.
        EncoderDrift: the file has changed since the space was made.
        SourceError: the texts are too few to learn from.
    """
    run.choice.only(run.model, *(("dim",) if run.learns else ()))
    started = time.perf_counter()
    with opened(collection, must_write=False) as there:
        _same_model(there, run)
        if dry_run and run.level is Level.PASSAGE:
            return _unforeseen(
                pipeline.forecast(there, source, (run.space, run.model, passages), prune=run.prune)
            )
        if dry_run:
            words = WordSource(source, _vocabulary(there, source, run))
            return _unforeseen(
                pipeline.forecast(there, words, (run.space, run.model, "words"), prune=run.prune)
            )
        encoder, data = _encoder(there, source, run)
    learning_s = time.perf_counter() - started
    with opened(collection) as there:
        assert there is not None
        options = run.options
        if run.level is Level.WORD:
            words = WordSource(source, frozenset(_usable(encoder.table)))
            job = Job(run.space, run.model, lambda: encoder, _whole_words, "words", data, run.prune)
            return pipeline.fill(there, words, job, options.progress).after("learn", learning_s)
        cut = Passages(lambda: encoder, Lengths(options.passage_tokens, options.passage_overlap))
        job = Job(
            run.space,
            run.model,
            lambda: encoder,
            Known(cut, lambda: encoder),
            passages,
            data,
            run.prune,
        )
        return pipeline.fill(there, source, job, options.progress).after("learn", learning_s)


def _unforeseen(report: Report) -> Report:
    return replace(report, no_forecast="no sample is timed of word vectors") if report.written else report


class WordSource(Source):
    """The words of a vocabulary that stand in texts, a record each: id and kind "word", and `count`.

    A word that stands in them in another case counts where the vocabulary has only the lower case.
    """

    def __init__(self, texts: Source, vocabulary: frozenset[str]) -> None:
        self._texts = texts
        self._vocabulary = vocabulary

    @property
    def origins(self) -> tuple[str, ...]:
        """The first of the texts' paths stands for all: a word comes from every one of them."""
        return self._texts.origins[:1]

    def __iter__(self) -> Iterator[Item | Rejected]:
        """The words, the commonest first, then the texts that could not be read."""
        forms: Counter[str] = Counter()
        rejected: list[Rejected] = []
        for one in self._texts:
            if isinstance(one, Rejected):
                rejected.append(one)
            else:
                forms.update(words_of(one.record.text or ""))
        counts: Counter[str] = Counter()
        for form, n in forms.items():
            word = form if form in self._vocabulary else form.lower()
            if word in self._vocabulary:
                counts[word] += n
        origin = self._texts.origins[0]
        for word, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            digest = hashlib.blake2b(json.dumps([word, n]).encode(), digest_size=16).digest()
            yield Item(Record(word, kind="word", metadata={"count": n}), origin, digest)
        yield from rejected


def _whole_words(items: Sequence[Item]) -> list[Ready]:
    return [Ready(item, (WHOLE,), (item.record.id,)) for item in items]


def _same_model(collection: Collection | None, run: WordsRun) -> None:
    """Refuse another model before anything is learned for nothing."""
    there = None if collection is None else collection.spaces().get(run.space)
    if there is None:
        return
    made = there.encoder
    level = Level.WORD if made.options.get("level") == "word" else Level.PASSAGE
    if made.family != FAMILY or made.model != run.model:
        raise CollectionError(
            f"space '{there.name}' was made by {made.model}, and this is {run.model}; give another name with --space"
        )
    if level is not run.level:
        raise CollectionError(
            f"space '{there.name}' holds a vector for each {level}, not for each {run.level}; "
            "give another name with --space"
        )
    if run.choice.dim not in (None, there.dim):
        raise CollectionError(
            f"space '{there.name}' has {there.dim} dimensions, not {run.choice.dim}; give another name with --space"
        )
    file, source = Path(run.model).expanduser(), made.options.get("source")
    if source is not None and file.is_file() and file_sha256(file) != source:
        raise EncoderDrift(
            f"{run.model} is not the file that space '{there.name}' was made with (sha256 {source}); "
            "put that one back, or ingest into a new space"
        )


def _encoder(
    collection: Collection | None, source: Source, run: WordsRun
) -> tuple[StaticEncoder, bytes | None]:
    """The encoder of the space, or a new one with the bytes that the catalog is to keep."""
    if collection is not None and run.space in collection.spaces():
        known = collection.encoder(run.space)
        assert isinstance(known, StaticEncoder)
        return known, None
    file, sha = None, None
    if run.learns:
        table = _learned_before(collection, run) or learn(source, run)
    else:
        path = Path(run.model).expanduser()
        read = StaticEncoder.from_name(run.model)
        table, sha = read.table, read.spec.weights
        if table.vectors.nbytes > KEPT_WHOLE:
            file = str(path.resolve())
    data = table.to_bytes() if file is None else None
    encoder = StaticEncoder(
        table,
        name=run.model,
        weights=str(sha) if data is None else hashlib.sha256(data).hexdigest(),
        by_word=run.level is Level.WORD,
        file=file,
        source=sha if data is not None else None,
    )
    if run.level is Level.PASSAGE:
        encoder = with_component(encoder, _texts(source))
    return encoder, data


def learn(source: Source, run: WordsRun) -> WordTable:
    """Word vectors learned from the texts of a source by the method that the model's name says."""
    from ingest.learn.words.corpus import Corpus

    settings = run.settings if run.choice.dim is None else replace(run.settings, dim=run.choice.dim)
    progress = run.options.progress
    told = _told(progress)
    progress.begin("learning words", 0)
    with Corpus(_texts(source)) as corpus:
        if run.model == "glove":
            from ingest.learn.words.glove import learn_glove

            table = learn_glove(corpus, settings, device=run.options.device, progress=told)
        else:
            from ingest.learn.words.word2vec import learn_word2vec

            table = learn_word2vec(corpus, settings, cbow=run.model.endswith(":cbow"), progress=told)
    progress.end("learning words")
    return table


def with_component(encoder: StaticEncoder, texts: Iterable[str]) -> StaticEncoder:
    """The encoder with the common component of a sample of texts; as it is where there are too few of them."""
    chosen = random.Random(0)  # noqa: S311 - a sample, the same each time
    sample: list[str] = []
    for number, text in enumerate(texts):
        if number < SAMPLE:
            sample.append(text[:_SAMPLE_LETTERS])
        elif (at := chosen.randrange(number + 1)) < SAMPLE:
            sample[at] = text[:_SAMPLE_LETTERS]
    means = encoder.means(*encoder.rows_of(sample))
    means = means[np.abs(means).max(axis=1, initial=0) > 0]
    if len(means) < FEWEST_TEXTS:
        return encoder
    return encoder.with_component(first_component(means))


def _learned_before(collection: Collection | None, run: WordsRun) -> WordTable | None:
    """The words that another space of the collection has learned by this method, in the width asked for."""
    if collection is None:
        return None
    for name, space in collection.spaces().items():
        if space.encoder.family == FAMILY and space.encoder.model == run.model:
            if run.choice.dim not in (None, space.dim):
                continue
            encoder = collection.encoder(name)
            assert isinstance(encoder, StaticEncoder)
            return encoder.table
    return None


def _vocabulary(collection: Collection | None, source: Source, run: WordsRun) -> frozenset[str]:
    """The words that the space would hold, without learning their vectors."""
    table = _learned_before(collection, run)
    if table is None and run.learns:
        from ingest.learn.words.corpus import Corpus

        with Corpus(_texts(source)) as corpus:
            settings = run.settings
            return frozenset(corpus.vocabulary(settings.fewest(corpus.n_words), settings.most_words))
    return frozenset(_usable(table or StaticEncoder.from_name(run.model).table))


def _usable(table: WordTable) -> Iterator[str]:
    """The words whose vectors are not zero."""
    there = (np.abs(table.vectors).max(axis=1) > 0).tolist()
    return (word for row, word in enumerate(table.words) if there[row])


def _texts(source: Source) -> Iterator[str]:
    return (one.record.text for one in source if isinstance(one, Item) and one.record.text)


def _told(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress.reached("learning words", done, total)
