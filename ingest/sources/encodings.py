"""Bytes into text: a byte order mark, UTF-8, what the file declares, and only then the likeliest encoding."""

from __future__ import annotations

import codecs
from contextlib import suppress
from dataclasses import dataclass

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# What text on people's disks is in when it is not Unicode. Beyond these a detector's choice is mostly a twin of one
# of them (cp932 of shift_jis, cp949 of euc_kr) or chance.
_CANDIDATES = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("koi8_r", "iso8859_2", "mac_roman", "cp437"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
]
_SAMPLE = 2**16
# With fewer bytes beyond ASCII there is nothing to tell one encoding from another by.
_EVIDENCE = 8


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text, and how it was decoded.

    `encoding` is None for plain UTF-8, with or without its mark. `guessed`: neither a mark nor the file itself
    says so; it is the likeliest of several.
    """

    text: str
    encoding: str | None = None
    guessed: bool = False


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """The text of these bytes.

    A byte order mark of UTF-16 or UTF-32 decides; else it is UTF-8 if it can be; else what `declared` names; else
    the likeliest encoding (charset-normalizer). Where there is too little to tell by, every byte still has a
    meaning and nothing is lost: Windows' cp1252, or latin-1 where cp1252 has a gap.

    Raises:
        UnicodeDecodeError: the bytes are not what their byte order mark says.
    """
    marked = mark_of(data)
    if marked not in (None, "utf-8-sig"):
        return Decoded(data.decode(marked), marked)
    data = data.removeprefix(codecs.BOM_UTF8)
    named = _known(declared)
    if named is not None and named.startswith("iso2022"):  # seven bits, so that UTF-8 would not notice
        with suppress(UnicodeDecodeError):  # it is not what it says; go on as if it had said nothing
            return Decoded(data.decode(named), named)
    with suppress(UnicodeDecodeError):  # the next ones are tried
        return Decoded(data.decode("utf-8"))
    if named is not None and named != "utf-8":
        try:
            return Decoded(data.decode(named), named)
        except UnicodeDecodeError:
            named = None
    encoding = likeliest(data)
    return Decoded(*decode_as(data, encoding), guessed=True)


def decode_as(data: bytes, encoding: str) -> tuple[str, str]:
    """The text of bytes that are not UTF-8, by this encoding where it fits, and the one that was taken."""
    for each in (encoding, "cp1252"):
        try:
            return data.decode(each), each
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), "latin-1"


def likeliest(data: bytes) -> str:
    """The likeliest encoding of bytes that are not UTF-8; cp1252 where it says the same or as much for itself."""
    sample = data if len(data) <= _SAMPLE else _densest(data)
    if len(sample.translate(None, bytes(range(128)))) < _EVIDENCE:
        return "cp1252"
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=_CANDIDATES)
    best = matches.best()
    if best is None:
        return "cp1252"
    for match in matches:
        alike = str(match) == str(best) or (match.chaos <= best.chaos and match.coherence >= best.coherence)
        if match.encoding == "cp1252" and alike:
            return "cp1252"
    # Matches that read alike are folded into one.
    return "cp1252" if "cp1252" in best.could_be_from_charset else best.encoding


def _densest(data: bytes) -> bytes:
    """The stretch of the data from its first byte beyond ASCII on, to whole lines."""
    first = next(at for at, byte in enumerate(data) if byte > 127)
    begin = data.rfind(b"\n", 0, first) + 1
    begin = begin if first - begin < _SAMPLE // 2 else first
    end = data.rfind(b"\n", begin, begin + _SAMPLE) + 1
    return data[begin : end if end > begin else begin + _SAMPLE]


def mark_of(data: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning tells of, or None without one."""
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)


def _known(declared: str | None) -> str | None:
    """Python's name of a declared encoding; browsers take latin-1 and ASCII for cp1252, as their writers did."""
    if declared is None:
        return None
    try:
        name = codecs.lookup(declared.strip()).name
        b"".decode(name)
    except (LookupError, ValueError):
        return None
    return "cp1252" if name in ("iso8859-1", "ascii") else name
