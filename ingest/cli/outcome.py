"""What a run has done, told to whoever called it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.cli import output
from search.errors import SourceError

if TYPE_CHECKING:
    from ingest.report import GraphCounts, Report

_STAGES = {
    "read": "reading the files",
    "prepare": "preparing them for the model",
    "encode": "the model",
    "commit": "writing to the disk",
}


def finish(report: Report, *, strict: bool, as_json: bool) -> None:
    """Print the report; raises SourceError where inputs were skipped and `strict` is set."""
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
        if report.limit is not None:
            output.say(f"the limit was {_STAGES[report.limit.stage]}, {report.limit.busy:.0%} busy")
    if report.graph is not None and not as_json:
        _describe(report.graph)
    if (held := report.interactions) is not None and not as_json:
        again = f"; {held.merged:,} rows were added to others" if held.merged else ""
        output.say(f"{held.pairs:,} interactions of {held.users:,} users with {held.items:,} items{again}")
    if not as_json:
        _describe_changes(report)
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


def _describe(graph: GraphCounts) -> None:
    kind = f"{'directed' if graph.directed else 'undirected'}, {'' if graph.weighted else 'un'}weighted"
    again = "its weight was added" if graph.merged == 1 else "their weights were added"
    merged = (
        f"; {graph.merged:,} stood there again{f' ({again})' if graph.weighted else ''}"
        if graph.merged
        else ""
    )
    output.say(
        f"the graph ({kind}): {graph.nodes:,} nodes, {graph.isolated:,} of them without edges; {graph.edges:,} edges, "
        f"{graph.self_loops:,} of them self-loops{merged}"
    )


def _describe_changes(report: Report) -> None:
    """What became of a graph that was there before."""
    if report.turned is not None:
        told = report.turned
        output.say(
            f"turned onto the former vectors: the mean cosine of {told['shared']:,} shared nodes went from "
            f"{told['cosine_before']:.3f} to {told['cosine_after']:.3f}"
        )
    if report.attached is not None:
        more = report.attached
        waiting = f"; {more.waiting:,} wait for the graph to be learned again" if more.waiting else ""
        output.say(
            f"{more.edges:,} edges added, {more.known:,} known already; {more.nodes:,} nodes got a vector from their "
            f"neighbours'{waiting}"
        )


def _foretell(report: Report) -> None:
    told = report.forecast
    if told is not None:
        time = "" if told.seconds is None else f"about {told.seconds:,.0f} s, "
        memory = "" if told.memory_bytes is None else f"{told.memory_bytes / 1e6:,.0f} MB of memory, "
        what = (
            f"{told.passages:,} passages, {told.tokens:,} tokens"
            if told.tokens
            else f"{told.passages:,} pictures"
        )
        output.say(f"it would take {time}{memory}{told.disk_bytes / 1e6:,.1f} MB of disk: {what} to encode")
    elif report.no_forecast is not None:
        output.say(f"what it would take cannot be said: {report.no_forecast}")
