"""Fills nearkin's collections: texts, pictures, graphs, and vectors made elsewhere."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ingest.compiled_code import place as _place

if TYPE_CHECKING:
    from ingest.learn.graphs.settings import GraphSettings
    from ingest.learn.interactions.load import InteractionSettings
    from ingest.learn.nodes.load import NodeSettings
    from ingest.learn.pictures.settings import SimclrSettings
    from ingest.learn.words.settings import WordSettings
    from ingest.objects import ObjectSettings
    from ingest.report import Level, Options, Progress, Report
    from ingest.sources.graph_records import GraphFormat
    from ingest.sources.interaction_files import InteractionFormat
    from ingest.sources.load import TextFormat
    from ingest.sources.pictures import PictureFormat
    from ingest.verbs import (
        Comparing,
        EdgeFormat,
        Migration,
        evaluate_interactions,
        evaluate_links,
        graph,
        images,
        interactions,
        migrate,
        migrate_back,
        migrate_drop,
        predict,
        text,
        vectors,
    )
    from ingest.verbs.whole_graphs import graphs
    from search.encoders.load import ModelChoice

__all__ = [
    "Comparing",
    "EdgeFormat",
    "GraphFormat",
    "GraphSettings",
    "InteractionFormat",
    "InteractionSettings",
    "Level",
    "Migration",
    "ModelChoice",
    "NodeSettings",
    "ObjectSettings",
    "Options",
    "PictureFormat",
    "Progress",
    "Report",
    "SimclrSettings",
    "TextFormat",
    "WordSettings",
    "evaluate_interactions",
    "evaluate_links",
    "graph",
    "graphs",
    "images",
    "interactions",
    "migrate",
    "migrate_back",
    "migrate_drop",
    "predict",
    "text",
    "vectors",
]

_HOMES = {
    "Comparing": "ingest.verbs",
    "Migration": "ingest.verbs",
    "migrate": "ingest.verbs",
    "migrate_back": "ingest.verbs",
    "migrate_drop": "ingest.verbs",
    "EdgeFormat": "ingest.verbs",
    "GraphFormat": "ingest.sources.graph_records",
    "GraphSettings": "ingest.learn.graphs.settings",
    "InteractionFormat": "ingest.sources.interaction_files",
    "InteractionSettings": "ingest.learn.interactions.load",
    "Level": "ingest.report",
    "ModelChoice": "search.encoders.load",
    "NodeSettings": "ingest.learn.nodes.load",
    "ObjectSettings": "ingest.objects",
    "Options": "ingest.report",
    "PictureFormat": "ingest.sources.pictures",
    "Progress": "ingest.report",
    "Report": "ingest.report",
    "SimclrSettings": "ingest.learn.pictures.settings",
    "TextFormat": "ingest.sources.load",
    "WordSettings": "ingest.learn.words.settings",
    "evaluate_interactions": "ingest.verbs",
    "evaluate_links": "ingest.verbs",
    "graph": "ingest.verbs",
    "graphs": "ingest.verbs.whole_graphs",
    "images": "ingest.verbs",
    "interactions": "ingest.verbs",
    "predict": "ingest.verbs",
    "text": "ingest.verbs",
    "vectors": "ingest.verbs",
}


_place()  # before anything imports numba


def __getattr__(name: str) -> Any:
    """Import what a name needs, numpy and FAISS among it, when it is first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ingest' has no attribute '{name}'")
