"""Opening pictures safely: bounded before decoding, upright, three channels, and one clear error per bad file."""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from search.encoders.contract import Pixels
from search.errors import SourceError

# Decoded to RGB a picture of this size takes 192 MB, several of which are in memory at once while threads
# decode ahead. It is above what nearly every camera and scanner makes; what is larger is more often a bomb, and
# a network looks at a few hundred pixels a side anyway.
MAX_PIXELS = 64_000_000

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})

# What Pillow's decoders are known to raise on damaged files.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW_MODULE = re.compile(r"PIL\.")


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a picture file says of itself before it is decoded; width and height in pixels, as it is shown."""

    width: int
    height: int
    format: str
    size_bytes: int


def read_header(path: Path) -> PictureHeader:
    """Width, height and format of a picture file, without decoding it.

    Raises:
        SourceError: it is missing, empty, no picture, or larger than MAX_PIXELS.
    """
    with _opened(path) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        name = (image.format or "").replace(
            "MPO", "JPEG"
        )  # several JPEGs in one file, as telephones write them
        return PictureHeader(width, height, name, path.stat().st_size)


def open_picture(item: str | Path | Image.Image, *, at_least: int | None = None) -> Image.Image:
    """A picture in RGB, decoded whole: turned upright by its EXIF orientation, transparent parts on white.

    Of an animation the first frame. Grey of 16 bits is scaled to 8; 32-bit and floating-point greys, whose
    range no format fixes, are stretched from their least to their greatest value. Opening the result again
    changes nothing, and a given image is never modified.

    Args:
        item: a file, or an image in memory.
        at_least: where only a small picture is needed, the length in pixels below which no side may fall; JPEG
            files are then decoded at a half, a quarter or an eighth of their size. The pixels differ slightly
            from those of a whole decoding.

    Raises:
        SourceError: the file is missing, empty, damaged, no picture, or larger than MAX_PIXELS.
    """
    if isinstance(item, Image.Image):
        name = getattr(item, "filename", None) or None
        _bound(item, str(name) if name else None)
        with _reading(str(name) if name else None):
            return _upright_rgb(item)
    path = Path(item)
    with _opened(path) as image, _reading(str(item)):
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        return _upright_rgb(image)


def prepare_ahead(
    items: Iterable[str | Path | Image.Image | Pixels],
    prepare: Callable[[Image.Image], Pixels],
    *,
    threads: int | None = None,
    ahead: int = 64,
) -> Iterator[Pixels]:
    """`prepare(open_picture(item))` for each item, in order, worked out by a few threads ahead of the caller.

    What is prepared already is passed on as it is.

    A decoded picture lives only inside its thread, so memory is bounded by the prepared results: at most
    `ahead` of them. Where an item cannot be read its SourceError is raised when its turn comes.
    """
    count = threads or min(4, available_cores())
    with ThreadPoolExecutor(count, thread_name_prefix="nearkin-decode") as pool:
        waiting: deque[Future[Pixels]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_prepared, item, prepare))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _prepared(item: str | Path | Image.Image | Pixels, prepare: Callable[[Image.Image], Pixels]) -> Pixels:
    return item if isinstance(item, np.ndarray) else prepare(open_picture(item))


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The lazily opened file, its kind and size checked."""
    file = str(path)
    _quiet_pillow()
    try:
        if not path.is_file():
            kind = "is a folder, not a file" if path.is_dir() else "is not a regular file"
            what = kind if path.exists() else "there is no such file"
            raise SourceError(f"{what}; give the path of a picture file", file=file)
        if path.stat().st_size == 0:
            raise SourceError("the file is empty; replace it or leave it out", file=file)
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise SourceError(
            f"is not a picture, or is damaged at its start; give one of {kinds}, or leave it out", file=file
        ) from error
    except DAMAGED as error:
        raise _damaged(error, file) from error
    with image:
        _bound(image, file)
        yield image


@contextmanager
def _reading(file: str | None) -> Iterator[None]:
    """Turns what a decoder raises into one clear error."""
    _quiet_pillow()
    try:
        yield
    except DAMAGED as error:
        raise _damaged(error, file) from error
    except MemoryError as error:
        raise SourceError("there is not enough memory to decode it; make it smaller", file=file) from error


def _damaged(error: Exception, file: str | None) -> SourceError:
    if isinstance(error, PermissionError):
        return SourceError("may not be read; change its permissions or leave it out", file=file)
    if isinstance(error, Image.DecompressionBombError):
        return SourceError(f"has more than {MAX_PIXELS:,} pixels; make it smaller or leave it out", file=file)
    reason = " ".join(str(error).split()) or type(error).__name__
    return SourceError(f"cannot be decoded ({reason}); replace it or leave it out", file=file)


def _bound(image: Image.Image, file: str | None) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise SourceError("has no pixels; replace it or leave it out", file=file)
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"has {width} x {height} pixels, more than the {MAX_PIXELS:,} that are decoded; "
            "make it smaller or leave it out",
            file=file,
        )


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    orientation = _orientation(image)
    rgb = _rgb(image)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    rgb.info.clear()  # so that nothing turns it a second time
    return rgb


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; a picture whose EXIF block is damaged is shown as it lies."""
    _quiet_pillow()
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except DAMAGED:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _rgb(image: Image.Image) -> Image.Image:
    """A new image in RGB."""
    if image.mode in {"I;16", "I;16L", "I;16B", "I;16N"} or (image.mode == "I" and image.format == "PNG"):
        # Pillow before 11 opens the 16-bit PNG as 32-bit integers; both hold 0 to 65535.
        return _grey(np.asarray(image, dtype=np.float64) / 257.0)
    if image.mode in {"I", "F"}:
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        least, greatest = float(values.min()), float(values.max())
        return _grey((values - least) * (255.0 / (greatest - least) if greatest > least else 0.0))
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8)).convert("RGB")


def _quiet_pillow() -> None:
    """Pillow warns of odd files on stderr; whatever matters of it is an error here.

    warnings.catch_warnings is not safe while other threads decode, hence one narrow filter that stays.
    """
    entry = ("ignore", None, Warning, _PILLOW_MODULE, 0)
    if entry not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULE.pattern)
