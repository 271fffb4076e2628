"""What is exported comes back without loss, other programs read it, and a bad file changes nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import search
from search.catalog import reads
from search.catalog.part_writes import Provenance
from search.collection import Collection
from search.exchange import gather, lines
from search.types import WHOLE, EncoderSpec, Metric, Modality, Part, Record
from tests.contents import contents, spaces

FORMATS = ("parquet", "jsonl")
METADATA: dict[str, Any] = {
    "truth": True,
    "one": 1,
    "float": 1.0,
    "tenth": 0.1,
    "tiny": 5e-324,
    "minus zero": -0.0,
    "huge": 10**40 + 1,
    "below": -(2**63) - 1,
    "null": None,
    "words": "Grüße \u2028 \0 \x1f 🐟 \"'\\ \n",
    "": {"empty name": [], "deep": [{"x": [1, "1", None, {}]}]},
}


@pytest.fixture
def shop(tmp_path: Path) -> Collection:
    """Every kind of space, part, source and metadata; the order of the vectors is not that of the records."""
    rng = np.random.default_rng(0)
    shop = search.open(tmp_path / "shop")
    with shop.writing() as writer:
        text = EncoderSpec("text", "a/b", Modality.TEXT, 3, ("text",), "ab" * 32, {"layer": -2, "x": [None]})
        probes = rng.standard_normal((3, 3)).astype(np.float32)
        passages = writer.space("text", text, probes=probes, model=None)
        model = b"\0model\xff" * 9
        digest = hashlib.sha256(model).hexdigest()
        learned = EncoderSpec("patches", "patches", Modality.IMAGE, 2, ("image",), digest)
        pictures = writer.space("dotted.name ü", learned, model=model)
        plain = writer.space("v", EncoderSpec("given", "given", Modality.VECTOR, 4), metric=Metric.DOT)
        far = writer.space("l2", EncoderSpec("given", "given", Modality.VECTOR, 1), metric=Metric.L2)
        writer.space("empty", EncoderSpec("given", "given", Modality.VECTOR, 7))

        def rows(n: int, dim: int) -> np.ndarray:
            return rng.standard_normal((n, dim)).astype(np.float32)

        some = [
            Record("all", "kind", "file:///x", "a text, of two passages", METADATA),
            Record("ü 🐟", text="", metadata={}),
            Record("bare"),
            Record("meta", kind="", uri="", metadata={"huge": "not a number here"}),
            *(Record(f"r{i}", metadata={"i": i}) for i in range(20)),
        ]
        writer.put(some, rows(24, 4) * 100, plain)
        cut = [[Part(0, 7), Part(8, 23)], [Part(0, 0)], [WHOLE]]
        writer.put(
            [some[0], some[1], Record("r7")],
            rows(4, 3),
            passages,
            parts=cut,
            provenance=[Provenance(bytes([i]) * 16, f"/data/ü/{i}") for i in range(3)],
        )
        writer.put(
            [Record("r9")], rows(2, 3), passages, parts=[[Part(0, 1), Part(1, 2)]]
        )  # of unknown source
        regions = [[Part(box=(0.1, 2.0, 3.5, 1e9), label="cup ü", score=1 / 3)], [WHOLE]]
        writer.put([Record("r3"), Record("r1")], rows(2, 2), pictures, parts=regions)
        writer.put([Record("r5"), Record("all")], rows(2, 1) * 1e6, far)
        writer.put([Record("r2"), Record("r0")], rows(2, 4), plain)  # their vectors now come last
        writer.delete(list(reads_keys(shop, "r11", "r12")))
    return shop


def reads_keys(shop: Collection, *ids: str) -> Iterator[int]:
    with shop.database.reading() as connection:
        yield from reads.keys_of(connection, ids).values()


def again(shop: Collection, folder: Path, form: str, name: str = "again") -> Collection:
    """Another collection, filled from an export of this one."""
    shop.export(folder / f"{name}.{form}", vectors=True)
    made = search.open(folder / name)
    made.import_file(folder / f"{name}.{form}")
    return made


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- without loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_everything_comes_back(shop: Collection, tmp_path: Path, form: str) -> None:
    there = again(shop, tmp_path, form)
    assert list(contents(there)) == list(contents(shop))  # in the same order
    assert contents(there) == contents(shop)
    assert spaces(there) == spaces(shop)
    assert spaces(there)["dotted.name ü"][-1] == b"\0model\xff" * 9
    (found,) = there.get("all")
    assert found is not None
    assert json.dumps(found.metadata) == json.dumps(METADATA)
    assert there.check() == []
    assert there.count("i >= 18") == 2
    assert there.origins("text") == shop.origins("text") == ["/data/ü/0", "/data/ü/1", "/data/ü/2"]
    second = again(there, tmp_path, form, "third")
    assert contents(second) == contents(shop)
    assert (tmp_path / f"third.{form}").read_bytes() == (tmp_path / f"again.{form}").read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_handfuls_are_joined_seamlessly(
    shop: Collection, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written in handfuls of 3 and read in handfuls of 5: no border may show."""
    monkeypatch.setattr(gather, "MOST_RECORDS", 3)
    shop.export(tmp_path / f"x.{form}", vectors=True)
    if form == "parquet":
        assert pq.ParquetFile(tmp_path / "x.parquet").metadata.num_row_groups == 8
        monkeypatch.setattr("search.exchange.parquet.MOST_RECORDS", 5)
    monkeypatch.setattr(lines, "_AT_ONCE", 5)
    with search.open(tmp_path / "there") as there:
        assert there.import_file(tmp_path / f"x.{form}") == {
            "records": 22,
            "added": 22,
            "updated": 0,
            "vectors": 32,
        }
        assert contents(there) == contents(shop)


