"""The verbs that fill a collection, as a library."""

from ingest.sources.edge_format import EdgeFormat
from ingest.verbs.evaluated_interactions import evaluate_interactions
from ingest.verbs.given import vectors
from ingest.verbs.graphs import graph
from ingest.verbs.learned_interactions import interactions
from ingest.verbs.links import evaluate_links
from ingest.verbs.migrating import Comparing, Migration, migrate, migrate_back, migrate_drop
from ingest.verbs.pictures import images
from ingest.verbs.predictions import predict
from ingest.verbs.texts import text

__all__ = [
    "Comparing",
    "EdgeFormat",
    "Migration",
    "evaluate_interactions",
    "evaluate_links",
    "graph",
    "images",
    "interactions",
    "migrate",
    "migrate_back",
    "migrate_drop",
    "predict",
    "text",
    "vectors",
]
