"""The verbs that fill a collection: ingest text, images, graph, vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from search.cli import output
from search.cli.verbs import HERE, CollectionOption, JsonOption
from search.errors import SourceError

if TYPE_CHECKING:
    from ingest.learn.pictures.settings import SimclrSettings
    from ingest.objects import ObjectSettings
    from ingest.report import GraphCounts, Options, Progress, Report

app = typer.Typer(no_args_is_help=True, help="Take in texts, pictures, a graph, or vectors made elsewhere.")

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders.")]
OnePath = Annotated[Path, typer.Argument(metavar="PATH", help="The file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what came from PATH before and is gone from it now.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail (exit 1) if any input had to be skipped.")]
DevicesOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where models run: auto, cpu, cuda[:n] or mps; cuda:0,cuda:1 uses both, auto all GPUs.",
    ),
]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Space = Annotated[str, typer.Option("--space", metavar="S", help="Where the vectors go.")]


_STAGES = {
    "read": "reading the files",
    "prepare": "preparing them for the model",
    "encode": "the model",
    "commit": "writing to the disk",
}


def _options(
    device: str, precision: str, bars: Progress, tokens: int | None = None, overlap: int | None = None
) -> Options:
    from ingest.report import Options

    return Options(device, precision, tokens, overlap, bars)


def _finish(report: Report, *, strict: bool, as_json: bool) -> None:
    if as_json:
        output.document(report.to_json())
    else:
        would = "would be " if report.dry_run else ""
        reused = f" ({report.reused:,} of equal texts, not encoded again)" if report.reused else ""
        cost = "" if report.tokens is None else f"; {report.tokens:,} tokens, as the endpoint counts them"
        rate = report.written / report.seconds if report.seconds else 0
        took = f"{report.seconds:.1f} s ({rate:,.0f} records/s)"
        done = "" if report.dry_run else f"; {report.vectors:,} vectors{reused} in {took}{cost}"
        output.say(  # not an answer: `nearkin ingest … && nearkin search … --json` leaves JSON alone on stdout
            f"space '{report.space}' ({report.model}): {report.added:,} {would}added, {report.updated:,} updated, "
            f"{report.unchanged:,} unchanged, {report.removed:,} removed, {report.rejected:,} rejected{done}"
        )
        if report.limit is not None:
            output.say(f"the limit was {_STAGES[report.limit.stage]}, {report.limit.busy:.0%} busy")
    if report.graph is not None and not as_json:
        _describe(report.graph)
    if not as_json:
        _describe_changes(report)
    if report.decoded:
        counts = ", ".join(f"{name} ({count:,})" for name, count in report.decoded.items())
        output.say(f"inputs that were not UTF-8 were read as {counts}")
    if not as_json:
        _foretell(report)
    for path in report.unpruned:
        output.say(
            f"nothing from {path} was removed: an input there has no readable id; mend it and run again"
        )
    if report.rejected:
        for one in report.rejects:
            output.say(f"skipped {' '.join(one.split())}")
        more = f"{report.rejected:,} {'input was' if report.rejected == 1 else 'inputs were'} skipped"
        output.say(f"{more}; each with its reason in {report.rejects_file}" if report.rejects_file else more)
        if strict:
            raise SourceError(f"{more} and --strict was given; mend or remove what cannot be read")


def _describe(graph: GraphCounts) -> None:
    kind = f"{'directed' if graph.directed else 'undirected'}, {'' if graph.weighted else 'un'}weighted"
    again = "its weight was added" if graph.merged == 1 else "their weights were added"
    merged = (
        f"; {graph.merged:,} stood there again{f' ({again})' if graph.weighted else ''}"
        if graph.merged
        else ""
    )
    output.say(
        f"the graph ({kind}): {graph.nodes:,} nodes, {graph.isolated:,} of them without edges; {graph.edges:,} edges, "
        f"{graph.self_loops:,} of them self-loops{merged}"
    )


def _describe_changes(report: Report) -> None:
    """What became of a graph that was there before."""
    if report.turned is not None:
        told = report.turned
        output.say(
            f"turned onto the former vectors: the mean cosine of {told['shared']:,} shared nodes went from "
            f"{told['cosine_before']:.3f} to {told['cosine_after']:.3f}"
        )
    if report.attached is not None:
        more = report.attached
        waiting = f"; {more.waiting:,} wait for the graph to be learned again" if more.waiting else ""
        output.say(
            f"{more.edges:,} edges added, {more.known:,} known already; {more.nodes:,} nodes got a vector from their "
            f"neighbours'{waiting}"
        )


def _foretell(report: Report) -> None:
    told = report.forecast
    if told is not None:
        time = "" if told.seconds is None else f"about {told.seconds:,.0f} s, "
        memory = "" if told.memory_bytes is None else f"{told.memory_bytes / 1e6:,.0f} MB of memory, "
        what = (
            f"{told.passages:,} passages, {told.tokens:,} tokens"
            if told.tokens
            else f"{told.passages:,} pictures"
        )
        output.say(f"it would take {time}{memory}{told.disk_bytes / 1e6:,.1f} MB of disk: {what} to encode")
    elif report.no_forecast is not None:
        output.say(f"what it would take cannot be said: {report.no_forecast}")


@app.command()
def text(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, folders, archives; - is standard input.")
    ],
    collection: CollectionOption = HERE,
    space: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="S", help="Where the vectors go.", show_default="text, or words with --level word"
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="M",
            help="A Hugging Face encoder by name or folder; openai:NAME; a file of word vectors (word2vec, GloVe); "
            "or word2vec, word2vec:cbow, glove: learned from these texts.",
        ),
    ] = "all-MiniLM-L6-v2",
    level: Annotated[
        str,
        typer.Option(
            metavar="L",
            help="What has a vector: each passage, or each word: in its context, or by itself with word vectors.",
        ),
    ] = "passage",
    words: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="W,W…",
            help="At level word, in context: which words; another choice replaces the former.",
            show_default="all",
        ),
    ] = None,
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N[,N]", help="Hidden layers to take the vectors from: 8, or -2,-1 averaged."),
    ] = None,
    pooling: Annotated[Optional[str], typer.Option(help="cls, mean, max or last.")] = None,  # noqa: UP045
    dim: Annotated[
        int | None,
        typer.Option(help="Keep so many numbers of each vector; for words learned here, how many they have."),
    ] = None,
    query_prompt: Annotated[Optional[str], typer.Option(help="Stands before each query.")] = None,  # noqa: UP045
    document_prompt: Annotated[Optional[str], typer.Option(help="Stands before each document.")] = None,  # noqa: UP045
    base_url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="URL", help="Where a remote model (openai:NAME) is asked."),
    ] = None,
    id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The id: a field, a path (author.name) or a template ({lang}-{sku})."),
    ] = None,
    text: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="F", help="The text: a field, a path (a.b) or a template ('{title}. {abstract}')."
        ),
    ] = None,
    rows: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="PATH", help="Where the array of records stands in .json files (data.items)."),
    ] = None,
    format: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="SUFFIX",
            help="What standard input or the named files are, whatever their names: csv, jsonl.gz …",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="The longest passage, in tokens.", show_default="256, or what the model sees"),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbouring passages share.", show_default="32")
    ] = None,
    device: DevicesOption = "auto",
    precision: Precision = "auto",
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Texts, cut into passages: .txt .md .rst .html .pdf .docx .epub .eml .jsonl .json .csv .tsv .parquet.

    Also .gz and .zst of these, .zip and .tar of them, folders of all, and standard input.
    """
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.report import Level
    from ingest.sources.load import TextFormat
    from search.encoders.load import ModelChoice

    with progress() as bars:
        report = verbs.text(
            collection,
            paths,
            text=text,
            id=id,
            form=TextFormat(format, rows),
            model=model,
            choice=ModelChoice(
                layer=layer,
                pooling=pooling,
                dim=dim,
                query_prompt=query_prompt,
                document_prompt=document_prompt,
                base_url=base_url,
            ),
            level=Level.named(level),
            words=[] if words is None else words.split(","),
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=_options(device, precision, bars, tokens, overlap),
        )
    _finish(report, strict=strict, as_json=as_json)