@pytest.mark.parametrize("form", FORMATS)
def test_answers_are_the_same(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(1)
    rows, queries = rng.standard_normal((300, 16)), rng.standard_normal((20, 16))
    shop = search.open(tmp_path / "shop")
    order = rng.permutation(300)
    shop.add([{"id": f"r{i}", "metadata": {"i": int(i)}} for i in order], rows[order], space="v")
    shop.add([{"id": f"r{i}"} for i in range(100)], rows[:100] + 0.5, space="v")
    there = again(shop, tmp_path, form)
    for where in (None, "i < 40"):
        for mine, theirs in zip(
            shop.search(vector=queries, k=10, where=where),
            there.search(vector=queries, k=10, where=where),
            strict=True,
        ):
            assert [hit.id for hit in mine] == [hit.id for hit in theirs]
            np.testing.assert_allclose([hit.score for hit in mine], [hit.score for hit in theirs], atol=1e-6)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("chosen", "n_vectors"), [((3, 4, 5, 6, 7, 8, 9), 12), ((1, 9), 5)])
def test_some_records_and_those_alone(
    shop: Collection, tmp_path: Path, form: str, chosen: tuple[int, ...], n_vectors: int
) -> None:
    """Neighbours, and some between which others have parts of their own."""
    assert shop.export(tmp_path / f"x.{form}", vectors=True, where=f"i in {chosen}") == len(chosen)
    there = search.open(tmp_path / "there")
    told = there.import_file(tmp_path / f"x.{form}")
    assert told == {"records": len(chosen), "added": len(chosen), "updated": 0, "vectors": n_vectors}
    whole = contents(shop)
    assert contents(there) == {f"r{i}": whole[f"r{i}"] for i in chosen}
    assert spaces(there) == spaces(shop)


@pytest.mark.parametrize("form", FORMATS)
def test_records_without_vectors(shop: Collection, tmp_path: Path, form: str) -> None:
    assert shop.export(tmp_path / f"x.{form}") == 22
    there = search.open(tmp_path / "there")
    assert there.import_file(tmp_path / f"x.{form}")["vectors"] == 0
    expected = contents(shop)
    for held in expected.values():
        held.vectors, held.sources = {}, {}
    assert contents(there) == expected
    assert spaces(there) == {}


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_collection(tmp_path: Path, form: str) -> None:
    shop = search.open(tmp_path / "shop")
    there = again(shop, tmp_path, form)
    assert (there.count(), spaces(there)) == (0, {})
    shop.add([{"id": "a"}], [[1, 2]], space="v")
    shop.delete("a")
    kept = again(shop, tmp_path, form, "third")
    # A file of lines that has no line has no place for spaces.
    assert list(spaces(kept)) == (["v"] if form == "parquet" else [])


