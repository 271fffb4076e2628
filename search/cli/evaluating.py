"""The verb that says how good the answers are: evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from search.cli import output
from search.cli.options import (
    HERE,
    CollectionOption,
    DeviceOption,
    JsonOption,
    WhereOption,
    must_exist,
    opened,
)
from search.errors import CollectionError

if TYPE_CHECKING:
    from search.collection import Collection
    from search.evaluate.labelled import Evaluation
    from search.evaluate.unlabelled import Unlabelled


_File = Optional[Path]  # noqa: UP045 - typer reads it
_Queries = Annotated[
    _File,
    typer.Option(
        "--queries",
        metavar="FILE",
        help="Queries: .jsonl with _id and text (BEIR), or lines of id, tab, words.",
    ),
]
_Qrels = Annotated[
    _File, typer.Option("--qrels", metavar="FILE", help="Judgements: TREC's four columns, or BEIR's three.")
]
_Cuts = Annotated[
    Optional[list[int]],  # noqa: UP045
    typer.Option("-k", "--k", metavar="N", help="The rank to cut at; repeat for more.", show_default="10"),
]
_Space = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--space", metavar="S", help="Which space to search."),
]
_Rerank = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--rerank",
        metavar="M",
        help="Compare the first hits again: maxsim, or a cross-encoder by name or folder.",
    ),
]
_Compare = Annotated[
    _File,
    typer.Option("--compare", metavar="RUN", help="A TREC run of another set-up, to test the difference to."),
]
_Out = Annotated[_File, typer.Option("--out", metavar="RUN", help="Write what was found as a TREC run.")]
_Learn = Annotated[
    bool,
    typer.Option(
        "--learn-weights",
        help="Learn how much meaning and words (--hybrid) or each space (--calibrate) count, and keep it.",
    ),
]
_Forget = Annotated[bool, typer.Option("--forget-weights", help="Let all count alike again.")]
_Sample = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--sample", metavar="N", help="With --self: how many records to ask about.", show_default="200"
    ),
]
_Seed = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--seed", metavar="N", help="With --self: of their choice.", show_default="0"),
]


def evaluate(
    collection: CollectionOption = HERE,
    queries: _Queries = None,
    qrels: _Qrels = None,
    k: _Cuts = None,
    space: _Space = None,
    where: WhereOption = None,
    rerank: _Rerank = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Look for the words themselves too, by BM25.")
    ] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Ask all spaces that can answer.")] = False,
    binary: Annotated[bool, typer.Option("--binary", help="Count each grade of at least 1 as 1.")] = False,
    compare: _Compare = None,
    out: _Out = None,
    learn_weights: _Learn = False,
    forget_weights: _Forget = False,
    by_itself: Annotated[
        bool, typer.Option("--self", help="Without judgements: by the collection's own records.")
    ] = False,
    sample: _Sample = None,
    seed: _Seed = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="With --self: do not keep it to compare later ones with.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="With --self: compare later ones with this, though it is worse.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="With --self or --compare: fail (exit 1) if it has become worse."),
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how good the answers are: by judged queries, or by the collection's own records (--self)."""
    judged = _Judged(
        queries, qrels, tuple(k or ()), space, where, rerank, hybrid, calibrate, binary, compare, out
    )
    itself = _Itself(space, sample, seed, not no_store, accept)
    if forget_weights:
        if by_itself or learn_weights or strict or judged != _Judged() or itself != _Itself():
            raise typer.BadParameter("goes by itself; leave the rest out", param_hint="--forget-weights")
        _forget(collection, as_json=as_json)
    elif by_itself:
        if learn_weights or judged != _Judged(space=space):
            raise typer.BadParameter(
                "--self needs no judgements; give --space, --sample, --seed and the like"
            )
        _by_itself(collection, itself, device, strict=strict, as_json=as_json)
    elif queries is None or qrels is None:
        raise typer.BadParameter("give both --queries and --qrels, or --self")
    elif itself != _Itself(space):
        raise typer.BadParameter("--sample, --seed, --no-store and --accept belong to --self")
    elif learn_weights:
        _learn(collection, judged, device, strict=strict, as_json=as_json)
    else:
        _by_judgements(collection, judged, device, strict=strict, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What `Collection.evaluate` is given."""

    queries: Path | None = None
    qrels: Path | None = None
    k: tuple[int, ...] = ()
    space: str | None = None
    where: str | None = None
    rerank: str | None = None
    hybrid: bool = False
    calibrate: bool = False
    binary: bool = False
    compare: Path | None = None
    out: Path | None = None

    @property
    def files(self) -> tuple[Path, Path]:
        assert self.queries is not None
        assert self.qrels is not None
        return self.queries, self.qrels


def _by_judgements(collection: Path, asked: _Judged, device: str, *, strict: bool, as_json: bool) -> None:
    if strict and asked.compare is None:
        raise typer.BadParameter("needs another run to compare with; give --compare", param_hint="--strict")
    with opened(collection, "r", device) as there:
        found = there.evaluate(
            *asked.files,
            k=asked.k or 10,
            space=asked.space,
            where=asked.where,
            rerank=asked.rerank,
            hybrid=asked.hybrid,
            calibrate=asked.calibrate,
            binary=asked.binary,
            compare=asked.compare,
        )
    if asked.out is not None:
        from search.evaluate.formats import write_run

        write_run(asked.out, found.run)
    if as_json:
        output.document(found.to_json())
    else:
        metrics(found)
    if not (worse := found.worse):
        return
    said = f"{', '.join(worse)} worse than in {asked.compare} by more than chance"
    if strict:
        raise CollectionError(f"{said}; mend it, or compare with another run")
    output.say(f"warning: {said}")


def _learn(collection: Path, asked: _Judged, device: str, *, strict: bool, as_json: bool) -> None:
    if asked.hybrid == asked.calibrate:
        raise typer.BadParameter(
            "give --hybrid (meaning and words) or --calibrate (the spaces), one of the two",
            param_hint="--learn-weights",
        )
    if asked.rerank or asked.compare or asked.out or strict or len(asked.k) > 1:
        raise typer.BadParameter(
            "takes neither --rerank, --compare, --out nor --strict, and one -k", param_hint="--learn-weights"
        )
    must_exist(collection)
    with opened(collection, "rw", device) as there:
        found = there.learn_weights(
            *asked.files,
            k=asked.k[0] if asked.k else 10,
            hybrid=asked.hybrid,
            space=asked.space,
            where=asked.where,
            binary=asked.binary,
        )
    if as_json:
        output.document(found.to_json())
        return
    out = output.console()
    out.print(escape(", ".join(f"{name} {weight:.2f}" for name, weight in found.weights.items())))
    held = found.held_out
    out.print(
        f"nDCG@{found.k} {held.before:.4f} with equal weights, {held.now:.4f} with weights learned from other queries "
        f"({held.difference:+.4f}, 95% {held.low:+.4f} to {held.high:+.4f}, p {held.p_randomisation:.4f}, "
        f"{held.n:,} queries)",
        soft_wrap=True,
    )
    out.print("kept for the questions to come" if found.kept else "nothing is gained, so nothing was kept")


def _forget(collection: Path, *, as_json: bool) -> None:
    must_exist(collection)
    with opened(collection, "rw") as there:
        forgotten = there.forget_weights()
    if as_json:
        output.document({"forgotten": forgotten})
    else:
        names = escape(", ".join(forgotten))
        output.console().print(f"forgotten of {names}" if forgotten else "no space had learned weights")


def metrics(found: Evaluation) -> None:
    """A table of what judged queries say, with the difference to another run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ["metric", "mean", "95%"]
    if found.compared:
        names += ["before", "difference", "95%", "p (t-test)", "p (randomisation)"]
    for name in names:
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, one in found.metrics.items():
        cells = [escape(name), f"{one.mean:.4f}", f"{one.low:.4f} to {one.high:.4f}"]
        if name in found.compared:
            other = found.compared[name]
            cells += [
                f"{other.before:.4f}",
                f"{other.difference:+.4f}",
                f"{other.low:+.4f} to {other.high:+.4f}",
                f"{other.p_t:.4f}",
                f"{other.p_randomisation:.4f}",
            ]
        table.add_row(*cells)
    output.console().print(table)
    output.console().print(f"{found.n_queries:,} queries")
    for n, what in (
        (found.unjudged, "queries have no judgements and were left out"),
        (found.unasked, "judged queries are not among the queries"),
        (found.absent, "judged documents are not in the collection and count as not found"),
    ):
        if n:
            output.say(f"{n:,} {what}")


@dataclass(frozen=True, slots=True)
class _Itself:
    """What `evaluate_itself` is given."""

    space: str | None = None
    sample: int | None = None
    seed: int | None = None
    store: bool = True
    accept: bool = False


def _by_itself(collection: Path, asked: _Itself, device: str, *, strict: bool, as_json: bool) -> None:
    if asked.store:
        must_exist(collection)
    with opened(collection, "rw" if asked.store else "r", device) as there:
        names: list[str | None] = [asked.space] if asked.space is not None else [*_filled(there)] or [None]
        found = [
            there.evaluate_itself(
                name,
                sample=200 if asked.sample is None else asked.sample,
                seed=asked.seed or 0,
                store=asked.store,
                accept=asked.accept,
            )
            for name in names
        ]
    if as_json:
        output.document([one.to_json() for one in found])
    else:
        for one in found:
            measures(one)
    worse = [f"{name} of space '{one.space}'" for one in found for name in one.worse]
    if not worse:
        return
    said = f"{', '.join(worse)} worse than at the last evaluation by more than chance"
    if strict:
        raise CollectionError(f"{said}; mend it, or take it as it is with --accept")
    output.say(f"warning: {said}")


def _filled(there: Collection) -> list[str]:
    """The spaces that hold something, but for those that stand beside another for a change of model."""
    return [
        name for name, space in there.spaces().items() if space.stands_for is None and there.ids_in(space)
    ]


def measures(found: Unlabelled) -> None:
    """A table of what a space says of itself, with what it said before."""
    from search.evaluate.unlabelled import MEASURES

    out = output.console()
    out.print(
        f"[bold]{escape(found.space)}[/bold]  {escape(found.encoder.model)}, {found.n_records:,} records"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ["measure", "mean", "95%", "records"]
    if found.compared:
        names += ["before", "difference", "95%", "p (worse)"]
    for name in names:
        table.add_column(name, justify="left" if name == "measure" else "right")
    for name, one in found.measures.items():
        cells = [name, f"{one.mean:.4f}", f"{one.low:.4f} to {one.high:.4f}", f"{len(found.values[name]):,}"]
        if name in found.compared:
            other = found.compared[name]
            cells += [
                f"{other.before:.4f}",
                f"{other.difference:+.4f}",
                f"{other.low:+.4f} to {other.high:+.4f}",
                f"{other.p_worse:.4f}{' worse' if name in found.worse else ''}",
            ]
        table.add_row(*cells)
    out.print(table)
    if found.before_at is not None:
        what = f"changed since: {', '.join(found.changed)}" if found.changed else "nothing has changed since"
        none = "" if found.compared else "; its seed or its records were others, so nothing is compared"
        out.print(f"before: {found.before_at}; {what}{none}")
    for name in found.values:
        output.say(f"{name}: {MEASURES[name]}")


def register(app: typer.Typer) -> None:
    """Give the verb to the root command."""
    app.command()(evaluate)
