"""Learns word2vec vectors from the user's own texts, by gensim."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ingest.learn.words.corpus import Corpus
from ingest.learn.words.settings import WordSettings
from search.encoders.word_table import WordTable
from search.errors import MissingExtra

_WINDOW = 5


def learn_word2vec(
    corpus: Corpus,
    settings: WordSettings,
    *,
    cbow: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> WordTable:
    """Vectors of the words of a corpus by the skip-gram model with negative sampling, or by CBOW.

    Frequent words are thinned out by 1e-3, as usual. With one worker the same corpus, settings and seed give
    the same vectors.
    Mikolov et al. 2013, "Distributed representations of words and phrases and their compositionality".

    Args:
        corpus: the texts.
        settings: width, window, rarity, passes, negative samples, seed.
        cbow: predict a word from its context instead of the context from the word.
        progress: called with the passes done and the passes in all.

    Raises:
        MissingExtra: gensim is not installed.
        SourceError: too few words stand often enough.
    """
    try:
        from gensim.models.callbacks import CallbackAny2Vec
        from gensim.models.word2vec import Word2Vec
    except ImportError as error:
        raise MissingExtra("learning word2vec vectors", "words") from error

    passes = settings.passes(corpus.n_words)

    class Told(CallbackAny2Vec):  # type: ignore[misc]
        done = 0

        def on_epoch_end(self, model: object) -> None:
            self.done += 1
            if progress is not None:
                progress(self.done, passes)

    # The vocabulary is given, and not counted again: so both methods keep the same words in the same order.
    vocabulary = corpus.vocabulary(settings.fewest(corpus.n_words), settings.most_words)
    model = Word2Vec(
        vector_size=settings.dim,
        window=_WINDOW if settings.window is None else settings.window,
        min_count=1,
        sg=0 if cbow else 1,
        hs=0,
        negative=settings.negative,
        seed=settings.seed,
        workers=settings.workers,
        epochs=passes,
    )
    model.build_vocab_from_freq(vocabulary)
    model.train(
        corpus,
        total_examples=sum(1 for _ in corpus),
        total_words=corpus.n_words,
        epochs=passes,
        callbacks=[Told()],
    )
    words = list(model.wv.index_to_key)
    counts = np.asarray([vocabulary[word] for word in words], np.int64)
    return WordTable.made(words, np.asarray(model.wv.vectors, np.float32), counts, place="word2vec")
