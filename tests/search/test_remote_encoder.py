"""Models behind an address: the right vectors in the right places, and a clear end to everything that can go wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from search.encoders import endpoint, remote
from search.encoders.endpoint import Patience, asked_wait, is_loopback, normalized
from search.encoders.load import Device, ModelChoice, load_named, load_spec
from search.encoders.remote import RemoteEncoder, plan_requests
from search.errors import EncoderDrift, ModelError, ModelUnavailable, NearkinError, WrongModality
from search.types import EncoderSpec
from search.vectors import unit_rows
from tests.endpoint import Served, changes, drips, drops, fails, hangs, letters, served

KEY = "sk-secret-0123456789"
QUICK = Patience(tries=4, timeout_s=5, first_wait_s=0.001, longest_wait_s=2)
TEXTS = ["a red coat", "two blue shoes", "hat"]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*endpoint.KEY_NAMES, endpoint.BASE_URL_NAME, endpoint.PLAIN_HTTP_NAME):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Served]:
    with served() as one:
        yield one


@pytest.fixture
def encoder(server: Served) -> Iterator[RemoteEncoder]:
    one = RemoteEncoder.from_name("letters", base_url=server.url, patience=QUICK)
    server.bodies.clear()
    yield one
    one.close()


def expected(texts: list[str], dim: int | None = None) -> np.ndarray:
    return unit_rows(np.stack([letters(text, dim) for text in texts]))


def test_vectors_are_those_of_the_endpoint_at_length_1(server, encoder):
    np.testing.assert_allclose(encoder.encode(TEXTS), expected(TEXTS), atol=1e-6)
    assert server.paths[-1] == "/v1/embeddings"
    assert server.bodies == [{"model": "letters", "input": TEXTS, "encoding_format": "base64"}]


def test_tokens_are_those_that_the_endpoint_counts(server):
    encoder = RemoteEncoder.from_name("letters", base_url=server.url, patience=QUICK)
    assert encoder.tokens_used == 1  # the text that its width was asked with
    encoder.encode(TEXTS)
    assert encoder.tokens_used == 1 + 3 + 3 + 1
    server.always = changes(lambda answer: answer.pop("usage"))
    encoder.encode(["nobody counts"])
    assert encoder.tokens_used == 8


def test_many_texts_go_in_several_requests_and_come_back_in_order(server, encoder):
    texts = [f"{'ab' * (n % 7)} {'xyz' * (n % 5)} q" for n in range(200)]
    np.testing.assert_allclose(encoder.encode(texts), expected(texts), atol=1e-6)
    assert sorted(len(body["input"]) for body in server.bodies) == [8, 64, 64, 64]
    assert sorted(server.texts) == sorted(texts)


def test_rows_out_of_order_are_put_in_order(server, encoder):
    server.always = changes(lambda answer: answer["data"].reverse())
    np.testing.assert_allclose(encoder.encode(TEXTS), expected(TEXTS), atol=1e-6)


def test_a_server_that_knows_lists_only(server):
    def lists(handler: Any, body: dict[str, Any]) -> bool:
        if "encoding_format" in body:
            handler.answer(422, {"detail": "extra fields not permitted"})
            return False
        return True

    server.always = lists
    encoder = RemoteEncoder.from_name("letters", base_url=server.url, patience=QUICK)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected(TEXTS), atol=1e-6)
    assert ["encoding_format" in body for body in server.bodies] == [True, False, False]


def test_dim_is_asked_of_the_endpoint(server):
    encoder = RemoteEncoder.from_name("letters", base_url=server.url, dim=10, patience=QUICK)
    assert encoder.spec.dim == 10
    np.testing.assert_allclose(encoder.encode(TEXTS), expected(TEXTS, 10), atol=1e-6)
    assert {body["dimensions"] for body in server.bodies} == {10}
    again = RemoteEncoder.from_spec(encoder.spec, patience=QUICK)
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
    server.always = lambda handler, body: body.pop("dimensions") > 0  # takes no notice of it
    with pytest.raises(ModelError, match="gives 27 dimensions where 10 were asked for; give --dim 27"):
        RemoteEncoder.from_name("letters", base_url=server.url, dim=10, patience=QUICK)


def test_prompts_stand_before_queries_and_documents(server):
    encoder = RemoteEncoder.from_name(
        "letters", base_url=server.url, query_prompt="query: ", document_prompt="passage: ", patience=QUICK
    )
    encoder.encode(["a"], role="query")
    encoder.encode(["b"])
    assert server.texts[-2:] == ["query: a", "passage: b"]
    again = RemoteEncoder.from_spec(EncoderSpec.from_json(encoder.spec.to_json()), patience=QUICK)
    assert again.spec == encoder.spec
    again.encode(["c"], role="query")
    assert server.texts[-1] == "query: c"


def test_what_has_no_utf8_is_sent_as_a_question_mark(server, encoder):
    np.testing.assert_allclose(encoder.encode(["ab\ud800"]), expected(["ab?"]), atol=1e-6)


@pytest.mark.parametrize("wait", ["0.2", "date"])
def test_a_429_is_asked_again_when_it_says(server, encoder, wait):
    begin = time.time()
    if wait == "date":  # whole seconds: one that is at least 0.2 s ahead
        wait = format_datetime(datetime.fromtimestamp(int(begin + 1.2), UTC), usegmt=True)
        until = int(begin + 1.2)
    else:
        until = begin + 0.2
    server.faults = [fails(429, Retry_After=wait)]
    np.testing.assert_allclose(encoder.encode(TEXTS), expected(TEXTS), atol=1e-6)
    assert time.time() >= until
    assert len(server.bodies) == 2


def test_a_wait_that_is_too_long_is_told(server, encoder):
    server.always = fails(429, {"error": {"message": "slow down"}}, Retry_After="3600")
    with pytest.raises(
        ModelUnavailable, match=r"asks to wait 3,600 s \(429 slow down\); run again after that"
    ):
        encoder.encode(TEXTS)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("fault", [fails(500), fails(503, b"<html>busy"), fails(429), fails(529), drops])
def test_what_passes_is_asked_again(server, encoder, fault):
    server.faults = [fault, fault]
    np.testing.assert_allclose(encoder.encode(TEXTS), expected(TEXTS), atol=1e-6)
    assert len(server.bodies) == 3


def test_a_server_that_is_broken_is_given_up_after_so_many_tries(server, encoder):
    server.always = fails(500, {"error": {"message": "out of\n memory"}})
    with pytest.raises(
        ModelUnavailable, match="failed 4 times in a row, last with: 500 out of memory; run again"
    ):
        encoder.encode(TEXTS)
    assert len(server.bodies) == 4


@pytest.mark.parametrize("fault", [hangs, drips])
def test_a_server_that_hangs_is_not_waited_for(server, encoder, fault):
    server.always = fault
    impatient = RemoteEncoder.from_spec(encoder.spec, patience=Patience(2, 0.15, 0.001, 1))
    with pytest.raises(
        ModelUnavailable, match=r"failed 2 times in a row, last with: no answer within 0.15 s; "
    ):
        impatient.encode(TEXTS)
    assert len(server.bodies) == 2


def test_nobody_there(encoder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    gone = RemoteEncoder.from_spec(replace(encoder.spec, options={"base_url": url}), patience=QUICK)
    with pytest.raises(ModelUnavailable, match=f"{url} failed 4 times in a row, last with: .*refused"):
        gone.encode(TEXTS)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            fails(400, {"error": {"message": "unknown parameter"}}),
            r"refuses \(400: unknown parameter\); check",
        ),
        (
            fails(401, {"error": {"message": f"wrong key {KEY}"}}),
            r"refuses access \(401\); check the key in NEARKIN",
        ),
        (fails(403), r"refuses access \(403\); check the key"),
        (
            fails(404, {"error": "model 'x' not found"}),
            r"no such model or address \(404: model 'x' not found\); check",
        ),
        (fails(429, {"error": {"code": "insufficient_quota", "message": "pay"}}), r"refuses \(429: pay\); "),
        (fails(302, b"", Location="http://other/v1"), r"sends one on to http://other/v1; give"),
        (fails(400, {"error": {"message": f"bad {KEY} there"}}), r"bad … there"),
    ],
)
def test_what_does_not_pass_is_told_at_once(server, monkeypatch, fault, message):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NEARKIN_API_KEY", KEY)
    encoder = RemoteEncoder.from_name("letters", base_url=server.url, patience=QUICK)
    server.always = fault
    with pytest.raises(ModelUnavailable, match=message) as raised:
        encoder.encode(TEXTS)
    assert len(server.bodies) == 2  # one for the width
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)


def first(name: str, value: object) -> Any:
    return changes(lambda answer: answer["data"][0].update({name: value}))


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (changes(lambda answer: answer["data"].pop()), ModelError, "gave 2 vectors for 3 texts; "),
        (changes(lambda answer: answer.pop("data")), ModelError, "gave no vectors for 3 texts; "),
        (first("index", 1), ModelError, "gave two vectors for one text; "),
        (first("index", 3), ModelError, "does not say whose vector is whose; "),
        (first("index", True), ModelError, "does not say whose vector is whose; "),
        (first("index", None), ModelError, "does not say whose vector is whose; "),
        (first("embedding", [1.0] * 5), ModelError, "several widths in one answer; "),
        (first("embedding", [float("nan")] * 27), ModelError, "zero, infinite or not a number; "),
        (first("embedding", [0.0] * 27), ModelError, "zero, infinite or not a number; "),
        (first("embedding", [10**400] * 27), ModelError, "something else than a vector; "),
        (first("embedding", ["1"] * 27), ModelError, "something else than a vector; "),
        (first("embedding", None), ModelError, "something else than a vector; "),
        (first("embedding", []), ModelError, "something else than a vector; "),
        (first("embedding", "%%%"), ModelError, "something else than a vector; "),
        (first("embedding", "YWJj"), ModelError, "something else than a vector; "),
        (
            changes(lambda answer: [row.update(embedding=[1.0, 2.0]) for row in answer["data"]]),
            EncoderDrift,
            "gives 2 dimensions where its space has 27; put the old model back",
        ),
        (fails(200, b"<html>hello"), ModelError, "is no JSON object; check that it is an OpenAI-compatible"),
        (fails(200, []), ModelError, "is no JSON object; "),
    ],
)
def test_an_answer_that_is_wrong_is_an_error(server, encoder, fault, error, message):
    server.always = fault
    with pytest.raises(error, match=message):
        encoder.encode(TEXTS)
    assert len(server.bodies) == 1


def test_too_much_at_once_is_halved_and_remembered(server, encoder):
    def at_most_20(handler: Any, body: dict[str, Any]) -> bool:
        if len(body["input"]) > 20:
            handler.answer(
                422, {"error": "batch size 64 > maximum allowed batch size 20", "type": "Validation"}
            )
            return False
        return True

    server.always = at_most_20
    texts = [f"{'ab' * (n % 7)} q" for n in range(64)]
    np.testing.assert_allclose(encoder.encode(texts), expected(texts), atol=1e-6)
    assert [len(body["input"]) for body in server.bodies] == [64, 32, 16, 16, 32, 16, 16]
    server.bodies.clear()
    encoder.encode(texts)
    assert [len(body["input"]) for body in server.bodies] == [16] * 4


def test_one_text_that_is_too_long_is_told(server, encoder):
    server.always = fails(400, {"error": {"message": "This model's maximum context length is 4 tokens"}})
    with pytest.raises(ModelError, match=r"a text of about 3 tokens is too much .*; give a smaller --tokens"):
        encoder.encode(["abcdefghij"])


def test_what_was_answered_before_a_failure_is_kept(server, encoder, monkeypatch):
    monkeypatch.setattr(remote, "THREADS", 1)
    texts = [f"{'ab' * (n % 7)} q" for n in range(200)]
    server.faults = [lambda handler, body: True, lambda handler, body: True]
    server.always = fails(404)
    outcome = encoder.attempt(texts)
    assert isinstance(outcome.error, ModelUnavailable)
    np.testing.assert_array_equal(outcome.done, np.arange(200) < 128)
    np.testing.assert_allclose(outcome.vectors[:128], expected(texts[:128]), atol=1e-6)
    assert len(server.bodies) == 3  # the fourth was not sent


def test_the_cause_is_told_and_not_what_it_stopped(server, encoder):
    server.always = fails(404, {"error": "gone"})
    with pytest.raises(ModelUnavailable, match="404: gone"):
        encoder.encode([str(n) for n in range(1000)])


def test_several_threads_may_encode_at_once(server, encoder):
    texts = [[f"{'ab' * (n % 7)} {worker * 'x'} q" for n in range(130)] for worker in range(4)]
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda w=worker: found.update({w: encoder.encode(texts[w])}))
        for worker in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker in range(4):
        np.testing.assert_allclose(found[worker], expected(texts[worker]), atol=1e-6)


def test_the_key_is_sent_and_stands_nowhere(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    encoder = RemoteEncoder.from_name("letters", base_url=server.url, patience=QUICK)
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(encoder.spec.to_json())
    assert KEY not in repr(vars(encoder)) + repr(encoder.spec)
    monkeypatch.setenv("NEARKIN_API_KEY", "sk-other")
    RemoteEncoder.from_name("letters", base_url=server.url, patience=QUICK)
    assert server.headers[-1]["Authorization"] == "Bearer sk-other"


def test_a_key_does_not_go_where_only_a_collection_says(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    spec = RemoteEncoder.from_name("letters", base_url=server.url, patience=QUICK).spec
    RemoteEncoder.from_spec(spec, patience=QUICK).encode(["a"])
    assert "Authorization" not in server.headers[-1]
    server.faults = [fails(401)]
    with pytest.raises(
        ModelUnavailable, match=rf"so that no key was sent; to send it, set OPENAI_BASE_URL={server.url}"
    ):
        RemoteEncoder.from_spec(spec, patience=QUICK).encode(["a"])
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    RemoteEncoder.from_spec(spec, patience=QUICK).encode(["a"])
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"


def test_the_environment_may_name_the_address(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert RemoteEncoder.from_name("letters", patience=QUICK).spec.options == {"base_url": server.url}


def test_a_key_does_not_go_over_plain_http(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ModelError, match="for all to read; use https, or set NEARKIN_PLAIN_HTTP=1"):
        endpoint.Endpoint("http://models.example/v1", told=True)
    endpoint.Endpoint("http://models.example/v1", told=False).close()  # no key goes there
    endpoint.Endpoint("https://models.example/v1", told=True).close()
    monkeypatch.setenv("NEARKIN_PLAIN_HTTP", "1")
    endpoint.Endpoint("http://models.example/v1", told=True).close()


def test_a_key_of_no_use_is_told_without_showing_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00e4\u00f6")
    with pytest.raises(ModelError, match="OPENAI_API_KEY holds characters that no key has") as raised:
        endpoint.Endpoint("https://models.example/v1", told=True)
    assert "sk-" not in str(raised.value)


def test_openai_without_a_key_is_told_before_it_is_asked():
    with pytest.raises(
        ModelUnavailable, match="wants a key and there is none; set NEARKIN_API_KEY or OPENAI"
    ):
        RemoteEncoder.from_name("text-embedding-3-small")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        (" https://api.openai.com/v1/ ", "https://api.openai.com/v1"),
        ("HTTP://LocalHost:11434/v1/embeddings", "http://localhost:11434/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses_are_stored_in_one_form(given, stored):
    assert normalized(given) == stored
    assert normalized(stored) == stored


@pytest.mark.parametrize(
    "given",
    [
        "https://me:secret@models.example/v1",
        "https://secret@models.example/v1",
        "https://models.example/v1?key=secret",
        "https://models.example/v1#secret",
        "ftp://models.example/secret",
        "models.example/secret",
        "file:///secret",
        "http://models.example:secret/v1",
        "",
    ],
)
def test_addresses_that_cannot_be_are_refused_and_not_repeated(given):
    with pytest.raises(ModelError, match="; ") as raised:
        normalized(given)
    assert "secret" not in str(raised.value)


def test_loopback():
    assert all(map(is_loopback, ["localhost", "a.localhost", "127.0.0.1", "127.8.8.8", "::1"]))
    assert not any(map(is_loopback, ["localhost.example", "10.0.0.1", "example.com", "0.0.0.0"]))


def test_retry_after():
    assert asked_wait(None) is None
    assert asked_wait("1.5") == 1.5
    assert asked_wait("-3") == 0
    assert asked_wait("soon") is None
    assert asked_wait("nan") is None
    ahead = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (asked_wait(ahead) or 0) <= 100
    assert asked_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_requests_are_planned_by_count_and_tokens():
    def planned(tokens: list[int]) -> list[list[int]]:
        return [rows.tolist() for rows in plan_requests(tokens, 3, 10)]

    assert planned([]) == []
    assert planned([1]) == [[0]]
    assert planned([1, 1, 1, 1]) == [[0, 1, 2], [3]]
    assert planned([4, 6, 1]) == [[0, 1], [2]]
    assert planned([99, 1, 99, 99]) == [[0], [1], [2], [3]]
    assert planned([0, 0, 0, 11]) == [[0, 1, 2], [3]]


def test_tokens_are_counted_on_the_high_side(encoder):
    (offsets,) = encoder.token_offsets(["Embeddings, 2024: naïve 東京 🎉"])
    text = "Embeddings, 2024: naïve 東京 🎉"
    assert [text[start:end] for start, end in offsets] == (
        ["Embe", "ddin", "gs", ",", "202", "4", ":", "na", "ï", "ve", "東", "京", "🎉"]
    )
    assert encoder.token_offsets(["", " "])[0].shape == (0, 2)


def test_pictures_are_refused(encoder):
    with pytest.raises(WrongModality, match="encodes texts, not int; pass a str"):
        encoder.encode([1])


def test_load_picks_it_and_refuses_what_means_nothing(server):
    choice = ModelChoice(base_url=server.url, dim=5, query_prompt="q ")
    encoder = load_named("openai:letters", choice)
    assert encoder.spec.to_json() == {
        "family": "openai",
        "model": "openai:letters",
        "modality": "text",
        "dim": 5,
        "accepts": ["text"],
        "weights": None,
        "options": {"base_url": server.url, "dimensions": 5, "query_prompt": "q "},
    }
    assert isinstance(load_spec(encoder.spec, device=Device("cuda")), RemoteEncoder)
    for wrong, match in [
        (ModelChoice(layer="2"), "takes no layer"),
        (ModelChoice(pooling="cls"), "takes no pooling"),
    ]:
        with pytest.raises(ModelError, match=match):
            load_named("openai:letters", wrong)
    with pytest.raises(ModelError, match="runs elsewhere; leave --device and --precision out"):
        load_named("openai:letters", choice, device=Device("cpu"))
    with pytest.raises(ModelError, match="has no name"):
        load_named("openai: ", choice)
    with pytest.raises(ModelError, match="cannot have 0 dimensions"):
        load_named("openai:letters", ModelChoice(dim=0))


def test_every_error_is_one_of_ours():
    assert issubclass(endpoint.Refused, NearkinError)
    assert issubclass(endpoint.Stopped, NearkinError)
