"""A disk that loses its power: replays a trace, and says what may be left of it at any moment.

What was synced stays. Of the writes to a file since its last sync any part may be left, sector by sector; of the
names made, moved and removed in a directory since the last sync of that directory, likewise. This is the least that
POSIX promises, and less than what ext4 or XFS keep: a program that survives it depends on nothing but its syncs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.crash.trace import Event, Kind

_SECTOR = 512


class Loss(StrEnum):
    """Which of the things not yet synced are lost."""

    ALL = "all"
    NONE = "none"  # as after a kill
    CONTENT = "content"  # names are kept, what was written is not: files stand there empty
    ZEROED = "content, not length"  # likewise, and the files have their length, of zeros
    NAMES = "names"  # what was written is kept, but not where it stands
    TAIL = "tail"  # everything after some moment, and the write of that moment is torn
    SCATTERED = "scattered"  # any of the names, and any sectors


@dataclass(slots=True)
class Write:
    """Of `data` at `offset`; or, where `data` is None, a truncation to `offset`."""

    number: int  # of the event
    offset: int
    data: bytes | None


@dataclass(slots=True, eq=False)
class File:
    """What is surely on the disk, and what may be."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)

    def sync(self) -> None:
        for write in self.pending:
            _apply(self.durable, write.offset, write.data)
        self.pending.clear()


@dataclass(slots=True, eq=False)
class Names:
    """One change to the names of a directory, or of two in a move: all of it or nothing."""

    number: int
    changes: tuple[tuple[Directory, str, File | Directory | None], ...]
    done: bool = False


@dataclass(slots=True, eq=False)
class Directory:
    """The names that are surely there, those that the process sees, and the changes between."""

    durable: dict[str, File | Directory] = field(default_factory=dict)
    now: dict[str, File | Directory] = field(default_factory=dict)
    pending: list[Names] = field(default_factory=list)

    def sync(self) -> None:
        for names in self.pending:
            if not names.done:
                names.done = True
                for directory, name, what in names.changes:
                    _name(directory.durable, name, what)
        self.pending.clear()


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _name(names: dict[str, File | Directory], name: str, what: File | Directory | None) -> None:
    if what is None:
        names.pop(name, None)
    else:
        names[name] = what


# What is left: the bytes of each file by its path, None for a directory.
Left = dict[str, bytes | None]


