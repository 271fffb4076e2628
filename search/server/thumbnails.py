"""Small pictures of records: those that the collection keeps, else made from the files that the catalog names."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from search.collection import Collection
from search.encoders.pictures import PictureFile, open_picture
from search.errors import MissingExtra, SourceError, UnknownRecord

SIDE = 320  # pixels, of the longer side
_KEPT = 512  # in memory; each takes some ten kilobytes


@dataclass(frozen=True, slots=True)
class Kept:
    """A thumbnail that the collection keeps."""

    data: bytes

    @property
    def etag(self) -> str:
        """By which a browser knows whether it has it already."""
        return f'"{zlib.crc32(self.data):x}-{len(self.data):x}"'


@dataclass(frozen=True, slots=True)
class File:
    """A picture file as it stands now; a changed one is another. `frame` counts from 0."""

    path: Path
    frame: int
    modified_ns: int
    n_bytes: int

    @property
    def etag(self) -> str:
        """By which a browser knows whether it has the thumbnail already."""
        return f'"{self.modified_ns:x}-{self.n_bytes:x}-{SIDE}"'


def found(collection: Collection, id: str, *, files: bool) -> Kept | File:
    """The thumbnail of a record, or the file to draw it from, whose path comes from the catalog, not from the client.

    Args:
        collection: where the record is.
        id: of the record.
        files: whether files may be read.

    Raises:
        UnknownRecord: there is no such record, or no picture of it on this machine that may be shown.
    """
    kept = collection.thumbnail(id)
    if kept is not None:
        return Kept(kept)
    (record,) = collection.get(id)
    if record is None:
        raise unknown(id)
    if not files:
        raise UnknownRecord(
            f"the collection keeps no thumbnail of '{id}', and files are not shown here; look at its uri"
        )
    if record.kind == "image" and record.uri and (path := Path(record.uri)).is_absolute():
        try:
            seen = path.stat()
            if path.is_file():
                frame = (record.metadata or {}).get("frame", 1)  # of a file whose frames are records, from 1
                number = frame - 1 if isinstance(frame, int) and frame > 0 else 0
                return File(path, number, seen.st_mtime_ns, seen.st_size)
        except (OSError, ValueError):  # gone, forbidden, or no path at all
            pass
    raise UnknownRecord(f"'{id}' has no picture on this machine; look at its uri")


def unknown(id: str) -> UnknownRecord:
    """The error for an id that is not there."""
    return UnknownRecord(f"no record has the id '{id}'; search for it")


@lru_cache(_KEPT)
def drawn(file: File) -> bytes:
    """A WebP of at most SIDE x SIDE pixels, drawn anew: nothing of the file but what is seen is passed on.

    Raises:
        UnknownRecord: the file can no longer be read as a picture.
    """
    try:
        image = open_picture(PictureFile(file.path.name, file.path, file.frame), at_least=SIDE)
    except (SourceError, MissingExtra):
        raise UnknownRecord(
            "the record's file is no picture that can be read; see what is at its uri"
        ) from None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return out.getvalue()
