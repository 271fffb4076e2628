"""The demo's report: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ingest.demo.story import Story, summary
from search.errors import CollectionError
from search.types import Hit
from search.version import __version__

_TEMPLATE = "page.html.j2"


def render(story: Story) -> str:
    """The page; whatever comes from records is escaped, and pictures stand in it as data."""
    environment = Environment(
        loader=PackageLoader("ingest.demo", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"picture": _picture, "summary": summary, "tag": _tag, "width": _width}
    environment.filters["breakable"] = _breakable
    return environment.get_template(_TEMPLATE).render(story=story, version=__version__)


def write(path: Path, story: Story) -> None:
    """Write the page, whole or not at all.

    Raises:
        CollectionError: it cannot be written there.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(render(story), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise CollectionError(
            f"{path} cannot be written ({error.strerror}); check the permissions and the disk"
        ) from None


def _picture(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _breakable(name: str) -> Markup:
    """A dotted name that may be broken after each dot."""
    return Markup(".<wbr>").join(name.split("."))


def _tag(hit: Hit) -> str:
    """What the hit is, in a word."""
    return str(hit.metadata.get("kind") or "")


def _width(score: float) -> str:
    """How long the bar of a score is, in per cent."""
    return f"{100 * min(max(score, 0.0), 1.0):.0f}%"
