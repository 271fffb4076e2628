"""PDF as text, page after page; a PDF does not say what is a heading, so this is plain text."""

from __future__ import annotations

import logging
import re
from typing import IO

from ingest.sources import lines
from ingest.sources.dates import iso
from ingest.sources.documents.contract import Document, Unreadable, reading, told
from search.errors import MissingExtra

_HYPHENATED = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[a-zß-öø-ÿ])")
_HALVES = re.compile("[\ud800-\udfff]")


def read_pdf(file: IO[bytes]) -> Document:
    """The text layer of a PDF; words that were divided at the end of a line are put together.

    Raises:
        MissingExtra: pypdf is not installed.
        Unreadable: it is damaged, locked, or has no text layer.
    """
    try:
        import pypdf
    except ImportError as error:
        raise MissingExtra("reading PDF", "files") from error
    # It warns of each oddity of each file; whoever asked for logs still gets them.
    log = logging.getLogger("pypdf")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    with reading("PDF"):
        reader = pypdf.PdfReader(file)
        # Many are encrypted with no password, only to forbid printing; those open with an empty one.
        locked = reader.is_encrypted and not reader.decrypt("")
    if locked:
        raise Unreadable("locked with a password; save it without one")
    pages: list[str] = []
    size = 0
    with reading("PDF"):
        for page in reader.pages:
            pages.append(_HALVES.sub("\ufffd", page.extract_text()).strip())
            size += len(pages[-1])
            if size > lines.MOST_BYTES:
                raise Unreadable(f"more than {lines.MOST_BYTES // 2**20} MiB of text; split it")
        about = reader.metadata
        metadata = told(title=about.title, author=about.author) if about else {}
        language = reader.root_object.get("/Lang")
        metadata |= told(language=str(language) if language else None)
    try:
        created = about.creation_date if about else None
    except ValueError:  # a date that is none says nothing
        created = None
    if created is not None:
        metadata["date"] = iso(created)
    text = "\n\n".join(page for page in pages if page)
    if not text.strip():
        raise Unreadable(
            f"no text layer in its {len(pages)} pages: scanned, needs OCR" if pages else "no pages in it"
        )
    return Document(_HYPHENATED.sub("", text), metadata | {"pages": len(pages)}, markup=False)
