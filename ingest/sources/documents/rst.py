"""reStructuredText as Markdown-like text, by way of docutils' HTML."""

from __future__ import annotations

import re
from io import StringIO
from textwrap import dedent
from typing import Any

from ingest.sources.dates import moment
from ingest.sources.documents.contract import Document, Unreadable, one_line, reading, told
from ingest.sources.documents.html import as_text, parse
from ingest.sources.encodings import decode
from search.errors import MissingExtra

_SETTINGS = {
    "file_insertion_enabled": False,  # `include` would read any file of this machine
    "raw_enabled": False,
    "_disable_config": True,
    "report_level": 2,  # kept in the tree: they hold the source of what docutils does not know
    "halt_level": 5,
    "syntax_highlight": "none",
    "embed_stylesheet": False,
    "stylesheet_path": None,
    "math_output": "latex",
    "smart_quotes": False,
    "doctitle_xform": True,
    "docinfo_xform": True,
    "line_length_limit": 1_000_000,
}
_ROLE = re.compile(r"(?::[A-Za-z][\w:+.-]*:)?`([^`]*)`(?::[A-Za-z][\w:+.-]*:)?", re.DOTALL)
_TARGET = re.compile(r"\s*<[^>]*>$")
_DIRECTIVE = re.compile(r"\.\. ([\w:+.-]+)::(.*)")
# What of Sphinx's directives holds no words for a reader, but names of files and of things to be looked up.
_MUTE = re.compile(
    r"(?:.*:)?(?:toctree|auto\w+|index|highlight|currentmodule|module|tabularcolumns)|include|raw"
)


def read_rst(data: bytes) -> Document:
    """A reStructuredText file; nothing that it refers to is read.

    Directives and roles that only Sphinx knows are read as the text they hold.

    Raises:
        MissingExtra: docutils is not installed.
        Unreadable: there is no text in it.
    """
    try:
        from docutils.core import publish_doctree, publish_from_doctree
    except ImportError as error:
        raise MissingExtra("reading reStructuredText", "files") from error
    decoded = decode(data)
    with reading("reStructuredText"):
        tree = publish_doctree(decoded.text, settings_overrides=_SETTINGS | {"warning_stream": StringIO()})
        _mend(tree)
        metadata = _about(tree)
        first_level = 2 if _has_title(tree) else 1
        settings = _SETTINGS | {"output_encoding": "unicode", "initial_header_level": first_level}
        html = publish_from_doctree(tree, writer="html5", settings_overrides=settings)
    root = parse(html)
    body = root.find(".//body")
    text = as_text(root if body is None else body)
    if not text:
        raise Unreadable("no text in it")
    return Document(text, metadata, decoded.encoding, decoded.guessed)


def _mend(tree: Any) -> None:
    """Put the words in place of each complaint that a role or a directive is unknown."""
    from docutils import nodes

    for node in list(tree.findall(nodes.problematic)):
        named = _TARGET.sub("", _ROLE.sub(r"\1", node.astext()).lstrip("~!"))
        node.parent.replace(node, nodes.Text(named))
    for node in list(tree.findall(nodes.system_message)):
        sources = [block.astext() for block in node.findall(nodes.literal_block)]
        words = [paragraph for source in sources for paragraph in _held(source)]
        if node.parent is not None:
            node.parent.replace(node, [nodes.paragraph("", paragraph) for paragraph in words])


def _held(source: str) -> list[str]:
    """The paragraphs that the source of an unknown directive holds."""
    first, _, rest = source.partition("\n")
    found = _DIRECTIVE.match(first)
    if found is None or _MUTE.fullmatch(found.group(1)):
        return []
    content = re.sub(r"\A(?::[\w-]+:.*\n?)+", "", dedent(rest)).strip("\n")
    words = [found.group(2), *re.split(r"\n\s*\n", content)]
    return [_ROLE.sub(r"\1", one_line(paragraph)) for paragraph in words if paragraph.strip()]


def _has_title(tree: Any) -> bool:
    from docutils import nodes

    return bool(tree.children) and isinstance(tree[0], nodes.title)


def _about(tree: Any) -> dict[str, Any]:
    """The title, and the fields at the top of the file."""
    from docutils import nodes

    said: dict[str, str] = {}
    for info in list(tree.findall(nodes.docinfo)):
        for each in info.children:
            name = each.tagname if each.tagname != "field" else each[0].astext().casefold()
            said.setdefault(name, each.astext() if each.tagname != "field" else each[1].astext())
        info.parent.remove(info)
    date = said.get("date")
    return told(
        title=tree[0].astext() if _has_title(tree) else None,
        author=said.get("author") or said.get("authors"),
        date=None if date is None else moment(one_line(date)) or date,
        language=said.get("language"),
    )
