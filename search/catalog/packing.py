"""How the vectors of one commit are packed into blobs, and checked when they come back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import CollectionCorrupt
from search.vectors import Batch, Keys

_KEY = np.dtype("<i8")
_VALUE = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as the three blobs that the catalog keeps, and the checksum over them."""

    part_keys: bytes | memoryview
    record_keys: bytes | memoryview
    vectors: bytes | memoryview
    checksum: int


def _checksum(*blobs: bytes | memoryview, pieces: bool) -> int:
    value = 0 if pieces else 1  # where the sum begins, so that the mark beside the blobs is covered too
    for blob in blobs:
        value = zlib.crc32(blob, value)
    return value


def _bytes_of(numbers: NDArray[np.generic], kind: np.dtype[np.generic]) -> memoryview:
    """The bytes of an array in this type, without a copy where it has it already."""
    held = np.ascontiguousarray(numbers, dtype=kind)
    return held.view(np.uint8).reshape(-1).data if held.size else memoryview(b"")


def pack(batch: Batch, *, pieces: bool = True) -> Packed:
    """The blobs of `batch`, little-endian on every machine; they may share its memory.

    `pieces` is False where every part is a whole record.
    """
    blobs = (
        _bytes_of(batch.part_keys, _KEY),
        _bytes_of(batch.record_keys, _KEY),
        _bytes_of(batch.vectors, _VALUE),
    )
    return Packed(*blobs, checksum=_checksum(*blobs, pieces=pieces))


def keys(blob: bytes) -> Keys:
    """Part or record keys from their blob, read-only."""
    return np.frombuffer(blob, _KEY)


def unpack(packed: Packed, n: int, dim: int, where: str, *, pieces: bool = True) -> Batch:
    """The batch that `pack` took, as read-only views of the blobs.

    Args:
        packed: the blobs.
        n: how many rows the catalog says there are.
        dim: the width of the space.
        where: names the batch in the message.
        pieces: as it was given to `pack`.

    Raises:
        CollectionCorrupt: the checksum or a length does not match.
    """
    blobs = (packed.part_keys, packed.record_keys, packed.vectors)
    if (
        not isinstance(n, int)
        or not all(isinstance(blob, bytes | memoryview) for blob in blobs)
        or tuple(map(len, blobs)) != (n * 8, n * 8, n * dim * 4)
        or packed.checksum != _checksum(*blobs, pieces=pieces)
    ):
        raise CollectionCorrupt(f"{where} does not match its checksum; restore the collection from a backup")
    return Batch(
        np.frombuffer(packed.part_keys, _KEY),
        np.frombuffer(packed.record_keys, _KEY),
        np.frombuffer(packed.vectors, _VALUE).reshape(n, dim),
    )
