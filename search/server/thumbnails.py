"""Small pictures of the records that are pictures, made from the files that the catalog names."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from search.collection import Collection
from search.encoders.pictures import open_picture
from search.errors import SourceError, UnknownRecord

SIDE = 320  # pixels, of the longer side
_KEPT = 512  # in memory; each takes some ten kilobytes


@dataclass(frozen=True, slots=True)
class Source:
    """A picture file as it stands now; a changed one is another source."""

    path: Path
    modified_ns: int
    n_bytes: int

    @property
    def etag(self) -> str:
        """By which a browser knows whether it has the thumbnail already."""
        return f'"{self.modified_ns:x}-{self.n_bytes:x}-{SIDE}"'


def source(collection: Collection, id: str) -> Source:
    """The file of a record that is a picture. Its path comes from the catalog, nothing of it from the client.

    Raises:
        UnknownRecord: there is no such record, or it is no picture with a file on this machine.
    """
    (record,) = collection.get(id)
    if record is None:
        raise unknown(id)
    if record.kind == "image" and record.uri and (path := Path(record.uri)).is_absolute():
        try:
            found = path.stat()
            if path.is_file():
                return Source(path, found.st_mtime_ns, found.st_size)
        except (OSError, ValueError):  # gone, forbidden, or no path at all
            pass
    raise UnknownRecord(f"'{id}' has no picture on this machine; look at its uri")


def unknown(id: str) -> UnknownRecord:
    """The error for an id that is not there."""
    return UnknownRecord(f"no record has the id '{id}'; search for it")


@lru_cache(_KEPT)
def thumbnail(source: Source) -> bytes:
    """A WebP of at most SIDE x SIDE pixels, drawn anew: nothing of the file but what is seen is passed on.

    Raises:
        UnknownRecord: the file can no longer be read as a picture.
    """
    try:
        image = open_picture(source.path, at_least=SIDE)
    except SourceError:
        raise UnknownRecord(
            "the record's file is no picture that can be read; see what is at its uri"
        ) from None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return out.getvalue()
