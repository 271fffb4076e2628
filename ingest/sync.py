"""What is new, changed or gone: each input's hash against the one its vectors were made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.sources.contract import Item, Rejected
from search.catalog import reads
from search.catalog.database import Database
from search.catalog.inputs import CONTENT_BYTES, SETTINGS_BYTES, WHOLE_BYTES
from search.types import Space

# Part of what the vectors of a Markdown text depend on: raise it when `ingest.markup` cuts or encodes otherwise.
# Other texts go by their settings alone, so that they are not encoded again for it.
MARKUP = b" sections 1"


@dataclass(frozen=True, slots=True)
class Sorted:
    """A handful of inputs, sorted by what has to be done with them."""

    new: list[Item]
    changed: list[Item]
    unchanged: int
    rejected: list[Rejected]


class Sync:
    """Compares a source with a space. `database` or `space` is None where nothing has been stored yet."""

    def __init__(self, database: Database | None, space: Space | None, settings: str) -> None:
        self._database = database
        self._space = space
        self._settings = settings.encode()
        self._seen: dict[str, str] = {}
        self._before: dict[str, bytes] = {}  # the stored digests of the changed ones among the last sorted
        self._nameless: set[str] = set()  # files with an input so broken that even its id could not be read

    def settings_of(self, item: Item) -> bytes:
        """All that the vectors of an input depend on beside itself and the model."""
        return self._settings + MARKUP if item.markup else self._settings

    def digest(self, item: Item) -> bytes:
        """The hash of an input and of the settings that its vectors depend on."""
        return hashlib.blake2b(item.digest + self.settings_of(item), digest_size=WHOLE_BYTES).digest()

    def full_digest(self, item: Item) -> bytes:
        """What is stored of a text (a picture's caption is none): `digest`, a hash of the settings, then `content`.

        With these the vectors of a text can be found again when its id or something else about it changes.
        """
        if item.record.text is None or item.picture is not None:
            return self.digest(item)
        return self.digest(item) + self._mark(item) + self.content(item)

    def content(self, item: Item) -> bytes:
        """The hash of an input's text and of the settings."""
        text = (item.record.text or "").encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=CONTENT_BYTES, key=self._mark(item)).digest()

    def cut_as_before(self, item: Item) -> bool:
        """Whether the stored version of a changed input, as last sorted, was made with the same settings."""
        return self._before.get(item.record.id, b"")[WHOLE_BYTES:][:SETTINGS_BYTES] == self._mark(item)

    def _mark(self, item: Item) -> bytes:
        return hashlib.blake2b(self.settings_of(item), digest_size=SETTINGS_BYTES).digest()

    def sort(self, inputs: Sequence[Item | Rejected]) -> Sorted:
        """Sort the next inputs; an id seen before in this run is rejected, the first one stands."""
        rejected = [one for one in inputs if isinstance(one, Rejected)]
        for one in rejected:
            # What is unreadable now is not gone.
            if one.id is not None:
                self._seen.setdefault(one.id, one.file)
            else:
                self._nameless.add(str(Path(one.file).absolute()))
        items: list[Item] = []
        for item in inputs:
            if isinstance(item, Rejected):
                continue
            id, place = item.record.id, item.file or str(item.record.uri or item.origin)
            if id in self._seen:
                reason = f"duplicate id '{id}': it stands already in {self._seen[id]}"
                rejected.append(Rejected(place, reason, item.line, id))
                continue
            self._seen[id] = place if item.line is None else f"{place}:{item.line}"
            items.append(item)
        stored = self._stored([item.record.id for item in items])
        new = [item for item in items if item.record.id not in stored]
        known = {id: digest[:WHOLE_BYTES] for id, digest in stored.items()}
        changed = [item for item in items if known.get(item.record.id, b"") not in (b"", self.digest(item))]
        self._before = {item.record.id: stored[item.record.id] for item in changed}
        return Sorted(new, changed, len(items) - len(new) - len(changed), rejected)

    def _stored(self, ids: Sequence[str]) -> dict[str, bytes]:
        if self._database is None or self._space is None:
            return {}
        with self._database.reading() as connection:
            return reads.digests(connection, self._space, ids)

    def gone(self, origins: Sequence[str]) -> list[str]:
        """Ids that came from these origins before and were not met in this run; see `doubtful`."""
        if self._database is None or self._space is None:
            return []
        doubtful = self.doubtful(origins)
        sure = [origin for origin in origins if origin not in doubtful]
        with self._database.reading() as connection:
            return [id for id in reads.ids_from(connection, self._space, sure) if id not in self._seen]

    def doubtful(self, origins: Sequence[str]) -> list[str]:
        """Origins of which nothing can be said to be gone, since an input without a readable id stands in them."""
        return [
            origin
            for origin in origins
            if any(file == origin or Path(origin) in Path(file).parents for file in self._nameless)
        ]


def chunks(inputs: Iterable[Item | Rejected], size: int) -> Iterator[list[Item | Rejected]]:
    """The inputs in lists of `size`."""
    some: list[Item | Rejected] = []
    for one in inputs:
        some.append(one)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
