"""Snapshots of an index: written beside the old one, synced, renamed, and only then vouched for by the catalog."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.errors import CollectionCorrupt, CollectionError
from search.failpoints import Step, reached
from search.index.contract import Rows
from search.index.hnsw import Graph
from search.index.ivf import Lists
from search.index.structure import Kind, Structure
from search.layout import Layout, sync_directory
from search.types import Json, Space

_MAGIC = b"nearkin index 1\n"
_TRIES = 5  # to write a file that others sweep away meanwhile


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the catalog vouches for: a file of this name and checksum, over the first `n` rows of the space."""

    file: str
    sha256: str
    n: int
    rows_sha256: str  # over the part keys of those rows, in order
    kind: Kind = Kind.HNSW  # the only one in the first format

    def to_json(self) -> dict[str, Json]:
        """A JSON object that the constructor takes back as keywords."""
        return asdict(self) | {"kind": self.kind.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        """The snapshot that `to_json` wrote."""
        return cls(**{**data, "kind": Kind(data.get("kind", Kind.HNSW))})


def _rows_digest(rows: Rows, n: int) -> str:
    return hashlib.sha256(rows.part_keys[:n].astype("<i8").tobytes()).hexdigest()


def write(layout: Layout, catalog_uuid: str, space: Space, rows: Rows, structure: Structure) -> Snapshot:
    """Write the structure to a new file, durable when this returns; the caller then records it in the catalog.

    The file begins with a line that names the collection and the space, so that a file which strayed here from
    another collection is recognised.

    Raises:
        CollectionError: the disk is full or may not be written to.
    """
    swept = 0
    while True:
        try:
            return _written(layout, catalog_uuid, space, rows, structure)
        except FileNotFoundError:
            # Another process has finished an index and swept away what no catalog vouches for: this file, too.
            swept += 1
            if swept < _TRIES:
                continue
            reason = "it vanishes while it is written"
        except OSError as error:
            reason = str(error.strerror)
        raise CollectionError(
            f"the index of space '{space.name}' cannot be written to {layout.indexes} ({reason}); "
            "free some space or check the permissions, and run: nearkin compact"
        )


def _written(layout: Layout, catalog_uuid: str, space: Space, rows: Rows, structure: Structure) -> Snapshot:
    reached(Step.SNAPSHOT_BEGUN)
    layout.indexes.mkdir(exist_ok=True)
    sync_directory(layout.root)  # or the directory itself could be gone after a power loss
    label = {"collection": catalog_uuid, "space": space.name, "key": space.key, "n": structure.n}
    head, content = _MAGIC + json.dumps(label).encode() + b"\n", structure.to_bytes()
    digest = hashlib.sha256(head)
    digest.update(content)
    name = f"{space.key}-{uuid.uuid4().hex[:12]}.{structure.kind}"
    temporary = layout.indexes / f"{name}.new"
    with temporary.open("wb") as file:
        half = len(content) // 2
        file.write(head)
        file.write(content[:half])
        file.flush()
        reached(Step.SNAPSHOT_WRITTEN)
        file.write(content[half:])
        file.flush()
        os.fsync(file.fileno())
    reached(Step.SNAPSHOT_SYNCED)
    temporary.rename(layout.indexes / name)
    sync_directory(layout.indexes)
    reached(Step.SNAPSHOT_RENAMED)
    return Snapshot(
        name,
        digest.hexdigest(),
        structure.n,
        _rows_digest(rows, structure.n),
        structure.kind,
    )


def read(
    layout: Layout, vouched: Mapping[str, Any], catalog_uuid: str, space: Space, rows: Rows
) -> Structure:
    """The structure that the catalog vouches for, after checking that it is whole and belongs to these rows.

    Raises:
        CollectionCorrupt: the file is missing, torn, changed, or belongs to other rows or another collection.
    """
    snapshot = Snapshot.from_json(vouched)
    path = layout.indexes / Path(snapshot.file).name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CollectionCorrupt(
            f"the index {path} cannot be read ({error.strerror}); it will be built again"
        ) from None
    if hashlib.sha256(content).hexdigest() != snapshot.sha256 or not content.startswith(_MAGIC):
        raise CollectionCorrupt(f"the index {path} does not match its checksum; it will be built again")
    end = content.index(b"\n", len(_MAGIC))
    named = json.loads(content[len(_MAGIC) : end])
    # By its number, which stays when the space gets another name; the first snapshots have the name alone.
    same = named["key"] == space.key if "key" in named else named["space"] == space.name
    if named["collection"] != catalog_uuid or not same:
        raise CollectionCorrupt(f"the index {path} belongs to another collection; it will be built again")
    if snapshot.n > len(rows) or _rows_digest(rows, snapshot.n) != snapshot.rows_sha256:
        raise CollectionCorrupt(f"the index {path} is of other rows; it will be built again")
    data = memoryview(content)[end + 1 :]
    if snapshot.kind is Kind.HNSW:
        return Graph.from_bytes(data, space.metric)
    return Lists.from_bytes(data, snapshot.kind, space.metric)


def exists(layout: Layout, snapshot: Snapshot) -> bool:
    """Whether the file is still there: another process may have swept it before it was vouched for."""
    return (layout.indexes / snapshot.file).is_file()


def discard(layout: Layout, snapshot: Snapshot) -> None:
    """Delete a file that will not be vouched for."""
    (layout.indexes / snapshot.file).unlink(missing_ok=True)


def quarantine(layout: Layout, file: str) -> Path | None:
    """Move a damaged index file out of the way, for inspection; where it went, or None if there is none."""
    path = layout.indexes / Path(file).name
    if not path.exists():
        return None
    layout.quarantine.mkdir(exist_ok=True)
    target = layout.quarantine / path.name
    path.replace(target)
    return target


def sweep(layout: Layout, keep: set[str]) -> None:
    """Delete index files that the catalog does not vouch for: leftovers of a killed run or of older snapshots."""
    if not layout.indexes.is_dir():
        return
    for path in layout.indexes.iterdir():
        if path.name not in keep:
            path.unlink(missing_ok=True)
