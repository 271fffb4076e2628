"""HTML as Markdown-like text: headings, lists, tables and code stay, scripts, styles and navigation go."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ingest.sources.dates import moment
from ingest.sources.documents.contract import (
    Document,
    Unreadable,
    fenced,
    heading,
    one_line,
    reading,
    table,
    told,
)
from ingest.sources.encodings import decode

_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")  # it may name another encoding than this text is in by now
_HEAD = 4096
_LANGUAGE = re.compile(r"(?:language|lang|highlight)-([\w+#-]+)|\bcode ([\w+#-]+)")

_DROPPED = frozenset(
    (
        *(
            "script",
            "style",
            "noscript",
            "template",
            "nav",
            "svg",
            "head",
            "iframe",
            "object",
            "embed",
            "audio",
        ),
        *("video", "canvas", "button", "select", "input", "textarea", "map", "dialog", "menu"),
    )
)
_BLOCKS = frozenset(
    (
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "center",
            "dd",
            "details",
            "div",
            "dl",
            "dt",
            "hr",
        ),
        *(
            "fieldset",
            "figcaption",
            "figure",
            "footer",
            "form",
            "header",
            "html",
            "main",
            "p",
            "section",
            "summary",
        ),
        *("table", "tbody", "thead", "tfoot", "caption", "tr", "td", "th", "ul", "ol", "li", "pre"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
    )
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_ROLES = frozenset({"navigation", "search", "menu", "menubar", "banner", "contentinfo"})
_AUTHORS = ("author", "article:author", "dc.creator", "dcterms.creator", "citation_author")
_DATES = (
    "article:published_time",
    "date",
    "dc.date",
    "dcterms.date",
    "dcterms.created",
    "citation_publication_date",
)


def read_html(data: bytes) -> Document:
    """An HTML page: its main part where it has one, else all of its body.

    Raises:
        Unreadable: there is no text in it.
    """
    decoded = decode(data, declared(data))
    root = parse(decoded.text)
    metadata = _about(root)
    text = as_text(_main(root))
    if not text:
        text = as_text(root)
    if not text:
        raise Unreadable("no text in it: what it shows may be made by its scripts")
    title = metadata.get("title")
    if isinstance(title, str) and not re.search(r"^# ", text, re.MULTILINE):
        text = f"{heading(1, title)}\n\n{text}"
    return Document(text, metadata, decoded.encoding, decoded.guessed)


def declared(data: bytes) -> str | None:
    """The encoding that a page's first bytes declare, if any."""
    found = _DECLARED.search(data[:_HEAD])
    return found.group(1).decode("ascii") if found else None


def parse(text: str) -> Any:
    """The tree of an HTML or XHTML page.

    Raises:
        Unreadable: there is nothing in it.
    """
    import lxml.html

    parser = lxml.html.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=True, remove_comments=True, remove_pis=True
    )
    with reading("HTML"):
        root = lxml.html.document_fromstring(
            _DECLARATION.sub("", text).encode("utf-8", "replace"), parser=parser
        )
    if root is None:
        raise Unreadable("nothing in it")
    return root


def as_text(element: Any) -> str:
    """The Markdown-like text of an element of a page and all below it."""
    from lxml import etree

    page = _Page()
    walk = etree.iterwalk(element, events=("start", "end"))
    for event, node in walk:
        if event == "start":
            if node is not element and _is_dropped(node):
                walk.skip_subtree()
            else:
                page.start(node)
                page.add(node.text)
        else:
            if node is element or not _is_dropped(node):
                page.end(node)
            if node is not element:
                page.add(node.tail)
    return page.text()


def _is_dropped(node: Any) -> bool:
    if not isinstance(node.tag, str) or node.tag in _DROPPED:
        return True
    get = node.get
    if get("hidden") is not None or get("aria-hidden") == "true" or get("role") in _ROLES:
        return True
    if node.tag == "a" and "headerlink" in (get("class") or ""):
        return True
    parent = node.getparent()  # a page's own footer, not an article's
    return node.tag == "footer" and parent is not None and parent.tag == "body"


def _main(root: Any) -> Any:
    found = root.xpath("//main | //*[@role='main']")
    if len(found) == 1:
        return found[0]
    body = root.find(".//body")
    return root if body is None else body


def _about(root: Any) -> dict[str, Any]:
    """What the page says of itself."""
    said: dict[str, str] = {}
    for meta in root.iter("meta"):
        name = (meta.get("name") or meta.get("property") or "").casefold()
        said.setdefault(name, meta.get("content") or "")
    title = root.find(".//head/title")
    date = next((said[name] for name in _DATES if said.get(name)), None)
    return told(
        title=(title.text_content() if title is not None else None) or said.get("og:title"),
        author=next((said[name] for name in _AUTHORS if said.get(name)), None),
        date=None if date is None else moment(one_line(date)) or date,
        language=root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang"),
    )


