"""Vectors of users and items by walks over their graph: a node trainer on who took what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ingest.learn.interactions.contract import Factors, FactorTrainer, Progress
from ingest.learn.nodes.contract import Graph, NodeTrainer
from ingest.sources.interactions import Interactions
from search.errors import SourceError
from search.query.personal import INTERACTIONS, LEARNED_FROM


class Walked(FactorTrainer):
    """What a node trainer makes of the bipartite graph of users and items.

    The vectors keep their lengths, which say how often a node was met: without them the rarest items come first.
    """

    def __init__(self, trainer: NodeTrainer) -> None:
        self._trainer = trainer
        options = {LEARNED_FROM: INTERACTIONS, **trainer.spec.options}
        self.spec = replace(trainer.spec, options=options)

    def fit(self, interactions: Interactions, *, progress: Progress | None = None) -> Factors:
        """See the contract."""
        if not len(interactions.indices):
            raise SourceError("there is no interaction to learn from; give some")
        rows = self._trainer.fit(bipartite(interactions), progress=progress)
        n_users = interactions.n_users
        return Factors(
            np.ascontiguousarray(rows[:n_users], np.float32), np.ascontiguousarray(rows[n_users:], np.float32)
        )


def bipartite(interactions: Interactions) -> Graph:
    """The undirected graph whose nodes are the users, then the items."""
    from scipy import sparse

    taken = interactions.matrix().copy()
    taken.data = np.ones(
        len(taken.data), np.float32
    )  # by counts, walks would go to and fro along the heaviest
    both = sparse.bmat([[None, taken], [taken.T, None]], format="csr", dtype=np.float32)
    both.sort_indices()
    # Only places in the matrix are learned from; the ids are those of the interactions, apart by a mark.
    ids = (*(f"u {id}" for id in interactions.user_ids), *(f"i {id}" for id in interactions.item_ids))
    return Graph(ids, both.indptr.astype(np.int64), both.indices.astype(np.int32), None, directed=False)
