"""The verbs of who took what: take it in, and say how well it is foretold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ingest.cli.options import DryRun, Paths, Prune, Space, Strict, options_of
from ingest.cli.outcome import finish
from search.cli import output
from search.cli.options import HERE, CollectionOption, JsonOption

if TYPE_CHECKING:
    from ingest.verbs.evaluated_interactions import InteractionQuality

UserOption = Annotated[Optional[str], typer.Option("--user", metavar="F", help="The column of users.")]  # noqa: UP045
ItemOption = Annotated[Optional[str], typer.Option("--item", metavar="F", help="The column of items.")]  # noqa: UP045
WeightOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--weight", metavar="F", help="The column that says how much each counts: a rating, how many."
    ),
]
TimeOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--time", metavar="F", help="The column of times: dates, or seconds since 1970."),
]
DimOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--dim", help="Numbers per vector.", show_default="128 for als and item-knn, else 64"),
]
EpochsOption = Annotated[Optional[int], typer.Option("--epochs", help="Times over all interactions.")]  # noqa: UP045
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same vectors.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda or cuda:N; als and item-knn have no use for it.")
]
AlphaOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--alpha", help="als: how much more counts what was taken than what was not."),
]
RegularizationOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--regularization", help="als: how much vectors are held near 0."),
]
RateOption = Annotated[Optional[float], typer.Option("--rate", help="bpr, lightgcn: the learning rate.")]  # noqa: UP045
DecayOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--decay", help="bpr, lightgcn: how much vectors are held near 0."),
]
LayersOption = Annotated[Optional[int], typer.Option("--layers", help="lightgcn: rounds of smoothing.")]  # noqa: UP045
NeighboursOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--neighbours", help="item-knn: how many items are kept with each.", show_default="100"),
]
ShrinkOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--shrink", help="item-knn: takes from the likeness of what few have taken.", show_default="20"
    ),
]
HalfLifeOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--half-life-items",
        metavar="N",
        help="als, item-knn: what a user took counts half once N others were taken since; needs times.",
    ),
]
OrderedOption = Annotated[
    bool, typer.Option("--ordered", help="Of .txt: each line's items stand in the order they were taken.")
]


def interactions(
    paths: Paths,
    collection: CollectionOption = HERE,
    space: Space = "interactions",
    user: UserOption = None,
    item: ItemOption = None,
    weight: WeightOption = None,
    time: TimeOption = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--model",
            "--method",
            metavar="M",
            help="als, item-knn, bpr, lightgcn or node2vec.",
            show_default="the space's, else als",
        ),
    ] = None,
    dim: DimOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    alpha: AlphaOption = None,
    regularization: RegularizationOption = None,
    rate: RateOption = None,
    decay: DecayOption = None,
    layers: LayersOption = None,
    neighbours: NeighboursOption = None,
    shrink: ShrinkOption = None,
    half_life_items: HalfLifeOption = None,
    ordered: OrderedOption = False,
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
            settings=None if settings == InteractionSettings() else settings,
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=options_of("auto", "auto", bars),
        )
    finish(report, strict=strict, as_json=as_json)


def evaluate_interactions(
    paths: Paths,
    user: UserOption = None,
    item: ItemOption = None,
    weight: WeightOption = None,
    time: TimeOption = None,
    method: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--method",
            metavar="M",
            help="als, item-knn, bpr, lightgcn or node2vec; repeat for more.",
            show_default="als and item-knn",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="What is held out: last, of each user; time, what was last of all; random, where there are no times."
        ),
    ] = "last",
    share: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="S", help="How much is held out (time, random).", show_default="0.2"),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many items are recommended.")] = 20,
    dim: DimOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    alpha: AlphaOption = None,
    regularization: RegularizationOption = None,
    rate: RateOption = None,
    decay: DecayOption = None,
    layers: LayersOption = None,
    neighbours: NeighboursOption = None,
    shrink: ShrinkOption = None,
    half_life_items: HalfLifeOption = None,
    ordered: OrderedOption = False,
    as_json: JsonOption = False,
) -> None:
    """How well what users take is foretold: some is held out, the rest learned from, all items ranked.

    Recall, nDCG and MAP with 95% intervals, coverage and novelty, beside popularity, the same for everyone, as the
    floor. Nothing is stored.
    """
    from ingest.cli.progress import progress
    from ingest.learn.interactions.load import InteractionSettings
    from ingest.report import Options
    from ingest.sources.interaction_files import InteractionFormat
    from ingest.verbs.evaluated_interactions import evaluate_interactions as evaluate

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
        found = evaluate(
            list(paths),
            format=InteractionFormat(user, item, weight, time, ordered),
            methods=method or ["als", "item-knn"],
            settings=settings,
            split=split,
            share=share,
            k=k,
            seed=seed,
            options=Options(progress=bars),
        )
    if as_json:
        output.document(found.to_json())
    else:
        _show(found)


def _show(found: InteractionQuality) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    for name in (*(f"{metric}@{found.k}" for metric in found.methods[0].means), "coverage", "novelty", "s"):
        table.add_column(name, justify="right")
    for one in found.methods:
        cells = []
        for metric, mean in one.means.items():
            low, high = one.intervals[metric]
            cells.append(f"{mean:.4f} ±{max(mean - low, high - mean):.4f}")
        table.add_row(one.method, *cells, f"{one.coverage:.3f}", f"{one.novelty:.2f}", f"{one.seconds:.1f}")
    out = output.console()
    out.print(table)
    out.print(f"{found.users:,} users, {found.held_out:,} held out, {found.learned_from:,} learned from")
    best, *others = found.methods
    for one in others:
        if one.less_than_best[1] >= 0:
            output.say(f"{one.method} and {best.method} do not differ by more than chance (95%, nDCG)")
    for n, what in (
        (found.unknown_users, "users have nothing to go by and were left out"),
        (
            found.unknown_items,
            "interactions held out are with items that nobody took before, and count as not found",
        ),
        (found.rejected, "rows could not be used"),
    ):
        if n:
            output.say(f"{n:,} {what}")


def register(app: typer.Typer) -> None:
    """Give the verb that stands by itself to the root command."""
    app.command("evaluate-interactions")(evaluate_interactions)
