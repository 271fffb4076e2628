"""Word documents (.docx) as Markdown-like text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from ingest.sources.archives import check_zip
from ingest.sources.dates import iso
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
from search.errors import MissingExtra

_OLE = b"\xd0\xcf\x11\xe0"  # what an encrypted .docx and an old .doc begin with
_CODE = re.compile(r"code|preformatted|listing|macro", re.IGNORECASE)
_HEADING = re.compile(r"heading ?(\d)", re.IGNORECASE)


def read_docx(file: IO[bytes]) -> Document:
    """The body of a Word document, its tables among its paragraphs; no headers, footers or comments.

    Raises:
        MissingExtra: python-docx is not installed.
        Unreadable: it is damaged, locked or empty.
        OSError: it unpacks beyond the limits.
    """
    try:
        import docx
    except ImportError as error:
        raise MissingExtra("reading Word", "files") from error
    begin = file.read(len(_OLE))
    file.seek(0)
    if begin == _OLE:
        raise Unreadable("locked with a password, or an old .doc; save it as .docx without one")
    check_zip(file)
    with reading("Word document"):
        document = docx.Document(file)
        blocks = list(_blocks(document))
        about = document.core_properties
        metadata = told(title=about.title, author=about.author, language=about.language)
        date = about.created or about.modified
        if date is not None:
            metadata["date"] = iso(date)
    text = _joined(blocks)
    if not text:
        raise Unreadable("no text in it")
    return Document(text, metadata)


def _blocks(document: Any) -> Iterator[tuple[str, str]]:
    """What each paragraph and table is ("code", "item" or another word), and its text."""
    from docx.table import Table

    for inner in document.iter_inner_content():
        if isinstance(inner, Table):
            yield "table", table(_cells(row) for row in inner.rows)
        else:
            yield _paragraph(inner)


def _paragraph(paragraph: Any) -> tuple[str, str]:
    names = [f"{style.style_id} {style.name}" for style in _styles(paragraph.style)]
    text = paragraph.text
    for name in names:
        if found := _HEADING.search(name):
            return "heading", heading(int(found.group(1)), text)
        if name.casefold().startswith("title "):
            return "heading", heading(1, text)
        if _CODE.search(name):
            return "code", text
    numbering = paragraph._p.pPr is not None and paragraph._p.pPr.numPr is not None
    numbered = any("listnumber" in name.replace(" ", "").casefold() for name in names)
    if numbering or numbered or any("listbullet" in name.replace(" ", "").casefold() for name in names):
        level = paragraph._p.pPr.numPr.ilvl if numbering else None
        depth = int(level.val) if level is not None else 0
        words = one_line(text)
        return "item", f"{'  ' * depth}{'1.' if numbered else '-'} {words}" if words else ""
    return "text", "\n".join(line for part in text.splitlines() if (line := one_line(part)))


def _styles(style: Any) -> Iterator[Any]:
    """The style and those that it is based on; a file may have them in a circle."""
    for _ in range(10):
        if style is None:
            return
        yield style
        style = style.base_style


def _cells(row: Any) -> list[str]:
    """The text of each cell, a merged one once."""
    seen: list[Any] = []
    for cell in row.cells:
        if not any(cell._tc is other._tc for other in seen):
            seen.append(cell)
    return [cell.text for cell in seen]


def _joined(blocks: list[tuple[str, str]]) -> str:
    out: list[str] = []
    code: list[str] = []
    before = ""
    for what, text in [*blocks, ("end", "")]:
        if what == "code":
            code.append(text)
            continue
        if code:
            out.append(fenced("\n".join(code)))
            code, before = [], "code"
        if not text:
            continue
        if what == before == "item":
            out[-1] += "\n" + text
        else:
            out.append(text)
        before = what
    return "\n\n".join(block for block in out if block)
