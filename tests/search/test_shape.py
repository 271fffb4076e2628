"""What becomes of hits: boosts worked out by hand, pages, groups, diversity against plain numpy, and bad input."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search
from ingest.cli.main import app
from search.cli.main import outcome
from search.collection import Collection
from search.query.boost import parsed

N = 60
NOW = datetime(2026, 3, 11, tzinfo=UTC).timestamp()


def brand(i: int) -> str | None:
    return None if i % 10 == 9 else "ABC"[i % 3]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    drawn = np.random.default_rng(6).standard_normal((N, 5)).astype(np.float32)
    drawn[20:24] = drawn[20]  # equal ones
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray) -> Collection:
    shop = search.open(tmp_path_factory.mktemp("shape") / "c")
    records = [
        {"id": f"r{i}", "metadata": {"i": i, "sales": i % 7, "brand": brand(i), "deep": {"n": i}}}
        for i in range(N)
    ]
    shop.add(records, rows, space="v")
    return shop


QUERY = [0.3, -1.0, 0.2, 0.5, 0.1]


def ids(hits: list[search.Hit]) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize(
    ("expression", "metadata", "value"),
    [
        ("1 + 2 * 3 - 4 / 8", {}, 6.5),
        ("-score", {}, -0.5),
        ("log(1 + sales) * 0.1", {"sales": math.e - 1}, 0.1),
        ("sqrt(a) + exp(b) + abs(-2)", {"a": 9, "b": 0}, 6),
        ("min(a, 3) + max(a, 3, 7)", {"a": 5}, 10),
        ("-age_days(date) / 10", {"date": "2026-03-01"}, -1),
        ("age_days(date)", {"date": "2026-03-11T12:00:00+12:00"}, 0),
        ("age_days(date)", {"date": "yesterday"}, 0),
        ("deep.n * 2", {"deep": {"n": 4}}, 8),
        ("a + b", {"a": 2}, 2),  # a term without a value adds nothing
        ("a - b", {"b": 2}, -2),
        ("a * b + 1", {"a": 2}, 1),
        ("coalesce(a, 5) + 1", {}, 6),
        ("coalesce(a, 5)", {"a": "text"}, 5),
        ("stock", {"stock": True}, 1),
        ("log(a) + 1", {"a": 0}, 1),
        ("1 / a + 1", {"a": 0}, 1),
        ("exp(a)", {"a": 1e6}, 0),
        ("a", {}, 0),
    ],
)
def test_a_boost_is_worked_out(expression: str, metadata: dict[str, search.Json], value: float) -> None:
    assert parsed(expression).value(0.5, metadata, NOW) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "1 +",
        "__import__('os')",
        "a.b()",
        "[1]",
        "a if b else c",
        "2 ** 9",
        "lambda: 1",
        "'x'",
        "f(1)",
        "log(1, 2)",
        "log()",
        "age_days(1)",
        "a[0]",
        "(a).__class__()",
        "1e999",
        "True",
        "a = 1",
        "log(x=1)",
        "10" * 400,
        "(" * 900 + "1" + ")" * 900,
        "-" * 1900 + "1",
        "1" * 3000,
        "a\x00",
    ],
)
def test_what_is_no_boost_is_refused(expression: str, shop: Collection) -> None:
    with pytest.raises(search.QueryError, match="; "):
        shop.search(vector=QUERY, boost=expression)


def test_a_boost_changes_the_order(shop: Collection, rows: np.ndarray) -> None:
    unit = np.array(QUERY) / np.linalg.norm(QUERY)
    expected = {f"r{i}": float(rows[i] @ unit) + 0.3 * (i % 7) for i in range(N)}
    hits = shop.search(vector=QUERY, boost="0.3 * sales", k=N, explain=True)
    np.testing.assert_allclose(
        [hit.score for hit in hits], sorted(expected.values(), reverse=True), atol=1e-5
    )
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.id], abs=1e-5)
        assert hit.explain is not None
        told = hit.explain["boost"]
        assert isinstance(told, dict)
        assert told["added"] == pytest.approx(0.3 * (int(hit.id[1:]) % 7))
    assert ids(shop.search(vector=QUERY, boost="0.3 * sales", k=4)) == ids(hits)[:4]


@pytest.mark.parametrize("extra", [{}, {"diversity": 0.4}, {"boost": "0.3 * sales"}, {"group_by": "deep.n"}])
def test_pages_make_the_whole(shop: Collection, extra: dict[str, object]) -> None:
    whole = ids(shop.search(vector=QUERY, k=N, offset=0, **extra))  # type: ignore[call-overload]
    assert len(whole) == len(set(whole)) == N
    n = 12 if "diversity" in extra else N  # beyond, more candidates are looked at for later pages
    paged = [
        id
        for at in range(0, n, 4)
        for id in ids(shop.search(vector=QUERY, k=4, offset=at, **extra))  # type: ignore[call-overload]
    ]
    assert paged == whole[:n]
    assert shop.search(vector=QUERY, k=4, offset=N) == []


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"boost": "0.3 * sales"},
        {"group_by": "brand"},
        {"min_score": -0.2},
        {"where": "i > 5"},
        {"like": "r20", "vector": None},
    ],
)
def test_pages_after_a_hit_make_the_whole(shop: Collection, extra: dict[str, Any]) -> None:
    """Also where a page ends between equals, as r20 to r23 are, which come by their ids."""
    asked: dict[str, Any] = {"vector": QUERY, **extra}
    whole = shop.search(**asked, k=N, offset=0)
    assert len(whole) == len(set(ids(whole))) > 8
    for size in (1, 3, 7):
        page = shop.search(**asked, k=size, offset=0)
        found = list(page)
        while page:
            page = shop.search(**asked, k=size, after=page[-1].cursor)
            found += page
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in whole]
        assert found[size].cursor == whole[size].cursor


def test_pages_stay_where_records_come_and_go(tmp_path: Path, rows: np.ndarray) -> None:
    shop = search.open(tmp_path / "c")
    shop.add([{"id": f"r{i}"} for i in range(N)], rows, space="v")
    whole = ids(shop.search(vector=QUERY, k=N, offset=0))
    first = shop.search(vector=QUERY, k=5, offset=0)
    shop.delete([whole[1], whole[4], whole[6]])  # the last of the page itself too
    shop.add([{"id": "nearest"}], [QUERY], space="v")
    second = shop.search(vector=QUERY, k=5, after=first[-1].cursor)
    assert ids(first) + ids(second) == [*whole[:5], whole[5], *whole[7:11]]


def test_the_age_of_a_date_stays_the_same_on_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = search.open(tmp_path / "c")
    shop.add(
        [{"id": f"r{i}", "metadata": {"d": f"2026-03-{i + 1:02}"}} for i in range(20)],
        np.ones((20, 2)),
        space="v",
    )
    asked: dict[str, Any] = {"vector": [1, 1], "boost": "-age_days(d)", "k": 8}
    monkeypatch.setattr("time.time", lambda: NOW)
    first = shop.search(**asked, offset=0)
    monkeypatch.setattr("time.time", lambda: NOW + 86_400 * 3)
    second = shop.search(**asked, after=first[-1].cursor)
    assert ids(first) + ids(second) == [f"r{19 - i}" for i in range(16)]


def test_cursors_are_of_one_question(shop: Collection, tmp_path: Path) -> None:
    (hit,) = shop.search(vector=QUERY, k=1, offset=0)
    for other in (
        {"vector": [*QUERY[:4], 0.2]},
        {"where": "i > 3"},
        {"boost": "i"},
        {"min_score": 0.1},
        {"group_by": "brand"},
        {"space": "v"},
        {"like": "r3", "vector": None},
    ):
        with pytest.raises(search.QueryError, match="of another question"):
            shop.search(**({"vector": QUERY} | other), after=hit.cursor)  # type: ignore[arg-type]
    elsewhere = search.open(tmp_path / "c")
    elsewhere.add([{"id": "r1", "metadata": {"i": 1}}], [QUERY], space="v")
    with pytest.raises(search.QueryError, match="of another question"):
        elsewhere.search(vector=QUERY, after=hit.cursor)
    assert shop.search(vector=QUERY, k=1)[0].cursor is None
    assert shop.search(vector=QUERY, k=3, after=hit.cursor, explain=True, effort=3)  # decides no order


@pytest.mark.parametrize("after", ["", "x", "!!", 5, "é", "A" * 20_000, "bnVsbA", "W10", "WzEsMiwzLDQsNV0"])
def test_what_is_no_cursor_is_refused(shop: Collection, after: object) -> None:
    with pytest.raises(search.QueryError, match="no cursor"):
        shop.search(vector=QUERY, after=after)  # type: ignore[call-overload]


def test_after_makes_no_sense_with(shop: Collection) -> None:
    (hit,) = shop.search(vector=QUERY, k=1, offset=0)
    for extra, what in (
        ({"offset": 0}, "give one of them"),
        ({"diversity": 0.5}, "page them by offset"),
        ({"vector": [QUERY, QUERY]}, "one at a time"),
    ):
        with pytest.raises(search.QueryError, match=what):
            shop.search(**({"vector": QUERY, "after": hit.cursor} | extra))  # type: ignore[arg-type]


def test_pages_from_the_command_line(shop: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["search", "-c", str(shop.path), "--like", "r3", "--json"]
    assert outcome(app, [*asked, "-k", "6", "--offset", "0"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert outcome(app, [*asked, "-k", "4", "--after", whole[1]["cursor"]]) == 0
    assert json.loads(capsys.readouterr().out) == whole[2:]
    assert outcome(app, [*asked, "--after", "nonsense"]) == 1
    assert "no cursor" in capsys.readouterr().err


def test_no_hit_is_below_the_least_score(shop: Collection) -> None:
    whole = shop.search(vector=QUERY, k=N)
    least = whole[9].score
    assert ids(shop.search(vector=QUERY, k=N, min_score=least)) == ids(whole)[:10]
    assert ids(shop.search(vector=QUERY, k=3, min_score=least)) == ids(whole)[:3]
    assert shop.search(vector=QUERY, min_score=1.5) == []
    assert ids(shop.search(like="r20", k=N, min_score=0.999999)) == ["r21", "r22", "r23"]


@pytest.mark.parametrize("k", [1, 2, 5, 9, 30])
def test_the_best_of_each_group(shop: Collection, k: int) -> None:
    whole = shop.search(vector=QUERY, k=N)
    seen: set[object] = set()
    expected = []
    for hit in whole:
        value = hit.metadata["brand"]
        if value is None or value not in seen:
            expected.append(hit.id)
        seen.add(value)
    assert ids(shop.search(vector=QUERY, k=k, group_by="brand")) == expected[:k]
    assert len(expected) == 9  # three brands, and six without


def test_diversity_is_maximal_marginal_relevance(shop: Collection, rows: np.ndarray) -> None:
    unit = np.array(QUERY) / np.linalg.norm(QUERY)
    for diversity in (0.2, 0.7, 1.0):
        scores = rows @ unit
        relevance = (scores - scores.min()) / np.ptp(scores)
        taken = [int(np.argmax(relevance))] if diversity < 1 else []
        while len(taken) < 8:
            value = (1 - diversity) * relevance
            if taken:
                value = value - diversity * (rows @ rows[taken].T).max(axis=1)
            value[taken] = -np.inf
            taken.append(int(np.argmax(value)))
        hits = shop.search(vector=QUERY, k=8, diversity=diversity)
        if diversity < 1:
            assert ids(hits) == [f"r{i}" for i in taken]
        assert [hit.score for hit in hits] == pytest.approx(
            [scores[int(hit.id[1:])] for hit in hits], abs=1e-5
        )
    twins = {"r20", "r21", "r22", "r23"}
    assert len(twins & set(ids(shop.search(vector=rows[20], k=4)))) == 4
    assert len(twins & set(ids(shop.search(vector=rows[20], k=4, diversity=0.5)))) == 1


def test_batches_and_empty_answers(shop: Collection) -> None:
    queries = [QUERY, QUERY[::-1]]
    together = shop.search(vector=queries, k=3, boost="0.3 * sales", group_by="brand")
    for query, hits in zip(queries, together, strict=True):
        assert ids(hits) == ids(shop.search(vector=query, k=3, boost="0.3 * sales", group_by="brand"))  # type: ignore[arg-type]
    assert shop.search(vector=QUERY, where="i > 99", diversity=0.5, group_by="brand", boost="sales") == []


def test_what_makes_no_sense_is_told(shop: Collection) -> None:
    for shape, what in (
        ({"offset": -1}, "offset must"),
        ({"offset": True}, "offset must"),
        ({"min_score": float("nan")}, "min_score is"),
        ({"diversity": 1.1}, "diversity is"),
        ({"group_by": ""}, "group_by is"),
        ({"group_by": "colour"}, "no record has a field 'colour'; there are: brand"),
        ({"boost": "saels * 2"}, "no record has a field 'saels'"),
    ):
        with pytest.raises(search.QueryError, match=what):
            shop.search(vector=QUERY, **shape)  # type: ignore[call-overload]


def test_from_the_command_line(shop: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["search", "--like", "r5", "-c", str(shop.path), "-k", "3", "--json", "--boost", "0.3 * sales"]
    asked += ["--min-score", "0.1", "--diversity", "0.3", "--group-by", "brand", "--offset", "1"]
    assert outcome(app, asked) == 0
    told = json.loads(capsys.readouterr().out)
    hits = shop.search(
        like="r5", k=3, boost="0.3 * sales", min_score=0.1, diversity=0.3, group_by="brand", offset=1
    )
    assert [hit["id"] for hit in told] == ids(hits)
    assert len(told) == 3
    assert outcome(app, [*asked[:8], "--boost", "os.system(1)"]) == 1
    assert "boost cannot hold" in capsys.readouterr().err


def test_facets_count(shop: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {letter: sum(brand(i) == letter for i in range(20)) for letter in "ABC"}
    expected = [
        {"value": letter, "count": n}
        for letter, n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    ]
    found = shop.facets(["brand", "deep.n"], where="i < 20", limit=3)
    assert found["brand"] == expected
    assert found["deep.n"] == [{"value": n, "count": 1} for n in (0, 1, 10)]
    assert outcome(app, ["facets", "brand", "-c", str(shop.path), "--where", "i < 20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"brand": expected}
    assert shop.facets("brand", where="i > 99") == {"brand": []}
    with pytest.raises(search.QueryError, match="no record has a field 'colour'"):
        shop.facets("colour")
    with pytest.raises(search.QueryError, match="limit must"):
        shop.facets("brand", limit=0)


def test_facets_of_lists_and_all_kinds(tmp_path: Path) -> None:
    shop = search.open(tmp_path / "c")
    for id, tags in (("a", ["x", "y"]), ("b", ["x"]), ("c", None), ("d", True), ("e", 1)):
        shop.add([{"id": id, "metadata": {"tags": tags}}])
    assert shop.facets("tags")["tags"] == [
        {"value": "x", "count": 2},
        {"value": "y", "count": 1},
        {"value": 1, "count": 1},
        {"value": True, "count": 1},
    ]
