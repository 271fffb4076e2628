"""The verbs that fill a collection: ingest text, images, graph, graphs, interactions, vectors."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from ingest.cli import interactions, pictures, texts, whole_graphs
from ingest.cli.options import (
    DryRun,
    OnePath,
    Prune,
    Space,
    Strict,
    options_of,
)
from ingest.cli.outcome import finish
from search.cli.options import HERE, CollectionOption, JsonOption
from search.errors import SourceError

app = typer.Typer(no_args_is_help=True, help="Take in texts, pictures, a graph, or vectors made elsewhere.")
app.command()(texts.text)
app.command()(pictures.images)
app.command()(interactions.interactions)
app.command()(whole_graphs.graphs)


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
            help="node2vec, node2vec+, deepwalk, prone, netmf, cleora, eigenmaps, lle or sgc.",
            show_default="the space's, else node2vec",
        ),
    ] = None,
    dim: Annotated[int, typer.Option(help="Numbers per vector.")] = 128,
    p: Annotated[float, typer.Option(help="node2vec's return parameter.")] = 1.0,
    q: Annotated[float, typer.Option(help="node2vec's in-out parameter.")] = 1.0,
    gamma: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="node2vec+: an edge is weak below the mean and so many standard deviations.",
            show_default="0",
        ),
    ] = None,
    walks: Annotated[int, typer.Option(help="Walks from each node.")] = 10,
    length: Annotated[int, typer.Option(help="Nodes in a walk.")] = 80,
    window: Annotated[int, typer.Option(help="Contexts on either side of a node.")] = 10,
    hops: Annotated[int, typer.Option(help="sgc: how many edges far features are averaged.")] = 2,
    features: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="S",
            help="sgc: the space whose vectors are the nodes' features.",
            show_default="the matrix of attributes in an .npz",
        ),
    ] = None,
    attribute: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="F", help="sgc: an attribute of the nodes, a number, that is a feature."),
    ] = None,
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
    from ingest.cli.compiling import told
    from ingest.cli.progress import progress
    from ingest.learn.nodes.load import NodeSettings

    settings = NodeSettings(
        dim=dim,
        p=p,
        q=q,
        gamma=gamma,
        walks=walks,
        length=length,
        window=window,
        seed=seed,
        device=device,
        backend=backend,
        hops=hops,
        features=features,
        attributes=tuple(attribute or ()),
    )
    with told(), progress() as bars:
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
            options=options_of("auto", "auto", bars),
        )
    finish(report, strict=strict, as_json=as_json)


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
            options=options_of("auto", "auto", bars),
        )
    finish(report, strict=strict, as_json=as_json)