class Disk:
    """The directory `root` and all below it, which is told each event in turn."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._top = Directory()
        self._by_inode: dict[int, File | Directory] = {root.stat().st_ino: self._top}
        self._number = 0

    def do(self, event: Event) -> None:
        """Let the event happen."""
        self._number += 1
        node = self._by_inode.get(event.inode)
        match event.kind:
            case Kind.MARK:
                pass
            case Kind.CREATE | Kind.DIRECTORY:
                made = File() if event.kind is Kind.CREATE else Directory()
                self._by_inode[event.inode] = made  # a number that an unlinked file had may come again
                directory, name = self._place(event.content)
                self._change((directory, name, made))
            case Kind.WRITE | Kind.TRUNCATE:
                assert isinstance(node, File), f"written, but never seen to be made: {event.inode}"
                data = event.content if event.kind is Kind.WRITE else None
                node.pending.append(Write(self._number, event.offset, data))
            case Kind.SYNC:
                assert node is not None, f"synced, but never seen to be made: {event.inode}"
                node.sync()
            case Kind.RENAME:
                (old, before), (new, after) = self._place(event.content), self._place(event.target)
                self._change((old, before, None), (new, after, old.now[before]))
            case Kind.UNLINK:
                directory, name = self._place(event.content)
                self._change((directory, name, None))
            case Kind.UNKNOWN:
                raise AssertionError(f"the replay does not understand this: {event.content!r}")

    def _place(self, path: bytes) -> tuple[Directory, str]:
        *above, name = os.fsdecode(os.path.relpath(path, self._root)).split("/")
        directory = self._top
        for one in above:
            found = directory.now[one]
            assert isinstance(found, Directory)
            directory = found
        return directory, name

    def _change(self, *changes: tuple[Directory, str, File | Directory | None]) -> None:
        names = Names(self._number, changes)
        for directory, name, what in changes:
            _name(directory.now, name, what)
            if not directory.pending or directory.pending[-1] is not names:
                directory.pending.append(names)

    def now(self) -> Left:
        """What the process sees."""
        return dict(_walk(self._top, "", _Kept(Loss.NONE, random.Random(0), self._number)))

    def n_unsynced(self) -> int:
        """How many writes and changes of names a loss of power may take."""
        nodes = {id(node): node for node in self._by_inode.values()}
        return sum(len(node.pending) for node in nodes.values())

    def left(self, loss: Loss, rng: random.Random) -> Left:
        """What a loss of power at this moment leaves."""
        return dict(_walk(self._top, "", _Kept(loss, rng, self._number)))


class _Kept:
    """Decides what of the unsynced is kept."""

    def __init__(self, loss: Loss, rng: random.Random, number: int) -> None:
        self._loss, self._rng = loss, rng
        self._until = rng.randint(max(0, number - 40), number)  # for TAIL: the number of the torn event
        self._chance = rng.choice((0.1, 0.5, 0.9))  # for SCATTERED
        self._names: dict[int, bool] = {}  # a move between directories is kept in both or in none

    def names(self, names: Names) -> bool:
        if names.number not in self._names:
            self._names[names.number] = {
                Loss.ALL: False,
                Loss.NAMES: False,
                Loss.TAIL: names.number < self._until,
                Loss.SCATTERED: self._rng.random() < self._chance,
            }.get(self._loss, True)
        return self._names[names.number]

    def content(self, file: File) -> bytes:
        """What is left of the file."""
        left = bytearray(file.durable)
        for write in file.pending:
            if self._loss in (Loss.NONE, Loss.NAMES) or (
                self._loss is Loss.TAIL and write.number < self._until
            ):
                _apply(left, write.offset, write.data)
            elif self._loss is Loss.ZEROED and write.data is not None:
                left.extend(bytes(max(0, write.offset + len(write.data) - len(left))))
            elif self._loss is Loss.SCATTERED:
                self._scatter(left, write)
            elif self._loss is Loss.TAIL and write.number == self._until and write.data is not None:
                n = self._rng.randrange(len(write.data) // _SECTOR + 1) * _SECTOR
                _apply(left, write.offset, write.data[:n])
        return bytes(left)

    def _scatter(self, left: bytearray, write: Write) -> None:
        if write.data is None:
            if self._rng.random() < self._chance:
                _apply(left, write.offset, None)
            return
        how = self._rng.random()
        if how < 0.6:  # whole or not at all
            if self._rng.random() < self._chance:
                _apply(left, write.offset, write.data)
            return
        end = write.offset + len(write.data)
        if how < 0.8 and len(left) < end:  # the length came first, and what stood there before was another's
            left.extend(self._rng.randbytes(end - len(left)))
        at = write.offset
        while at < end:
            after = min(end, (at // _SECTOR + 1) * _SECTOR)
            if self._rng.random() < self._chance:
                _apply(left, at, write.data[at - write.offset : after - write.offset])
            at = after


def _walk(directory: Directory, prefix: str, kept: _Kept) -> Iterator[tuple[str, bytes | None]]:
    names = dict(directory.durable)
    for change in directory.pending:
        if not change.done and kept.names(change):
            for where, name, what in change.changes:
                if where is directory:
                    _name(names, name, what)
    for name, what in names.items():
        if isinstance(what, Directory):
            yield f"{prefix}{name}", None
            yield from _walk(what, f"{prefix}{name}/", kept)
        else:
            yield f"{prefix}{name}", kept.content(what)


def lay_out(left: Left, folder: Path) -> None:
    """Write what is left to an empty folder."""
    for path, content in left.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
