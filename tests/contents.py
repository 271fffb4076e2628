"""All that a collection holds, read plainly from its tables, to compare two of them bit for bit."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.collection import Collection


@dataclass
class Contents:
    """A record: its fields, its parts with the bytes of their vectors, and their sources, by space."""

    kind: str | None
    uri: str | None
    text: str | None
    metadata: str  # as it is stored, so that true is not 1 and the order of fields counts
    vectors: dict[str, list[tuple[tuple[Any, ...], bytes]]] = field(default_factory=dict)
    sources: dict[str, tuple[bytes, str]] = field(default_factory=dict)


def contents(c: Collection) -> dict[str, Contents]:
    """What the collection holds, by id, in the order of its records."""
    with sqlite3.connect(f"file:{c.layout.catalog}?mode=ro", uri=True) as db:
        db.execute("begin")
        spaces = {key: (name, dim) for key, name, dim in db.execute("select key, name, dim from space")}
        rows: dict[int, bytes] = {}
        for space_key, keys, vectors in db.execute("select space_key, part_keys, vectors from batch"):
            matrix = np.frombuffer(vectors, "<f4").reshape(-1, spaces[space_key][1])
            rows |= {
                int(key): row.tobytes() for key, row in zip(np.frombuffer(keys, "<i8"), matrix, strict=True)
            }
        ids: dict[int, str] = {}
        held: dict[str, Contents] = {}
        for key, id, *fields in db.execute(
            "select key, id, kind, uri, text, metadata from record order by key"
        ):
            ids[key] = id
            held[id] = Contents(*fields)
        for key, record, space, start, end, box, *told in db.execute(
            'select key, record_key, space_key, start, "end", box, label, score from part order by key'
        ):
            piece = (start, end, None if box is None else tuple(map(float, json.loads(box))), *told)
            held[ids[record]].vectors.setdefault(spaces[space][0], []).append((piece, rows[key]))
        for space, record, digest, origin in db.execute("select * from synced"):
            held[ids[record]].sources[spaces[space][0]] = (digest, origin)
    db.close()
    return held


def spaces(c: Collection) -> dict[str, tuple[Any, ...]]:
    """The spaces by name: what they are, their probes and the model that was learned for them."""
    with sqlite3.connect(f"file:{c.layout.catalog}?mode=ro", uri=True) as db:
        models = dict(db.execute("select sha256, data from model"))
        found = {
            name: (modality, dim, metric, json.loads(encoder), probes)
            for name, modality, dim, metric, encoder, probes in db.execute(
                "select name, modality, dim, metric, encoder, probes from space order by key"
            )
        }
    db.close()
    return {name: (*told, models.get(told[3]["weights"])) for name, told in found.items()}