@pytest.mark.parametrize("form", FORMATS)
def test_an_import_updates_by_id_and_leaves_what_the_file_does_not_name(
    shop: Collection, tmp_path: Path, form: str
) -> None:
    before = contents(shop)
    shop.export(tmp_path / f"x.{form}", vectors=True)
    with shop.writing() as writer:
        writer.delete(list(reads_keys(shop, "r1", "bare")))
    shop.add([Record("all", text="other words", metadata={"new": 1}), Record("mine", uri="u")])
    shop.add([{"id": "r5"}, {"id": "mine"}], [[1, 1], [2, 1]], space="other")
    told = shop.import_file(tmp_path / f"x.{form}")
    assert told == {"records": 22, "added": 2, "updated": 20, "vectors": 32}
    after = contents(shop)
    assert set(after["r5"].vectors) == {"v", "other", "l2"}
    del after["r5"].vectors["other"]
    assert after.pop("mine").uri == "u"
    assert after == before
    assert shop.check() == []


def test_a_null_leaves_what_is_there(tmp_path: Path) -> None:
    shop = search.open(tmp_path / "shop")
    shop.add([Record("a", text="words", metadata={"x": 1}), Record("b")], [[1, 0], [0, 1]], space="v")
    (tmp_path / "x.jsonl").write_text('{"id": "a", "kind": "k"}\n\n{"id": "c", "metadata": {"y": 2}}\n')
    assert shop.import_file(tmp_path / "x.jsonl") == {"records": 2, "added": 1, "updated": 1, "vectors": 0}
    assert shop.get(["a", "c"]) == [
        Record("a", "k", None, "words", {"x": 1}),
        Record("c", None, None, None, {"y": 2}),
    ]
    assert shop.search(vector=[1, 0], k=1)[0].id == "a"


def test_vectors_are_read_once_however_many_records(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "MOST_RECORDS", 2)
    plain, asked = reads.batches, []
    monkeypatch.setattr(
        reads, "batches", lambda c, space, **more: asked.append(space.name) or plain(c, space, **more)
    )
    shop.export(tmp_path / "x.parquet", vectors=True)
    assert sorted(asked) == sorted(spaces(shop))


