"""The verb that says how well the missing edges of a space's graph are foretold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ingest.learn.nodes.features import FeatureTrainer
from ingest.report import Options
from ingest.verbs.graph_stored import settings_of, stored_graph
from ingest.verbs.node_features import FeatureSource
from ingest.verbs.opening import DEFAULT
from search.catalog import edges
from search.collection import Collection
from search.errors import QueryError, UnknownSpace
from search.opening import open as open_collection
from search.types import Space

if TYPE_CHECKING:
    from ingest.learn.nodes.link_prediction import LinkReport

SHARE = 0.1


def evaluate_links(
    collection: Collection | str | Path,
    *,
    space: str | None = None,
    share: float = SHARE,
    seed: int = 0,
    options: Options = DEFAULT,
) -> LinkReport:
    """Hold out edges of a space's graph, learn without them as the space was learned, and rank them.

    Nothing is stored.

    Args:
        collection: an open collection, or the path of one.
        space: whose graph; needed where several spaces have one.
        share: of the edges that are held out.
        seed: of what is held out and drawn.
        options: progress.

    Raises:
        CollectionNotFound: there is no such collection.
        UnknownSpace: there is no such graph. QueryError: there are several.
        SourceError: the share is none, or the graph too small.
    """
    if not isinstance(collection, Collection):
        with open_collection(collection, "r") as there:
            return evaluate_links(there, space=space, share=share, seed=seed, options=options)
    from ingest.learn.nodes.link_prediction import evaluated
    from ingest.learn.nodes.load import load_trainer

    chosen = _space(collection, space)
    stored = stored_graph(collection.database, chosen)
    assert stored is not None
    trainer = load_trainer(chosen.encoder.family, settings_of(chosen.encoder))
    if isinstance(trainer, FeatureTrainer):
        source = FeatureSource.stored(collection, chosen)
        trainer = trainer.given(source.features(collection, stored.graph.ids))
    progress = options.progress
    progress.begin("learning nodes", 0)
    report = evaluated(
        trainer,
        stored.graph,
        share,
        seed,
        lambda done, total: progress.reached("learning nodes", done, total),
    )
    progress.end("learning nodes")
    return report


def _space(collection: Collection, name: str | None) -> Space:
    """The space of this name with a graph, or the only one that has one."""
    spaces = collection.spaces()
    if name is not None and name not in spaces:
        raise UnknownSpace(f"there is no space '{name}'; see them with: nearkin info")
    asked = spaces.values() if name is None else [spaces[name]]
    with collection.database.reading() as transaction:
        found = [one for one in asked if edges.state(transaction, one) is not None]
    if not found:
        which = "no space" if name is None else f"space '{name}'"
        held = "holds edges" if name is None else "holds no edges"
        raise UnknownSpace(f"{which} {held}; take in a graph with: nearkin ingest graph")
    if len(found) > 1:
        raise QueryError("several spaces hold edges; name one with --space")
    return found[0]
