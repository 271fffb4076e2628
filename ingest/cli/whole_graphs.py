"""The verb that takes in whole graphs."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from ingest.cli.options import DryRun, Paths, Prune, Space, Strict, options_of
from ingest.cli.outcome import finish
from search.cli.options import HERE, CollectionOption, JsonOption


def graphs(
    paths: Paths,
    collection: CollectionOption = HERE,
    space: Space = "graphs",
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "--method", metavar="M", help="wl, graph2vec or pooled.", show_default="wl"),
    ] = None,
    node_label: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The field of nodes that says what they are.", show_default="degrees"),
    ] = None,
    id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="F", help="Of .jsonl and .json: the field with a graph's id.", show_default="id"
        ),
    ] = None,
    directed: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--directed/--undirected", help="Whether edges have a direction.", show_default="as the files say"
        ),
    ] = None,
    dim: Annotated[int, typer.Option(help="Numbers per vector, at most.")] = 128,
    depth: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Steps around a node that are looked at.", show_default="4; graph2vec 2"),
    ] = None,
    epochs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="graph2vec: times over all words.", show_default="10 to 100, by their number"),
    ] = None,
    negatives: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="graph2vec: negatives for each word.", show_default="5"),
    ] = None,
    pooling: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="P", help="pooled: mean, sum or max over nodes.", show_default="sum"),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same encoder.")] = 0,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Learn anew from these and all that the space was filled from."),
    ] = False,
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Whole graphs; every graph becomes a record, and `nearkin search --graph FILE` finds its like.

    Folders and archives of graph files (those of `ingest graph`), .jsonl and .json of node-link graphs, and sets in the
    TU layout (NAME_A.txt, NAME_graph_indicator.txt …).
    """
    from ingest.cli.compiling import told
    from ingest.cli.progress import progress
    from ingest.learn.graphs.settings import GraphSettings
    from ingest.sources.edge_format import EdgeFormat
    from ingest.sources.graph_records import GraphFormat
    from ingest.verbs.whole_graphs import graphs as take_in

    settings = GraphSettings(dim, depth, seed, epochs, negatives, None, pooling)
    with told(), progress() as bars:
        report = take_in(
            collection,
            list(paths),
            method=model,
            settings=None if settings == GraphSettings() else settings,
            form=GraphFormat(node_label, id, EdgeFormat(directed)),
            space=space,
            refit=refit,
            prune=prune,
            dry_run=dry_run,
            options=options_of("auto", "auto", bars),
        )
    finish(report, strict=strict, as_json=as_json)
