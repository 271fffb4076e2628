"""The verbs that fill a collection: ingest text, images, graph, vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from search.cli import output
from search.cli.verbs import HERE, CollectionOption, DeviceOption, JsonOption
from search.errors import SourceError

if TYPE_CHECKING:
    from ingest.report import Options, Progress, Report

app = typer.Typer(no_args_is_help=True, help="Take in texts, pictures, a graph, or vectors made elsewhere.")

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders.")]
OnePath = Annotated[Path, typer.Argument(metavar="PATH", help="The file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what came from PATH before and is gone from it now.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail (exit 1) if any input had to be skipped.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Space = Annotated[str, typer.Option("--space", metavar="S", help="Where the vectors go.")]


def _options(device: str, precision: str, bars: Progress, tokens: int = 256, overlap: int = 32) -> Options:
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


def _foretell(report: Report) -> None:
    told = report.forecast
    if told is not None:
        time = "" if told.seconds is None else f"about {told.seconds:,.0f} s, "
        memory = "" if told.memory_bytes is None else f"{told.memory_bytes / 1e6:,.0f} MB of memory, "
        output.say(
            f"it would take {time}{memory}{told.disk_bytes / 1e6:,.1f} MB of disk: "
            f"{told.passages:,} passages, {told.tokens:,} tokens to encode"
        )
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
    tokens: Annotated[int, typer.Option(help="The longest passage, in tokens.")] = 256,
    overlap: Annotated[int, typer.Option(help="Tokens that neighbouring passages share.")] = 32,
    device: DeviceOption = "auto",
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
    paths: Paths,
    collection: CollectionOption = HERE,
    space: Space = "image",
    model: Annotated[
        str,
        typer.Option(
            metavar="M", help="clip-ViT-B-32, torchvision:NAME, timm:NAME, or patches (no download)."
        ),
    ] = "clip-ViT-B-32",
    weights: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Weights to use instead.")] = None,  # noqa: UP045
    layer: Annotated[Optional[str], typer.Option(help="A hidden layer of a torchvision network.")] = None,  # noqa: UP045
    device: DeviceOption = "auto",
    precision: Precision = "auto",
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Pictures: files, or folders of them."""
    from ingest import verbs
    from ingest.cli.progress import progress

    with progress() as bars:
        report = verbs.images(
            collection,
            paths,
            model=model,
            weights=weights,
            layer=layer,
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=_options(device, precision, bars),
        )
    _finish(report, strict=strict, as_json=as_json)


@app.command()
def graph(
    path: OnePath,
    collection: CollectionOption = HERE,
    space: Space = "graph",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "--method",
            metavar="M",
            help="node2vec, node2vec+, deepwalk, prone, cleora, eigenmaps or lle.",
        ),
    ] = "node2vec",
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
    source: Annotated[str | None, typer.Option(metavar="F", help="The csv column edges start from.")] = None,
    target: Annotated[Optional[str], typer.Option(metavar="F", help="The csv column edges lead to.")] = None,  # noqa: UP045
    weight: Annotated[Optional[str], typer.Option(metavar="F", help="The csv column of weights.")] = None,  # noqa: UP045
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """A graph: edge list, csv, GraphML, GML, GEXF or adjacency list; every node becomes a record."""
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.learn.nodes.load import NodeSettings

    with progress() as bars:
        report = verbs.graph(
            collection,
            path,
            method=model,
            settings=NodeSettings(
                dim=dim,
                p=p,
                q=q,
                walks=walks,
                length=length,
                window=window,
                seed=seed,
                device=device,
                backend=backend,
            ),
            edges=verbs.EdgeFormat(directed, source, target, weight),
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=_options("auto", "auto", bars),
        )
    _finish(report, strict=strict, as_json=as_json)


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
