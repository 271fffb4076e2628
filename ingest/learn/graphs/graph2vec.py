"""Learns the words' side of graph2vec; each graph is then described against it."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.learn.graphs.contract import GraphTrainer, Progress
from ingest.learn.graphs.vocabulary import read_corpus
from search.encoders.graph_items import LabelledGraph
from search.encoders.whole_graphs import to_bytes

NEGATIVES = 5
MOST_EPOCHS, FEWEST_EPOCHS = 100, 10
WORDS = 20_000_000  # so many are gone over in all, where the epochs are not said


class Graph2VecTrainer(GraphTrainer):
    """Weisfeiler-Lehman words learned by PV-DBOW, as in graph2vec (Narayanan et al. 2017).

    The vectors that training leaves of the documents are dropped: every graph, now or later, gets the one by which
    its words are foretold best with the words' vectors held fast, so that all can be compared. Settings: `dim`,
    `depth` (2), `epochs` (10 to 100, by the number of words), `negatives` (5), `seed` and `threads`.
    """

    method = "graph2vec"
    usual_depth = 2

    def _learned(self, graphs: Iterable[LabelledGraph], node_label: str | None, progress: Progress) -> bytes:
        # numba and its compiled code are loaded here and not before.
        from ingest.learn.graphs.pv_dbow import Dbow, DbowSettings
        from ingest.learn.nodes.walks import available_threads

        corpus = read_corpus(graphs, self.depth)
        settings = self.settings
        n_words = max(1, int(corpus.counts.sum()))
        epochs = settings.epochs or min(MOST_EPOCHS, max(FEWEST_EPOCHS, WORDS // n_words))
        negatives = NEGATIVES if settings.negatives is None else settings.negatives
        learned = Dbow(corpus.counts, DbowSettings(settings.dim, epochs, negatives, seed=settings.seed))
        learned.learn(settings.threads or available_threads(), progress)
        words = learned.words()
        noise = learned.noise[:, None]
        tensors = {
            "words": corpus.words,
            "outputs": words,
            "noise mean": (noise * words).sum(axis=0),
            "noise square": words.T @ (noise * words),
        }
        return to_bytes(tensors, self._told(node_label) | {"negatives": negatives, "epochs": epochs})