# ---- what others read ------------------------------------------------------------------------------------------


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three records with a vector each in `v`; passages in `t` of two of them; one box in `p`."""
    with search.open(tmp_path / "small") as shop, shop.writing() as writer:
        given = lambda dim: EncoderSpec("given", "given", Modality.VECTOR, dim)  # noqa: E731
        v, t, p = (writer.space(name, given(2), metric=Metric.DOT) for name in "vtp")
        some = [
            Record("a", "k", text="ab cd", metadata={"n": 1}),
            Record("b", metadata={"n": "x"}),
            Record("c"),
        ]
        writer.put(some, np.array([[1, 2], [3, 4], [5, 6]], np.float32), v)
        parts = [[Part(0, 2), Part(3, 5)], [WHOLE]]
        writer.put(
            [Record("a"), Record("c")], np.array([[7, 8], [9, 10], [11, 12]], np.float32), t, parts=parts
        )
        writer.put([Record("b")], np.array([[0.5, -0.5]], np.float32), p, parts=[[Part(box=(1, 2, 3, 4))]])
        shop.export(tmp_path / "small.parquet", vectors=True)
    return tmp_path / "small.parquet"


def test_polars_reads_it(file: Path) -> None:
    frame = polars.read_parquet(file)
    assert frame.columns == [
        "id",
        "kind",
        "uri",
        "text",
        "metadata",
        "vector_v",
        "parts_t",
        "vector_p",
        "part_p",
    ]
    assert frame["id"].to_list() == ["a", "b", "c"]
    assert frame["kind"].to_list() == ["k", None, None]
    assert frame["metadata"].to_list() == ['{"n": 1}', '{"n": "x"}', "{}"]
    assert frame.schema["vector_v"] == polars.Array(polars.Float32, 2)
    np.testing.assert_array_equal(frame["vector_v"].to_numpy(), [[1, 2], [3, 4], [5, 6]])
    one = frame.drop_nulls("vector_p")
    np.testing.assert_array_equal(one["vector_p"].list.to_array(2).to_numpy(), [[0.5, -0.5]])
    assert one["part_p"].to_list() == [{"start": None, "end": None, "box": [1.0, 2.0, 3.0, 4.0]}]
    each = frame.drop_nulls("parts_t").explode("parts_t").unnest("parts_t")
    assert each.select("id", "start", "end").rows() == [("a", 0, 2), ("a", 3, 5), ("c", None, None)]
    np.testing.assert_array_equal(each["vector"].to_numpy(), [[7, 8], [9, 10], [11, 12]])


def test_pandas_reads_it(file: Path) -> None:
    frame = pandas.read_parquet(file)
    assert frame["id"].tolist() == ["a", "b", "c"]
    matrix = np.stack(frame["vector_v"].to_list())
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(np.stack(frame["vector_p"].dropna().to_list()), [[0.5, -0.5]])
    assert [None if parts is None else [part["start"] for part in parts] for parts in frame["parts_t"]] == [
        [0, 3],
        None,
        [None],
    ]
    assert [json.loads(one).get("n") for one in frame["metadata"]] == [1, "x", None]


def test_lines_are_records_each(file: Path) -> None:
    with search.open(file.with_name("small")) as shop:
        shop.export(file.with_suffix(".jsonl"), vectors=True)
    a, b, c = (json.loads(line) for line in file.with_suffix(".jsonl").read_text().splitlines())
    assert a.pop("nearkin")["records"] == 3
    assert a == {
        "id": "a",
        "kind": "k",
        "uri": None,
        "text": "ab cd",
        "metadata": {"n": 1},
        "vectors": {"v": [[1, 2]], "t": [[7, 8], [9, 10]]},
        "parts": {"t": [{"start": 0, "end": 2}, {"start": 3, "end": 5}]},
    }
    assert b["parts"] == {"p": [{"box": [1, 2, 3, 4]}]}
    assert set(c) == {"id", "kind", "uri", "text", "metadata", "vectors"}
    assert pandas.read_json(file.with_suffix(".jsonl"), lines=True)["id"].tolist() == ["a", "b", "c"]


# ---- how it is written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_fails_leaves_the_older_file(
    shop: Collection, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / f"x.{form}"
    target.write_text("older")
    n_handfuls = iter(range(100))
    plain = gather.Gathered._with_vectors

    def full(self: Any, some: Any) -> Any:
        if next(n_handfuls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(self, some)

    monkeypatch.setattr(gather, "MOST_RECORDS", 3)
    monkeypatch.setattr(gather.Gathered, "_with_vectors", full)
    with pytest.raises(search.CollectionError, match="No space left"):
        shop.export(target, vectors=True)
    assert target.read_text() == "older"
    assert files_in(tmp_path) == ["shop", f"x.{form}"]


def test_bad_targets_are_refused(shop: Collection, tmp_path: Path) -> None:
    for name, kind, said in (
        ("x.csv", search.QueryError, r"no known format; end it with \.parquet or \.jsonl"),
        ("no/such/folder.parquet", search.CollectionError, "cannot be written"),
        ("shop", search.CollectionError, "is a directory"),
    ):
        with pytest.raises(kind, match=said):
            shop.export(tmp_path / name)
    assert files_in(tmp_path) == ["shop"]


def test_without_pyarrow_it_says_what_to_install(
    shop: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.export(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for act in (
        lambda: shop.export(tmp_path / "y.parquet"),
        lambda: shop.import_file(tmp_path / "x.parquet"),
    ):
        with pytest.raises(search.MissingExtra, match=r'pip install "nearkin\[parquet\]"'):
            act()
    assert shop.export(tmp_path / "y.jsonl") == 22


# ---- bad files -------------------------------------------------------------------------------------------------


def refused(target: Collection, path: Path, said: str) -> search.SourceError:
    """The file is refused with this, and nothing of it is there."""
    before = contents(target), spaces(target)
    with pytest.raises(search.SourceError, match=said) as caught:
        target.import_file(path)
    assert (contents(target), spaces(target)) == before
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "; " in message
    return caught.value


@pytest.fixture
def target(tmp_path: Path) -> Collection:
    target = search.open(tmp_path / "target")
    target.add([{"id": "a", "text": "mine"}], [[1, 0, 0]], space="mine")
    return target


def rewritten(
    file: Path, change: Callable[[pa.Table], pa.Table], *, change_head: Callable[[Any], None] | None = None
) -> Path:
    """The file with other columns, or another head, and what nearkin wrote about it otherwise."""
    told = dict(pq.ParquetFile(file).metadata.metadata)
    table = change(pq.read_table(file).replace_schema_metadata(None))
    head = json.loads(told[b"nearkin"])
    if change_head is not None:
        change_head(head)
    said = json.dumps(head)
    path = file.with_name("changed.parquet")
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(
            {"nearkin": said, "nearkin.sha256": hashlib.sha256(said.encode()).hexdigest()}
        )
    return path


def column(name: str, values: list[Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.column_names.index(name)
        return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    return change


@pytest.mark.parametrize(
    ("change", "said", "row"),
    [
        (lambda t: t.drop_columns(["uri"]), "has no column 'uri'", None),
        (lambda t: t.append_column("more", t["id"]), "has the columns .*more where", None),
        (lambda t: t.set_column(0, "id", t["id"].cast(pa.large_string())), "'id' of large_string", None),
        (lambda t: t.slice(0, 2), "holds 2 records and says that there are 3", None),
        (column("vector_v", [[1, 2], [np.nan, 1], [1, 1]]), "NaN or infinity", 2),
        (column("vector_v", [[1, 2], [1, 1], [1, np.inf]]), "NaN or infinity", 3),
        (column("vector_v", [[1, 2], [1e20, 1], [1, 1]]), "too large to compare", 2),
        (column("vector_v", [[1, 2], [1, None], [1, 1]]), "has not 2 numbers", 2),
        (column("parts_t", [None, None, [{"start": 1, "vector": None}]]), "has not 2 numbers", 3),
        (column("parts_t", [None, [{"vector": [1, 2]}, None], None]), "has not 2 numbers", 2),
        (column("vector_p", [None, [1, 2, 3], None]), "has not 2 numbers", 2),
        (column("vector_p", [None, [1, 2], []]), "has not 2 numbers", 3),
        (column("part_p", [None, {"box": [1, 2, 3]}, None]), "a box is not four numbers", 2),
        (column("part_p", [None, {"box": [1, 2, 3, None]}, None]), "a box is not four numbers", 2),
        (column("id", ["a", "b", "a"]), "'a' stands already in row 1", 3),
        (column("id", ["a", "", "c"]), "at least one character", 2),
        (column("id", ["a", "b\0", "c"]), "NUL", 2),
        (column("metadata", ["{}", "[]", "{}"]), "a list, not an object", 2),
        (column("metadata", ["{}", "{}", ""]), "not a JSON object", 3),
        (column("metadata", ["{}", '{"x": NaN}', "{}"]), "NaN is not JSON", 2),
        (column("metadata", ["{}", '{"x": 1e999}', "{}"]), "cannot be stored", 2),
        (column("metadata", ["{}", '{"x": ' * 99999, "{}"]), "not a JSON object", 2),
        (column("metadata", ["{}", '{"x": ' * 120 + "1" + "}" * 120, "{}"]), "levels deep", 2),
    ],
)
def test_bad_rows_of_parquet(
    file: Path,
    target: Collection,
    change: Callable[[pa.Table], pa.Table],
    said: str,
    row: int | None,
) -> None:
    assert refused(target, rewritten(file, change), said).line == row


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda head: head.update(format=99, nearkin="9.0"), r"by a newer nearkin \(9\.0\)"),
        (lambda head: head.pop("spaces"), "description of the spaces is damaged"),
        (lambda head: head["spaces"].append(head["spaces"][0]), "twice"),
        (lambda head: head["spaces"][0].update(metric="taxi"), "taxi"),
        (lambda head: head["spaces"][0]["encoder"].update(dim=0), "0 dimensions"),
        (lambda head: head["spaces"][0]["encoder"].update(dim=3), r"fixed_size_list<element: float>\[3\]"),
        (lambda head: head["spaces"][0].update(probes="AAAA"), "other probes"),
        (lambda head: head["spaces"][0].update(probes="?"), "damaged"),
    ],
)
def test_bad_heads(file: Path, target: Collection, change: Callable[[Any], Any], said: str) -> None:
    path = rewritten(file, lambda table: table, change_head=change)
    refused(target, path, said)
    if "float" not in said:
        head = json.loads(pq.ParquetFile(path).metadata.metadata[b"nearkin"])
        path.with_suffix(".jsonl").write_text(json.dumps({"id": "x", "nearkin": head}) + "\n")
        refused(target, path.with_suffix(".jsonl"), said)


HEAD = {
    "format": 1,
    "nearkin": "0.1.0",
    "records": 2,
    "spaces": [
        {
            "name": "v",
            "metric": "cosine",
            "encoder": EncoderSpec("given", "given", Modality.VECTOR, 2).to_json(),
            "probes": None,
            "model": None,
            "full": True,
            "single": True,
            "pieces": False,
            "synced": False,
        }
    ],
}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "not a JSON object"),
        ("[]", "a list, not an object"),
        ('{"id": "b"', "not a JSON object"),
        ('{"kind": "x"}', "no id"),
        ('{"id": 5}', "must be a string"),
        ('{"id": "a"}', "stands already in row 1"),
        ('{"id": "b", "text": 5}', "text must be a string"),
        ('{"id": "b", "metadata": [1]}', "metadata must be a JSON object"),
        ('{"id": "b", "price": 1}', "'price' is unknown"),
        ('{"id": "b\\ud800"}', "cannot be stored"),
        ('{"id": "b", "vectors": [[1, 2]]}', "not an object with a field for each space"),
        ('{"id": "b", "vectors": {"w": [[1, 2]]}}', "'w' is not described"),
        ('{"id": "b", "vectors": {"v": [1, 2]}}', "not rows of 2 numbers"),
        ('{"id": "b", "vectors": {"v": [[1, 2, 3]]}}', "not rows of 2 numbers"),
        ('{"id": "b", "vectors": {"v": [[1, 2], [3]]}}', "not rows of 2 numbers"),
        ('{"id": "b", "vectors": {"v": [["1", "2"]]}}', "not rows of 2 numbers"),
        ('{"id": "b", "vectors": {"v": [[1, null]]}}', "not rows of 2 numbers"),
        ('{"id": "b", "vectors": {"v": "x"}}', "not rows of 2 numbers"),
        ('{"id": "b", "vectors": {"v": [[NaN, 1]]}}', "NaN is not JSON"),
        ('{"id": "b", "vectors": {"v": [[1e39, 1]]}}', "NaN or infinity"),
        ('{"id": "b", "vectors": {"v": [[1, 1], [0, 0]]}}', "only zeros"),
        ('{"id": "b", "vectors": {"v": [[1, 1]]}, "parts": {"v": []}}', "0 parts for other vectors"),
        ('{"id": "b", "vectors": {"v": [[1, 1]]}, "parts": {"v": [{"begin": 1}]}}', "a part is not"),
        ('{"id": "b", "vectors": {"v": [[1, 1]]}, "parts": {"v": [{"start": 1.5}]}}', "not a whole number"),
        ('{"id": "b", "vectors": {"v": [[1, 1]]}, "parts": {"v": [{"box": [1]}]}}', "four numbers"),
        ('{"id": "b", "vectors": {"v": [[1, 1]]}, "sources": {"v": {"origin": "x"}}}', "hexadecimal digest"),
        ('{"id": "b", "vectors": {"v": [[1, 1]]}, "sources": {"v": {"origin": 1, "digest": ""}}}', "origin"),
    ],
)
def test_bad_lines(tmp_path: Path, target: Collection, line: str, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"id": "a", "nearkin": HEAD}) + "\n" + line + "\n", encoding="utf-8")
    assert refused(target, path, said).line == 2


def test_files_that_are_none(tmp_path: Path, target: Collection, file: Path) -> None:
    refused(target, tmp_path / "absent.parquet", "no such file")
    refused(target, tmp_path, "no such file")
    (tmp_path / "x.csv").write_text("id\na\n")
    refused(target, tmp_path / "x.csv", "'.csv' is not a format")
    (tmp_path / "x.parquet").write_text("PAR1 not at all")
    refused(target, tmp_path / "x.parquet", "not a whole Parquet file")
    (tmp_path / "x.parquet").write_bytes(b"")
    refused(target, tmp_path / "x.parquet", "not a whole Parquet file")
    (tmp_path / "x.jsonl").write_bytes(b'{"id": "a"}\n{"id": "\xff"}\n')
    assert refused(target, tmp_path / "x.jsonl", "can't decode byte 0xff").line == 2
    (tmp_path / "x.jsonl").write_bytes(file.read_bytes())
    refused(target, tmp_path / "x.jsonl", "not a JSON object")
    polars.DataFrame({"id": ["a"]}).write_parquet(tmp_path / "x.parquet")
    refused(target, tmp_path / "x.parquet", "not an export of nearkin's")


@pytest.mark.parametrize("form", FORMATS)
def test_torn_files_change_nothing(shop: Collection, tmp_path: Path, form: str, target: Collection) -> None:
    """Cut anywhere, also between two lines."""
    path = tmp_path / f"x.{form}"
    shop.export(path, vectors=True)
    data = path.read_bytes()
    cuts = np.random.default_rng(0).choice(len(data), 25, replace=False).tolist()
    ends = [at + 1 for at, byte in enumerate(data[:-1]) if byte == 10] if form == "jsonl" else []
    for at in [*cuts, *ends, len(data) - 2]:
        path.write_bytes(data[:at])
        refused(target, path, ".")


def test_flips_in_parquet_are_refused_or_do_not_matter(
    shop: Collection, tmp_path: Path, target: Collection
) -> None:
    shop.export(tmp_path / "x.parquet", vectors=True)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    rng = np.random.default_rng(0)
    n_refused = 0
    for at in rng.choice(len(data), 200, replace=False).tolist():
        data[at] ^= 4
        (tmp_path / "x.parquet").write_bytes(data)
        data[at] ^= 4
        try:
            target.import_file(tmp_path / "x.parquet")
        except search.SourceError:
            n_refused += 1
            assert target.count() == 1
            continue
        expected = contents(shop)
        found = contents(target)
        assert {id: found[id] for id in expected if id != "all"} == {
            id: held for id, held in expected.items() if id != "all"
        }
        target.delete(list(expected))
        target.add([{"id": "a", "text": "mine"}], [[1, 0, 0]], space="mine")
    assert n_refused > 100


def test_a_space_of_another_model_is_refused_before_anything_is_written(
    shop: Collection, tmp_path: Path
) -> None:
    shop.export(tmp_path / "x.parquet", vectors=True)
    target = search.open(tmp_path / "target")
    target.add([{"id": "a"}], [[1, 0, 0]], space="v")
    before = contents(target)
    with pytest.raises(search.CollectionError, match="space 'v'"):
        target.import_file(tmp_path / "x.parquet")
    assert contents(target) == before


def test_a_collection_opened_to_read_cannot_import(shop: Collection, tmp_path: Path) -> None:
    shop.export(tmp_path / "x.jsonl")
    with (
        search.open(shop.path, "r") as reader,
        pytest.raises(search.CollectionError, match="opened to read only"),
    ):
        reader.import_file(tmp_path / "x.jsonl")
