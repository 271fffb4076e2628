"""The page on serving cannot lie: its routes, fields, flags and numbers are those of the server."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from ingest.cli.main import app
from search.encoders.pictures import MAX_PIXELS
from search.query import gathering, words
from search.server import settings, thumbnails
from search.server.fields import RECOMMEND, SEARCH
from search.server.openapi import document

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = " ".join((DOCS / "serve.md").read_text(encoding="utf-8").split())
DECISIONS = " ".join((DOCS / "decisions.md").read_text(encoding="utf-8").split())


def test_every_route_stands_in_it() -> None:
    for path in document()["paths"]:
        if path != "/":
            assert path.replace("{id}", "ID") in PAGE


def test_every_field_stands_in_the_row_of_its_route() -> None:
    for route, fields in (("/search", SEARCH), ("/recommend", RECOMMEND)):
        row = re.search(rf"\| `POST {route}` \| (.*?) \|", PAGE)
        assert row is not None
        assert set(re.findall(r"`(\w+)`", row[1])) == set(fields)


def test_its_flags_are_those_of_the_command() -> None:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    there = {flag for parameter in command.params for flag in parameter.opts}
    said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - {
        "--json",
        "--thumbnails",
    }  # of other commands
    assert said <= there
    options = {flag for flag in there if flag.startswith("--")}
    assert options - said == {"--collection", "--token", "--device"}


def test_its_numbers_are_those_of_the_code() -> None:
    default = {p.name: p.default for p in typer.main.get_command(app).commands["serve"].params}  # type: ignore[attr-defined]
    assert default["queue"] == settings.QUEUE
    for said in (
        f"requests ({settings.QUEUE})",
        f"{settings.MAX_BODY >> 20} MB, and {settings.BODY_S:.0f} seconds",
        f"at least {settings.SHORTEST_TOKEN} characters",
        f"{MAX_PIXELS // 1_000_000} million pixels",
        f"at most {thumbnails.SIDE} x {thumbnails.SIDE}",
    ):
        assert said in PAGE
    assert f"{gathering.MOST} queries or {words.TOKENS:,} tokens" in DECISIONS
