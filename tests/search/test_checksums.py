"""Checksums of rows: what they are over, and that rows from before there were any get theirs."""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path

import numpy as np
import pytest

import search
from search.catalog import checksums, migrations
from search.catalog.database import Database, Transaction
from search.catalog.packing import pack
from search.types import EncoderSpec, Modality
from search.vectors import Batch

ROW = (7, "id", "kind", None, "text", '{"a":1}')


def test_it_is_over_the_json_of_the_values() -> None:
    """As the standard library writes it, so that any program can work it out in any year."""
    assert checksums.of((7, "é", None, "", 'say "a\\b"')) == zlib.crc32(
        '[7,"é",null,"","say \\"a\\\\b\\""]'.encode()
    )
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10400)]))
    said = json.dumps([-(1 << 63), every], ensure_ascii=False, separators=(",", ":"))
    assert checksums.of((-(1 << 63), every)) == zlib.crc32(said.encode())


def test_a_row_fits_its_own_checksum_alone() -> None:
    good = checksums.of(ROW)
    checksums.check_record((*ROW, good))
    others = [
        (8, *ROW[1:]),
        (7, "id", "kind", "", "text", '{"a":1}'),
        (7, "idk", "ind", None, "text", '{"a":1}'),
        (7, "id", None, "kind", "text", '{"a":1}'),
        (7, "id", "kind", None, "text{", '"a":1}'),
        (7, "id", "kind", None, b"text", '{"a":1}'),
        (7, "id", "kind", None, 5, '{"a":1}'),
        (7, "id", "kind", None, "t\udcffxt", '{"a":1}'),
    ]
    for row in others:
        with pytest.raises(search.CollectionCorrupt, match=r"record \d \('idk?'\) does not match.*restore"):
            checksums.check_record((*row, good))
    for wrong in (None, good ^ 1, "x"):
        with pytest.raises(search.CollectionCorrupt):
            checksums.check_record((*ROW, wrong))


def test_rows_of_the_first_format_get_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_AT_ONCE", 3)
    path = tmp_path / "c" / "catalog.sqlite"
    path.parent.mkdir()
    database = Database(path, read_only=False)
    with database.writing() as transaction:
        _of_the_first_format(transaction)
    database.close()
    with search.open(path.parent) as shop:
        assert shop.check() == []
        assert shop.get(["r0", "r7"]) == [
            search.Record(f"r{i}", None, f"file{i}", "é" * i, {"i": i, "long": 10**30}) for i in (0, 7)
        ]
        (hit, *_) = shop.search(vector=[0.0, 1.0])
        assert (hit.id, hit.text, hit.part) == ("r1", "é", {"start": 0, "end": 1})
    connection = sqlite3.connect(path)
    assert connection.execute("select count(*) from record where checksum <> 0").fetchone() == (8,)
    connection.execute("update record set text = 'e' where id = 'r1'")
    connection.commit()
    connection.close()
    with search.open(path.parent, "r") as shop, pytest.raises(search.CollectionCorrupt, match="'r1'"):
        shop.get("r1")


def _of_the_first_format(transaction: Transaction) -> None:
    migrations._first(transaction)
    for i in range(8):
        said = json.dumps({"i": i, "long": 10**30})
        transaction.sql(
            "insert into record values (?, ?, null, ?, ?, ?)", (i + 1, f"r{i}", f"file{i}", "é" * i, said)
        )
    for name in ("i", "long"):
        transaction.sql("insert into field values (?)", (name,))
    encoder = json.dumps(EncoderSpec("given", "given", Modality.VECTOR, 2).to_json())
    transaction.sql(
        "insert into space (name, modality, dim, metric, encoder) values ('v', 'vector', 2, 'cosine', ?)",
        (encoder,),
    )
    transaction.sql("insert into part values (1, 1, 1, null, null, null)")
    transaction.sql("insert into part values (2, 2, 1, 0, 1, null)")
    keys = np.array([1, 2], np.int64)
    packed = pack(Batch(keys, keys, np.eye(2, dtype=np.float32)))
    transaction.sql(
        "insert into batch values (1, 1, 1, 2, ?, ?, ?, ?)",
        (bytes(packed.part_keys), bytes(packed.record_keys), bytes(packed.vectors), packed.checksum),
    )
    transaction.sql("update state set commit_seq = 1, next_record = 9, next_part = 3")
    transaction.sql("insert into migration values (1, '2026-01-01')")
    transaction.sql("pragma user_version = 1")
