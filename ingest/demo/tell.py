"""The demo on the terminal: headings while it works, then tables that fit a narrow window."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table

from ingest.demo.story import Answer, Stage, Story, summary
from search.cli import output

_WHAT = {
    "Docstrings": "docstrings of the standard library, by a text model",
    "Imports": "which module imports which, by node2vec",
    "Digits": "handwritten digits, by features learned from the pictures themselves",
}


def begin(folder: Path) -> None:
    """Say what is going to happen, and where."""
    output.console().print(
        f"[bold]nearkin demo[/bold] in {escape(str(folder))}: three kinds of things in one collection\n",
        soft_wrap=True,
    )


def stage_begins(title: str) -> None:
    """Name the ingest that begins."""
    output.console().print(f"[bold]{title}[/bold]: {_WHAT[title]}")


def stage_done(stage: Stage) -> None:
    """One line on what it did."""
    report = stage.report
    if report.written or report.removed:
        rate = f", {stage.rate:,.0f} records/s" if stage.rate else ""
        gone = f", {report.removed:,} removed" if report.removed else ""
        told = f"{report.written:,} new or changed{gone} in {stage.seconds:.1f} s{rate}"
    else:
        told = f"nothing to do: {report.unchanged:,} unchanged, compared in {stage.seconds:.1f} s"
    skipped = f"; {report.rejected:,} skipped, see {report.rejects_file}" if report.rejected else ""
    output.console().print(f"  {told}{escape(skipped)}\n", soft_wrap=True)


def all_of(story: Story, report: Path) -> None:
    """The questions with their hits, the figures, and what to do next."""
    out = output.console()
    for answer in story.answers:
        out.print(Group(*_answer(answer)))
    out.print(Rule("measured", style="dim"))
    out.print(_rates(story))
    for figure in story.figures:
        out.print(f"  [bold]{figure.value:>9}[/bold]  {escape(figure.what)}")
        out.print(Padding(f"[dim]{escape(figure.note)}[/dim]", (0, 0, 0, 13)))
    out.print()
    out.print(Rule("next", style="dim"))
    out.print(f"The pictures and their neighbours: [bold]{escape(str(report))}[/bold]\n", soft_wrap=True)
    for what, command in story.advice:
        out.print(f"[dim]# {escape(what)}[/dim]")
        out.print(f"{escape(command)}", soft_wrap=True)
    done = "" if story.changed_something else "; nothing was encoded or trained again"
    out.print(f"\nDone in {story.seconds:.0f} s{done}.")


def _answer(answer: Answer) -> list[RenderableType]:
    means = f" [dim]({escape(answer.means)})[/dim]" if answer.means else ""
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    table.add_column(justify="right", no_wrap=True, width=7)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=4)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=6, style="dim")
    for hit in answer.hits:
        table.add_row(f"{hit.score:.3f}", escape(hit.id), escape(summary(hit)))
    return [f"[bold]{escape(answer.question)}[/bold]{means}", table, ""]


def _rates(story: Story) -> RenderableType:
    """Records a second, all in all, and below it of each stage while it was busy."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in ("new", "unchanged", "vectors", "seconds", "records/s"):
        table.add_column(name, justify="right")
    for stage in story.stages:
        report = stage.report
        table.add_row(
            f"  {stage.title}",
            f"{report.written:,}",
            f"{report.unchanged:,}",
            f"{report.vectors:,}",
            f"{stage.seconds:.1f}",
            f"{stage.rate:,.0f}" if stage.rate else "–",
        )
    busy = [
        f"  [dim]{stage.title}, while busy: {', '.join(f'{name} {rate:,.0f}/s' for name, rate in stage.rates)}[/dim]"
        for stage in story.stages
        if stage.rates
    ]
    return Group(table, *busy, "")
