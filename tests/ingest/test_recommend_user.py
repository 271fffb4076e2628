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
from search.catalog import reads
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
    with pytest.raises(UnknownRecord, match="no item of the history has a vector"):
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


def test_predicted_items_are_as_long_as_others_and_predicted_again(
    there: Collection, given: Interactions, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    groups = np.array([*(int(id[1]) for id in given.item_ids), 0, 1, 2, 3])
    looks = (
        np.eye(6, dtype=np.float32)[groups] + rng.standard_normal((len(groups), 6)).astype(np.float32) * 0.2
    )
    ids = [*given.item_ids, "new0", "new1", "new2", "new3"]
    there.add([{"id": id} for id in ids], looks, space="looks")
    ingest.predict(there, space="interactions", source="looks")

    def lengths() -> tuple[float, np.ndarray]:
        """The mean length of the vectors of items taken, and those of the predicted ones."""
        space = there.spaces()["interactions"]
        with there.database.reading() as transaction:
            keys = reads.keys_of(transaction, ids)
        rows = there._asker.looked(space, lambda _, look: look).rows
        found = {int(key): row for key, row in zip(rows.record_keys, rows.matrix, strict=True)}
        long = {id: float(np.linalg.norm(found[keys[id]])) for id in ids if keys[id] in found}
        new = np.array([long[id] for id in ids if id.startswith("new") and id in long])
        return float(np.mean([long[id] for id in given.item_ids])), new

    usual, predicted = lengths()
    assert len(predicted) == 4
    assert predicted.mean() == pytest.approx(usual, rel=0.35)
    assert predicted.std() > 0
    one, two = given.user_ids[0], given.user_ids[1]
    more = [{"customer": user, "sku": "new0"} for user in (one, two)]
    orders = tmp_path / "orders.jsonl"
    orders.write_text("\n".join([orders.read_text(), *map(json.dumps, more)]))
    ingest.interactions(there, orders, user="customer", item="sku", settings=SETTINGS)
    new0, new1 = there.get(["new0", "new1"])
    assert new0 is not None
    assert new1 is not None
    assert not (new0.metadata or {}).get("interactions_predicted")  # it is learned by now
    assert new1.metadata == {"interactions_predicted": True}
    where = "id in ('new1', 'new2', 'new3')"
    first = [
        there.recommend(user=user, k=1, where=where)[0].id for user in given.user_ids if user[1] in "123"
    ]
    right = [
        id[-1] == user[1]
        for id, user in zip(first, (u for u in given.user_ids if u[1] in "123"), strict=True)
    ]
    assert np.mean(right) > 0.9
    assert there.check() == []


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


def timed(path: Path, given: Interactions) -> Path:
    assert given.times is not None
    lines = [
        f"{given.user_ids[user]},{given.item_ids[item]},{time}"
        for user, item, time in zip(given.users, given.indices, given.times, strict=True)
    ]
    path.write_text("\n".join(["user,item,time", *lines]))
    return path


TOGETHER = ingest.InteractionSettings(dim=8, neighbours=9, shrink=2, half_life_items=2.0)


@pytest.fixture
def together(tmp_path: Path, given: Interactions) -> Collection:
    made = search.open(tmp_path / "together")
    ingest.interactions(made, timed(tmp_path / "orders.csv", given), method="item-knn", settings=TOGETHER)
    return made


def by_order(given: Interactions, user: int) -> list[str]:
    """What a user took, the last last."""
    assert given.times is not None
    span = slice(given.indptr[user], given.indptr[user + 1])
    return [given.item_ids[item] for item in given.indices[span][np.argsort(given.times[span])]]


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_neighbours_are_summed_up_as_the_trainer_does(
    together: Collection, given: Interactions, kind: str
) -> None:
    learned = load_trainer("item-knn", TOGETHER)
    learned.learn(given)
    if kind == "hnsw":
        together.tune(kind="hnsw", space="interactions")
    for user in (0, 5, 41):
        scores = learned.scores(np.array([user]))[0]
        wanted = [
            (given.item_ids[at], float(scores[at]))
            for at in np.argsort(-scores, kind="stable")
            if given.item_ids[at] not in taken(given, user)
        ]
        hits = together.recommend(user=given.user_ids[user], k=1000)
        assert [hit.id for hit in hits] == [id for id, _ in wanted]
        np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in wanted], atol=1e-5)
        new = together.recommend(history=by_order(given, user), k=1000)
        assert [hit.id for hit in new[:20]] == [id for id, _ in wanted[:20]]
        np.testing.assert_allclose([hit.score for hit in new], [score for _, score in wanted], atol=2e-3)
        other = together.recommend(history=by_order(given, user)[::-1], k=1000)
        assert [hit.score for hit in other] != [hit.score for hit in new]  # the order counts
    hits = together.recommend(user=given.user_ids[0], k=3, where="id in ('i0-00', 'i1-00', 'i2-00', 'i3-00')")
    assert len(hits) == 3


