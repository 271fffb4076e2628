"""The verbs for graphs that learn: links, which can say how good it is, and predict."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Optional

import typer

from search.cli import graphs, output
from search.cli.graphs import GraphOption, SeedOption
from search.cli.options import HERE, CollectionOption, ExplainOption, JsonOption, KOption, must_exist
from search.errors import QueryError


def links(
    like: Annotated[Optional[str], typer.Option(metavar="ID", help="The id of a node.")] = None,  # noqa: UP045
    collection: CollectionOption = HERE,
    space: GraphOption = None,
    k: KOption = 10,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate", help="Hold out edges, learn without them, and say how well they are foretold."
        ),
    ] = False,
    share: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="S", help="The share of edges to hold out.", show_default="0.1"),
    ] = None,
    seed: SeedOption = 0,
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """The nodes that a node is likeliest to lack an edge to, with the probability of each."""
    if evaluate == (like is not None):
        raise QueryError("links are asked for one node or evaluated over all; give --like ID or --evaluate")
    if like is not None:
        if share is not None:
            raise QueryError("--share is of --evaluate; leave it out")
        graphs.show_links(collection, like, space, k=k, seed=seed, explain=explain, as_json=as_json)
        return
    if explain or k != 10:
        raise QueryError("--evaluate ranks held-out edges and has no hits; leave -k and --explain out")
    from ingest.cli.progress import progress
    from ingest.report import Options
    from ingest.verbs.links import SHARE, evaluate_links

    with progress() as bars:
        found = evaluate_links(
            collection,
            space=space,
            share=SHARE if share is None else share,
            seed=seed,
            options=Options(progress=bars),
        )
    if as_json:
        output.document(asdict(found))
        return
    output.console().print(
        f"{found.held_out:,} of {found.held_out + found.kept:,} edges held out, {found.method} learned without them; "
        "against as many pairs without an edge"
    )
    width = max(map(len, found.scores))
    for name, one in found.scores.items():
        output.console().print(
            f"{name:<{width}}  AUC {one.auc:.4f}  average precision {one.average_precision:.4f}"
        )


def predict(
    collection: CollectionOption = HERE,
    space: Annotated[str, typer.Option(metavar="S", help="The space of the graph.")] = "graph",
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from",
            metavar="S",
            help="The space to predict from.",
            show_default="the only one that is no graph",
        ),
    ] = None,
    seed: SeedOption = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how good it would be, and store nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give node vectors to records without edges, from those of their texts or pictures; marked S_predicted."""
    from ingest.verbs.predictions import predict as predict_nodes

    must_exist(collection)
    found = predict_nodes(collection, space=space, source=source, seed=seed, dry_run=dry_run)
    if as_json:
        output.document(found.to_json())
        return
    would = "would be " if dry_run else ""
    output.console().print(
        f"{found.predicted:,} records {would}given a vector in space '{found.space}' from that in '{found.source}', "
        f"learned from {found.examples:,} with both"
    )
    output.console().print(
        f"on {found.held_out:,} held out: {found.r2:.1%} of the variance, cosine {found.cosine:.3f}, "
        f"{found.recall:.1%} of the ten nearest (the same vector for all: {found.chance:.1%})"
    )


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    app.command()(graphs.neighbours)
    for verb in (links, predict):
        app.command()(verb)
    app.command("map")(graphs.draw_map)
