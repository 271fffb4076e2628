"""nearkin's collections and the questions they answer: `search.open`, then `Collection.search` and `recommend`."""

from typing import TYPE_CHECKING, Any

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
from search.types import Duplicates, Hit, Labelled, Labelling, Place, Record, Sense
from search.version import __version__

if TYPE_CHECKING:
    from search.backup import restore
    from search.collection import Collection
    from search.opening import open  # noqa: A004 - search.open is the public name

__all__ = [
    "Collection",
    "CollectionCorrupt",
    "CollectionError",
    "CollectionLocked",
    "CollectionNotFound",
    "Duplicates",
    "EncoderDrift",
    "FilterError",
    "Hit",
    "Labelled",
    "Labelling",
    "MissingExtra",
    "ModelError",
    "ModelUnavailable",
    "NearkinError",
    "Place",
    "QueryError",
    "Record",
    "Sense",
    "SourceError",
    "UnknownRecord",
    "UnknownSpace",
    "WrongModality",
    "__version__",
    "open",
    "restore",
]


def __getattr__(name: str) -> Any:
    """Import the collection, and with it SQLAlchemy, numpy and FAISS, when it is first asked for."""
    if name in ("Collection", "open"):
        from search import opening

        return getattr(opening, name)
    if name == "restore":
        from search import backup

        return backup.restore
    raise AttributeError(f"module 'search' has no attribute '{name}'")