def test_what_speaks_for_a_hit(together: Collection, given: Interactions) -> None:
    learned = load_trainer("item-knn", TOGETHER)
    learned.learn(given)
    assert learned.factors is not None
    hit = together.recommend(user=given.user_ids[2], explain=True)[0]
    assert hit.explain is not None
    counts = dict(zip(by_order(given, 2)[::-1], 0.5 ** (np.arange(7) / 2), strict=True))
    at = given.item_ids.index(hit.id)
    likeness = learned.factors.together.toarray()  # type: ignore[union-attr]
    speaks = {id: count * likeness[given.item_ids.index(id), at] for id, count in counts.items()}
    best = sorted((id for id in speaks if speaks[id] > 0), key=lambda one: -speaks[one])[:3]
    assert [one["id"] for one in hit.explain["because"]] == best
    assert hit.explain["because"][0]["speaks"] == pytest.approx(speaks[best[0]], abs=1e-4)


def test_neighbours_outlive_deletions_and_compaction(together: Collection, given: Interactions) -> None:
    best = together.recommend(user=given.user_ids[1], k=1)[0].id
    together.delete([best])
    before = together.recommend(user=given.user_ids[1], k=500)
    assert best not in {hit.id for hit in before}
    together.compact()
    assert together.recommend(user=given.user_ids[1], k=500) == before
    assert together.check() == []


def test_a_half_life_needs_times_before_anything_is_done(tmp_path: Path, given: Interactions) -> None:
    orders = written(tmp_path / "orders.jsonl", given)
    with pytest.raises(SourceError, match="what was taken when"):
        ingest.interactions(
            tmp_path / "c", orders, user="customer", item="sku", method="item-knn", settings=TOGETHER
        )
    with search.open(tmp_path / "c") as made:
        assert made.spaces() == {}


def test_spaces_of_als_as_they_were_first_learned_fold_in_as_before() -> None:
    from search.query.personal import folded_in, gram_of
    from search.types import EncoderSpec, Metric, Modality, Space

    options = {"learned_from": "interactions", "alpha": 5.0, "regularization": 0.02, "log": True}
    spec = EncoderSpec("als", "als", Modality.GRAPH, 4, options=options)  # type: ignore[arg-type]
    items = np.random.default_rng(0).standard_normal((30, 4))
    rows, counts = items[[3, 8]], np.array([1.0, 2.0])
    extra = 5 * np.log1p(counts)
    left = items.T @ items + rows.T @ (extra[:, None] * rows) + 0.02 * (extra.sum() + 30) * np.eye(4)
    found = folded_in(
        Space(1, "s", Modality.GRAPH, 4, Metric.DOT, spec),
        gram_of(items.astype(np.float32)),
        rows.astype(np.float32),
        counts,
    )
    np.testing.assert_allclose(found[0], np.linalg.solve(left, rows.T @ (1 + extra)), rtol=1e-4)
