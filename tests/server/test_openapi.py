"""The description cannot lie: its paths are the routes, its fields those that are checked, its answers are given."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route
from starlette.testclient import TestClient

from search.errors import QueryError
from search.server.app import Api
from search.server.fields import RECOMMEND, SEARCH, checked
from search.server.openapi import document
from search.server.settings import Settings
from search.types import Hit

DOCUMENT = document()


def valid(schema: dict[str, Any], value: object) -> bool:
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator.check_schema(whole)
    return bool(Draft202012Validator(whole).is_valid(value))


def answer_of(path: str, method: str = "get", status: str = "200") -> dict[str, Any]:
    (content,) = DOCUMENT["paths"][path][method]["responses"][status]["content"].values()
    schema: dict[str, Any] = content["schema"]
    return schema


def test_it_describes_every_route_and_no_other(shop: Any) -> None:
    routes: list[Route] = Api(shop, Settings()).routes()
    answered = {
        (re.sub(r"{(\w+):path}", r"{\1}", route.path), method.lower())
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, said in DOCUMENT["paths"].items() for method in said}
    assert described == answered


def test_every_name_in_it_is_defined() -> None:
    named = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert named == set(DOCUMENT["components"]["schemas"])
    for path, said in DOCUMENT["paths"].items():
        for operation in said.values():
            places = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert places == set(re.findall(r"{(\w+)}", path))
            assert operation["summary"]


def test_a_hit_has_the_fields_of_a_hit() -> None:
    assert set(DOCUMENT["components"]["schemas"]["Hit"]["properties"]) == set(Hit.__dataclass_fields__)


@pytest.mark.parametrize("name", ["Search", "Recommend"])
def test_what_it_takes_is_taken_and_what_it_refuses_is_refused(name: str) -> None:
    fields = {"Search": SEARCH, "Recommend": RECOMMEND}[name]
    schema = {"$ref": f"#/components/schemas/{name}"}
    values = ["x", ["x", "y"], [1, 2.5], [[1], [2]], 1, 0, -1, 10_001, 0.5, True, {"a": 2}, {"a": "b"}]
    assert valid(schema, {})
    for field in [*fields, "other"]:
        for value in values:
            try:
                checked({field: value}, fields)
                taken = True
            except QueryError:
                taken = False
            if field in ("vector", "region") and isinstance(value, list):
                continue  # its numbers are looked at by whoever computes with them
            assert valid(schema, {field: value}) == taken, (field, value)


def test_its_answers_are_those_that_are_given(client: TestClient) -> None:
    single = client.post("/search", json={"query": "bee", "space": "text", "explain": True}).json()
    several = client.post("/search", json={"queries": ["bee", "cat"], "space": "text"}).json()
    assert valid(answer_of("/search", "post"), single)
    assert valid(answer_of("/search", "post"), several)
    assert not valid(answer_of("/search", "post"), [{"id": "a"}])
    assert valid(answer_of("/recommend", "post"), client.post("/recommend", json={"like": "ape"}).json())
    assert valid(answer_of("/records"), client.get("/records?id=ape&id=none").json())
    assert valid(answer_of("/records/{id}"), client.get("/records/red").json())
    assert valid(answer_of("/spaces"), client.get("/spaces").json())
    assert valid(answer_of("/info"), client.get("/info").json())
    assert valid(answer_of("/health"), client.get("/health").json())
    assert client.get("/openapi.json").json() == DOCUMENT


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"json": {"query": "x", "space": "text", "where": "n <"}}, "422"),
        ({"json": {"like": "none"}}, "404"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, "400"),
        ({"content": b"{"}, "415"),
        ({"content": b"x" * (33 << 20)}, "413"),
        ({"json": {"query": "x", "space": "far"}}, "503"),
        ({"json": {}, "headers": {"host": "evil.example"}}, "403"),
    ],
)
def test_its_errors_are_those_that_are_given(client: TestClient, asked: dict[str, Any], status: str) -> None:
    answer = client.post("/search", **asked)
    assert str(answer.status_code) == status
    assert valid(answer_of("/search", "post", status), answer.json())
