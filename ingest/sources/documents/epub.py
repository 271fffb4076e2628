"""EPUB books as Markdown-like text, chapter after chapter in reading order."""

from __future__ import annotations

import posixpath
import zipfile
from typing import IO, Any
from urllib.parse import unquote

from ingest.sources import lines
from ingest.sources.archives import check_zip
from ingest.sources.dates import moment
from ingest.sources.documents.contract import Document, Unreadable, one_line, reading, told
from ingest.sources.documents.html import as_text, declared, parse
from ingest.sources.encodings import decode

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = ("application/xhtml+xml", "text/html")


def read_epub(file: IO[bytes]) -> Document:
    """The chapters of a book, in the order of its spine.

    Raises:
        Unreadable: it is damaged, locked (DRM) or has no text.
        OSError: it unpacks beyond the limits.
    """
    check_zip(file)
    with reading("EPUB"), zipfile.ZipFile(file) as book:
        package_path = _first(_tree(book, _CONTAINER), "rootfile").get("full-path")
        package = _tree(book, package_path)
        chapters = _chapters(package, posixpath.dirname(package_path))
        names = set(book.namelist())
        locked = _locked(book) if _ENCRYPTION in names else frozenset()
        if locked & set(chapters):
            raise Unreadable("locked by its seller (DRM)")
        missing = [name for name in chapters if name not in names]
        texts = [_chapter(book, name) for name in chapters if name in names]
        metadata = _about(package)
    text = "\n\n".join(text for text in texts if text)
    if missing:
        raise Unreadable(f"damaged: {missing[0]} is missing")
    if not text:
        raise Unreadable("no text in it")
    return Document(text, metadata)


def _read(book: zipfile.ZipFile, name: str) -> bytes:
    if book.getinfo(name).file_size > lines.MOST_BYTES:
        raise Unreadable(f"a part of more than {lines.MOST_BYTES // 2**20} MiB")
    return book.read(name)


def _tree(book: zipfile.ZipFile, name: str) -> Any:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    return etree.fromstring(_read(book, name), parser=parser)


def _first(tree: Any, name: str) -> Any:
    return next(tree.iter(f"{{*}}{name}"))


def _chapters(package: Any, folder: str) -> list[str]:
    """The names of the pages in reading order."""
    items = {item.get("id"): item for item in package.iter("{*}item")}
    pages = [items.get(ref.get("idref")) for ref in package.iter("{*}itemref")]
    return [
        posixpath.normpath(posixpath.join(folder, unquote(page.get("href"))))
        for page in pages
        if page is not None
        and page.get("media-type") in _PAGES
        and "nav" not in (page.get("properties") or "").split()
    ]


def _chapter(book: zipfile.ZipFile, name: str) -> str:
    data = _read(book, name)
    if not data.strip():
        return ""
    root = parse(decode(data, declared(data)).text)
    body = root.find(".//body")
    return as_text(root if body is None else body)


def _locked(book: zipfile.ZipFile) -> frozenset[str]:
    """What is encrypted; fonts often are, though the book is not."""
    return frozenset(
        unquote(each.get("URI") or "") for each in _tree(book, _ENCRYPTION).iter("{*}CipherReference")
    )


def _about(package: Any) -> dict[str, Any]:
    def said(name: str) -> str | None:
        values = [
            one_line(each.text or "") for each in package.iter(f"{{http://purl.org/dc/elements/1.1/}}{name}")
        ]
        return (
            ", ".join(value for value in values[:10] if value)
            if name == "creator"
            else next(iter(values), None)
        )

    date = said("date")
    return told(
        title=said("title"),
        author=said("creator"),
        date=None if date is None else moment(date) or date,
        language=said("language"),
    )
