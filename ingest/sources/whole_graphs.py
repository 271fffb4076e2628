"""Graphs as records: files of them in folders and archives, JSON documents of many, and sets in the TU layout."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ingest.sources.contract import Item, Rejected, Source
from ingest.sources.edges import Edges
from ingest.sources.formats import Kind, Packing, kind_of
from ingest.sources.graph_records import PLAIN, GraphFormat, Place, from_json, plain, record_of
from ingest.sources.graph_texts import read_whole
from ingest.sources.graphs import LISTS, OTHERS, SEEKING, TABLES, format_of, opened, read_opened
from ingest.sources.inputs import Input, input_of, shown, why
from ingest.sources.lines import read_lines
from ingest.sources.picture_archives import Read, directory_of
from ingest.sources.texts import absolute, files_below
from ingest.sources.tu_sets import EDGES, LABELS, NODE_LABEL, OWNERS, is_set, read_set, set_of
from search.errors import MissingExtra, SourceError
from search.types import Json

MANY = (".jsonl", ".ndjson")  # a graph a line
_SUFFIXES = frozenset((*LISTS, *TABLES, *OTHERS, *MANY))
_NO_GRAPHS = ("readme", "license", "licence", "changelog")
SUPPORTED = (
    ".txt .edgelist .csv .tsv .parquet .adjlist .graphml .gexf .gml .net .json .jsonl .mtx .npz .mat, "
    "packed or archived"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A file with graphs: where it stands, and what opens its bytes as they are stored."""

    place: Place
    name: str
    stored: Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class FoundSet:
    """The files of a set in the TU layout, by kind."""

    place: Place
    files: dict[str, Callable[[], IO[bytes]]]


