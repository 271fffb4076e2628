"""How answers are shown: tables for people, one JSON document for programs; all else goes to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from search.query.languages import DEFAULT
from search.types import Hit, Record, Sense

if TYPE_CHECKING:
    from search.encoders.picture_layers import Layer

_SNIPPET = 160  # characters of a text that a table shows


def document(data: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def say(message: str) -> None:
    """Tell the user something that is not the answer, on stderr."""
    Console(stderr=True, highlight=False).print(escape(message), soft_wrap=True)


def working(what: str) -> AbstractContextManager[object]:
    """Says on a terminal that something is being done which takes a while and cannot tell how far it is."""
    return Console(stderr=True).status(escape(what))


def console() -> Console:
    """Where answers for people go."""
    return Console(highlight=False)


def hits(found: Sequence[Hit], *, explain: bool, whole: bool = False) -> None:
    """A table of hits, best first; with `whole` each hit's text in full, with its neighbours, below its name."""
    if not found:
        console().print("nothing found")
        return
    if whole:
        for hit in found:
            console().print(
                f"{hit.score:.3f}  [bold]{escape(hit.id)}[/bold]  {escape(hit.space)}", soft_wrap=True
            )
            in_context(hit)
    else:
        _table(found)
    if explain:
        for hit in found:
            told = json.dumps(hit.explain, ensure_ascii=False)
            console().print(f"{escape(hit.id)}: {escape(told)}", soft_wrap=True)


def in_context(hit: Hit) -> None:
    """What matched, and its neighbours: dim on a terminal, and marked off everywhere."""
    part = hit.part or {}
    before, after = (" ".join(str(part.get(side, "")).split()) for side in ("before", "after"))
    match = " ".join((hit.text or "").split()) or _what(hit)
    if before or after:
        match = f"[[ {match} ]]"
    told = Text(f"{before} " if before else "", style="dim").append(match, style="not dim")
    told.append(f" {after}" if after else "")
    out = console()
    if out.is_terminal:
        out.print(Padding(told, (0, 0, 1, 2)))
    else:  # a program wraps its lines itself
        out.print(Text("  ").append(told), soft_wrap=True)
        out.print()


def senses(found: Sequence[Sense]) -> None:
    """The senses of a word, each with its examples."""
    for number, sense in enumerate(found, 1):
        console().print(f"[bold]sense {number}[/bold]: {sense.size:,} occurrences")
        for hit in sense.examples:
            console().print(f"{hit.score:.3f}  {escape(hit.id)}", soft_wrap=True)
            in_context(hit)


def _table(found: Sequence[Hit]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("id", overflow="fold", max_width=44)
    table.add_column("space", no_wrap=True)
    table.add_column("what", overflow="fold")
    for hit in found:
        table.add_row(f"{hit.score:.3f}", escape(hit.id), escape(hit.space), escape(_what(hit)))
    console().print(table)


def _what(hit: Hit) -> str:
    if hit.text:
        words = " ".join(hit.text.split())
        return words if len(words) <= _SNIPPET else words[: _SNIPPET - 1] + "…"
    told = ", ".join(f"{name}={value}" for name, value in hit.metadata.items())
    return (hit.uri or told)[:_SNIPPET]


def record(one: Record) -> dict[str, Any]:
    """A record as a JSON object."""
    return {
        "id": one.id,
        "kind": one.kind,
        "uri": one.uri,
        "text": one.text,
        "metadata": dict(one.metadata or {}),
    }


def records(found: Sequence[Record]) -> None:
    """Records, one below the other."""
    for one in found:
        console().print(f"[bold]{escape(one.id)}[/bold]")
        for name, value in record(one).items():
            if name != "id" and value:
                told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                console().print(f"  {name}: {escape(told)}", soft_wrap=True)


def info(told: Mapping[str, Any]) -> None:
    """What a collection holds."""
    out = console()
    out.print(
        f"[bold]{escape(str(told['path']))}[/bold]: {told['records']:,} records, {told['bytes'] / 1e6:,.1f} MB on disk"
    )
    if told["fields"]:
        out.print(f"fields: {escape(', '.join(told['fields']))}", soft_wrap=True)
    if told["thumbnails"]["count"]:
        small = told["thumbnails"]
        out.print(f"thumbnails: {small['count']:,}, {small['bytes'] / 1e6:,.1f} MB")
    if not told["spaces"]:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("space", "model", "dim", "records", "vectors", "index", "recall@10"):
        table.add_column(
            name, justify="right" if name in ("dim", "records", "vectors", "recall@10") else "left"
        )
    for space in told["spaces"]:
        index = space["index"]
        exact = index["kind"] == "flat"
        table.add_row(
            escape(space["name"]),
            escape(space["model"]),
            str(space["dim"]),
            f"{space['records']:,}",
            f"{space['vectors']:,}",
            "flat (exact)" if exact else f"{index['kind']}, effort {index['effort']}",
            "1 (exact)" if exact else f"{index['recall']:.3f}",
        )
    out.print(table)
    for space in told["spaces"]:
        if graph := space["graph"]:
            kind = "directed" if graph["directed"] else "undirected"
            out.print(escape(f"{space['name']}: {graph['edges']:,} {kind} edges"), soft_wrap=True)
        if learned := _learned(space["asking"]):
            out.print(escape(f"{space['name']}: {learned}"), soft_wrap=True)
        for role in ("query", "document"):
            if prompt := space["options"].get(f"{role}_prompt"):
                said = json.dumps(prompt, ensure_ascii=False)
                out.print(escape(f"{space['name']}: before each {role} stands {said}"), soft_wrap=True)


def _learned(asking: Mapping[str, Any]) -> str:
    """What is not usual in how a space is asked."""
    said = []
    if asking["language"] != DEFAULT:
        said.append(f"words are looked for by the rules of {asking['language']}")
    if asking["meaning"] is not None:
        said.append(f"in hybrid search meaning counts {asking['meaning']:.2f}, as learned from judgements")
    if asking["weight"] is not None:
        said.append(f"among several spaces it counts {asking['weight']:.2f}, as learned from judgements")
    return "; ".join(said)


def layers(found: Sequence[Layer], *, as_json: bool) -> None:
    """The layers of a picture network, with the shapes of their output for one picture."""
    if as_json:
        document([{"layer": one.name, "shape": list(one.shape)} for one in found])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("output")
    for one in found:
        table.add_row(escape(one.name), " x ".join(map(str, one.shape)))
    console().print(table)


def models(found: Sequence[Mapping[str, Any]]) -> None:
    """The models on this machine."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "kind", "MB", "dim", "speed here", "where"):
        table.add_column(name, justify="right" if name in ("MB", "dim") else "left", overflow="fold")
    for one in found:
        speeds = [f"{s['per_s']:,.0f} {s['what']}/s ({s['device']}, {s['precision']})" for s in one["speeds"]]
        size = "" if one["bytes"] is None else f"{one['bytes'] / 1e6:,.0f}"
        told = ("" if one["dim"] is None else str(one["dim"]), "\n".join(speeds))
        table.add_row(escape(one["model"]), one["kind"], size, *told, escape(one["where"]))
    console().print(table)
