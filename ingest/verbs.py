"""The verbs that fill a collection, as a library: text, images, graph, vectors."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import search
from ingest import pipeline
from ingest.pipeline import Job, Tally
from ingest.report import Options, Report
from ingest.sources.contract import Item, Rejected
from ingest.sync import Sync
from search.catalog.writes import Provenance
from search.collection import Collection
from search.errors import CollectionError, CollectionNotFound, QueryError, SourceError
from search.types import WHOLE, EncoderSpec, Json, Metric, Modality, Record
from search.vectors import Vectors, checked

if TYPE_CHECKING:
    from ingest.learn.nodes.load import NodeSettings
    from ingest.sources.graphs import GraphFile
    from ingest.sources.pictures import PictureFolder
    from search.encoders.contract import Encoder

Paths: TypeAlias = str | Path | Sequence[str | Path]

TEXT_MODEL = "all-MiniLM-L6-v2"
PICTURE_MODEL = "clip-ViT-B-32"
NODE_METHOD = "node2vec"
_DEFAULT = Options()
_ROWS_PER_COMMIT = 65536


@dataclass(frozen=True, slots=True)
class EdgeFormat:
    """How the edges of a graph file are to be read; None leaves it to the file and to the usual names.

    `directed` says whether edges have a direction; `source`, `target` and `weight` name the columns of a csv.
    """

    directed: bool | None = None
    source: str | None = None
    target: str | None = None
    weight: str | None = None


_ANY_EDGES = EdgeFormat()


def text(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    text: str | None = None,
    id: str | None = None,
    model: str = TEXT_MODEL,
    space: str = "text",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = _DEFAULT,
) -> Report:
    """Take in texts: folders of .txt and .md files, .jsonl, .csv and .tsv, cut into passages.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file or folder, or several.
        text: the column or field that holds the text; None finds it by its usual names.
        id: the column or field that holds the id; None finds it by its usual names.
        model: a Hugging Face encoder by name, or the folder of a checkpoint.
        space: where the vectors go.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: device, precision, passage length, progress.

    Raises:
        SourceError: a path is missing, or nothing in it can be read as text.
        ModelUnavailable: the model cannot be had.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.sources.tables import text_source

    source = text_source(_listed(paths), text=text, id=id)
    settings = f"passages {options.passage_tokens} {options.passage_overlap}"
    if dry_run:
        with _opened(collection, must_write=False) as there:
            return pipeline.forecast(there, source, space, model, settings, prune=prune)
    from ingest.prepare import Passages
    from search.encoders import load
    from search.encoders.text import TextEncoder

    encoder = load.load_named(model, device=_device(options))
    if not isinstance(encoder, TextEncoder):
        raise SourceError(f"'{model}' is a model for pictures; name a text model, such as {TEXT_MODEL}")
    passages = Passages(encoder, options.passage_tokens, options.passage_overlap)
    with _opened(collection) as there:
        assert there is not None
        return pipeline.fill(
            there, source, Job(space, encoder, passages, settings, prune=prune), options.progress
        )


def images(
    collection: Collection | str | Path,
    paths: Paths,
    *,
    model: str = PICTURE_MODEL,
    weights: str | Path | None = None,
    layer: str | None = None,
    space: str = "image",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = _DEFAULT,
) -> Report:
    """Take in pictures: files, or folders of them.

    Running it again encodes only what is new or has changed.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        paths: a file or folder, or several.
        model: a CLIP model (words find pictures), `torchvision:NAME`, `timm:NAME`, or `patches`, which is learned
            from these pictures themselves and needs no download.
        weights: a file of weights to use instead of the published ones (torchvision and timm).
        layer: a hidden layer of a torchvision network to take the vectors from.
        space: where the vectors go.
        prune: remove records that came from these paths before and have vanished from them.
        dry_run: say what would be done, and do nothing.
        options: device, precision, progress.

    Raises:
        SourceError: a path is missing, or holds no picture.
        ModelUnavailable: the model or its weights cannot be had.
        CollectionError: the space was made by another model, or another process is writing.
    """
    from ingest.sources.pictures import PictureFolder

    source = PictureFolder(_listed(paths))
    if dry_run:
        with _opened(collection, must_write=False) as there:
            return pipeline.forecast(there, source, space, model, "pictures", prune=prune)
    from ingest.prepare import Decoded
    from search.encoders import load

    file = None if weights is None else Path(weights)
    if model != "patches":
        encoder = load.load_named(model, weights=file, layer=layer, device=_device(options))
        if "image" not in encoder.spec.accepts:
            raise SourceError(
                f"'{model}' is a model for texts; name a picture model, such as {PICTURE_MODEL}"
            )
    elif file is not None or layer is not None:
        raise SourceError(
            "patches takes neither weights nor a layer: it is learned from the pictures; leave them out"
        )
    with _opened(collection) as there:
        assert there is not None
        data = None
        if model == "patches":
            encoder, data = _patches(there, source, space, options)
        job = Job(space, encoder, Decoded(), "pictures", data, prune)
        return pipeline.fill(there, source, job, options.progress)