@app.command()
def images(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, folders, archives, lists of paths.")
    ],
    collection: CollectionOption = HERE,
    space: Space = "image",
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="M",
            help="clip-ViT-B-32, torchvision:NAME or timm:NAME; with --learn simclr the network to learn.",
            show_default="clip-ViT-B-32; with --learn a small network",
        ),
    ] = None,
    weights: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Weights to use instead.")] = None,  # noqa: UP045
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME", help="A hidden layer of the network; see: nearkin models MODEL --layers."
        ),
    ] = None,
    pooling: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="P", help="How positions become one vector: avg, gem, max or cls."),
    ] = None,
    query_prompt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="TEMPLATES",
            help="CLIP: put a query's words into these: 'a photo of a {}.|a drawing of a {}.'",
        ),
    ] = None,
    path: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="Of a list: the field that holds the picture's path."),
    ] = None,
    id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="Of a list: the id, a field or a template.", show_default="the path"),
    ] = None,
    text: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="Of a list: the record's text, such as a caption."),
    ] = None,
    root: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="DIR", help="Of a list: the folder its paths are within.", show_default="the list's"
        ),
    ] = None,
    frames: Annotated[
        str, typer.Option(metavar="first|all", help="Of animations and multi-page files, which frames.")
    ] = "first",
    draft: Annotated[
        bool,
        typer.Option("--draft", help="Decode JPEGs no larger than needed: quicker, slightly other vectors."),
    ] = False,
    thumbnails: Annotated[
        int | None,
        typer.Option(
            metavar="SIDE", help="Keep a small picture of each, of so many pixels; 256 suits pages."
        ),
    ] = None,
    learn: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="METHOD",
            help="Learn the model from these pictures, with no download: patches (seconds) or simclr (a network).",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="simclr: how often each picture is seen.", show_default="20 to 200, by their number"
        ),
    ] = None,
    flip: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--flip/--no-flip",
            help="simclr: whether a mirrored picture is the same.",
            show_default="yes, but for small grey ones",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="simclr: the same seed gives the same network.", show_default="0")
    ] = None,
    objects: Annotated[
        bool, typer.Option("--objects", help="Find objects too; each is found by searching, with its box.")
    ] = False,
    objects_model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="M", help="A detection network of torchvision.", show_default="fasterrcnn_resnet50_fpn_v2"
        ),
    ] = None,
    objects_weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Weights of it to use instead."),
    ] = None,
    objects_min_score: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="S", help="How sure it must be of an object, 0 to 1.", show_default="0.5"),
    ] = None,
    objects_most: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="How many objects are kept of a picture.", show_default="16"),
    ] = None,
    device: DevicesOption = "auto",
    precision: Precision = "auto",
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Pictures: .jpg .png .webp .gif .bmp .tif .avif .heic, folders, .zip and .tar of them, lists with their paths."""
    wanted = _objects(
        objects, model=objects_model, weights=objects_weights, min_score=objects_min_score, most=objects_most
    )
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.sources.pictures import PictureFormat

    with progress() as bars:
        report = verbs.images(
            collection,
            paths,
            model=model,
            weights=weights,
            layer=layer,
            pooling=pooling,
            query_prompt=query_prompt,
            form=PictureFormat(path, id, text, root, frames, draft),
            thumbnails=thumbnails,
            learn=_learning(model, learn, epochs, flip, seed),
            objects=wanted,
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=_options(device, precision, bars),
        )
    _finish(report, strict=strict, as_json=as_json)


def _learning(
    model: str | None, method: str | None, epochs: int | None, flip: bool | None, seed: int | None
) -> str | SimclrSettings | None:
    """What images is told to learn; what says how simclr learns is refused with anything else."""
    if epochs is None and flip is None and seed is None:
        return method
    if method != "simclr" and (method or model or "").partition(":")[0] != "simclr":
        raise SourceError(
            "--epochs, --flip and --seed say how simclr learns; add --learn simclr, or leave them out"
        )
    from ingest.learn.pictures.settings import SimclrSettings

    return SimclrSettings(epochs=epochs, flip=flip, seed=0 if seed is None else seed)


def _objects(
    wanted: bool, *, model: str | None, weights: Path | None, min_score: float | None, most: int | None
) -> ObjectSettings | None:
    """How objects are looked for; None where they are not."""
    if not wanted:
        if (model, weights, min_score, most) != (None, None, None, None):
            raise typer.BadParameter("it is for finding objects; add --objects", param_hint="--objects-…")
        return None
    from ingest.objects import ObjectSettings

    usual = ObjectSettings()
    return ObjectSettings(
        model=usual.model if model is None else model,
        weights=weights,
        min_score=usual.min_score if min_score is None else min_score,
        most=usual.most if most is None else most,
    )


@app.command()
def graph(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The file, or the SQLAlchemy URL of a database.")
    ],
    collection: CollectionOption = HERE,
    space: Space = "graph",
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--model",
            "--method",
            metavar="M",
            help="node2vec, node2vec+, deepwalk, prone, cleora, eigenmaps or lle.",
            show_default="node2vec",
        ),
    ] = None,
    dim: Annotated[int, typer.Option(help="Numbers per vector.")] = 128,
    p: Annotated[float, typer.Option(help="node2vec's return parameter.")] = 1.0,
    q: Annotated[float, typer.Option(help="node2vec's in-out parameter.")] = 1.0,
    walks: Annotated[int, typer.Option(help="Walks from each node.")] = 10,
    length: Annotated[int, typer.Option(help="Nodes in a walk.")] = 80,
    window: Annotated[int, typer.Option(help="Contexts on either side of a node.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same vectors.")] = 0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N; the vectors differ, their quality not.")
    ] = "cpu",
    backend: Annotated[
        str, typer.Option(help="own, or reference: the node2vec package, to compare with.")
    ] = "own",
    directed: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--directed/--undirected", help="Whether edges have a direction.", show_default="as the file says"
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="F", help="The column edges start from.")] = None,
    target: Annotated[Optional[str], typer.Option(metavar="F", help="The column edges lead to.")] = None,  # noqa: UP045
    weight: Annotated[Optional[str], typer.Option(metavar="F", help="The column of weights.")] = None,  # noqa: UP045
    source_type: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="F",
            help="The column with the type of those, or =customer for all; ids become customer:7.",
        ),
    ] = None,
    target_type: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The same for the nodes that edges lead to."),
    ] = None,
    edge_type: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The column with the type of an edge; see --type-weight."),
    ] = None,
    type_weight: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="T=W", help="What edges of type T count for: bought=3; 0 leaves them out."),
    ] = None,
    format: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SUFFIX", help="What the file is, whatever its name: csv, mtx, graphml.gz …"),
    ] = None,
    query: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SQL", help="What to ask a database: select a, b, w from bought."),
    ] = None,
    add: Annotated[
        bool,
        typer.Option(
            "--add",
            help="Add these edges to the graph that is there; new nodes get vectors, the others keep theirs.",
        ),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Learn anew, with all that was added, even if nothing has changed."),
    ] = False,
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """A graph; every node becomes a record.

    Edge lists, .csv .tsv .parquet .adjlist .graphml .gexf .gml .net .json (node-link) .mtx .npz .mat, these also as .gz
    and .zst; or a table of a database (--query).
    """
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.learn.nodes.load import NodeSettings

    settings = NodeSettings(
        dim=dim,
        p=p,
        q=q,
        walks=walks,
        length=length,
        window=window,
        seed=seed,
        device=device,
        backend=backend,
    )
    with progress() as bars:
        report = verbs.graph(
            collection,
            path,
            method=model,
            settings=None if settings == NodeSettings() else settings,
            add=add,
            refit=refit,
            edges=verbs.EdgeFormat(
                directed,
                source,
                target,
                weight,
                source_type,
                target_type,
                edge_type,
                _type_weights(type_weight or []),
                format,
                query,
            ),
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=_options("auto", "auto", bars),
        )
    _finish(report, strict=strict, as_json=as_json)


def _type_weights(given: list[str]) -> dict[str, float]:
    """`T=W` as T: W."""
    found = {}
    for each in given:
        name, mark, weight = each.rpartition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            mark = ""
        if not mark or not name:
            raise SourceError(f"--type-weight {each} is none; write bought=3")
    return found


@app.command()
def vectors(
    path: OnePath,
    collection: CollectionOption = HERE,
    space: Space = "vectors",
    metric: Annotated[str, typer.Option(help="How they are compared: cosine, dot or l2.")] = "cosine",
    dry_run: DryRun = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Vectors made elsewhere: .npz (arrays ids, vectors), .npy (ids are row numbers), .jsonl (id, vector, …), words."""
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.sources.vectors import read_vectors

    read = read_vectors(path)
    with progress() as bars:
        report = verbs.vectors(
            collection,
            read.ids,
            read.matrix,
            space=space,
            metadata=read.metadata,
            metric=metric,
            rejected=read.rejected,
            dry_run=dry_run,
            options=_options("auto", "auto", bars),
        )
    _finish(report, strict=strict, as_json=as_json)
