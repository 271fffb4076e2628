"""Lists of pictures: a table whose rows name a picture each, and say what is known of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ingest.sources.columns import NoText, find, first_of, template, without
from ingest.sources.contract import Item, Rejected
from ingest.sources.formats import Kind
from ingest.sources.inputs import input_of, shown
from ingest.sources.load import TABLES
from ingest.sources.picture_found import Found
from ingest.sources.picture_sidecars import Told
from ingest.sources.tables import Wanted
from search.types import Json

PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "image", "picture", "photo")
_CAPTIONS = ("caption", "text")


class PictureList:
    """The pictures that the rows of a table name.

    A path is taken from the folder of the table on, or from `root`, and may not lead out of it: a list may come from
    someone else.

    Args:
        path: the table.
        kind: its format.
        wanted: the columns of path and id; None finds them by their usual names. Without an id the path is the id.
        caption: the column or template of the record's text.
        root: the folder that the paths are within.

    Raises:
        SourceError: a column that was named is not there, or that of the path cannot be told.
        MissingExtra: the format needs a package that is not installed.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        wanted: tuple[str | None, str | None],
        caption: str | None,
        root: Path | None,
    ) -> None:
        kind.require()
        where, id = wanted
        self._input = input_of(path, path, kind)
        self._table = TABLES[kind.format](self._input, Wanted(where, id, names=PATH_NAMES, called="path"))
        self._caption = caption
        self._root = path.parent if root is None else root

    def __iter__(self) -> Iterator[Found | Rejected]:
        for row in self._table:
            yield row if isinstance(row, Rejected) else self._found(row)

    def _found(self, row: Item) -> Found | Rejected:
        record, cell = row.record, (row.record.text or "").strip()
        file = row.file or str(self._input.file)

        id = cell if record.id == f"{self._input.name}:{row.line}" else record.id

        def rejected(reason: str) -> Rejected:
            return Rejected(file, reason, row.line, id)

        if "://" in cell:
            return rejected(f"'{shown(cell)}' is an address, and nothing is fetched; give the path of a file")
        if "\0" in cell:
            return rejected("its path has a NUL character in it; correct it")
        path = Path(os.path.normpath(self._root / cell))
        if not path.is_relative_to(self._root):
            return rejected(
                f"'{shown(cell)}' leads out of {self._root}; name the folder that holds the pictures with --root"
            )
        metadata: dict[str, Json] = dict(record.metadata or {})
        try:
            text, metadata = self._told(metadata)
        except NoText as error:
            return rejected(str(error))
        if record.uri is not None:  # the picture's own place is its uri
            metadata.setdefault("url", record.uri)
        return Found(id, path, row.origin, str(path), (), Told(text, metadata, row.digest), file, row.line)

    def _told(self, metadata: dict[str, Json]) -> tuple[str | None, dict[str, Json]]:
        """The caption, and the metadata without it."""
        column = self._caption or first_of(metadata, _CAPTIONS)
        if column is None:
            return None, metadata
        filled = template(column) if self._caption is not None else None
        if filled is not None:
            return filled.fill(metadata) or None, metadata
        value = find(metadata, column)
        if not isinstance(value, str) or not value.strip():
            return None, metadata
        return value, without(metadata, (column,))