def _patches(
    collection: Collection, source: PictureFolder, space: str, options: Options
) -> tuple[Encoder, bytes | None]:
    """The patches encoder of the space, or one learned now from the pictures, with its bytes."""
    from search.encoders.patches import PatchesEncoder

    from ingest.learn.pictures.patches import PatchesSettings, learn_patches

    there = collection.spaces().get(space)
    if there is not None and there.encoder.family == "patches":
        return collection.encoder(space), None
    progress = options.progress
    progress.begin("learning patches", 0)
    data = learn_patches(
        source.paths,
        PatchesSettings(),
        progress=lambda done, total: progress.reached("learning patches", done, total),
    )
    progress.end("learning patches")
    return PatchesEncoder(data), data


def graph(
    collection: Collection | str | Path,
    path: str | Path,
    *,
    method: str = NODE_METHOD,
    settings: NodeSettings | None = None,
    edges: EdgeFormat = _ANY_EDGES,
    space: str = "graph",
    prune: bool = False,
    dry_run: bool = False,
    options: Options = _DEFAULT,
) -> Report:
    """Take in a graph: an edge list, csv, GraphML, GML, GEXF or adjacency list; every node becomes a record.

    The vectors of all nodes are learned together, so a changed graph is learned anew as a whole; an unchanged
    one is left alone. A node joins the record of the same id, if there is one.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        path: the file.
        method: node2vec or deepwalk.
        settings: dimensions, walks, p and q and the like; None takes the usual ones.
        edges: whether edges have a direction, and which columns hold them; read from the file where it says so.
        space: where the vectors go; one graph a space.
        prune: remove nodes that vanished from the graph and have no other vectors, and let this file take the
            place of another one that the space was learned from. (Their node vectors go in any case.)
        dry_run: say what would be done, and do nothing.
        options: progress.

    Raises:
        SourceError: the file is missing or holds no edge.
        CollectionError: the space holds another graph or another width.
    """
    from ingest.learn.nodes.load import NodeSettings, load_trainer
    from ingest.sources.graphs import read_graph

    started = time.perf_counter()
    trainer = load_trainer(method, settings if settings is not None else NodeSettings())
    tally = Tally()
    with tally.timed("read"):
        read = read_graph(
            Path(path),
            directed=edges.directed,
            source=edges.source,
            target=edges.target,
            weight=edges.weight,
        )
    tally.rejected += read.rejected
    items = list(_nodes(read, Path(path)))
    tally.read = len(items) + len(tally.rejected)
    spec = trainer.spec
    said = json.dumps(spec.to_json(), sort_keys=True)
    with _opened(collection, must_write=not dry_run) as there:
        known = None if there is None else there.spaces().get(space)
        sync = Sync(None if there is None else there.database, known, said)
        state = sync.sort(items)
        gone = sync.gone([str(Path(path).absolute())])
        if known is not None and there is not None and not prune:
            _one_graph(there, space, path)
        if not state.new and not state.changed and not gone:
            tally.unchanged = state.unchanged
            return tally.report(there, space, spec.model, started, dry_run=dry_run)
        if dry_run or there is None:
            tally.added, tally.updated, tally.removed = len(state.new), len(items) - len(state.new), len(gone)
            return tally.report(there, space, spec.model, started, dry_run=True)
        progress = options.progress
        progress.begin("learning nodes", 0)
        with tally.timed("learn"):
            matrix = trainer.fit(
                read.graph, progress=lambda done, total: progress.reached("learning nodes", done, total)
            )
        progress.end("learning nodes")
        with tally.timed("commit"):
            _store_nodes(there, items, matrix, (space, spec, sync), tally, prune=prune)
        with tally.timed("index"):
            there.index(progress.reached)
        return tally.report(there, space, spec.model, started, dry_run=False)


def _nodes(read: GraphFile, path: Path) -> Iterator[Item]:
    for id in read.graph.ids:
        attributes = read.attributes.get(id)
        record = Record(id, kind="node", metadata=attributes)
        told = json.dumps(attributes, sort_keys=True).encode()
        yield Item(record, str(path.absolute()), hashlib.blake2b(read.digest + told, digest_size=16).digest())


def _one_graph(collection: Collection, space: str, path: str | Path) -> None:
    origins = collection.origins(space)
    if origins and origins != [str(Path(path).absolute())]:
        raise CollectionError(
            f"space '{space}' was learned from {origins[0]}; give another name with --space, or replace it with --prune"
        )


