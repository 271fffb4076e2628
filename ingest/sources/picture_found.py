"""A picture that was found, and the record that it becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.sources.contract import Item, Rejected
from ingest.sources.inputs import why
from ingest.sources.picture_sidecars import Sidecar, Told, UnreadableSidecar, read_sidecars
from search.encoders.pictures import PictureFile, PictureHeader, named, read_header, read_headers
from search.errors import MissingExtra, SourceError
from search.types import Json, Record


@dataclass(frozen=True, slots=True)
class Found:
    """A picture before anything of it is read: its id, where its bytes are, and what is said of it.

    `told` is what a row of a list says, `sidecars` the files beside it, which are read with it. `file` and `line` are
    where the row stands.
    """

    id: str
    picture: Path | PictureFile
    origin: str
    uri: str | None
    sidecars: tuple[Sidecar, ...] = ()
    told: Told | None = None
    file: str | None = None
    line: int | None = None


def items_of(found: Found, *, every_frame: bool) -> Iterator[Item | Rejected]:
    """The record of a picture, or one for each of its frames (`clip.gif#1`, `clip.gif#2`); or why there is none."""
    place = named(found.picture) if found.file is None else found.file

    def rejected(reason: str) -> Rejected:
        return Rejected(place, reason, found.line, found.id)

    if not is_text(found.id) or not is_text(place):
        shown = place.encode("utf-8", "replace").decode()
        yield Rejected(shown, "its name is not UTF-8; rename it", found.line)
        return
    try:
        picture = _at_hand(found.picture)
        headers = read_headers(picture) if every_frame else [read_header(picture)]
        told = read_sidecars(found.sidecars) if found.told is None else found.told
        content = _hashed(picture)
    except SourceError as error:
        yield rejected(str(error).removeprefix(f"{error.file}: "))
        return
    except (MissingExtra, UnreadableSidecar) as error:
        yield rejected(str(error))
        return
    except OSError as error:
        yield rejected(f"cannot be read ({why(error)}); check the file")
        return
    several = len(headers) > 1
    for number, header in enumerate(headers, start=1):
        metadata = _metadata(found.id, header)
        digest = content.copy()
        if told.content:
            digest.update(told.content)
        stored: Path | PictureFile = found.picture
        id = found.id
        if several:
            id = f"{found.id}#{number}"
            metadata |= {"frame": number, "frames": len(headers)}
            digest.update(b"frame %d" % number)
            whole = found.picture.stored if isinstance(found.picture, PictureFile) else found.picture
            stored = PictureFile(named(found.picture), whole, number - 1)
        record = Record(id, "image", found.uri, told.text, metadata | dict(told.metadata))
        pixels = header.width * header.height
        yield Item(
            record,
            found.origin,
            digest.digest(),
            picture=stored,
            pixels=pixels,
            file=found.file,
            line=found.line,
        )


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8, as the catalog must."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _at_hand(picture: Path | PictureFile) -> Path | PictureFile:
    """The picture, its bytes in memory where to get them takes unpacking."""
    if isinstance(picture, Path) or isinstance(picture.stored, Path):
        return picture
    data = picture.stored()
    return PictureFile(picture.name, lambda: data)


def _hashed(picture: Path | PictureFile) -> hashlib.blake2b:
    stored = picture.stored if isinstance(picture, PictureFile) else picture
    hashed = hashlib.blake2b(digest_size=16)
    if not isinstance(stored, Path):
        hashed.update(stored())
        return hashed
    with stored.open("rb") as file:
        hashlib.file_digest(file, lambda: hashed)
    return hashed


def _metadata(id: str, header: PictureHeader) -> dict[str, Json]:
    metadata: dict[str, Json] = {
        "width": header.width,
        "height": header.height,
        "format": header.format,
        "bytes": header.size_bytes,
    }
    if "/" in id:
        metadata["folder"] = id.rpartition("/")[0]
    if header.profile is not None:
        metadata["profile"] = header.profile
    return metadata | header.exif
