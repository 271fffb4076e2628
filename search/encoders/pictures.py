"""Opening pictures safely: bounded before decoding, upright, in sRGB, and one clear error per bad file."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from search.encoders.contract import Pixels
from search.encoders.picture_colours import profile_of, rgb
from search.encoders.picture_exif import facts
from search.errors import MissingExtra, SourceError
from search.types import Json

# Decoded to RGB a picture of this size takes 192 MB, several of which are in memory at once while threads
# decode ahead. It is above what nearly every camera and scanner makes; what is larger is more often a bomb, and
# a network looks at a few hundred pixels a side anyway.
MAX_PIXELS = 64_000_000

MAX_FRAMES = 1_000  # of an animation: to get at one, those before it are decoded

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_HEIF_SUFFIXES = frozenset({".heic", ".heif"})
SUFFIXES = (
    frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}) | _HEIF_SUFFIXES
)
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# What Pillow's decoders are known to raise on damaged files.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,  # libheif's
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
class PictureFile:
    """A picture that is no whole file: bytes that lie in an archive, or one frame of several.

    `name` stands for it in messages. `stored` is the file, or gives its bytes each time it is called, from any
    thread. `frame` counts from 0.
    """

    name: str
    stored: Path | Callable[[], bytes]
    frame: int = 0


Openable: TypeAlias = "str | Path | PictureFile | Image.Image"


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a picture file says of itself before it is decoded; width and height in pixels, as it is shown.

    `frames` is how many it has, where they were counted. `exif` is what `picture_exif.facts` finds, `profile` the name
    of a colour profile other than sRGB.
    """

    width: int
    height: int
    format: str
    size_bytes: int
    frames: int = 1
    profile: str | None = None
    exif: dict[str, Json] = field(default_factory=dict)


def read_header(item: str | Path | PictureFile) -> PictureHeader:
    """Width, height, format and EXIF of a picture file, without decoding it.

    Raises:
        SourceError: it is missing, empty, no picture, or larger than MAX_PIXELS.
        MissingExtra: its format needs a package that is not installed.
    """
    with _opened(item) as (image, size_bytes):
        return _header(image, size_bytes, 1)


def read_headers(item: Path | PictureFile) -> list[PictureHeader]:
    """`read_header` of each frame or page of a file.

    Raises:
        SourceError: as `read_header`, or there are more than MAX_FRAMES frames.
        MissingExtra: its format needs a package that is not installed.
    """
    with _opened(item) as (image, size_bytes), _reading(named(item)):
        # Several JPEGs in one file are one picture and its previews.
        n_frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
        if n_frames > MAX_FRAMES:
            raise SourceError(
                f"has {n_frames:,} frames, more than the {MAX_FRAMES:,} that are read one by one; split it, "
                "or take the first frame alone",
                file=named(item),
            )
        first = _header(image, size_bytes, n_frames)
        if image.format != "TIFF":
            return [first] * n_frames  # an animation has one size
        headers = [first]
        for frame in range(1, n_frames):
            image.seek(frame)
            _bound(image, named(item))
            headers.append(_header(image, size_bytes, n_frames))
        return headers


def _header(image: Image.Image, size_bytes: int, n_frames: int) -> PictureHeader:
    width, height = image.size
    exif = _exif(image)
    if _orientation(exif) >= 5:
        width, height = height, width
    name = (image.format or "").replace("MPO", "JPEG")  # several JPEGs in one file, as telephones write them
    try:
        said = facts(exif)
    except DAMAGED:
        said = {}
    return PictureHeader(width, height, name, size_bytes, n_frames, profile_of(image), said)


def open_picture(item: Openable, *, at_least: int | None = None) -> Image.Image:
    """A picture in sRGB, decoded whole: turned upright by its EXIF orientation, transparent parts on white.

    Of an animation the first frame, unless the item names another. How other kinds of pixel become RGB is said in
    `picture_colours.rgb`. Opening the result again changes nothing, and a given image is never modified.

    Args:
        item: a file, or an image in memory.
        at_least: where only a small picture is needed, the length in pixels below which no side may fall; JPEG
            files are then decoded at a half, a quarter or an eighth of their size. The pixels differ slightly
            from those of a whole decoding.

    Raises:
        SourceError: the file is missing, empty, damaged, no picture, or larger than MAX_PIXELS.
        MissingExtra: its format needs a package that is not installed.
    """
    if isinstance(item, Image.Image):
        name = getattr(item, "filename", None) or None
        _bound(item, str(name) if name else None)
        with _reading(str(name) if name else None):
            return _upright_rgb(item)
    with _opened(item) as (image, _), _reading(named(item)):
        if isinstance(item, PictureFile) and item.frame:
            image.seek(item.frame)
            _bound(image, item.name)  # pages of a TIFF may be of any size
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        return _upright_rgb(image)


