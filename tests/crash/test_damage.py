"""Damaged bytes: found by a checksum, named exactly, built again where the truth still holds, never answered from."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import search
from search.collection import Collection
from search.errors import CollectionCorrupt, NearkinError
from search.index import choose
from search.layout import Layout
from search.types import Metric
from search.vectors import prepared
from tests.crash.verdict import answers_as, held_in, is_in, told
from tests.crash.workload import FLAT_UP_TO, SCRIPTED, SPACE, State, apply, metadata_of, text_of, vectors_of

_FLIPS = 30  # of each kind in `make test`
_MANY_FLIPS = 600  # in `make crash`


@dataclass(frozen=True)
class Whole:
    """A collection without damage, closed, and what it holds."""

    path: Path
    state: State

    @property
    def catalog(self) -> Path:
        return Layout(self.path).catalog

    @property
    def snapshot(self) -> Path:
        (path,) = Layout(self.path).indexes.iterdir()
        return path

    def place_of(self, content: bytes) -> int:
        """Where this stands in the catalog."""
        at = self.catalog.read_bytes().find(content)
        assert at >= 0
        return at


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "FLAT_UP_TO", FLAT_UP_TO)


def made(path: Path, seed: int) -> Whole:
    """A collection with updates, deletions, parts and an index, whose log is folded into the catalog."""
    operations, states = told(seed, SCRIPTED - 3)  # then it would be emptied and compacted
    with search.open(path) as c:
        for operation in operations:
            apply(c, operation)
        c.index()
    assert not Path(f"{path}/catalog.sqlite-wal").exists()
    return Whole(path, states[-1])


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    return made(tmp_path / "c", seed=1)


@contextmanager
def changed(path: Path, at: int, to: Callable[[int], int]) -> Iterator[None]:
    """The file with one byte changed, for the length of the block."""
    before = path.read_bytes()
    after = bytearray(before)
    after[at] = to(after[at])
    assert after != before
    path.write_bytes(after)
    try:
        yield
    finally:
        path.write_bytes(before)


def asked(whole: Whole, scratch: Path) -> dict[str, str]:
    """What becomes of each question: "right", "told" (an error of ours), "WRONG", or the name of another error."""

    def searched(c: Collection) -> None:
        answers_as(c, whole.state)

    def exported(c: Collection) -> None:
        assert is_in(whole.state, held_in(c, scratch))

    def read(c: Collection) -> None:
        for id, record in zip(whole.state, c.get(list(whole.state)), strict=True):
            assert record is not None
            assert (record.text, record.metadata) == (text_of(id), metadata_of(whole.state[id]))

    def counted(c: Collection) -> None:
        groups = Counter(kept.group for kept in whole.state.values())
        assert {group: c.count(f"group = {group}") for group in groups} == groups

    def outcome(question: Callable[[Collection], None]) -> str:
        try:
            with search.open(whole.path, "r") as c:  # anew each time, so that nothing is remembered
                question(c)
        except NearkinError as error:
            return "told" if "\n" not in str(error) else "told in several lines"
        except AssertionError:
            return "WRONG"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and shown
            return type(error).__name__
        return "right"

    return {question.__name__: outcome(question) for question in (searched, exported, read, counted)}


def checked(path: Path) -> list[str]:
    """What `check` finds; an error in place of an answer counts as found."""
    try:
        with search.open(path, "r") as c:
            return c.check()
    except NearkinError as error:
        return [str(error)]


def flip(rng: random.Random) -> Callable[[int], int]:
    """Some other value of a byte."""
    bits = rng.randrange(1, 256)
    return lambda byte: byte ^ bits


# ---- packed vectors ------------------------------------------------------------------------------------------


def flips_in_vectors(whole: Whole, scratch: Path, n: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(n):
        id = rng.choice(sorted(whole.state))
        row = prepared(vectors_of(id, whole.state[id])[:1], None, Metric.COSINE).tobytes()[:16]
        at = whole.place_of(row) + rng.randrange(16)
        with changed(whole.catalog, at, flip(rng)):
            outcomes = asked(whole, scratch)
            assert outcomes == {"searched": "told", "exported": "told", "read": "right", "counted": "right"}
            (line,) = checked(whole.path)
            assert "batch " in line
            assert f"of space '{SPACE}' does not match its checksum; restore" in line
            with search.open(whole.path, "r") as c, pytest.raises(CollectionCorrupt) as caught:
                c.search(vector=np.ones(8))
            assert str(caught.value) == line
    print(f"\n{n} bytes flipped in packed vectors, all found, none answered from")


def test_flips_in_packed_vectors(whole: Whole, tmp_path: Path) -> None:
    flips_in_vectors(whole, tmp_path / "scratch", _FLIPS, seed=1)


@pytest.mark.crash
def test_many_flips_in_packed_vectors(whole: Whole, tmp_path: Path) -> None:
    flips_in_vectors(whole, tmp_path / "scratch", _MANY_FLIPS, seed=2)


# ---- snapshots -----------------------------------------------------------------------------------------------


def never_answered_from(whole: Whole, scratch: Path) -> None:
    """The damaged snapshot is named, and every answer is right without it."""
    (line,) = checked(whole.path)
    assert line.startswith(f"space '{SPACE}': the index {whole.snapshot} ")
    assert set(asked(whole, scratch).values()) == {"right"}


def built_again(whole: Whole) -> None:
    """The next writer puts the damaged file aside and builds the index from the catalog."""
    damaged = whole.snapshot.name
    with search.open(whole.path) as c:
        c.index()
        assert c.check() == []
        answers_as(c, whole.state)
    assert [path.name for path in Layout(whole.path).quarantine.iterdir()] == [damaged]
    assert whole.snapshot.name != damaged


def flips_in_snapshot(whole: Whole, scratch: Path, n: int, seed: int) -> None:
    rng = random.Random(seed)
    size = whole.snapshot.stat().st_size
    for _ in range(n):
        with changed(whole.snapshot, rng.randrange(size), flip(rng)):
            never_answered_from(whole, scratch)
    print(f"\n{n} bytes flipped in a snapshot, all found, none answered from")


def test_flips_in_a_snapshot(whole: Whole, tmp_path: Path) -> None:
    flips_in_snapshot(whole, tmp_path / "scratch", _FLIPS, seed=3)
    path = whole.snapshot
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    built_again(whole)


@pytest.mark.crash
def test_many_flips_in_a_snapshot(whole: Whole, tmp_path: Path) -> None:
    flips_in_snapshot(whole, tmp_path / "scratch", _MANY_FLIPS, seed=4)


def test_a_snapshot_cut_off(whole: Whole, tmp_path: Path) -> None:
    path, content = whole.snapshot, whole.snapshot.read_bytes()
    lengths = [0, 1, 20, *range(100, len(content), 2500), len(content) - 1]
    for n in lengths:
        path.write_bytes(content[:n])
        never_answered_from(whole, tmp_path / "scratch")
    path.write_bytes(content + b"\0")
    never_answered_from(whole, tmp_path / "scratch")
    built_again(whole)


def test_a_snapshot_that_is_gone(whole: Whole, tmp_path: Path) -> None:
    path = whole.snapshot
    path.unlink()
    (line,) = checked(whole.path)
    assert line.startswith(f"space '{SPACE}': the index {path} cannot be read")
    assert set(asked(whole, tmp_path / "scratch").values()) == {"right"}
    with search.open(whole.path) as c:
        c.index()
        assert c.check() == []
    assert whole.snapshot.is_file()


def test_the_snapshots_of_two_collections_are_swapped(whole: Whole, tmp_path: Path) -> None:
    other = made(tmp_path / "other", seed=2)
    mine, theirs = whole.snapshot.read_bytes(), other.snapshot.read_bytes()
    whole.snapshot.write_bytes(theirs)
    other.snapshot.write_bytes(mine)
    for one in (whole, other):
        never_answered_from(one, tmp_path / "scratch")
        built_again(one)


# ---- the rest of the catalog ---------------------------------------------------------------------------------


def flips_in_catalog(whole: Whole, scratch: Path, n: int, seed: int) -> None:
    """Each answer is the truth or an error of ours; and where one is not the truth, `check` finds something.

    A filter reads the metadata without their checksums, so it may count wrongly; what it picks is then checked.
    """
    rng = random.Random(seed)
    size = whole.catalog.stat().st_size
    counts: Counter[tuple[str, ...]] = Counter()
    for _ in range(n):
        with changed(whole.catalog, rng.randrange(size), flip(rng)):
            outcomes = asked(whole, scratch)
            found = "found by check" if checked(whole.path) else "not found by check"
        counts[*(f"{question} {how}" for question, how in outcomes.items() if how != "right"), found] += 1
    print(f"\n{n} bytes flipped in the catalog:")
    for what, times in counts.most_common():
        print(f"{times:5}  {', '.join(what)}")
    for what in counts:
        assert what == ("not found by check",) or what[-1] == "found by check", what  # or it did not matter
        assert all(how.endswith(" told") or how == "counted WRONG" for how in what[:-1]), what


def test_flips_in_the_catalog(whole: Whole, tmp_path: Path) -> None:
    flips_in_catalog(whole, tmp_path / "scratch", 2 * _FLIPS, seed=5)


@pytest.mark.crash
def test_many_flips_in_the_catalog(whole: Whole, tmp_path: Path) -> None:
    flips_in_catalog(whole, tmp_path / "scratch", _MANY_FLIPS, seed=6)


def test_flips_in_the_catalog_change_no_ranking(whole: Whole, tmp_path: Path) -> None:
    """Whatever becomes of texts and metadata, no vector search finds another record or gives another score."""
    rng = random.Random(7)
    size = whole.catalog.stat().st_size
    counts: Counter[str] = Counter()
    for _ in range(2 * _FLIPS):
        with changed(whole.catalog, rng.randrange(size), flip(rng)):
            counts[asked(whole, tmp_path / "scratch")["searched"]] += 1
    print(f"\n{2 * _FLIPS} bytes flipped in the catalog: {dict(counts)}")
    assert counts["WRONG"] == 0
    assert counts["right"] + counts["told"] == 2 * _FLIPS


def _record(whole: Whole) -> tuple[str, int]:
    """A record with a long text, and where the middle of that text stands in the catalog."""
    id = max(whole.state, key=lambda one: len(text_of(one)))
    return id, whole.place_of(text_of(id)[:50].encode()) + 25


@pytest.mark.parametrize("to", [ord("Z"), 0xFF], ids=["another letter", "not a letter"])
def test_a_text_is_changed(whole: Whole, tmp_path: Path, to: int) -> None:
    id, at = _record(whole)
    with changed(whole.catalog, at, lambda _: to):
        assert asked(whole, tmp_path / "scratch")["read"] == "told"
        line, *others = checked(whole.path)
        assert id in line
        assert all("words" in other for other in others)  # the index of words is compared with the texts


@pytest.mark.parametrize("to", [b"9", b"x"], ids=["another number", "not JSON"])
def test_metadata_are_changed(whole: Whole, tmp_path: Path, to: bytes) -> None:
    id = min(whole.state)
    content = whole.catalog.read_bytes()
    start = content.find(text_of(id)[:50].encode())
    at = content.index(b'"group":', start) + len(b'"group":')
    with changed(whole.catalog, at, lambda _: to[0]):
        outcomes = asked(whole, tmp_path / "scratch")
        assert outcomes["read"] == outcomes["searched"] == "told"
        (line,) = checked(whole.path)
        assert id in line


def _altered(whole: Whole, statement: str) -> None:
    connection = sqlite3.connect(whole.catalog)
    with connection:
        assert connection.execute(statement).rowcount > 0, statement
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()


_RECORD = "where key = (select max(key) from record)"
_PART = "where key = (select max(key) from part)"
_BATCH = "where key = (select max(key) from batch)"
_DEAD = "where part_key = (select min(part_key) from tombstone)"
_DAMAGE = {
    "the counters: a commit": "update state set commit_seq = commit_seq - 1",
    "the counters: numbers used twice": "update state set next_part = 1",
    "the counters: another collection": "update state set uuid = 'other'",
    "the counters: gone": "delete from state",
    "a space: its metric": "update space set metric = 'dot'",
    "a space: its encoder": "update space set encoder = '{'",
    "a space: its tuning": "update space set tuning = replace(tuning, '0.95', '0.15')",
    "a space: gone": "delete from space",
    "a record: its kind": f"update record set kind = 'text' {_RECORD}",
    "a record: its text cut off": f"update record set text = substr(text, 1, length(text) - 1) {_RECORD}",
    "a record: metadata of another type": f"update record set metadata = x'7b7d' {_RECORD}",
    "a part: of another record": f"update part set record_key = record_key - 1 {_PART}",
    "a part: of another space": f"update part set space_key = 2 {_PART}",
    "a part: gone": f"delete from part {_PART}",
    "a passage: where it begins": "update part set start = start + 1 where start is not null",
    "a passage: made whole": 'update part set start = null, "end" = null where start is not null',
    "a batch: of another space": f"update batch set space_key = 2 {_BATCH}",
    "a batch: how many": f"update batch set n = 1099511627776 {_BATCH}",
    "a batch: passages made whole": "update batch set pieces = 0 where pieces",
    "a batch: out of order": "update batch set first_part = last_part + 1000, last_part = last_part + 1000 "
    "where key = (select min(key) from batch)",
    "a batch: gone": f"delete from batch {_BATCH}",
    "a tombstone: of a living part": f"update tombstone set part_key = (select max(key) from part) {_DEAD}",
    "a tombstone: gone": f"delete from tombstone {_DEAD}",
}


@pytest.mark.parametrize("statement", _DAMAGE.values(), ids=_DAMAGE.keys())
def test_a_row_is_changed(whole: Whole, tmp_path: Path, statement: str) -> None:
    """Even where SQLite finds nothing wrong: no vector and no text is answered from it, and `check` says why."""
    _altered(whole, statement)
    outcomes = asked(whole, tmp_path / "scratch")
    del outcomes["counted"]  # see the next test but one
    assert set(outcomes.values()) <= {"right", "told"}, outcomes
    assert "told" in outcomes.values(), outcomes
    assert checked(whole.path) != []


def test_an_entry_of_the_index_on_ids_is_changed(whole: Whole, tmp_path: Path) -> None:
    """An id that cannot be found any more is told of, not answered with None; and so is one nearby."""
    content = whole.catalog.read_bytes()
    id = next(id for id in sorted(whole.state) if id.startswith("r0-"))
    places, at = [], content.find(id.encode())
    while at >= 0:
        places.append(at)
        at = content.find(id.encode(), at + 1)
    n_told = 0
    for place in places:
        page = place - place % 8192
        if content[page] != 0x0A:  # a leaf of an index
            continue
        with changed(whole.catalog, place, lambda _: ord("q")):
            with search.open(whole.path, "r") as c, pytest.raises(CollectionCorrupt, match="index on ids"):
                c.get(id)
            with search.open(whole.path, "r") as c:
                assert c.get("not there at all") == [None]
            assert any("sqlite_autoindex_record_1" in line for line in checked(whole.path))
            n_told += 1
    assert n_told >= 1


def test_a_filter_may_miss_what_is_damaged_and_check_finds_it(whole: Whole, tmp_path: Path) -> None:
    """The limit that docs/durability.md names: what a filter picks is checked, what it leaves out is not."""
    id, kept = next((id, kept) for id, kept in sorted(whole.state.items()) if kept.group != 9)
    _altered(whole, f"update record set metadata = replace(metadata, '{kept.group}', '9') where id = '{id}'")
    with search.open(whole.path, "r") as c:
        assert c.count("group = 9") == 1
        with pytest.raises(CollectionCorrupt, match=repr(id)):
            c.search(vector=np.ones(8), where="group = 9")
        (line,) = c.check()
        assert repr(id) in line


@pytest.mark.parametrize("content", [b"", b"x"], ids=["nothing", "one byte"])
def test_an_emptied_catalog_is_not_made_anew(whole: Whole, content: bytes) -> None:
    whole.catalog.write_bytes(content)
    for mode in ("rw", "r"):
        with pytest.raises(CollectionCorrupt, match="has lost its content; restore"):
            search.open(whole.path, mode)  # type: ignore[arg-type]
    assert whole.catalog.read_bytes() == content


def test_a_catalog_with_too_much(whole: Whole) -> None:
    whole.catalog.write_bytes(whole.catalog.read_bytes() + bytes(8192))
    (line,) = checked(whole.path)
    assert "bytes, and its pages make" in line


def test_a_catalog_cut_off(whole: Whole, tmp_path: Path) -> None:
    """With anything less than all of its pages, each question is an error of ours, and so is each attempt to write."""
    content = whole.catalog.read_bytes()
    for n in [0, 1, 99, 100, 4096, *range(8192, len(content), 5 * 8192)]:
        whole.catalog.write_bytes(content[:n])
        assert set(asked(whole, tmp_path / "scratch").values()) == {"told"}, n
        assert checked(whole.path) != []
        with pytest.raises(NearkinError):
            search.open(whole.path).add([{"id": "new"}])
        assert whole.catalog.read_bytes() == content[:n]  # nothing was "repaired"
    whole.catalog.write_bytes(content)
    assert set(asked(whole, tmp_path / "scratch").values()) == {"right"}


def test_the_log_is_damaged(tmp_path: Path) -> None:
    """SQLite stops reading its log at the first damaged page: what is left is an earlier commit, and whole."""
    operations, states = told(1, 8)
    with search.open(tmp_path / "c") as c:
        for operation in operations:
            apply(c, operation)
        shutil.copytree(c.path, tmp_path / "killed")
    log = tmp_path / "killed" / "catalog.sqlite-wal"
    content, rng, reached = log.read_bytes(), random.Random(8), set()
    for _ in range(_FLIPS):
        path = tmp_path / "left"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(log.parent, path, ignore=lambda _, names: [n for n in names if n.endswith("-shm")])
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        (path / log.name).write_bytes(damaged)
        with search.open(path) as c:
            held = held_in(c, tmp_path / "scratch")
            reached.add(next(number for number, state in enumerate(states) if is_in(state, held)))
    print(f"\n{_FLIPS} bytes flipped in the log: of {len(states) - 1} commits, {sorted(reached)} were left")
