"""The files of a zip or tar archive as inputs of their own; nothing of it is unpacked to the disk by its name."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import IO

from ingest.sources.contract import Rejected
from ingest.sources.formats import Format, Kind, kind_of
from ingest.sources.inputs import Input, kept_open, laid_down, shown, why
from ingest.sources.unpacking import LIMITS, Bounded, Budget, Limits, UnpackingError

ZIP_FAULTS = (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, ValueError)
OTHER_ARCHIVES = (".zip.gz", ".zip.zst", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".7z", ".rar")


def members(archive: Input, limits: Limits = LIMITS) -> Iterator[Input | Rejected]:
    """The members that can be read as text, in the order in which they stand; the others are passed over.

    Each has to be read before the next one is asked for. A fault of one member ends nothing; a fault of the
    archive ends it.
    """
    read = _zipped if archive.kind.format is Format.ZIP else _tarred
    found = False
    try:
        for member in read(archive, limits):
            found = True
            yield member
    except OSError as error:
        yield Rejected(file=archive.file, reason=why(error))
    else:
        if not found:
            yield Rejected(file=archive.file, reason="there is no file in it that can be read as text")


def check_zip(file: IO[bytes], limits: Limits = LIMITS) -> None:
    """See that a file which is a zip archive inside (.docx, .epub) is no bomb; leaves it at its beginning.

    Raises:
        UnpackingError: it is damaged, or unpacks beyond the limits.
    """
    with opened_zip(file) as archive:
        infos = archive.infolist()
        if len(infos) > limits.members:
            raise UnpackingError(f"more than {limits.members:,} files in it")
        unpacked, packed = sum(info.file_size for info in infos), sum(info.compress_size for info in infos)
        Budget(limits).check(unpacked, packed)
    file.seek(0)


def opened_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """The archive in a file that seeks.

    Raises:
        UnpackingError: it is damaged, or none.
    """
    try:
        return zipfile.ZipFile(file)
    except ZIP_FAULTS as error:
        raise UnpackingError(f"damaged, or no zip archive: {error}") from error


def _zipped(archive: Input, limits: Limits) -> Iterator[Input | Rejected]:
    budget = Budget(limits)
    with archive.seekable() as file, opened_zip(file) as opened:
        infos = opened.infolist()
        if len(infos) > limits.members:
            raise UnpackingError(f"more than {limits.members:,} files in it; split it")
        for info in infos:
            if info.is_dir():
                continue
            told = _told(archive, info.filename)
            if not isinstance(told, _Member):
                if told is not None:
                    yield told
                continue
            try:
                if info.flag_bits & 1:
                    raise UnpackingError("locked with a password")
                Budget(limits).check(info.file_size, info.compress_size)
            except UnpackingError as error:
                yield told.rejected(why(error))
                continue

            def stored(info: zipfile.ZipInfo = info) -> IO[bytes]:
                try:
                    stream = opened.open(info)
                except ZIP_FAULTS as error:
                    raise UnpackingError(f"damaged: {error}") from error
                return BufferedReader(Bounded(stream, budget, lambda: info.compress_size, ZIP_FAULTS))

            yield told.input(stored, info.file_size)


def _tarred(archive: Input, limits: Limits) -> Iterator[Input | Rejected]:
    with archive.open() as stream:
        try:
            opened = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - closed below
        except (tarfile.TarError, EOFError) as error:
            raise UnpackingError(f"damaged, or no tar archive: {error}") from error
        with opened:
            n_members = 0
            while (info := _next(opened)) is not None:
                n_members += 1
                if n_members > limits.members:
                    raise UnpackingError(f"more than {limits.members:,} files in it; split it")
                if not info.isfile():
                    continue
                told = _told(archive, info.name)
                if not isinstance(told, _Member):
                    if told is not None:
                        yield told
                    continue
                yield from _laid_down(opened, info, told)


def _next(opened: tarfile.TarFile) -> tarfile.TarInfo | None:
    opened.members = []  # type: ignore[attr-defined] # it would keep all that it has seen
    try:
        return opened.next()
    except (tarfile.TarError, EOFError) as error:
        raise UnpackingError(f"damaged from here on: {error}") from error


def _laid_down(opened: tarfile.TarFile, info: tarfile.TarInfo, told: _Member) -> Iterator[Input | Rejected]:
    """The member, out of the stream of the archive, so that it can be read more than once."""
    stream = opened.extractfile(info)
    assert stream is not None  # it is a file
    try:
        file = laid_down(stream)
    except (tarfile.TarError, EOFError) as error:
        raise UnpackingError(f"damaged from here on: {error}") from error
    with file:
        file.seek(0, 2)
        if file.tell() < info.size:
            raise UnpackingError("damaged: it ends too early")
        yield told.input(lambda: kept_open(file), info.size)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member that can be read."""

    archive: Input
    name: str
    kind: Kind

    @property
    def file(self) -> str:
        return shown(f"{self.archive.file}/{self.name}")

    def rejected(self, reason: str) -> Rejected:
        id = None if self.kind.is_table else shown(f"{self.archive.name}/{self.name}")
        return Rejected(file=self.file, reason=reason, id=id)

    def input(self, stored: Callable[[], IO[bytes]], size: int) -> Input:
        above = self.archive
        return Input(
            f"{above.name}/{self.name}", self.file, above.origin, above.uri, self.kind, stored, lambda: size
        )


def _told(archive: Input, name: str) -> _Member | Rejected | None:
    """What a member's name says: that it can be read, must be refused, or is nothing for us (None)."""
    places = [place for place in name.replace("\\", "/").split("/") if place not in ("", ".")]
    if (
        not places
        or any(place.startswith(".") and place != ".." for place in places)
        or places[0] == "__MACOSX"
    ):
        return None  # hidden, as in a folder
    kind = kind_of(places[-1])
    nested = places[-1].casefold().endswith(OTHER_ARCHIVES) or (kind is not None and kind.is_archive)
    if kind is None and not nested:
        return None
    member = _Member(archive, "/".join(places), kind or Kind(Format.ZIP))
    if nested:
        return member.rejected("an archive inside an archive; unpack it first")
    if ".." in places:
        return member.rejected("its path leads out of the archive")
    return member
