"""Interactions taken into a collection, and what is recommended to users, old and new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ingest
import search
from ingest.cli.main import app
from ingest.learn.interactions.load import load_trainer
from ingest.sources.interactions import Interactions
from search.collection import Collection
from search.errors import (
    CollectionError,
    FilterError,
    QueryError,
    SourceError,
    UnknownRecord,
    UnknownSpace,
)
from tests.taste import shop

SETTINGS = ingest.InteractionSettings(dim=8)


def written(path: Path, given: Interactions) -> Path:
    rows = [
        {"customer": given.user_ids[user], "sku": given.item_ids[item]}
        for user, item in zip(given.users, given.indices, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def given() -> Interactions:
    return shop(0)


@pytest.fixture
def there(tmp_path: Path, given: Interactions) -> Collection:
    made = search.open(tmp_path / "shop")
    made.add(
        [{"id": id, "text": f"Thing {id}", "metadata": {"price": n}} for n, id in enumerate(given.item_ids)]
    )
    report = ingest.interactions(
        made, written(tmp_path / "orders.jsonl", given), user="customer", item="sku", settings=SETTINGS
    )
    assert report.interactions is not None
    assert (report.interactions.users, report.interactions.items) == (given.n_users, given.n_items)
    assert (report.added, report.updated) == (given.n_users, given.n_items)
    assert report.vectors == given.n_users + given.n_items
    return made


def taken(given: Interactions, user: int) -> set[str]:
    return {given.item_ids[item] for item in given.indices[given.indptr[user] : given.indptr[user + 1]]}


def expected(given: Interactions, user: int, k: int) -> list[tuple[str, float]]:
    """The best k by the inner products of the trainer itself."""
    learned = load_trainer("als", SETTINGS)
    learned.learn(given)
    scores = learned.scores(np.array([user]))[0]
    seen = taken(given, user)
    ranked = [(given.item_ids[at], float(scores[at])) for at in np.argsort(-scores, kind="stable")]
    return [one for one in ranked if one[0] not in seen][:k]


def test_the_answer_is_the_ranking_of_the_trainer_without_what_was_taken(
    there: Collection, given: Interactions
) -> None:
    for user in (0, 5, 41):
        hits = there.recommend(user=given.user_ids[user], k=10)
        wanted = expected(given, user, 10)
        assert [hit.id for hit in hits] == [id for id, _ in wanted]
        np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in wanted], rtol=1e-4)


def test_filters_hold_and_records_are_joined(there: Collection, given: Interactions) -> None:
    hits = there.recommend(user=given.user_ids[3], k=100, where="price < 20")
    assert {hit.id for hit in hits} == set(given.item_ids[:20]) - taken(given, 3)
    assert hits[0].text == f"Thing {hits[0].id}"
    with pytest.raises(FilterError):
        there.recommend(user=given.user_ids[3], where="prize < 20")
    assert there.recommend(user=given.user_ids[3], where=f"id = '{sorted(taken(given, 3))[0]}'") == []


def test_all_that_is_left_comes_back_and_no_user(there: Collection, given: Interactions) -> None:
    hits = there.recommend(user=given.user_ids[3], k=10_000)
    assert {hit.id for hit in hits} == set(given.item_ids) - taken(given, 3)
    for found in (there.recommend(likes=["i0-00"], k=500), there.search(like="i0-00", k=500)):
        assert {hit.id for hit in found} == set(given.item_ids) - {"i0-00"}
    like_a_user = there.recommend(likes=["user:u0-00"], k=500)
    assert any(hit.id.startswith("user:u0") for hit in like_a_user)


def test_somebody_new_is_ranked_for_as_if_learned(there: Collection, given: Interactions) -> None:
    history = sorted(taken(given, 7))
    known = there.recommend(user=given.user_ids[7], k=20)
    new = there.recommend(history=history, k=20)
    assert [hit.id for hit in new] == [hit.id for hit in known]  # the users' last half-step is the fold-in
    np.testing.assert_allclose([hit.score for hit in new], [hit.score for hit in known], rtol=2e-3, atol=1e-4)
    assert there.recommend(history=dict.fromkeys(history, 1.0), k=20) == new
    first = there.recommend(history=["i4-00", "i4-01"], k=5)
    assert all(hit.id.startswith("i4") for hit in first)


@pytest.mark.parametrize("method", ["bpr", "lightgcn"])
def test_first_clicks_do_in_every_space(tmp_path: Path, given: Interactions, method: str) -> None:
    orders = written(tmp_path / "orders.jsonl", given)
    ingest.interactions(tmp_path / "c", orders, user="customer", item="sku", method=method, settings=SETTINGS)
    with search.open(tmp_path / "c", "r") as made:
        for group in range(6):
            hits = made.recommend(history=[f"i{group}-00", f"i{group}-01"], k=5)
            assert sum(hit.id.startswith(f"i{group}") for hit in hits) >= 4


def test_explain_names_the_items_taken_that_are_nearest(there: Collection, given: Interactions) -> None:
    hit = there.recommend(user=given.user_ids[2], explain=True)[0]
    assert hit.explain is not None
    because = hit.explain["because"]
    assert len(because) == 3
    learned = load_trainer("als", SETTINGS).fit(given).items
    unit = learned / np.linalg.norm(learned, axis=1, keepdims=True)
    near = unit @ unit[given.item_ids.index(hit.id)]
    ranked = sorted(taken(given, 2), key=lambda item: -near[given.item_ids.index(item)])[:3]
    assert [one["id"] for one in because] == ranked
    assert because[0]["likeness"] == pytest.approx(near[given.item_ids.index(ranked[0])], abs=1e-3)


def test_explain_counts_the_users_who_took_alike(there: Collection, given: Interactions) -> None:
    user, numbers = 2, []
    mine = taken(given, user)
    others = [taken(given, other) for other in range(len(given.user_ids)) if other != user]
    for hits in (
        there.recommend(user=given.user_ids[user], k=20, explain=True),
        there.recommend(history=sorted(mine), k=20, explain=True),
    ):
        for hit in hits:
            n = sum(hit.id in one and bool(mine & one) for one in others)
            assert hit.explain is not None
            assert hit.explain["why"] == [{"space": hit.space, "users": n}]
            assert hit.explain["because"]
            numbers.append(n)
    assert len(set(numbers)) > 3


def test_questions_that_cannot_be_answered(there: Collection) -> None:
    with pytest.raises(UnknownRecord, match="no user 'nobody' is known"):
        there.recommend(user="nobody")
    with pytest.raises(UnknownRecord, match="no user 'i0-00'"):
        there.recommend(user="i0-00")
    with pytest.raises(UnknownRecord, match="'nothing'"):
        there.recommend(history=["i0-00", "nothing"])
    with pytest.raises(QueryError, match="is a user"):
        there.recommend(history=["user:u0-00"])
    with pytest.raises(QueryError, match="empty"):
        there.recommend(history=[])
    for weight in (0, -1, float("nan"), True):
        with pytest.raises(QueryError, match="positive number"):
            there.recommend(history={"i0-00": weight})
    with pytest.raises(QueryError, match="by itself"):
        there.recommend(likes=["i0-00"], user="u0-00")
    with pytest.raises(QueryError, match="one of the two"):
        there.recommend(user="u0-00", history=["i0-00"])
    with pytest.raises(QueryError):
        there.recommend(user="u0-00", k=0)
    there.add([{"id": "late", "text": "came later"}])
    with pytest.raises(UnknownRecord, match="none of the items"):
        there.recommend(history=["late"])
    assert there.recommend(history=["late", "i0-00"], k=3) == there.recommend(history=["i0-00"], k=3)


def test_a_space_of_another_kind_is_refused(tmp_path: Path) -> None:
    with search.open(tmp_path / "c") as made:
        with pytest.raises(UnknownSpace, match="nearkin ingest interactions"):
            made.recommend(user="a")
        made.add([{"id": "x"}], [[1.0, 0.0]], space="mine")
        with pytest.raises(UnknownSpace, match="was not learned from interactions"):
            made.recommend(user="a", spaces="mine")
        (tmp_path / "o.csv").write_text("user,item\na,x\n")
        with pytest.raises(CollectionError):
            ingest.interactions(made, tmp_path / "o.csv", space="mine", settings=SETTINGS)


def test_the_same_again_learns_nothing_and_a_change_replaces_all(
    there: Collection, given: Interactions, tmp_path: Path
) -> None:
    orders = tmp_path / "orders.jsonl"
    again = ingest.interactions(there, orders, user="customer", item="sku", settings=SETTINGS)
    assert (again.unchanged, again.vectors) == (given.n_users + given.n_items, 0)
    gone = given.user_ids[0]
    kept = given.where(given.users != 0)
    written(orders, kept)
    report = ingest.interactions(there, orders, user="customer", item="sku", settings=SETTINGS, prune=True)
    assert report.removed == 1
    assert there.get([f"user:{gone}"]) == [None]
    with pytest.raises(UnknownRecord):
        there.recommend(user=gone)
    assert there.check() == []
    there.compact()
    assert there.check() == []


def test_new_items_by_the_map_from_another_space(
    there: Collection, given: Interactions, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    groups = np.eye(6, dtype=np.float32)

    def looks(group: int) -> np.ndarray:
        return groups[group] + rng.standard_normal(6).astype(np.float32) * 0.05

    vectors = [looks(int(id[1])) for id in given.item_ids]
    there.add([{"id": id} for id in given.item_ids], np.stack(vectors), space="looks")
    there.add(
        [{"id": f"new{group}"} for group in range(6)], np.stack([looks(g) for g in range(6)]), space="looks"
    )
    assert ingest.predict(there, space="interactions", source="looks").predicted == 6
    where = "id in ('new0', 'new1', 'new2', 'new3', 'new4', 'new5')"
    first = [there.recommend(user=user, k=1, where=where)[0].id for user in given.user_ids]
    right = [id == f"new{user[1]}" for id, user in zip(first, given.user_ids, strict=True)]
    assert np.mean(right) > 0.9
    again = ingest.interactions(
        there, tmp_path / "orders.jsonl", user="customer", item="sku", settings=SETTINGS
    )
    assert again.vectors == 0  # what was predicted is no reason to learn again


def test_a_deleted_user_is_unknown_and_a_deleted_item_never_shown(
    there: Collection, given: Interactions
) -> None:
    best = there.recommend(user=given.user_ids[1], k=1)[0].id
    there.delete([best, f"user:{given.user_ids[2]}"])
    assert best not in {hit.id for hit in there.recommend(user=given.user_ids[1], k=500)}
    with pytest.raises(UnknownRecord):
        there.recommend(user=given.user_ids[2])
    assert there.check() == []


def test_a_user_with_one_item_and_one_who_took_all(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("user,item\na,x\na,y\nb,x\n")
    ingest.interactions(tmp_path / "c", tmp_path / "o.csv", settings=SETTINGS)
    with search.open(tmp_path / "c", "r") as made:
        assert made.recommend(user="a") == []
        assert [hit.id for hit in made.recommend(user="b")] == ["y"]


def test_an_item_with_the_id_of_a_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("user,item\na,user:b\n")
    with pytest.raises(SourceError, match="is a user's"):
        ingest.interactions(tmp_path / "c", tmp_path / "o.csv", settings=SETTINGS)


def test_the_commands(tmp_path: Path, given: Interactions) -> None:
    from typer.testing import CliRunner

    runner, place = CliRunner(), str(tmp_path / "c")
    orders = str(written(tmp_path / "orders.jsonl", given))
    filling = [
        "ingest",
        "interactions",
        orders,
        "-c",
        place,
        "--dim",
        "8",
        "--user",
        "customer",
        "--item",
        "sku",
    ]
    dry = runner.invoke(app, [*filling, "--dry-run", "--json"])
    assert json.loads(dry.stdout)["added"] == given.n_users + given.n_items
    assert not (tmp_path / "c").exists()
    done = runner.invoke(app, [*filling, "--json"])
    assert json.loads(done.stdout)["interactions"]["pairs"] == len(given.indices)
    asked = runner.invoke(app, ["recommend", "--user", given.user_ids[4], "-c", place, "-k", "4", "--json"])
    assert [hit["id"] for hit in json.loads(asked.stdout)] == [id for id, _ in expected(given, 4, 4)]
    asked = runner.invoke(
        app, ["recommend", "--history", "i3-00", "--history", "i3-01", "-c", place, "--json"]
    )
    assert json.loads(asked.stdout)[0]["id"].startswith("i3")
    assert runner.invoke(app, ["recommend", "-c", place]).exit_code == 2


def test_no_torch_is_imported_to_recommend(there: Collection, given: Interactions) -> None:
    there.close()
    told = (
        "import sys, search\n"
        f"with search.open({str(there.path)!r}, 'r') as c:\n"
        f"    assert c.recommend(user={given.user_ids[0]!r}) and c.recommend(history=['i0-00'])\n"
        "print('torch' in sys.modules, 'numba' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_over_http_as_in_python(there: Collection, given: Interactions) -> None:
    starlette = pytest.importorskip("starlette.testclient")
    from search.server.app import application
    from search.server.settings import Settings

    client = starlette.TestClient(application(there, Settings()), base_url="http://localhost")
    seen = sorted(taken(given, 4))
    dated = {seen[0]: "2026-03-01", seen[1]: "2026-01-01"}
    asked: dict[str, object]
    for asked in (
        {"user": given.user_ids[4], "exclude": ["i0-00", "i4-03"]},
        {"history": seen},
        {"history": dated, "half_life": 7},
    ):
        answer = client.post("/recommend", json={**asked, "k": 6})
        assert answer.status_code == 200
        expected = there.recommend(**asked, k=6)  # type: ignore[arg-type]
        assert [(hit["id"], hit["score"]) for hit in answer.json()] == [
            (hit.id, hit.score) for hit in expected
        ]
        assert not {hit.id for hit in expected} & {"i0-00", "i4-03"} or "user" not in asked