def require(suffix: str) -> None:
    """Raises MissingExtra where files of this suffix need a package that is not installed."""
    if suffix.lower() in _HEIF_SUFFIXES:
        _require_heif()
    elif suffix.lower() == ".avif":
        _require_avif()


def named(item: str | Path | PictureFile) -> str:
    """The name of a file in messages."""
    return item.name if isinstance(item, PictureFile) else str(item)


def prepare_ahead(
    items: Iterable[Openable | Pixels],
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


def _prepared(item: Openable | Pixels, prepare: Callable[[Image.Image], Pixels]) -> Pixels:
    return item if isinstance(item, np.ndarray) else prepare(open_picture(item))


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@contextmanager
def _opened(item: str | Path | PictureFile) -> Iterator[tuple[Image.Image, int]]:
    """The lazily opened file, its kind and size checked; and how many bytes it has."""
    file = named(item)
    stored = item.stored if isinstance(item, PictureFile) else Path(item)
    _quiet_pillow()
    try:
        if isinstance(stored, Path):
            _check_regular(stored, file)
            opened: Path | IO[bytes] = stored
            size_bytes = stored.stat().st_size
        else:
            data = stored()
            opened, size_bytes = io.BytesIO(data), len(data)
        if size_bytes == 0:
            raise SourceError("the file is empty; replace it or leave it out", file=file)
        image = _identified(opened)
    except UnidentifiedImageError as error:
        kinds = ", ".join((*FORMATS, "AVIF", "HEIC"))
        raise SourceError(
            f"is not a picture, or is damaged at its start; give one of {kinds}, or leave it out", file=file
        ) from error
    except DAMAGED as error:
        raise _damaged(error, file) from error
    with image:
        _bound(image, file)
        yield image, size_bytes


def _check_regular(path: Path, file: str) -> None:
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "is not a regular file"
        what = kind if path.exists() else "there is no such file"
        raise SourceError(f"{what}; give the path of a picture file", file=file)


def _identified(opened: Path | IO[bytes]) -> Image.Image:
    """The file, by what its bytes say it is."""
    try:
        return Image.open(opened, formats=FORMATS)
    except UnidentifiedImageError:
        brand = _brand(opened)
        if brand in _AVIF_BRANDS:
            formats = _require_avif()
        elif brand in _HEIF_BRANDS:
            formats = _require_heif()
        else:
            raise
        return Image.open(opened, formats=formats)


def _brand(opened: Path | IO[bytes]) -> bytes:
    """Which of the formats in ISO media files this is; b"" if it is none."""
    if isinstance(opened, Path):
        with opened.open("rb") as file:
            begin = file.read(12)
    else:
        opened.seek(0)
        begin = opened.read(12)
        opened.seek(0)
    return begin[8:12] if begin[4:8] == b"ftyp" else b""


def _require_avif() -> tuple[str, ...]:
    Image.init()
    if "AVIF" not in Image.OPEN:  # Pillow before 11.3, or built without it
        raise MissingExtra("reading AVIF", "heic")
    return ("AVIF",)


def _require_heif() -> tuple[str, ...]:
    if "HEIF" not in Image.OPEN:
        try:
            import pi_heif
        except ImportError as error:
            raise MissingExtra("reading HEIC", "heic") from error
        pi_heif.register_heif_opener(thumbnails=False)
    return ("HEIF",)


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
    orientation = _orientation(_exif(image))
    picture = rgb(image)
    if orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[orientation])
    picture.info.clear()  # so that nothing turns it a second time
    return picture


def _exif(image: Image.Image) -> Image.Exif:
    """The EXIF block; an empty one where there is none, or it is damaged."""
    _quiet_pillow()
    if image.format == "PNG" and "exif" not in image.info and not _has_late_exif(image):
        return Image.Exif()  # getexif would decode the picture to look behind it
    try:
        return image.getexif()
    except DAMAGED:
        return Image.Exif()


def _orientation(exif: Image.Exif) -> int:
    """The EXIF orientation, 1 to 8; what is said wrongly is as if it were not said."""
    value = exif.get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _has_late_exif(image: Image.Image) -> bool:
    """Whether a PNG that is not yet decoded has an EXIF block behind its pixels."""
    file = getattr(image, "fp", None)
    if file is None:
        return False
    here = file.tell()
    try:
        place = 8
        while True:
            file.seek(place)
            head = file.read(8)
            if len(head) < 8:
                return False
            if head[4:] == b"eXIf":
                return True
            place += 12 + int.from_bytes(head[:4], "big")
    finally:
        file.seek(here)


def _quiet_pillow() -> None:
    """Pillow warns of odd files on stderr; whatever matters of it is an error here.

    warnings.catch_warnings is not safe while other threads decode, hence one narrow filter that stays.
    """
    entry = ("ignore", None, Warning, _PILLOW_MODULE, 0)
    if entry not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULE.pattern)
