"""Fills a space from what the collection holds of another: texts from the records, pictures from their files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingest.passages import FEWEST_TOKENS, OVERLAP, TOKENS, Lengths
from ingest.pipeline import Ready
from ingest.prepare import Known, Passages
from ingest.report import Options, Progress
from ingest.sources.contract import Item, Rejected
from ingest.sync import MARKUP
from search.catalog import reads, succession
from search.catalog.inputs import SETTINGS_BYTES, WHOLE_BYTES
from search.catalog.part_writes import Provenance
from search.catalog.succession import Outstanding
from search.collection import Collection
from search.encoders.contract import Encoder, TextModel
from search.encoders.pictures import PictureFile, open_picture
from search.encoders.regions import cut_out
from search.errors import CollectionError, MissingExtra, ModelError, QueryError, SourceError
from search.types import Modality, Part, Record, Space
from search.vectors import Vectors

CUT = "passages"  # the name by which the lengths are kept with a space that is being filled
_TEXTS, _PICTURES = 128, 32  # records of one commit
_LONGEST = 1024  # tokens of a passage up to which unknown settings are looked for
_WIDEST = 128  # and tokens of overlap


@dataclass(frozen=True, slots=True)
class Cutting:
    """How texts are cut, and how those of the space before were, by the mark in their digests.

    `plain` and `markup` are the marks of texts cut by these lengths, as they stand and as Markdown.
    """

    lengths: Lengths
    plain: bytes
    markup: bytes

    @classmethod
    def by(cls, lengths: Lengths) -> Cutting:
        """The marks that `ingest.text` leaves with these lengths."""
        settings = f"passages {lengths}".encode()
        return cls(lengths, _mark(settings), _mark(settings + MARKUP))


def _mark(settings: bytes) -> bytes:
    return hashlib.blake2b(settings, digest_size=SETTINGS_BYTES).digest()


def cutting(there: Collection, space: Space, options: Options) -> Cutting:
    """How to cut the texts of a space: as was asked, else as they are cut there, which their marks tell."""
    usual = Cutting.by(Lengths(options.passage_tokens, options.passage_overlap))
    if options.passage_tokens is not None or options.passage_overlap is not None:
        return usual
    with there.database.reading() as transaction:
        found = succession.marks(transaction, space, WHOLE_BYTES, SETTINGS_BYTES)
    if not found or found & {usual.plain, usual.markup}:
        return usual
    for tokens in (TOKENS, *range(FEWEST_TOKENS, _LONGEST + 1)):
        for overlap in (OVERLAP, *range(min(_WIDEST, tokens - 1) + 1)):
            settings = f"passages {tokens} {overlap}".encode()
            if _mark(settings) in found or _mark(settings + MARKUP) in found:
                return Cutting.by(Lengths(tokens, overlap))
    return usual


def cutting_again(there: Collection, target: Space, options: Options, now: Cutting) -> Cutting:
    """How a space that is being filled is cut: as it was begun, whatever was asked then.

    Raises:
        CollectionError: other lengths are asked for now.
    """
    with there.database.reading() as transaction:
        begun = (reads.wanted(transaction, target) or {}).get(CUT)
    if begun is None or begun == str(now.lengths):
        return now
    if options.passage_tokens is not None or options.passage_overlap is not None:
        tokens, overlap = str(begun).split()
        raise CollectionError(
            f"space '{target.name}' was begun with passages of {tokens} tokens and {overlap} of overlap; go on with "
            f"those, or give it up with: nearkin migrate --space {target.stands_for} --drop"
        )
    return Cutting.by(Lengths(*map(int, str(begun).split())))


@dataclass(frozen=True, slots=True)
class Refill:
    """What is to be filled from what; `encoder` gives the model, and is called when there is something to encode."""

    there: Collection
    before: Space
    target: Space
    encoder: Callable[[], Encoder]
    cutting: Cutting
    progress: Progress


def refilled(refill: Refill, rejected: dict[str, Rejected]) -> int:
    """Encode and commit what the target lacks, some records a commit; how many records.

    Others may write in between: what they change while it is encoded is left for the next round, and seen by it.

    Args:
        refill: what is to be filled.
        rejected: why a record could not be encoded, by its id; those in it are tried again once they are changed.

    Raises:
        ModelError: the model failed; what it gave before is kept.
    """
    progress, after, filled = refill.progress, 0, 0
    limit = _PICTURES if refill.before.modality is Modality.IMAGE else _TEXTS
    with refill.there.database.reading() as transaction:
        n = succession.n_outstanding(transaction, refill.before, refill.target)
    if n:
        progress.begin("records", n)
    tried: set[str] = set()
    while True:
        with refill.there.database.reading() as transaction:
            some = succession.outstanding(transaction, refill.before, refill.target, after, limit)
            stored = reads.records_of(transaction, [one.id for one in some])
            keys = np.array([one.key for one in some], dtype=np.int64)
            parts = succession.parts(transaction, refill.before, keys) if limit == _PICTURES else {}
        if not some:
            break
        after = some[-1].key
        records = {one.id: stored[one.id].record for one in some}
        outcome = _prepared(refill, some, records, parts)
        tried |= {one.id for one in some}
        for one in outcome:
            if isinstance(one, Rejected):
                rejected[str(one.id)] = one
        filled += _committed(refill, some, [one for one in outcome if isinstance(one, Ready)], rejected)
        progress.advance("records", len(some))
    for id in rejected.keys() - tried:  # gone, or taken in by now
        del rejected[id]
    if n:
        progress.end("records")
    return filled


def _prepared(
    refill: Refill,
    some: Sequence[Outstanding],
    records: Mapping[str, Record],
    parts: Mapping[int, tuple[Part, ...]],
) -> list[Ready | Rejected]:
    if refill.before.modality is Modality.IMAGE:
        return [_picture(records[one.id], parts.get(one.key, ())) for one in some]
    encoder = refill.encoder()
    if not isinstance(encoder, TextModel):
        raise ModelError(f"'{encoder.spec.model}' says nothing of where texts may be cut; name a text model")
    model = encoder
    prepare = Known(Passages(lambda: model, refill.cutting.lengths), lambda: model)
    items = [
        Item(
            records[one.id],
            one.origin or "",
            b"",
            file=records[one.id].uri or one.id,
            markup=(one.digest or b"")[WHOLE_BYTES:][:SETTINGS_BYTES] == refill.cutting.markup,
        )
        for one in some
    ]
    return list(prepare(items))


def _picture(record: Record, parts: Sequence[Part]) -> Ready | Rejected:
    """The picture of a record from its file, with the regions that have vectors in the space before."""
    place = record.uri or record.id
    if record.uri is None:
        return Rejected(place, "the record does not say where its picture is", id=record.id)
    file: Path | PictureFile = Path(record.uri)
    metadata = record.metadata or {}
    frame = metadata.get("frame")
    if isinstance(frame, int) and "frames" in metadata:
        file = PictureFile(record.uri, Path(record.uri), frame - 1)
    try:
        picture = open_picture(file)
        regions = tuple(picture if part.box is None else cut_out(picture, part.box) for part in parts)
    except (SourceError, QueryError, MissingExtra) as error:
        reason = str(error).removeprefix(f"{place}: ")
        return Rejected(place, f"{reason} (pictures in archives have to be ingested anew)", id=record.id)
    return Ready(Item(record, "", b"", file=place), tuple(parts), regions)


def _committed(
    refill: Refill, some: Sequence[Outstanding], ready: Sequence[Ready], rejected: dict[str, Rejected]
) -> int:
    """Encode these and commit those that nobody has changed meanwhile; how many."""
    if not ready:
        return 0
    outcome = refill.encoder().attempt([one for each in ready for one in each.encodable])
    rows: list[Vectors] = []
    begin = 0
    whole = []
    for each in ready:
        end = begin + len(each.parts)
        if outcome.done[begin:end].all():
            whole.append(each)
            rows.append(outcome.vectors[begin:end])
        begin = end
    known = {one.id: one for one in some}
    with refill.there.writing() as writer, writer.together():
        # Read by the writer, while nobody else writes.
        now = writer.changed([each.item.record.id for each in whole])
        kept = [
            (each, row)
            for each, row in zip(whole, rows, strict=True)
            if now.get(each.item.record.id) == known[each.item.record.id].changed
        ]
        for carried in (True, False):
            these = [
                (each, row)
                for each, row in kept
                if (_provenance(refill, known[each.item.record.id]) is not None) is carried
            ]
            if these:
                provenance = [_provenance(refill, known[each.item.record.id]) for each, _ in these]
                writer.put(
                    [Record(each.item.record.id) for each, _ in these],
                    np.concatenate([row for _, row in these]),
                    refill.target,
                    parts=[each.parts for each, _ in these],
                    provenance=[one for one in provenance if one is not None],
                )
    for each, _ in kept:
        rejected.pop(each.item.record.id, None)
    if outcome.error is not None:
        raise outcome.error
    return len(kept)


def _provenance(refill: Refill, one: Outstanding) -> Provenance | None:
    """What is known of the input, so that the next ingest finds it unchanged; None where texts were cut otherwise."""
    if one.digest is None or one.origin is None:
        return None
    if refill.before.modality is Modality.TEXT:
        mark = one.digest[WHOLE_BYTES:][:SETTINGS_BYTES]
        if mark not in (refill.cutting.plain, refill.cutting.markup):
            return None
    return Provenance(one.digest, one.origin)
