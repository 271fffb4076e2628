"""What every filling verb begins with: its paths, and an open collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import search
from ingest.pipeline import Job
from ingest.report import Options
from search.collection import Collection
from search.encoders.load import ModelChoice
from search.errors import CollectionError, CollectionNotFound, ModelUnavailable, SourceError
from search.types import EncoderSpec, Space
from search.writer import check_same

Paths: TypeAlias = str | Path | Sequence[str | Path]

DEFAULT = Options()
ROWS_PER_COMMIT = 65536  # where vectors are at hand already: long commits, to write at the disk's speed


def listed(paths: Paths) -> list[Path]:
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise SourceError("no path was given; name at least one file or folder")
    return [Path(one).expanduser() for one in several]


def placed(model: str) -> str:
    """A model's name; where it is a folder, the whole path, since its space is asked from other folders too."""
    folder = Path(model).expanduser()
    holds_one = any((folder / name).is_file() for name in ("config.json", "modules.json"))
    return str(folder.absolute()) if holds_one else model


@contextmanager
def opened(collection: Collection | str | Path, *, must_write: bool = True) -> Iterator[Collection | None]:
    """An open collection; one opened here is closed again. Without `must_write` None stands for an absent one."""
    if isinstance(collection, Collection):
        yield collection
        return
    try:
        opened = search.open(collection, "rw" if must_write else "r")
    except CollectionNotFound:
        if must_write:
            raise
        yield None
        return
    with opened:
        yield opened


def emptied(collection: Collection | str | Path, space: str) -> frozenset[str]:
    """The paths that a space was filled from: of those nothing may be left."""
    with opened(collection, must_write=False) as there:
        if there is None or space not in there.spaces():
            return frozenset()
        return frozenset(there.origins(space))


def own_encoder(collection: Collection | str | Path, space: str, what: str) -> EncoderSpec | None:
    """What made a space, where it takes `what` ("text" or "image"): the usual choice when no model is named."""
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(space)
    return None if known is None or what not in known.encoder.accepts else known.encoder


def check_address(known: Space | None, model: str, choice: ModelChoice) -> None:
    """Refuse another address than that which a remote model's space was made at, also where nothing is left to encode.

    Raises:
        CollectionError: it is another.
    """
    if known is None or known.encoder.family != "openai" or known.encoder.model != model:
        return
    from search.encoders.remote import address

    made, now = known.encoder.options.get("base_url"), address(choice.base_url)
    if made != now:
        raise CollectionError(
            f"space '{known.name}' was made at {made}, and this is {now}; give --base-url {made}, "
            "or another name with --space"
        )


@contextmanager
def filled(collection: Collection | str | Path, job: Job, *, chosen: bool) -> Iterator[Collection]:
    """The open collection; a model that cannot be had is told before a new collection is made for it.

    With `chosen` more was said of the model than its name, and the space must have been made with that, even where
    nothing is left to encode.
    """
    with opened(collection, must_write=False) as there:
        known = None if there is None else there.spaces().get(job.space)
    if known is None:
        job.encoder()
    elif known.encoder.model != job.model:
        try:
            job.encoder()
        except ModelUnavailable as error:
            raise CollectionError(
                f"space '{known.name}' was made by {known.encoder.model}, and this is {job.model}, which cannot be "
                "had here; name the model that made it, with what was said of it, or another space with --space"
            ) from error
    elif chosen:
        check_same(known, job.encoder().spec)
    with opened(collection) as there:
        assert there is not None
        yield there
