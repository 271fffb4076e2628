"""Every error nearkin raises, as one tree that callers can catch at any height.

    NearkinError
    ├── CollectionError
    │   ├── CollectionNotFound
    │   ├── CollectionLocked
    │   └── CollectionCorrupt
    ├── ModelError
    │   ├── ModelUnavailable
    │   ├── EncoderDrift
    │   └── WrongModality
    ├── QueryError
    │   ├── FilterError       (position)
    │   ├── UnknownRecord
    │   └── UnknownSpace
    ├── SourceError           (file, line)
    └── MissingExtra

Each message is one line that says what is wrong and, after a semicolon, what to do.
"""


class NearkinError(Exception):
    """Anything that nearkin refuses or fails to do."""


class CollectionError(NearkinError):
    """A collection cannot do what was asked of it."""


class CollectionNotFound(CollectionError):
    """There is no collection at this path, and the caller did not ask to create one."""


class CollectionLocked(CollectionError):
    """Another process is writing; the message names it."""


class CollectionCorrupt(CollectionError):
    """What is on disk does not match its checksums."""


class ModelError(NearkinError):
    """A model cannot be had or cannot be used."""


class ModelUnavailable(ModelError):
    """The model or its weights are not on this machine and could not be fetched."""


class EncoderDrift(ModelError):
    """The model gives other vectors than when the space was made."""


class WrongModality(ModelError):
    """The space's model cannot encode this kind of item."""


class QueryError(NearkinError):
    """A question that cannot be answered as asked."""


class FilterError(QueryError):
    """A where-expression that cannot be used.

    `position` is the 0-based character offset of the fault in the expression, or None if it is unknown.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class UnknownRecord(QueryError):
    """No record has this id, or it has no vector in the spaces asked."""


class UnknownSpace(QueryError):
    """The collection has no space of this name, or none that fits the query."""


class SourceError(NearkinError):
    """An input that cannot be read.

    `file` is the path as the user gave it, `line` the 1-based line or row; either may be None.
    """

    def __init__(self, message: str, file: str | None = None, line: int | None = None) -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(place + message)
        self.file = file
        self.line = line


class MissingExtra(NearkinError):
    """An optional dependency is not installed; the message holds the `pip install` line."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an optional package; install it with: pip install "nearkin[{extra}]"')
        self.extra = extra
