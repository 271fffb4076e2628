"""The verb that says how good the answers are: evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from search.cli import output
from search.cli.verbs import HERE, CollectionOption, DeviceOption, JsonOption, WhereOption, must_exist, opened
from search.errors import CollectionError

if TYPE_CHECKING:
    from search.collection import Collection
    from search.evaluate.labelled import Evaluation
    from search.evaluate.unlabelled import Unlabelled


def evaluate(
    collection: CollectionOption = HERE,
    queries: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="Queries: .jsonl with _id and text (BEIR), or lines of id, tab, words."
        ),
    ] = None,
    qrels: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Judgements: TREC's four columns, or BEIR's three."),
    ] = None,
    k: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option(
            "-k", "--k", metavar="N", help="The rank to cut at; repeat for more.", show_default="10"
        ),
    ] = None,
    space: Annotated[Optional[str], typer.Option(metavar="S", help="Which space to search.")] = None,  # noqa: UP045
    where: WhereOption = None,
    rerank: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="M", help="Compare the first hits again, token by token: maxsim."),
    ] = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Look for the words themselves too, by BM25.")
    ] = False,
    binary: Annotated[bool, typer.Option("--binary", help="Count each grade of at least 1 as 1.")] = False,
    compare: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="RUN", help="A TREC run of another set-up, to test the difference to."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="RUN", help="Write what was found as a TREC run."),
    ] = None,
    by_itself: Annotated[
        bool, typer.Option("--self", help="Without judgements: by the collection's own records.")
    ] = False,
    sample: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="With --self: how many records to ask about.", show_default="200"),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="With --self: of their choice.", show_default="0"),
    ] = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="With --self: do not keep it to compare later ones with.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="With --self: compare later ones with this, though it is worse.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --self: fail (exit 1) if it has become worse.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how good the answers are: by judged queries, or by the collection's own records (--self)."""
    judged = (queries, qrels, k, where, rerank, compare, out)
    if by_itself:
        if binary or hybrid or any(one is not None for one in judged):
            raise typer.BadParameter(
                "--self needs no judgements; give --space, --sample, --seed and the like"
            )
        asked = _Asked(space, 200 if sample is None else sample, seed or 0, not no_store, accept)
        _by_itself(collection, asked, device, strict=strict, as_json=as_json)
        return
    if queries is None or qrels is None:
        raise typer.BadParameter("give both --queries and --qrels, or --self")
    if no_store or accept or strict or sample is not None or seed is not None:
        raise typer.BadParameter("--sample, --seed, --no-store, --accept and --strict belong to --self")
    with opened(collection, "r", device) as there:
        found = there.evaluate(
            queries,
            qrels,
            k=tuple(k or (10,)),
            space=space,
            where=where,
            rerank=rerank,
            hybrid=hybrid,
            binary=binary,
            compare=compare,
        )
    if out is not None:
        from search.evaluate.formats import write_run

        write_run(out, found.run)
    if as_json:
        output.document(found.to_json())
        return
    metrics(found)


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
class _Asked:
    """What `evaluate_itself` is given."""

    space: str | None
    sample: int
    seed: int
    store: bool
    accept: bool


def _by_itself(collection: Path, asked: _Asked, device: str, *, strict: bool, as_json: bool) -> None:
    if asked.store:
        must_exist(collection)
    with opened(collection, "rw" if asked.store else "r", device) as there:
        names: list[str | None] = [asked.space] if asked.space is not None else [*_filled(there)] or [None]
        found = [
            there.evaluate_itself(
                name, sample=asked.sample, seed=asked.seed, store=asked.store, accept=asked.accept
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
