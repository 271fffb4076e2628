"""The page needs nothing from anywhere else, and a browser is told to run nothing but what is in it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from starlette.testclient import TestClient

from search.server import page


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.HTML)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_it_is_one_file_and_asks_for_no_other() -> None:
    for tag, attributes in Reader().tags:
        for name in ("src", "href", "action", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        assert "style" not in attributes, (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    urls = set(re.findall(r"https?://[^\s'\"]+", page.HTML))
    assert urls == {"http://www.w3.org/2000/svg"}  # the name of a language, not an address that is asked
    assert "@import" not in page.HTML
    assert "url(" not in page.HTML


def test_its_script_puts_in_nothing_as_markup() -> None:
    for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert risky not in page.HTML


def test_the_policy_lets_its_own_script_and_style_run_alone(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"


def test_each_field_has_a_label_and_each_name_in_the_script_an_element() -> None:
    tags = Reader().tags
    ids = [attributes["id"] for _, attributes in tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'by\("(\w+(?:-\w+)*)"\)', page.HTML)) <= set(ids)
    labelled = re.findall(r"<label[^>]*>.*?</label>", page.HTML, flags=re.DOTALL)
    for tag, attributes in tags:
        if tag in ("input", "select"):
            assert sum(f'id="{attributes["id"]}"' in label for label in labelled) == 1, attributes
    assert ("html", {"lang": "en"}) in tags
