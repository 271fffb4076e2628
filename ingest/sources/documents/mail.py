"""E-mail (.eml): the subject as a heading, the text below it; attachments are named, not read."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import cast

from ingest.sources.dates import iso
from ingest.sources.documents.contract import Document, Unreadable, heading, one_line, reading, told
from ingest.sources.documents.html import as_text, parse
from ingest.sources.encodings import Decoded, decode
from search.types import Json


def read_mail(data: bytes) -> Document:
    """A message: its plain text, or else its HTML.

    Raises:
        Unreadable: it is no message, or has no text.
    """
    with reading("e-mail"):
        message = message_from_bytes(data, policy=policy.default)
        headers = {
            name: one_line(str(message.get(name, ""))) for name in ("subject", "from", "to", "cc", "date")
        }
        body = message.get_body(("plain", "html"))
        attached = [
            one_line(part.get_filename() or part.get_content_type()) for part in message.iter_attachments()
        ]
        decoded = None if body is None else _content(cast("EmailMessage", body))
        is_html = body is not None and body.get_content_type() == "text/html"
    if not headers["from"] and not headers["subject"] and not headers["date"]:
        raise Unreadable("no e-mail: it has no From, Subject or Date")
    text = "" if decoded is None else decoded.text.replace("\r\n", "\n").strip()
    if is_html and text:
        text = as_text(parse(text))
    metadata = told(
        title=headers["subject"],
        author=headers["from"],
        to=headers["to"],
        cc=headers["cc"],
        date=_date(headers["date"]),
        language=str(message.get("content-language", "")),
    )
    if attached:
        metadata["attachments"] = cast("Json", attached)
    text = "\n\n".join(block for block in (heading(1, headers["subject"]), text) if block)
    if not text:
        raise Unreadable("no text in it" + (f"; attached: {', '.join(attached[:10])}" if attached else ""))
    encoding, guessed = (decoded.encoding, decoded.guessed) if decoded else (None, False)
    return Document(text, metadata, encoding, guessed)


def _content(part: EmailMessage) -> Decoded:
    payload = part.get_payload(decode=True)
    return decode(payload if isinstance(payload, bytes) else b"", part.get_content_charset())


def _date(written: str) -> str | None:
    try:
        return iso(parsedate_to_datetime(written))
    except (ValueError, TypeError):
        return written or None