class WholeGraphs(Source):
    """Graph files, JSON documents that hold many, sets in the TU layout, and folders and archives of all of them.

    A graph that has a file to itself is called by its path below the folder that was given, as documents are; one of
    many by its own id or its place in the file (`graphs.jsonl/17`, `MUTAG/17`). Hidden files, and those called README
    or LICENSE, are passed over.

    Args:
        paths: files and folders.
        form: how to read them.
        settled: whether `form` says what nodes are told apart by; else node labels of sets in the TU layout are taken
            where there are any.
        may_be_empty: absolute paths of folders in which nothing need be left.

    Raises:
        SourceError: a path is missing, is of another kind, or holds no graph file.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        form: GraphFormat = PLAIN,
        *,
        settled: bool = False,
        may_be_empty: Container[str] = (),
    ) -> None:
        if not paths:
            raise SourceError("nothing to read; name a file or a folder")
        self._roots = list(dict.fromkeys(absolute(Path(path)) for path in paths))
        for root, given in zip(self._roots, paths, strict=False):
            if root.is_dir():
                if str(root) not in may_be_empty and next(files_below(root, _is_wanted), None) is None:
                    raise SourceError(f"no graph in this folder ({SUPPORTED}); name another", shown(given))
            elif not _is_wanted(root.name):
                raise SourceError(f"cannot be read as graphs; use {SUPPORTED}", shown(given))
        if form.node_label is None and not settled and self._has_labelled_sets():
            form = replace(form, node_label=NODE_LABEL)
        self.form = form

    def _has_labelled_sets(self) -> bool:
        for root in self._roots:
            part = set_of(root.name) if root.is_file() else None
            if part is not None and root.with_name(part[0] + LABELS).is_file():
                return True
            for path in files_below(root, _may_hold_labels):
                if (kind := kind_archive(path.name)) is None:
                    if path != root and path.with_name(path.name.removesuffix(LABELS) + OWNERS).is_file():
                        return True
                elif any(
                    isinstance(one, FoundSet) and LABELS in one.files
                    for one in _archived(input_of(path, root, kind))
                ):
                    return True
        return False

    @property
    def origins(self) -> tuple[str, ...]:
        """The files and folders that were given."""
        return tuple(map(str, self._roots))

    def __len__(self) -> int:
        """How many graphs there are, where each has a file of its own."""
        n_files = 0
        for root in self._roots:
            for path in files_below(root, _is_wanted):
                if set_of(path.name) or kind_archive(path.name) or _suffix(path.name) in (*MANY, ".json"):
                    return 0
                n_files += 1
        return n_files

    def __iter__(self) -> Iterator[Item | Rejected]:
        """A record for each graph, in the order of their paths."""
        for root in self._roots:
            for found in _below(root):
                if isinstance(found, Rejected):
                    yield found
                elif isinstance(found, FoundSet):
                    yield from read_set(found.files, found.place, self.form)
                else:
                    yield from _read(found, self.form)


def kind_archive(name: str) -> Kind | None:
    """The kind of an archive by its name; None if it is none."""
    kind = kind_of(name)
    return kind if kind is not None and kind.is_archive else None


def _suffix(name: str) -> str:
    return format_of(Path(name), None)[0]


def _is_wanted(name: str) -> bool:
    if name.casefold().startswith(_NO_GRAPHS):
        return False
    return _suffix(name) in _SUFFIXES or kind_archive(name) is not None


def _may_hold_labels(name: str) -> bool:
    return name.endswith(LABELS) or kind_archive(name) is not None


def _below(root: Path) -> Iterator[Found | FoundSet | Rejected]:
    """What is in a folder and the folders in it, or the file itself; the files of a set together."""
    told: set[Path] = set()
    for path in files_below(root, _is_wanted):
        name = path.name if path == root else path.relative_to(root).as_posix()
        place = Place(shown(name), str(root), shown(path), shown(path))
        if path.is_dir():
            yield place.rejected("the folder may not be read; change its permissions")
        elif (kind := kind_archive(path.name)) is not None:
            yield from _archived(input_of(path, root, kind))
        elif (part := set_of(path.name)) is not None and is_set(part[0], partial(_is_beside, path)):
            edges = path.with_name(part[0] + EDGES)
            if edges not in told:
                told.add(edges)
                yield _set(path, part[0], place)
        else:
            yield Found(place, path.name, partial(_bytes_of, path))


def _is_beside(path: Path, name: str) -> bool:
    return path.with_name(name).is_file()


def _set(path: Path, name: str, place: Place) -> FoundSet:
    files: dict[str, Callable[[], IO[bytes]]] = {}
    for one in path.parent.iterdir():
        part = set_of(one.name)
        if part is not None and part[0] == name and one.is_file():
            files[part[1]] = partial(_bytes_of, one)
    return FoundSet(_place_of_set(place, name), files)


def _place_of_set(place: Place, name: str) -> Place:
    """A set MUTAG in a folder MUTAG is called after both once."""
    above = [one for one in PurePosixPath(place.id).parts[:-1] if one != "."]
    if above and above[-1] == name:
        above.pop()
    return Place("/".join([*above, name]), place.origin, place.file, place.uri)


def _archived(archive: Input) -> Iterator[Found | FoundSet | Rejected]:
    """What is in an archive."""
    try:
        archive.kind.require()
        members, fault = directory_of(archive)
    except MissingExtra as error:
        yield Rejected(archive.file, str(error))
        return
    except OSError as error:
        yield Rejected(archive.file, why(error))
        return
    some = False
    told: set[str] = set()
    for name, read in members.items():
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or parts[0] == "__MACOSX" or any(p.startswith(".") and p != ".." for p in parts):
            continue
        if not _is_wanted(parts[-1]):
            continue
        some = True
        id, file = shown("/".join([archive.name, *parts])), shown(f"{archive.file}/{name}")
        place = Place(id, archive.origin, file, archive.uri)
        if kind_archive(parts[-1]) is not None:
            yield place.rejected("an archive inside an archive; unpack it first", id=id)
        elif ".." in parts:
            yield place.rejected("its path leads out of the archive; rename it", id=id)
        elif isinstance(read, str):
            yield place.rejected(read, id=id)
        elif (part := set_of(parts[-1])) is not None and is_set(name[: -len(part[1])], members.__contains__):
            stem = name[: -len(part[1])]
            if stem not in told:
                told.add(stem)
                yield _archived_set(stem, part[0], place, members)
        else:
            yield Found(place, parts[-1], partial(_stream, read))
    if fault is not None:
        yield Rejected(archive.file, fault)
    elif not some and archive.origin == archive.uri:
        yield Rejected(archive.file, "there is no graph in it; name another")


def _archived_set(stem: str, name: str, place: Place, members: dict[str, Read | str]) -> FoundSet | Rejected:
    files: dict[str, Callable[[], IO[bytes]]] = {}
    for member, read in members.items():
        part = set_of(member)
        if part is not None and part[0] == stem:
            if isinstance(read, str):
                return place.rejected(f"{part[1]}: {read}")
            files[part[1]] = partial(_stream, read)
    inside = PurePosixPath(place.id)
    return FoundSet(_place_of_set(Place(str(inside), place.origin, place.file, place.uri), name), files)


def _stream(read: Read) -> IO[bytes]:
    return io.BufferedReader(io.BytesIO(read()))


def _bytes_of(path: Path) -> IO[bytes]:
    return path.open("rb")


def _read(found: Found, form: GraphFormat) -> Iterator[Item | Rejected]:
    """The graphs of one file."""
    suffix, packing = format_of(Path(found.name), None)
    if suffix in MANY:
        yield from _lines(found, packing, form)
        return
    place = found.place
    try:
        with found.stored() as stored, opened(stored, packing, seeking=suffix in SEEKING) as handle:
            if suffix == ".json":
                yield from _document(read_whole(handle, place.file), place, form)
                return
            if form.id is not None:
                raise SourceError(
                    "a graph with a file of its own is called by its path; leave the id field out"
                )
            read = read_opened(handle, suffix, form.edges, Edges(place.file, edgeless=True))
    except (SourceError, MissingExtra) as error:
        reason = plain(error) if isinstance(error, SourceError) else str(error)
        yield place.rejected(reason, id=place.id)
    except OSError as error:
        yield place.rejected(why(error), id=place.id)
    else:
        yield record_of(read, place, form, _folder(place))


def _folder(place: Place) -> dict[str, Json]:
    """The folder that a file is in, below the one that was given: often it says what the graphs in it are."""
    above, _, _ = place.id.rpartition("/")
    return {"folder": above} if above else {}


def _lines(found: Found, packing: Packing, form: GraphFormat) -> Iterator[Item | Rejected]:
    place = found.place
    input = Input(
        found.name,
        place.file,
        place.origin,
        place.uri,
        _kind(packing),
        found.stored,
    )
    try:
        for line in read_lines(input):
            one = Place(f"{place.id}/{line.number}", place.origin, place.file, place.uri, line.number)
            if line.fault is not None:
                yield one.rejected(line.fault)
            elif line.text.strip():
                yield _of_line(line.text, one, form)
    except OSError as error:
        yield place.rejected(why(error))


def _kind(packing: Packing) -> Kind:
    kind = kind_of("graphs.jsonl")
    assert kind is not None
    return Kind(kind.format, packing)


def _of_line(text: str, place: Place, form: GraphFormat) -> Item | Rejected:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        return place.rejected(f"not JSON: {error}")
    return from_json(given, place, form)


def _document(data: bytes, place: Place, form: GraphFormat) -> Iterator[Item | Rejected]:
    """The graph of a JSON document, or those of an array in it."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        yield place.rejected(f"not JSON: {error}", id=place.id)
        return
    many = given.get("graphs") if isinstance(given, dict) and "nodes" not in given else given
    if not isinstance(many, list):
        yield from_json(given, place, form, alone=_folder(place))
        return
    for number, one in enumerate(many, 1):
        yield from_json(one, Place(f"{place.id}/{number}", place.origin, place.file, place.uri), form)
