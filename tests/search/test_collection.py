"""What a collection holds after each change, and what it answers: every value against plain numpy or by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import search
from search.collection import Collection
from search.types import EncoderSpec, Hit, Metric, Modality, Part, Record

Rows = np.ndarray


@pytest.fixture
def shop(tmp_path: Path) -> Collection:
    return search.open(tmp_path / "shop")


def random_rows(n: int, dim: int, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def cosines(matrix: Rows, query: Rows) -> Rows:
    matrix, query = np.asarray(matrix, np.float64), np.asarray(query, np.float64)
    return (matrix @ query) / np.linalg.norm(matrix, axis=1) / np.linalg.norm(query)


def text_space(shop: Collection, name: str = "text", dim: int = 3) -> search.types.Space:
    with shop.writing() as writer:
        return writer.space(name, EncoderSpec("given", "given", Modality.TEXT, dim))


def same_ranking(hits: list[Hit], names: list[str], scores: Rows, k: int) -> None:
    """The hits are the best k of `names` by `scores`, in order, modulo ties."""
    best = np.sort(scores)[::-1][:k]
    np.testing.assert_allclose([hit.score for hit in hits], best, atol=1e-5)
    of = dict(zip(names, scores, strict=True))
    assert len({hit.id for hit in hits}) == len(hits) == min(k, len(names))
    for hit in hits:
        assert hit.score == pytest.approx(of[hit.id], abs=1e-5)


# ---- records -------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_given(shop: Collection) -> None:
    awkward = {
        "price": 1.5,
        "n": 2**53,
        "tags": ["a", None, True],
        "deep": {"er": {"est": 0}},
        "ключ": "знач",
    }
    full = Record("ид'1\"; --", "kind", "file:///a b", "text\nwith 'quotes' and 🐟", awkward)
    assert shop.add([full, {"id": "bare"}]) == [full.id, "bare"]
    assert shop.get([full.id, "absent", "bare", full.id]) == [
        full,
        None,
        Record("bare", None, None, None, {}),
        full,
    ]
    assert shop.get("bare") == [Record("bare", None, None, None, {})]
    assert shop.get([]) == []
    assert shop.count() == 2


def test_none_keeps_and_a_value_replaces(shop: Collection) -> None:
    shop.add([Record("a", "kind", "uri", "text", {"x": 1, "y": {"z": 2}})])
    shop.add([Record("a")])
    assert shop.get("a") == [Record("a", "kind", "uri", "text", {"x": 1, "y": {"z": 2}})]
    shop.add([Record("a", uri="other", metadata={"y": 3})])
    assert shop.get("a") == [Record("a", "kind", "other", "text", {"y": 3})]
    shop.add([Record("a", text="", metadata={})])
    assert shop.get("a") == [Record("a", "kind", "other", "", {})]
    assert shop.count() == 1


def test_ids_are_exact_strings(shop: Collection) -> None:
    ids = ["1", "01", "1.0", " 1", "a", "A", "ä", "a\u0308", "%", "_", "null", "a\nb", "\\u0041", "x" * 5000]
    shop.add([{"id": id, "metadata": {"i": i}} for i, id in enumerate(ids)])
    assert shop.count() == len(ids)
    for i, id in enumerate(ids):
        (held,) = shop.get(id)
        assert held is not None
        assert (held.id, held.metadata) == (id, {"i": i})
    assert shop.delete(["1", "%", "a\nb"]) == 3
    assert [id for id, held in zip(ids, shop.get(ids), strict=True) if held is None] == ["1", "%", "a\nb"]


def test_delete_by_id_and_by_where(shop: Collection) -> None:
    rows = random_rows(10, 4)
    shop.add([{"id": f"r{i}", "metadata": {"i": i}} for i in range(10)], rows, space="v")
    assert shop.delete("r0") == 1
    assert shop.delete(["r0", "absent"]) == 0
    assert shop.delete(["r1", "r1"]) == 1
    assert shop.delete([]) == 0
    assert shop.delete(where="i >= 7") == 3
    assert shop.delete(where="i >= 7") == 0
    left = [f"r{i}" for i in range(2, 7)]
    assert [one.id for one in shop.get([f"r{i}" for i in range(10)]) if one] == left
    assert [shop.count(), shop.count("i < 4"), shop.count("not i < 4")] == [5, 2, 3]
    same_ranking(shop.search(vector=rows[0], k=10), left, cosines(rows[2:7], rows[0]), 10)


def test_an_id_that_was_deleted_may_come_back(shop: Collection) -> None:
    shop.add([{"id": "a", "text": "old", "metadata": {"x": 1}}], [[1, 0]], space="v")
    shop.delete("a")
    assert shop.search(vector=[1, 0]) == []
    shop.add([{"id": "a"}], [[0, 1]], space="v")
    assert shop.get("a") == [Record("a", None, None, None, {})]
    (hit,) = shop.search(vector=[1, 0])
    assert (hit.id, hit.score, hit.text) == ("a", 0.0, None)


def test_an_update_replaces_the_vector_in_its_space_only(shop: Collection) -> None:
    shop.add([{"id": "a"}, {"id": "b"}], [[1, 0], [0, 1]], space="one")
    shop.add([{"id": "a"}, {"id": "b"}], [[1, 0, 0], [0, 1, 0]], space="two")
    shop.add([{"id": "a"}], [[0, 2]], space="one")
    assert [(h.id, h.score) for h in shop.search(vector=[0, 1])] == [("b", 1.0), ("a", 1.0)]
    assert [(h.id, h.score) for h in shop.search(vector=[1, 0, 0])] == [("a", 1.0), ("b", 0.0)]


def test_a_changed_text_drops_the_vectors_made_from_it(shop: Collection) -> None:
    words = text_space(shop)
    with shop.writing() as writer:
        writer.put([Record("a", text="one"), Record("b", text="two")], np.eye(3, dtype="f4")[:2], words)
    shop.add([{"id": "a"}, {"id": "b"}], [[1, 0], [0, 1]], space="given")
    shop.add([{"id": "a", "text": "one"}])  # the same text: nothing is stale
    shop.add([{"id": "b", "uri": "elsewhere"}])  # no text: nothing is said about it
    assert [h.id for h in shop.search(vector=[1, 0.5, 0], space="text")] == ["a", "b"]
    shop.add([{"id": "a", "text": "changed"}])
    assert [h.id for h in shop.search(vector=[1, 0.5, 0], space="text")] == ["b"]
    assert [h.id for h in shop.search(vector=[1, 0.5], space="given")] == ["a", "b"]  # not made from the text
    shop.add(
        [{"id": "b", "text": "changed"}], [[1, 1]], space="given"
    )  # a commit with vectors drops them too
    assert shop.search(vector=[1, 0.5, 0], space="text") == []
    with shop.writing() as writer:  # new text and its new vector in one commit: the new one stays
        writer.put([Record("a", text="third")], np.array([[0, 0, 1]], "f4"), words)
    assert [(h.id, h.score, h.text) for h in shop.search(vector=[0, 0, 1], space="text")] == [
        ("a", 1.0, "third")
    ]


# ---- parts ---------------------------------------------------------------------------------------------------


def test_the_best_part_speaks_for_its_record(shop: Collection) -> None:
    words = text_space(shop)
    text = "naïve 🐟 eat\x00fish. Then sleep."
    parts = [Part(0, 7), Part(8, 17), Part(18, 29)]
    eye = np.eye(3, dtype="f4")
    with shop.writing() as writer:
        writer.put(
            [Record("many", text=text), Record("whole", text="all of it")],
            np.concatenate([eye, [[0.6, 0.8, 0]]]).astype("f4"),
            words,
            parts=[parts, [Part()]],
        )
    for axis, part in enumerate(parts):
        hits = shop.search(vector=eye[axis], k=5)
        hit = next(h for h in hits if h.id == "many")
        assert hit.score == pytest.approx(1)
        assert hit.part == {"start": part.start, "end": part.end}
        assert hit.text == text[part.start : part.end]
        assert [h.id for h in hits if h.id == "many"] == ["many"]  # once, however many parts
    whole = next(h for h in shop.search(vector=[0.6, 0.8, 0], k=1))
    assert (whole.id, whole.text, whole.part) == ("whole", "all of it", None)


def test_a_region_comes_back_with_its_box(shop: Collection) -> None:
    with shop.writing() as writer:
        pictures = writer.space("p", EncoderSpec("given", "given", Modality.IMAGE, 2))
        writer.put(
            [Record("photo", uri="a.jpg")],
            np.array([[1, 0], [0, 1]], "f4"),
            pictures,
            parts=[[Part(box=(0, 0, 10.5, 20)), Part(box=(5, 5, 1, 1))]],
        )
    (hit,) = shop.search(vector=[0, 1])
    assert (hit.id, hit.uri, hit.part, hit.space) == ("photo", "a.jpg", {"box": [5, 5, 1, 1]}, "p")


@pytest.mark.parametrize("k", [1, 3, 10, 40, 1000])
def test_k_means_k_with_parts_and_filters(shop: Collection, k: int) -> None:
    """Records of 1 to 60 parts, many of the same record nearest: k different matching records come back."""
    rng = np.random.default_rng(5)
    sizes = [60, 60, 30, *rng.integers(1, 5, 60).tolist()]
    centres = random_rows(len(sizes), 8, 6)
    matrix = np.repeat(centres, sizes, axis=0) + 0.05 * random_rows(sum(sizes), 8, 7)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    space = text_space(shop, dim=8)
    with shop.writing() as writer:
        writer.put(
            [Record(f"r{i}", metadata={"even": i % 2 == 0, "i": i}) for i in range(len(sizes))],
            matrix,
            space,
            parts=[[Part()] * n for n in sizes],
        )
    for query in (matrix[3], matrix[70], -matrix[130]):
        score = cosines(matrix, query)
        best = np.array([score[owners == i].max() for i in range(len(sizes))])
        for where, some in (
            (None, range(len(sizes))),
            ("even", range(0, len(sizes), 2)),
            ("i in (0, 1, 62)", (0, 1, 62)),
            ("i = 17", (17,)),
            ("i = 99", ()),
        ):
            hits = shop.search(vector=query, k=k, where=where)
            same_ranking(hits, [f"r{i}" for i in some], best[list(some)], k)


# ---- asking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", list(Metric))
def test_search_is_exact_under_each_metric(shop: Collection, metric: Metric) -> None:
    matrix = random_rows(300, 7, 1) * np.linspace(0.1, 5, 300, dtype="f4")[:, None]
    with shop.writing() as writer:
        space = writer.space("v", EncoderSpec("given", "given", Modality.VECTOR, 7), metric=metric)
        writer.put([Record(f"r{i}") for i in range(300)], matrix, space)
    names = [f"r{i}" for i in range(300)]
    queries = random_rows(4, 7, 2)
    for query, hits in zip(queries, shop.search(vector=queries, k=12), strict=True):
        exact = {
            Metric.COSINE: lambda q: cosines(matrix, q),
            Metric.DOT: lambda q: matrix.astype(float) @ q,
            Metric.L2: lambda q: -((matrix.astype(float) - q) ** 2).sum(axis=1),
        }[metric](query)
        same_ranking(hits, names, exact, 12)
        assert shop.search(vector=query, k=12)[0].id == hits[0].id


def test_l2_keeps_its_digits_far_from_the_origin(shop: Collection) -> None:
    matrix = (1000 + 0.01 * random_rows(200, 16, 3)).astype("f4")
    with shop.writing() as writer:
        space = writer.space("v", EncoderSpec("given", "given", Modality.VECTOR, 16), metric=Metric.L2)
        writer.put([Record(f"r{i}") for i in range(200)], matrix, space)
    for i in range(200):
        own = shop.search(vector=matrix[i], k=5)
        exact = -((matrix.astype(float) - matrix[i].astype(float)) ** 2).sum(axis=1)
        assert (own[0].id, own[0].score) == (f"r{i}", 0.0)
        np.testing.assert_allclose([h.score for h in own], np.sort(exact)[::-1][:5], rtol=1e-4)


def test_a_hit_says_all_about_its_record(shop: Collection) -> None:
    shop.add([Record("a", "k", "u", "t", {"x": [1]})], [[3, 4]], space="v")
    (hit,) = shop.search(vector=[3, 4])
    assert hit == Hit("a", 1.0, "v", "t", "u", {"x": [1]}, None, None)
    assert json.loads(json.dumps(hit.to_json()))["metadata"] == {"x": [1]}
    (explained,) = shop.search(vector=[3, 4], explain=True)
    assert explained.explain is not None
    assert explained.explain["space"] == "v"
    assert explained.explain["plan"] == {"method": "scan", "n_rows": 1, "n_allowed": 1, "scan_us": 0.0}
    assert set(explained.explain) == {"space", "plan", "encode_ms", "search_ms"}


def test_like_leaves_itself_out_and_obeys_the_filter(shop: Collection) -> None:
    rows = random_rows(50, 6)
    shop.add([{"id": f"r{i}", "metadata": {"i": i}} for i in range(50)], rows, space="v")
    score = cosines(rows, rows[7])
    others = [i for i in range(50) if i != 7]
    same_ranking(shop.search(like="r7", k=60), [f"r{i}" for i in others], score[others], 60)
    few = [i for i in others if 5 <= i < 9]
    same_ranking(
        shop.search(like="r7", k=3, where="i between 5 and 8"), [f"r{i}" for i in few], score[few], 3
    )


def test_a_batch_gives_one_list_for_each(shop: Collection) -> None:
    rows = random_rows(20, 5)
    shop.add([{"id": f"r{i}"} for i in range(20)], rows, space="v")
    answers = shop.search(vector=rows, k=2)
    assert [one[0].id for one in answers] == [f"r{i}" for i in range(20)]
    for row, one in zip(rows, answers, strict=True):
        alone = shop.search(vector=row, k=2)
        assert [hit.id for hit in alone] == [hit.id for hit in one]
        np.testing.assert_allclose([h.score for h in alone], [h.score for h in one], atol=1e-6)
    assert shop.search(vector=rows[:1], k=2) == answers[:1]
    assert shop.search(vector=rows[:0], k=2) == []


def test_an_empty_collection_or_space_answers_nothing(shop: Collection) -> None:
    assert (shop.count(), shop.get(["a"]), shop.spaces(), shop.check()) == (0, [None], {}, [])
    text_space(shop)
    assert shop.search(vector=[1, 2, 3]) == []
    assert shop.search(vector=[[1, 2, 3], [3, 2, 1]]) == [[], []]
    shop.add([])
    assert shop.count() == 0


def test_the_same_question_has_the_same_answer(shop: Collection) -> None:
    rows = np.tile(random_rows(5, 4), (40, 1))  # each vector forty times: nothing but ties
    shop.add([{"id": f"r{i}"} for i in range(200)], rows, space="v")
    first = shop.search(vector=rows[2], k=60)
    assert [hit.id for hit in first[:40]] == [f"r{i}" for i in range(2, 200, 5)]  # ties: the older first
    for _ in range(5):
        assert shop.search(vector=rows[2], k=60) == first
    again = search.open(shop.path, mode="r")
    assert again.search(vector=rows[2], k=60) == first


def test_given_arrays_are_never_changed(shop: Collection) -> None:
    rows = random_rows(10, 4) * 7
    before = rows.copy()
    shop.add([{"id": f"r{i}"} for i in range(10)], rows, space="v")
    shop.search(vector=rows[0])
    shop.search(vector=rows)
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, list, "strided", "fortran"])
def test_any_real_numbers_are_taken(shop: Collection, kind: object) -> None:
    whole = np.random.default_rng(0).integers(-5, 6, (12, 4)).astype(np.float64) + 0.25
    if kind is np.int32:
        whole = np.floor(whole) + 10
    given = {
        list: whole.tolist(),
        "strided": np.repeat(whole, 2, axis=1)[:, ::2],
        "fortran": np.asfortranarray(whole),
    }.get(kind, whole if isinstance(kind, str) or kind is list else whole.astype(kind))  # type: ignore[call-overload]
    shop.add([{"id": f"r{i}"} for i in range(12)], given, space="v")
    for i in range(12):
        hits = shop.search(vector=whole[i], k=12)
        same_ranking(hits, [f"r{i}" for i in range(12)], cosines(whole, whole[i]), 12)


def test_lengths_at_the_ends_of_float32_keep_their_direction(shop: Collection) -> None:
    directions = random_rows(4, 3)
    lengths = np.array([1e-8, 1.0, 1e20, 1e30])[:, None]
    shop.add([{"id": f"r{i}"} for i in range(4)], directions * lengths, space="v")
    for i in range(4):
        hits = shop.search(vector=directions[i] * 1e25, k=4)
        same_ranking(hits, [f"r{i}" for i in range(4)], cosines(directions, directions[i]), 4)


# ---- copies --------------------------------------------------------------------------------------------------


def test_a_backup_is_a_collection_of_its_own(shop: Collection, tmp_path: Path) -> None:
    rows = random_rows(30, 4)
    shop.add([{"id": f"r{i}", "metadata": {"i": i}} for i in range(30)], rows, space="v")
    copy = search.open(shop.backup(tmp_path / "copy"))
    shop.delete(where="i < 20")
    copy.add([{"id": "new"}], rows[:1] + 0.001, space="v")
    assert (shop.count(), copy.count()) == (10, 31)
    assert [h.id for h in copy.search(vector=rows[0], k=2)] == ["r0", "new"]
    assert (shop.check(), copy.check()) == ([], [])
    with pytest.raises(search.CollectionError, match="exists already"):
        shop.backup(tmp_path / "copy")


def test_export_writes_every_record_and_vector(shop: Collection, tmp_path: Path) -> None:
    rows = random_rows(5, 3)
    shop.add([Record(f"r{i}", text=f"ü{i}", metadata={"i": i}) for i in range(5)], rows, space="v")
    shop.delete("r1")
    assert shop.export(tmp_path / "all.jsonl", vectors=True) == 4
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["r0", "r2", "r3", "r4"]
    for line, i in zip(lines, (0, 2, 3, 4), strict=True):
        assert (line["text"], line["metadata"]) == (f"ü{i}", {"i": i})
        unit = rows[i] / np.linalg.norm(rows[i])
        np.testing.assert_allclose(line["vectors"]["v"], [unit], atol=1e-6)
    assert shop.export(tmp_path / "few.jsonl", where="i > 3") == 1
    assert "vectors" not in json.loads((tmp_path / "few.jsonl").read_text())


def test_compaction_drops_the_dead_and_keeps_the_answers(shop: Collection) -> None:
    rows = random_rows(400, 8)
    for begin in range(0, 400, 20):  # many batches
        shop.add([{"id": f"r{i}"} for i in range(begin, begin + 20)], rows[begin : begin + 20], space="v")
    shop.delete([f"r{i}" for i in range(0, 400, 2)])
    before = shop.search(vector=rows[:10], k=50)
    report = shop.compact()
    assert report["vectors_dropped"] == 200
    assert shop.info()["spaces"][0]["deleted"] == 0  # type: ignore[index,call-overload]
    after = shop.search(vector=rows[:10], k=50)
    for now, then in zip(
        after, before, strict=True
    ):  # the scan adds up in another order: equal but for rounding
        assert {hit.id for hit in now} == {hit.id for hit in then}
        np.testing.assert_allclose([hit.score for hit in now], [hit.score for hit in then], atol=1e-6)
    assert shop.compact()["vectors_dropped"] == 0
    for now, then in zip(search.open(shop.path).search(vector=rows[:10], k=50), after, strict=True):
        assert {hit.id for hit in now} == {hit.id for hit in then}
    assert shop.check() == []


def test_a_query_that_is_no_words_is_refused(tmp_path):
    with (
        search.open(tmp_path / "c") as there,
        pytest.raises(search.QueryError, match="the query is a int; give words"),
    ):
        there.search(5)
