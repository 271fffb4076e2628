"""Which reader reads which format of document."""

from __future__ import annotations

from ingest.sources.documents.contract import Document, Unreadable
from ingest.sources.encodings import decode, mark_of
from ingest.sources.formats import Format
from ingest.sources.inputs import Input

# What files begin with that are called .txt but are no text.
_FOREIGN = (
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF87a", "a GIF picture"),
    (b"GIF89a", "a GIF picture"),
    (b"%PDF-", "a PDF; call it .pdf"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
)


def read_document(input: Input) -> Document:
    """The document that stands in this input.

    Raises:
        Unreadable: it is none, or there is no text in it.
        OSError: it cannot be read, or is too large.
        MissingExtra: it needs a package that is not installed.
    """
    match input.kind.format:
        case Format.PDF:
            from ingest.sources.documents.pdf import read_pdf

            with input.seekable() as file:
                return read_pdf(file)
        case Format.DOCX:
            from ingest.sources.documents.docx import read_docx

            with input.seekable() as file:
                return read_docx(file)
        case Format.EPUB:
            from ingest.sources.documents.epub import read_epub

            with input.seekable() as file:
                return read_epub(file)
    data = input.read()
    if not data:
        raise Unreadable("empty file")
    match input.kind.format:
        case Format.HTML:
            from ingest.sources.documents.html import read_html

            return read_html(data)
        case Format.EMAIL:
            from ingest.sources.documents.mail import read_mail

            return read_mail(data)
    _refuse_binary(data)
    if input.kind.format is Format.RST:
        from ingest.sources.documents.rst import read_rst

        return read_rst(data)
    decoded = decode(data)
    if not decoded.text.strip():
        raise Unreadable("nothing but white space")
    is_markdown = input.kind.format is Format.MARKDOWN
    return Document(decoded.text, {}, decoded.encoding, decoded.guessed, markup=is_markdown)


def _refuse_binary(data: bytes) -> None:
    for begin, what in _FOREIGN:
        if data.startswith(begin):
            raise Unreadable(f"not text: it is {what}")
    if mark_of(data) is None and b"\0" in data:
        raise Unreadable("not text: it has NUL bytes")