def _store_nodes(
    collection: Collection,
    items: Sequence[Item],
    matrix: Vectors,
    target: tuple[str, EncoderSpec, Sync],
    tally: Tally,
    *,
    prune: bool,
) -> None:
    """Replace the vectors of the whole space; a node without edges becomes a record without a vector."""
    name, spec, sync = target
    linked = np.linalg.norm(matrix, axis=1) > 0
    with collection.writing() as writer:
        there = writer.trained_space(name, spec)
        before = set(collection.ids_in(there))
        for begin in range(0, len(items), _ROWS_PER_COMMIT):
            span = slice(begin, begin + _ROWS_PER_COMMIT)
            some = items[span]
            written = writer.put(
                [item.record for item in some],
                matrix[span][linked[span]],
                there,
                parts=[(WHOLE,) if there_is else () for there_is in linked[span]],
                provenance=[Provenance(sync.digest(item), item.origin) for item in some],
                merge=True,
            )
            tally.added += written.added
            tally.updated += written.updated
        tally.vectors = int(linked.sum())
        gone = sorted(before - {item.record.id for item in items})
        if gone:
            tally.removed = writer.withdraw(gone, there, keep_records=not prune)


def vectors(
    collection: Collection | str | Path,
    ids: Sequence[str],
    matrix: Any,
    *,
    space: str = "vectors",
    metadata: Sequence[Mapping[str, Json] | None] | None = None,
    metric: Metric | str = Metric.COSINE,
    rejected: Sequence[Rejected] = (),
    dry_run: bool = False,
    options: Options = _DEFAULT,
) -> Report:
    """Take in vectors made elsewhere.

    Args:
        collection: an open collection, or the path of one; it is made if it is absent.
        ids: one id for each row.
        matrix: (n, dim) numbers.
        space: where the vectors go.
        metadata: one JSON object, or None, for each row.
        metric: cosine, dot or l2.
        rejected: what the caller could not read, for the report and its file.
        dry_run: say what would be done, and do nothing.
        options: progress.

    Raises:
        QueryError: the lengths do not match, an id stands twice, or a row is NaN, infinite or of another width;
            nothing is written.
        CollectionError: the space was made by something else.
    """
    started = time.perf_counter()
    tally = Tally()
    rows = checked(matrix)
    items = _given(list(ids), rows, metadata)
    try:
        chosen = Metric(metric)
    except ValueError:
        raise QueryError(f"the metric '{metric}' is unknown; use cosine, dot or l2") from None
    with _opened(collection, must_write=not dry_run) as there:
        known = None if there is None else there.spaces().get(space)
        sync = Sync(None if there is None else there.database, known, "given")
        state = sync.sort(items)
        tally.read = len(items) + len(rejected)
        tally.rejected += rejected
        tally.unchanged = state.unchanged
        if dry_run or there is None:
            tally.added, tally.updated = len(state.new), len(state.changed)
            return tally.report(there, space, "given", started, dry_run=True)
        at = {item.record.id: row for row, item in enumerate(items)}
        todo = [*state.new, *state.changed]
        options.progress.begin("records", len(todo))
        with there.writing() as writer, tally.timed("commit"):
            target = writer.space(
                space, EncoderSpec("given", "given", Modality.VECTOR, rows.shape[1]), metric=chosen
            )
            for begin in range(0, len(todo), _ROWS_PER_COMMIT):
                some = todo[begin : begin + _ROWS_PER_COMMIT]
                written = writer.put(
                    [item.record for item in some],
                    rows[[at[item.record.id] for item in some]],
                    target,
                    provenance=[Provenance(sync.digest(item), item.origin) for item in some],
                    merge=True,
                )
                tally.added += written.added
                tally.updated += written.updated
                tally.vectors += len(some)
                options.progress.advance("records", len(some))
        options.progress.end("records")
        with tally.timed("index"):
            there.index(options.progress.reached)
        return tally.report(there, space, "given", started, dry_run=False)


def _given(ids: list[str], rows: Vectors, metadata: Sequence[Mapping[str, Json] | None] | None) -> list[Item]:
    if len(ids) != len(rows):
        raise QueryError(f"{len(ids)} ids were given for {len(rows)} vectors; give one for each")
    if metadata is not None and len(metadata) != len(ids):
        raise QueryError(
            f"{len(metadata)} metadata were given for {len(ids)} ids; give one (or None) for each"
        )
    if len(set(ids)) != len(ids):
        twice = next(id for row, id in enumerate(ids) if id in ids[:row])
        raise QueryError(f"id '{twice}' stands twice among the ids; give each once")
    items = []
    for row, id in enumerate(ids):
        told = None if metadata is None else metadata[row]
        content = rows[row].tobytes() + json.dumps(told, sort_keys=True, default=str).encode()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        items.append(Item(Record(id, metadata=told), "given", digest))
    return items


def _listed(paths: Paths) -> list[Path]:
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise SourceError("no path was given; name at least one file or folder")
    return [Path(one).expanduser() for one in several]


def _device(options: Options) -> Any:
    from search.encoders.load import Device

    return Device(options.device, options.precision)


@contextmanager
def _opened(collection: Collection | str | Path, *, must_write: bool = True) -> Iterator[Collection | None]:
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
