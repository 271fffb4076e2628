"""Makes thumbnails, of pictures while they are decoded, and of those that were taken in without."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from PIL import Image

from ingest.sources.contract import Item, Source
from ingest.sync import chunks
from search.catalog import thumbnails
from search.catalog.thumbnails import Thumbnail
from search.collection import Collection
from search.encoders.pictures import available_cores, open_picture
from search.errors import MissingExtra, SourceError
from search.writer import Writer

SIDE = 256
SMALLEST_SIDE, LARGEST_SIDE = 16, 2048
_QUALITY = 80
_AT_ONCE = 256  # records in one commit


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """How thumbnails are made: no side longer than `side` pixels, as WebP; small pictures are not blown up.

    Raises:
        SourceError: the side is out of bounds.
    """

    side: int = SIDE

    def __post_init__(self) -> None:
        if not SMALLEST_SIDE <= self.side <= LARGEST_SIDE:
            raise SourceError(
                f"thumbnails of {self.side} pixels make no sense; give {SMALLEST_SIDE} to {LARGEST_SIDE}"
            )

    def of(self, picture: Image.Image) -> Thumbnail:
        """The thumbnail of an RGB picture, which is left as it is."""
        longest = max(picture.size)
        small = picture
        if longest > self.side:
            size = tuple(max(1, round(length * self.side / longest)) for length in picture.size)
            small = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC, reducing_gap=2.0)
        file = io.BytesIO()
        small.save(file, "WEBP", quality=_QUALITY, method=2)
        return Thumbnail(file.getvalue(), self.side)


def make_missing(collection: Collection, writer: Writer, source: Source, making: Thumbnails) -> int:
    """Make those of unchanged records that have none of this size; how many were made."""
    n_made = 0
    with ThreadPoolExecutor(min(4, available_cores()), "nearkin-thumbnail") as threads:
        for inputs in chunks(source, _AT_ONCE):
            items = {one.record.id: one for one in inputs if isinstance(one, Item)}
            with collection.database.reading() as transaction:
                keys = thumbnails.lacking(transaction, list(items), making.side)
            small = threads.map(partial(_of, making), [items[id] for id in keys])
            made = {key: one for key, one in zip(keys.values(), small, strict=True) if one is not None}
            if made:
                writer.put_thumbnails(made)
            n_made += len(made)
    return n_made


def _of(making: Thumbnails, item: Item) -> Thumbnail | None:
    if item.picture is None:
        return None
    try:
        return making.of(open_picture(item.picture, at_least=making.side))
    except (SourceError, MissingExtra):
        return None  # rejected a moment ago, with the reason
