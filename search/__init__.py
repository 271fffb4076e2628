"""nearkin's collections and the questions they answer: `search.open`, then `Collection.search` and `recommend`."""

from search.collection import Collection, open  # noqa: A004 - search.open is the public name
from search.errors import (
    CollectionCorrupt,
    CollectionError,
    CollectionLocked,
    CollectionNotFound,
    EncoderDrift,
    FilterError,
    MissingExtra,
    ModelError,
    ModelUnavailable,
    NearkinError,
    QueryError,
    SourceError,
    UnknownRecord,
    UnknownSpace,
    WrongModality,
)
from search.types import Hit, Record
from search.version import __version__

__all__ = [
    "Collection",
    "CollectionCorrupt",
    "CollectionError",
    "CollectionLocked",
    "CollectionNotFound",
    "EncoderDrift",
    "FilterError",
    "Hit",
    "MissingExtra",
    "ModelError",
    "ModelUnavailable",
    "NearkinError",
    "QueryError",
    "Record",
    "SourceError",
    "UnknownRecord",
    "UnknownSpace",
    "WrongModality",
    "__version__",
    "open",
]
