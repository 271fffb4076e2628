"""Compressed bytes unpacked as they are read, within bounds, and with every fault told as an OSError."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, cast

from ingest.sources.formats import Packing
from search.errors import MissingExtra

_CHUNK = 2**16
_ZSTD_CHUNK = 2**10  # at most 32 MiB unpacked: a block of four bytes can stand for 128 KiB


class UnpackingError(OSError):
    """What is packed is damaged, or larger than it is allowed to be."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an input may unpack.

    `unpacked` bytes in all, `ratio` times its packed size once that is more than `free` bytes; an archive has at
    most so many `members`. Text compresses 3 to 30 times, the same line over and over 100 to 200 times; a bomb
    thousands of times.
    """

    unpacked: int = 64 * 2**30
    ratio: int = 250
    free: int = 64 * 2**20
    members: int = 200_000


LIMITS = Limits()


class Budget:
    """What has been unpacked so far of an input that may be a bomb."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unpacked = 0

    def spend(self, size: int, packed: int) -> None:
        """So many bytes more have come out of what are `packed` bytes up to here.

        Raises:
            UnpackingError: that is beyond the limits.
        """
        self._unpacked += size
        self.check(self._unpacked, packed)

    def check(self, unpacked: int, packed: int) -> None:
        """Raises UnpackingError where so much out of so little is beyond the limits."""
        limits = self._limits
        if unpacked > limits.unpacked:
            raise UnpackingError(f"unpacks to more than {limits.unpacked // 2**30:,} GiB; split it")
        if unpacked > max(limits.free, limits.ratio * packed):
            raise UnpackingError(f"unpacks to more than {limits.ratio} times its size, as a zip bomb does")


class Bounded(io.RawIOBase):
    """An unpacking stream that keeps to a budget, and whose faults are UnpackingErrors."""

    def __init__(
        self,
        stream: IO[bytes],
        budget: Budget,
        packed: Callable[[], int],
        faults: tuple[type[BaseException], ...],
    ) -> None:
        self._stream, self._budget, self._packed, self._faults = stream, budget, packed, faults
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except UnpackingError:
            raise
        except self._faults as error:
            raise UnpackingError(f"damaged: {str(error) or 'it ends too early'}") from error
        self._budget.spend(len(data), self._packed())
        buffer[: len(data)] = data
        self._given += len(data)
        return len(data)

    def tell(self) -> int:
        return self._given

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def unpacked(file: IO[bytes], packing: Packing, limits: Limits = LIMITS) -> IO[bytes]:
    """The unpacked bytes of a file, as a stream that does not seek; the file itself if it is not packed.

    Raises:
        MissingExtra: it needs a package that is not installed.
    """
    if packing is Packing.NONE:
        return file
    stream: IO[bytes]
    faults: tuple[type[BaseException], ...]
    if packing is Packing.GZIP:
        stream, faults = (
            cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
            (EOFError, zlib.error, gzip.BadGzipFile),
        )
    else:
        try:
            import zstandard
        except ImportError as error:
            raise MissingExtra(f"reading {packing}", "files") from error
        stream, faults = io.BufferedReader(_Zstd(file), _CHUNK), (zstandard.ZstdError, EOFError)
    return io.BufferedReader(_Owning(stream, file, Budget(limits), faults), _CHUNK)


class _Owning(Bounded):
    """Closes the packed file as well."""

    def __init__(
        self, stream: IO[bytes], file: IO[bytes], budget: Budget, faults: tuple[type[BaseException], ...]
    ) -> None:
        super().__init__(stream, budget, file.tell, faults)
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


class _Zstd(io.RawIOBase):
    """Zstandard frames, one after the other; unlike the package's own reader it notices one that ends too early."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._new = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj
        self._frame: Any = None
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            left = b"" if self._frame is None or not self._frame.eof else self._frame.unused_data
            data = left or self._file.read(_ZSTD_CHUNK)
            if not data:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = self._new()
            self._pending = memoryview(self._frame.decompress(data))
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size
