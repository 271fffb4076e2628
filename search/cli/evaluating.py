"""The verb that says how good the answers are: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from search.cli import output
from search.cli.verbs import HERE, CollectionOption, DeviceOption, JsonOption, WhereOption, opened

if TYPE_CHECKING:
    from search.evaluate.labelled import Evaluation


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
    binary: Annotated[bool, typer.Option("--binary", help="Count each grade of at least 1 as 1.")] = False,
    compare: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="RUN", help="A TREC run of another set-up, to test the difference to."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="RUN", help="Write what was found as a TREC run."),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how good the answers to judged queries are: nDCG, recall, MAP, MRR and precision."""
    if queries is None or qrels is None:
        raise typer.BadParameter("give both --queries and --qrels")
    with opened(collection, "r", device) as there:
        found = there.evaluate(
            queries,
            qrels,
            k=tuple(k or (10,)),
            space=space,
            where=where,
            rerank=rerank,
            binary=binary,
            compare=compare,
        )
    if out is not None:
        from search.evaluate.formats import write_run

        write_run(out, found.run)
    if as_json:
        output.document(found.to_json())
        return
    _metrics(found)


def _metrics(found: Evaluation) -> None:
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


def register(app: typer.Typer) -> None:
    """Give the verb to the root command."""
    app.command()(evaluate)
