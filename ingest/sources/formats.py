"""Which format an input has, by its name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module

from search.errors import MissingExtra


class Format(StrEnum):
    """What an input holds once it is unpacked."""

    TEXT = "plain text"
    MARKDOWN = "Markdown"
    RST = "reStructuredText"
    HTML = "HTML"
    PDF = "PDF"
    DOCX = "Word"
    EPUB = "EPUB"
    EMAIL = "e-mail"
    LINES = "JSON lines"
    JSON = "JSON"
    CSV = "CSV"
    TSV = "TSV"
    PARQUET = "Parquet"
    ZIP = "zip archive"
    TAR = "tar archive"


class Packing(StrEnum):
    """How a whole input is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "Zstandard"


_FORMATS = {
    ".txt": Format.TEXT,
    ".md": Format.MARKDOWN,
    ".rst": Format.RST,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".pdf": Format.PDF,
    ".docx": Format.DOCX,
    ".epub": Format.EPUB,
    ".eml": Format.EMAIL,
    ".jsonl": Format.LINES,
    ".ndjson": Format.LINES,
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".parquet": Format.PARQUET,
    ".zip": Format.ZIP,
    ".tar": Format.TAR,
}
_PACKINGS = {".gz": Packing.GZIP, ".zst": Packing.ZSTD}
_SHORT = {".tgz": ".tar.gz", ".tzst": ".tar.zst"}

TABLES = frozenset({Format.LINES, Format.JSON, Format.CSV, Format.TSV, Format.PARQUET})
ARCHIVES = frozenset({Format.ZIP, Format.TAR})
DOCUMENTS = frozenset(Format) - TABLES - ARCHIVES

NAMES = (*_FORMATS, *_PACKINGS)  # for messages

# What cannot be read without an extra: the module, and the extra that brings it.
_NEEDS = {
    Format.RST: ("docutils", "files"),
    Format.PDF: ("pypdf", "files"),
    Format.DOCX: ("docx", "files"),
    Format.PARQUET: ("pyarrow", "parquet"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A format, and how it is packed."""

    format: Format
    packing: Packing = Packing.NONE

    @property
    def is_table(self) -> bool:
        """Whether it holds many records."""
        return self.format in TABLES

    @property
    def is_archive(self) -> bool:
        """Whether it holds files."""
        return self.format in ARCHIVES

    def require(self) -> None:
        """Raises MissingExtra where the packages that read this kind are not installed."""
        needs = [_NEEDS[self.format]] if self.format in _NEEDS else []
        if self.packing is Packing.ZSTD:
            needs.append(("zstandard", "files"))
        for module, extra in needs:
            try:
                import_module(module)
            except ImportError as error:
                what = self.packing if module == "zstandard" else self.format
                raise MissingExtra(f"reading {what}", extra) from error


def kind_of(name: str) -> Kind | None:
    """The kind of an input of this name, by its suffixes; None if it is none of ours."""
    folded = name.casefold()
    for short, long in _SHORT.items():
        if folded.endswith(short):
            folded = folded.removesuffix(short) + long
    packing = next((each for suffix, each in _PACKINGS.items() if folded.endswith(suffix)), None)
    if packing is not None:
        folded = folded.rpartition(".")[0]
    dot = folded.rfind(".")
    format = _FORMATS.get(folded[dot:]) if dot >= 0 else None
    if format is None or (format is Format.ZIP and packing):
        return None
    return Kind(format, packing or Packing.NONE)
