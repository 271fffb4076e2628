"""Pictures in files, folders, archives and lists, each a record of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.formats import Kind, kind_of
from ingest.sources.inputs import Input, input_of, shown, why
from ingest.sources.picture_archives import found_in
from ingest.sources.picture_found import Found, items_of
from ingest.sources.picture_lists import PictureList
from ingest.sources.picture_sidecars import Sidecar, names_beside
from search.encoders.pictures import SUFFIXES, PictureFile, require
from search.errors import MissingExtra, SourceError

FRAMES = ("first", "all")


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """How pictures are to be read where they do not say so themselves.

    Args:
        path: the column of a list that holds the path of the picture; None finds it by its usual names. Likewise a path
            into nested objects or a template, as for texts.
        id: likewise the id; None finds it by its name, or takes the path.
        text: likewise the text of the record, such as a caption; None takes `caption` or `text`, if there is one.
        root: the folder that the paths of a list are within; None is the folder of the list.
        frames: of animations and files of several pages, the "first" alone or "all", a record each.
        draft: decode JPEGs at a fraction of their size where the network needs few pixels: quicker, at slightly other
            vectors.
    """

    path: str | None = None
    id: str | None = None
    text: str | None = None
    root: Path | None = None
    frames: str = "first"
    draft: bool = False

    def __post_init__(self) -> None:
        if self.frames not in FRAMES:
            raise SourceError(f"frames are '{self.frames}'; say {' or '.join(FRAMES)}")


PLAIN = PictureFormat()


class Pictures(Source):
    """Pictures named one by one, in folders, in archives, or in lists (tables with a column of paths).

    A picture's id is its path below the folder given, with "/" between the names, or its file name where the
    file itself was given; in an archive it begins with the archive's. Hidden files and folders are left out, and so
    are files of other kinds by their suffix. Links are followed, but no folder is entered twice. A file of the same
    name that ends in .txt, .json or .cls belongs to the picture beside it.

    Args:
        paths: files and folders.
        form: how to read them.

    Raises:
        SourceError: a path is missing, or nowhere is there a picture; or the format means nothing here.
        MissingExtra: a file that was named needs a package that is not installed.
    """

    def __init__(self, paths: Sequence[str | Path], form: PictureFormat = PLAIN) -> None:
        self._form = form
        self._found: list[Found | Input | PictureList] = []
        self._roots: list[Path] = []
        self._closed: list[Path] = []
        n_lists = 0
        for given in paths:
            root = Path(given).expanduser().absolute()
            if not root.exists():
                raise SourceError("there is no such file or folder; check the path", file=str(given))
            self._roots.append(root)
            kind = kind_of(root.name)
            if root.is_dir():
                below: list[Found | Input] = sorted(_below(root, self._closed), key=_place)
                self._found += below
            elif root.suffix.lower() in SUFFIXES:
                require(root.suffix)
                self._found.append(_single(root))
            elif kind is not None and kind.is_archive:
                kind.require()
                self._found.append(input_of(root, root, kind))
            elif kind is not None and kind.is_table:
                self._found.append(self._list(root, kind))
                n_lists += 1
            else:
                raise SourceError(f"is no picture by its suffix; supported: {_supported()}", file=str(given))
        if not self._found:
            named = ", ".join(str(path) for path in paths) or "an empty list of paths"
            raise SourceError(f"no pictures in {named}; supported: {_supported()}")
        for name in ("path", "id", "text", "root"):
            if getattr(form, name) is not None and not n_lists:
                raise SourceError(
                    f"--{name} is for lists of pictures (.csv, .jsonl, .parquet), and none was named; leave it out"
                )

    def _list(self, path: Path, kind: Kind) -> PictureList:
        form = self._form
        root = None if form.root is None else form.root.expanduser().absolute()
        if root is not None and not root.is_dir():
            raise SourceError("there is no such folder; give --root a folder", file=str(form.root))
        return PictureList(path, kind, (form.path, form.id), form.text, root)

    def __iter__(self) -> Iterator[Item | Rejected]:
        for folder in self._closed:
            yield Rejected(shown(folder), "the folder may not be read; change its permissions")
        for one in self._every():
            if isinstance(one, Rejected):
                yield one
            else:
                yield from items_of(one, every_frame=self._form.frames == "all")

    def _every(self) -> Iterator[Found | Rejected]:
        for one in self._found:
            if isinstance(one, Found):
                yield one
            elif isinstance(one, PictureList):
                yield from one
            else:
                yield from _packed(one, given=one.origin == one.uri)

    @property
    def origins(self) -> tuple[str, ...]:
        """The files and folders given, as absolute paths."""
        return tuple(dict.fromkeys(str(root) for root in self._roots))

    def pictures(self) -> Iterator[Path | PictureFile]:
        """The pictures themselves, in the order in which they are read; of each the first frame."""
        return (one.picture for one in self._every() if isinstance(one, Found))

    def __len__(self) -> int:
        if self._form.frames == "all" or not all(isinstance(one, Found) for one in self._found):
            return 0
        return len(self._closed) + len(self._found)


def _place(one: Found | Input) -> str:
    return one.id if isinstance(one, Found) else one.name


def _single(file: Path) -> Found:
    try:
        there = frozenset(entry.name for entry in os.scandir(file.parent))
    except OSError:  # a folder that may be passed through, but not listed
        there = frozenset()
    return Found(file.name, file, str(file), str(file), _sidecars(file, there))


def _sidecars(file: Path, there: frozenset[str]) -> tuple[Sidecar, ...]:
    return tuple(Sidecar(name, file.with_name(name)) for name in names_beside(file.name, there))


def _packed(archive: Input, *, given: bool) -> Iterator[Found | Rejected]:
    """The pictures of an archive; one in a folder may well hold none."""
    some = False
    try:
        archive.kind.require()
        for one in found_in(archive):
            some = True
            yield one
    except MissingExtra as error:
        yield Rejected(archive.file, str(error))
        return
    except OSError as error:
        yield Rejected(archive.file, why(error))
        return
    if given and not some:
        yield Rejected(archive.file, "there is no picture in it; name another")


def _below(root: Path, closed: list[Path]) -> Iterator[Found | Input]:
    """What is in a folder and the folders in it; the folders that may not be read go to `closed`."""
    entered: set[tuple[int, int]] = set()
    folders = [root]
    links: list[Path] = []
    while folders or links:
        # Links last: a picture that lies in a folder keeps the path through it, whatever else leads there.
        folder = folders.pop() if folders else links.pop()
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except OSError:
            closed.append(folder)
            continue
        there = frozenset(entry.name for entry in entries)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in SUFFIXES:
                id = path.relative_to(root).as_posix()
                yield Found(id, path, str(root), str(path), _sidecars(path, there))
            elif (kind := kind_of(entry.name)) is not None and kind.is_archive:
                yield input_of(path, root, kind)


def _supported() -> str:
    return f"{' '.join(sorted(SUFFIXES))}, .zip and .tar of them, and lists (.csv .tsv .jsonl .json .parquet)"
