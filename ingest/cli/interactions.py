"""The verb that takes in who took what."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from ingest.cli.options import DryRun, Paths, Prune, Space, Strict, options_of
from ingest.cli.outcome import finish
from search.cli.verbs import HERE, CollectionOption, JsonOption


def interactions(
    paths: Paths,
    collection: CollectionOption = HERE,
    space: Space = "interactions",
    user: Annotated[Optional[str], typer.Option(metavar="F", help="The column of users.")] = None,  # noqa: UP045
    item: Annotated[Optional[str], typer.Option(metavar="F", help="The column of items.")] = None,  # noqa: UP045
    weight: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The column that says how much each counts: a rating, how many."),
    ] = None,
    time: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The column of times: dates, or seconds since 1970."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "--method", metavar="M", help="als, item-knn, bpr, lightgcn or node2vec."),
    ] = "als",
    dim: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Numbers per vector.", show_default="128 for als and item-knn, else 64"),
    ] = None,
    epochs: Annotated[Optional[int], typer.Option(help="Times over all interactions.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(help="The same seed gives the same vectors.")] = 0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N; als and item-knn have no use for it.")
    ] = "cpu",
    alpha: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="als: how much more counts what was taken than what was not."),
    ] = None,
    regularization: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="als: how much vectors are held near 0."),
    ] = None,
    rate: Annotated[Optional[float], typer.Option(help="bpr, lightgcn: the learning rate.")] = None,  # noqa: UP045
    decay: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="bpr, lightgcn: how much vectors are held near 0."),
    ] = None,
    layers: Annotated[Optional[int], typer.Option(help="lightgcn: rounds of smoothing.")] = None,  # noqa: UP045
    neighbours: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="item-knn: how many items are kept with each.", show_default="100"),
    ] = None,
    shrink: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="item-knn: takes from the likeness of what few have taken.", show_default="20"),
    ] = None,
    half_life_items: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="N",
            help="als, item-knn: what a user took counts half once N others were taken since; needs times.",
        ),
    ] = None,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Of .txt: each line's items stand in the order they were taken.")
    ] = False,
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Who took what: users and items get vectors, for `nearkin recommend --user`.

    .csv .tsv .jsonl .parquet with a row for each interaction, .txt with a user and the items taken on each line; these
    also as .gz and .zst. User u becomes the record user:u; items join the records of the same ids.
    """
    from ingest.cli.progress import progress
    from ingest.learn.interactions.load import InteractionSettings
    from ingest.sources.interaction_files import InteractionFormat
    from ingest.verbs.learned_interactions import interactions as take_in

    settings = InteractionSettings(
        dim,
        epochs,
        seed,
        device,
        alpha,
        regularization,
        rate,
        decay,
        layers,
        neighbours,
        shrink,
        half_life_items,
    )
    with progress() as bars:
        report = take_in(
            collection,
            list(paths),
            format=InteractionFormat(user, item, weight, time, ordered),
            method=model,
            settings=settings,
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=options_of("auto", "auto", bars),
        )
    finish(report, strict=strict, as_json=as_json)
