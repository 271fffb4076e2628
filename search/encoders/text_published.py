"""What the model cards of some checkpoints say and their files do not: prompts for queries and documents, and pooling.

Without them these models answer, and answer worse, and nothing tells. Each is as the model's card on the Hugging Face
hub (huggingface.co/ORGANISATION/NAME, section "Usage") gives it:

- intfloat/e5-small-v2, intfloat/multilingual-e5-base and their kin: "query: " and "passage: ", mean of the tokens.
- intfloat/multilingual-e5-large-instruct: an instruction with the task before each query, here the card's own for
  retrieval; mean of the tokens.
- BAAI/bge-small-en-v1.5 and the other English ones, BAAI/bge-large-zh-v1.5 and the other Chinese ones: an instruction
  before each query, none before documents; the first token. BAAI/bge-m3: none; the first token.
- thenlper/gte-small, -base, -large: none; the mean.
- nomic-ai/nomic-embed-text-v1, v1.5 and v2-moe: "search_query: " and "search_document: "; the mean.
- Snowflake/snowflake-arctic-embed-xs, -s, -m, -m-v1.5, -m-long, -l: an instruction before each query;
  snowflake-arctic-embed-m-v2.0 and -l-v2.0: "query: "; the first token of all.
- mixedbread-ai/mxbai-embed-large-v1 and -2d-large-v1: an instruction before each query; the first token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ENGLISH = "Represent this sentence for searching relevant passages: "
_CHINESE = "为这个句子生成表示以用于检索相关文章："
_TASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
_CACHED = re.compile(r"models--([^/]+?)--([^/]+)")  # how the hub's cache names the folder of a model


@dataclass(frozen=True, slots=True)
class Published:
    """What a card says: what stands before queries and before documents, and the pooling."""

    query: str = ""
    document: str = ""
    pooling: str = "mean"


_CARDS: tuple[tuple[str, str, Published], ...] = (
    (
        "intfloat",
        r"(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?",
        Published("query: ", "passage: "),
    ),
    ("intfloat", r"multilingual-e5-large-instruct", Published(_TASK)),
    ("BAAI", r"bge-(small|base|large)-en(-v1\.5)?", Published(_ENGLISH, pooling="cls")),
    ("BAAI", r"bge-(small|base|large)-zh(-v1\.5)?", Published(_CHINESE, pooling="cls")),
    ("BAAI", r"bge-m3", Published(pooling="cls")),
    ("thenlper", r"gte-(small|base|large)", Published()),
    ("nomic-ai", r"nomic-embed-text-(v1|v1\.5|v2-moe)", Published("search_query: ", "search_document: ")),
    ("Snowflake", r"snowflake-arctic-embed-(xs|s|m|m-v1\.5|m-long|l)", Published(_ENGLISH, pooling="cls")),
    ("Snowflake", r"snowflake-arctic-embed-(m|l)-v2\.0", Published("query: ", pooling="cls")),
    ("mixedbread-ai", r"mxbai-embed-(large|2d-large)-v1", Published(_ENGLISH, pooling="cls")),
)


def published(model: str, folder: Path) -> Published | None:
    """What the card of a model says, where it is one of those above; else None.

    Args:
        model: as the user named it. Of the hub it counts with its organisation: others may have trained further what
            they named alike.
        folder: where its files are. A folder that the user named counts by its own name (models/e5-small-v2), or as the
            hub's cache names it (models--intfloat--e5-small-v2/snapshots/…).
    """
    organisation, name = _named(model, folder)
    for owner, pattern, card in _CARDS:
        if organisation in (None, owner.lower()) and re.fullmatch(pattern, name, re.IGNORECASE):
            return card
    return None


def _named(model: str, folder: Path) -> tuple[str | None, str]:
    for part in reversed(folder.parts):
        if found := _CACHED.fullmatch(part):
            return found[1].lower(), found[2]
    if not Path(model).expanduser().is_dir() and model.count("/") == 1:
        organisation, _, name = model.partition("/")
        return organisation.lower(), name
    return None, folder.name