@dataclass(slots=True)
class _List:
    """A list that is open: the number of its next item, None where they have none."""

    number: int | None


@dataclass(slots=True)
class _Page:
    """Blocks of text that grow while a page is walked through."""

    blocks: list[str] = field(default_factory=list)  # and what stands between them
    in_list: bool = False  # the last block was an item of the list that is open
    pieces: list[str] = field(default_factory=list)
    lists: list[_List] = field(default_factory=list)
    marker: str = ""
    quoted: int = 0
    pre: bool = False
    language: str = ""
    rows: list[list[str]] | None = None  # of the table that is open

    def add(self, text: str | None) -> None:
        """Text of the element that is open."""
        if text:
            self.pieces.append(text)

    def start(self, node: Any) -> None:
        """An element begins."""
        tag = node.tag
        if tag == "br":
            self.pieces.append("\n" if self.pre else "\v")
        elif tag == "img":
            self.add(node.get("alt"))
        if tag not in _BLOCKS or self.pre:
            if tag == "code" and self.pre:
                self.language = self.language or _language(node)
            return
        if self.rows is not None:
            self._start_in_table(tag)
            return
        self.flush()
        if tag == "pre":
            self.pre, self.language = True, _language(node)
        elif tag in ("ul", "ol"):
            self.in_list = self.in_list and bool(self.lists)
            begin = node.get("start") or "1"
            self.lists.append(_List(None if tag == "ul" else int(begin) if begin.isdecimal() else 1))
        elif tag == "li":
            self.marker = self._marker()
        elif tag == "blockquote":
            self.quoted += 1
        elif tag == "table" and not _is_layout(node):
            self.rows = []

    def _start_in_table(self, tag: str) -> None:
        assert self.rows is not None
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th", "caption"):
            self.pieces = []
        else:
            self.pieces.append(" ")

    def end(self, node: Any) -> None:
        """An element ends."""
        tag = node.tag
        if tag not in _BLOCKS:
            return
        if self.pre:
            if tag == "pre":
                self.block(fenced("".join(self.pieces), self.language))
                self.pieces, self.pre, self.language = [], False, ""
            return
        if self.rows is not None:
            self._end_in_table(tag)
            return
        self.flush(_HEADINGS.get(tag, 0))
        if tag in ("ul", "ol") and self.lists:
            self.lists.pop()
        elif tag == "li":
            self.marker = ""
        elif tag == "blockquote":
            self.quoted = max(self.quoted - 1, 0)

    def _end_in_table(self, tag: str) -> None:
        assert self.rows is not None
        if tag in ("td", "th"):
            self.rows = self.rows or [[]]
            self.rows[-1].append("".join(self.pieces).replace("\v", " "))
            self.pieces = []
        elif tag == "caption":
            self.flush()
        elif tag == "table":
            rows, self.rows, self.pieces = self.rows, None, []
            self.block(table(rows))

    def _marker(self) -> str:
        here = self.lists[-1] if self.lists else _List(None)
        if here.number is None:
            return "- "
        here.number += 1
        return f"{here.number - 1}. "

    def flush(self, level: int = 0) -> None:
        """What has gathered becomes a block: a heading of this level, or a paragraph (0)."""
        text = "".join(self.pieces)
        self.pieces = []
        lines = [line for piece in text.split("\v") if (line := one_line(piece))]
        if not lines:
            return
        if level:
            self.block(heading(level, " ".join(lines)))
            return
        if not self.lists and not self.marker:
            self.block("\n".join(lines))
            return
        indent = "  " * max(len(self.lists) - 1, 0)
        first = indent + self.marker if self.marker else indent + "  "
        rest = indent + " " * (len(self.marker) or 2)
        tight = bool(self.marker)
        self.marker = ""
        self.block("\n".join((first if at == 0 else rest) + line for at, line in enumerate(lines)), tight)

    def block(self, text: str, tight: bool = False) -> None:
        """One more block; a tight one has no blank line between it and another such one before it."""
        if not text:
            return
        if self.quoted:
            text = "\n".join("> " + line for line in text.splitlines())
        if self.blocks:
            self.blocks.append("\n" if tight and self.in_list else "\n\n")
        self.blocks.append(text)
        self.in_list = tight

    def text(self) -> str:
        """All blocks."""
        self.flush()
        return "".join(self.blocks)


def _is_layout(node: Any) -> bool:
    """Whether a table is there to lay out a page: it holds headings, code or other tables."""
    return any(inner is not node for inner in islice(node.iter("table", "pre", *_HEADINGS), 2))


def _language(node: Any) -> str:
    """The language of code, where its class says so (`language-python`, docutils' `code python`)."""
    found = _LANGUAGE.search(node.get("class") or "")
    name = (found.group(1) or found.group(2)) if found else ""
    return "" if name in ("default", "none", "text", "literal-block") else name
