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
        rate = report.written / report.seconds if report.seconds else 0
        output.say(  # not an answer: `nearkin ingest … && nearkin search … --json` leaves JSON alone on stdout
            f"space '{report.space}' ({report.model}): {report.added:,} {would}added, {report.updated:,} updated, "
            f"{report.unchanged:,} unchanged, {report.removed:,} removed, {report.rejected:,} rejected; "
            f"{report.vectors:,} vectors in {report.seconds:.1f} s ({rate:,.0f} records/s)"
        )
    for path in report.unpruned:
        output.say(
            f"nothing from {path} was removed: an input there has no readable id; mend it and run again"
        )
    if report.rejected:
        place = f"; each with its reason in {report.rejects_file}" if report.rejects_file else ""
        output.say(f"{report.rejected:,} inputs were skipped{place}")
        if strict:
            raise SourceError(
                f"{report.rejected:,} inputs were skipped and --strict was given; mend or remove them"
            )


@app.command()
def text(
    paths: Paths,
    collection: CollectionOption = HERE,
    space: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="S", help="Where the vectors go.", show_default="text; words at level word"),
    ] = None,
    level: Annotated[
        str, typer.Option(help="What has a vector: each passage, or each word in its context.")
    ] = "passage",
    words: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="W,W…", help="At level word: which words.", show_default="all"),
    ] = None,
    model: Annotated[str, typer.Option(metavar="M", help="A Hugging Face encoder, by name or folder.")] = (
        "all-MiniLM-L6-v2"
    ),
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N[,N]", help="Hidden layers to take the vectors from: 8, or -2,-1 averaged."),
    ] = None,
    pooling: Annotated[Optional[str], typer.Option(help="cls, mean, max or last.")] = None,  # noqa: UP045
    dim: Annotated[Optional[int], typer.Option(help="Keep so many numbers of each vector.")] = None,  # noqa: UP045
    query_prompt: Annotated[Optional[str], typer.Option(help="Stands before each query.")] = None,  # noqa: UP045
    document_prompt: Annotated[Optional[str], typer.Option(help="Stands before each document.")] = None,  # noqa: UP045
    base_url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="URL", help="Where a remote model (openai:NAME) is asked."),
    ] = None,
    id: Annotated[Optional[str], typer.Option(metavar="F", help="The field that holds the id.")] = None,  # noqa: UP045
    text: Annotated[Optional[str], typer.Option(metavar="F", help="The field that holds the text.")] = None,  # noqa: UP045
    tokens: Annotated[int, typer.Option(help="The longest passage, in tokens.")] = 256,
    overlap: Annotated[int, typer.Option(help="Tokens that neighbouring passages share.")] = 32,
    device: DeviceOption = "auto",
    precision: Precision = "auto",
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Texts: folders of .txt and .md, .jsonl, .csv, .tsv; cut into passages."""
    from ingest import verbs
    from ingest.cli.progress import progress
    from search.encoders.load import ModelChoice

    with progress() as bars:
        report = verbs.text(
            collection,
            paths,
            text=text,
            id=id,
            model=model,
            choice=ModelChoice(
                layer=layer,
                pooling=pooling,
                dim=dim,
                query_prompt=query_prompt,
                document_prompt=document_prompt,
                base_url=base_url,
            ),
            level=level,
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
        str, typer.Option("--model", "--method", metavar="M", help="node2vec or deepwalk.")
    ] = "node2vec",
    dim: Annotated[int, typer.Option(help="Numbers per vector.")] = 128,
    p: Annotated[float, typer.Option(help="node2vec's return parameter.")] = 1.0,
    q: Annotated[float, typer.Option(help="node2vec's in-out parameter.")] = 1.0,
    walks: Annotated[int, typer.Option(help="Walks from each node.")] = 10,
    length: Annotated[int, typer.Option(help="Nodes in a walk.")] = 80,
    window: Annotated[int, typer.Option(help="Contexts on either side of a node.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same vectors.")] = 0,
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
            settings=NodeSettings(dim=dim, p=p, q=q, walks=walks, length=length, window=window, seed=seed),
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
    """Vectors made elsewhere: .npz (arrays ids, vectors), .npy (ids are row numbers), .jsonl (id, vector, …)."""
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
