"""Pictures in zip and tar archives, webdataset's shards among them; read where they lie, never unpacked by name."""

from __future__ import annotations

import tarfile
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from ingest.sources.archives import OTHER_ARCHIVES, ZIP_FAULTS, opened_zip
from ingest.sources.contract import Rejected
from ingest.sources.formats import Format, kind_of
from ingest.sources.inputs import Input, shown, why
from ingest.sources.picture_found import Found
from ingest.sources.picture_sidecars import Sidecar, names_beside
from ingest.sources.unpacking import LIMITS, Budget, Limits, UnpackingError
from search.encoders.pictures import SUFFIXES, PictureFile

MOST_BYTES = 256 << 20  # of one member, which is in memory while it is decoded

Read = Callable[[], bytes]


def found_in(archive: Input, limits: Limits = LIMITS) -> Iterator[Found | Rejected]:
    """The pictures of an archive, in the order in which they stand; a fault of the archive is its last rejection.

    What is compressed as a whole (.tar.gz) is laid into a nameless temporary file first, within the limits. The
    archive stays open as long as one of its pictures is held.
    """
    members, fault = directory_of(archive, limits)
    for name, read in members.items():
        yield from _found(archive, name, read, members)
    if fault is not None:
        yield Rejected(file=archive.file, reason=fault)


def directory_of(archive: Input, limits: Limits = LIMITS) -> tuple[dict[str, Read | str], str | None]:
    """The files of an archive by their names, each with what reads it or why it may not be read; and its fault."""
    members: dict[str, Read | str] = {}
    try:
        for name, read in (_zipped if archive.kind.format is Format.ZIP else _tarred)(archive, limits):
            members[name] = read
            if len(members) > limits.members:
                raise UnpackingError(f"more than {limits.members:,} files in it; split it")
    except OSError as error:
        return members, why(error)
    return members, None


def _found(
    archive: Input, name: str, read: Read | str, members: dict[str, Read | str]
) -> Iterator[Found | Rejected]:
    path = PurePosixPath(name.replace("\\", "/"))
    places = [place for place in path.parts if place != "/"]
    if not places or any(place.startswith(".") and place != ".." for place in places):
        return  # hidden, as in a folder
    if places[0] == "__MACOSX":
        return
    file, id = shown(f"{archive.file}/{name}"), shown(f"{archive.name}/{'/'.join(places)}")
    kind = kind_of(path.name)
    if path.name.casefold().endswith(OTHER_ARCHIVES) or (kind is not None and kind.is_archive):
        yield Rejected(file=file, reason="an archive inside an archive; unpack it first", id=id)
        return
    if path.suffix.lower() not in SUFFIXES:
        return
    if ".." in places:
        yield Rejected(file=file, reason="its path leads out of the archive; rename it", id=id)
        return
    if isinstance(read, str):
        yield Rejected(file=file, reason=read, id=id)
        return
    folder = name[: len(name) - len(path.name)]
    beside = [folder + one for one in names_beside(path.name, _Below(folder, members))]
    sidecars = tuple(Sidecar(PurePosixPath(one).name, _readable(members[one])) for one in beside)
    yield Found(id, PictureFile(file, read), archive.origin, archive.uri, sidecars)


class _Below:
    """Names in one folder of the archive, asked for one by one."""

    def __init__(self, folder: str, members: dict[str, Read | str]) -> None:
        self._folder, self._members = folder, members

    def __contains__(self, name: object) -> bool:
        return f"{self._folder}{name}" in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _readable(read: Read | str) -> Read:
    if not isinstance(read, str):
        return read

    def refuse() -> bytes:
        raise UnpackingError(read)

    return refuse


def _zipped(archive: Input, limits: Limits) -> Iterator[tuple[str, Read | str]]:
    file = archive.seekable()
    try:
        opened = opened_zip(file)
    except BaseException:
        file.close()
        raise
    weakref.finalize(opened, file.close)  # whoever holds a picture holds the archive
    for info in opened.infolist():
        if info.is_dir():
            continue
        try:
            if info.flag_bits & 1:
                raise UnpackingError("locked with a password; unpack it first")
            Budget(limits).check(info.file_size, info.compress_size)
            _check_size(info.file_size)
        except UnpackingError as error:
            yield info.filename, why(error)
        else:
            yield info.filename, partial(_unzipped, opened, info)


def _unzipped(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The member; never more than its size in the directory, whatever is packed there."""
    try:
        with opened.open(info) as stream:
            return stream.read(info.file_size)
    except ZIP_FAULTS as error:
        raise UnpackingError(f"damaged: {' '.join(str(error).split()) or 'it ends too early'}") from error


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise UnpackingError(f"larger than {MOST_BYTES >> 20} MiB; make it smaller")


class _Tar:
    """A tar that is not compressed, from which any thread reads."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def read(self, begin: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(begin)
            data = self._file.read(size)
        if len(data) < size:
            raise UnpackingError("damaged: it ends too early")
        return data


def _tarred(archive: Input, limits: Limits) -> Iterator[tuple[str, Read | str]]:
    file = archive.seekable()
    tar = _Tar(file)
    try:
        opened = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - its file is closed with `tar`
    except (tarfile.TarError, EOFError) as error:
        raise UnpackingError(f"damaged, or no tar archive: {error}") from error
    n_members = 0
    while True:
        opened.members = []  # type: ignore[attr-defined] # it would keep all that it has seen
        try:
            info = opened.next()
        except (tarfile.TarError, EOFError) as error:
            raise UnpackingError(f"damaged from here on: {error}") from error
        if info is None:
            return
        n_members += 1
        if n_members > limits.members:
            raise UnpackingError(f"more than {limits.members:,} files in it; split it")
        if not info.isfile() or info.issparse():
            continue
        try:
            _check_size(info.size)
        except UnpackingError as error:
            yield info.name, why(error)
        else:
            yield info.name, partial(tar.read, info.offset_data, info.size)
