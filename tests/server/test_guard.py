"""Who is let in: by host, by origin, by token; and what is too much at a time."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from PIL import Image
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

import search
from search.catalog import reads
from search.catalog.thumbnails import Thumbnail
from search.collection import Collection
from search.server import thumbnails
from search.server.load import Load

TOKEN = "open sesame, open"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_this_machine_is_called_by_its_own_names(client: TestClient, host: str) -> None:
    assert client.get("/info", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.0.9", "", "[::2]"]
)
def test_another_name_for_this_machine_is_refused(client: TestClient, host: str) -> None:
    for path in ("/info", "/", "/health", "/records/red/picture"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert "is not served here" in answer.json()["error"]


def test_a_host_can_be_allowed_and_any_can(client_of: Callable[..., TestClient]) -> None:
    headers = {"host": "shop.example", "origin": "https://shop.example"}  # as a proxy passes it on
    assert client_of(hosts=("shop.example",)).get("/info", headers=headers).status_code == 200
    assert client_of(hosts=None).get("/info", headers=headers).status_code == 200


def test_pages_of_other_places_are_refused(client: TestClient) -> None:
    own = {"origin": "http://localhost:8000"}
    assert client.post("/search", json={"like": "ape"}, headers=own).status_code == 200
    for origin in (
        "https://evil.example",
        "http://localhost:3000",
        "null",
        "http://localhost:8000.evil.example",
    ):
        answer = client.post("/search", json={"like": "ape"}, headers={"origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_pages_of_other_places_show_no_picture_of_ours(client: TestClient) -> None:
    shown = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/records/red/picture", headers=shown).status_code == 403
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=followed).status_code == 200
    own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors"}
    assert client.get("/records/red/picture", headers=own).status_code == 200


def test_a_place_that_is_allowed_may_read_the_answers(client_of: Callable[..., TestClient]) -> None:
    client = client_of(origins=("https://shop.example",), token=TOKEN)
    headers = {"origin": "https://shop.example", "authorization": f"Bearer {TOKEN}"}
    answer = client.post("/search", json={"like": "ape"}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    before = client.options("/search", headers={"origin": "https://shop.example"} | asked)
    assert before.status_code == 200
    refused = client.options("/search", headers={"origin": "https://evil.example"} | asked)
    assert "access-control-allow-origin" not in refused.headers


def test_the_token_is_asked_for_everywhere_but_for_health(client_of: Callable[..., TestClient]) -> None:
    client = client_of(token=TOKEN)
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    for path in (
        "/",
        "/info",
        "/spaces",
        "/records/ape",
        "/records/red/picture",
        "/openapi.json",
        "/nothing",
    ):
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        for right in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
            assert client.get(path, headers={"authorization": right}).status_code != 401
        for wrong in (
            "Bearer ",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            TOKEN,
            "Basic x",
            "Basic Og==",
            "é",
        ):
            assert client.get(path, headers={"authorization": wrong.encode()}).status_code == 401
    assert client.get("/health").status_code == 200


def test_nothing_is_read_of_what_may_not_ask(client_of: Callable[..., TestClient]) -> None:
    answer = client_of(token=TOKEN).post("/search", content=b"x" * 100)
    assert answer.status_code == 401


class Held:
    """An application that waits until it is let go on, and then answers with what it was sent."""

    def __init__(self) -> None:
        self.begun, self.gate = 0, anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        message = await receive()
        await self.gate.wait()
        await PlainTextResponse(message["body"])(scope, receive, send)


async def asked(app: Load, *chunks: bytes | float, length: int | None = None) -> tuple[int, bytes]:
    """Status and body for a request whose body comes in pieces, with waits in seconds between."""
    waiting = list(chunks)
    sent: list[Message] = []

    async def receive() -> Message:
        while waiting and isinstance(waiting[0], float):
            await anyio.sleep(waiting.pop(0))  # type: ignore[arg-type]
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "path": "/search", "method": "POST", "headers": headers}
    await app(scope, receive, send)
    if not sent:
        return 0, b""
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_a_body_is_bounded_however_it_comes() -> None:
    async def all_of_it() -> None:
        held = Held()
        held.gate.set()
        app = Load(held, 5, most=10)
        assert await asked(app, b"0123", b"456789") == (200, b"0123456789")
        assert (await asked(app, b"0123", b"4567890"))[0] == 413
        assert (await asked(app, b"0", length=11))[0] == 413
        assert await asked(app, b"", length=0) == (200, b"")
        assert held.begun == 2
        assert (app.waiting, app.held) == (0, 0)

    anyio.run(all_of_it)


def test_all_bodies_together_are_bounded() -> None:
    async def all_of_it() -> None:
        held = Held()
        app = Load(held, 5, most=10, together=15)
        async with anyio.create_task_group() as group:
            group.start_soon(asked, app, b"0123456789")
            await anyio.wait_all_tasks_blocked()
            assert app.held == 10
            assert (await asked(app, b"0123", b"45"))[0] == 503
            assert app.held == 10
            held.gate.set()
        assert await asked(app, b"0123456789") == (200, b"0123456789")
        assert app.held == 0

    anyio.run(all_of_it)


def test_who_comes_when_the_queue_is_full_is_told_to_come_back() -> None:
    async def all_of_it() -> None:
        held = Held()
        app = Load(held, 2)
        async with anyio.create_task_group() as group:
            group.start_soon(asked, app, b"1")
            group.start_soon(asked, app, b"2")
            await anyio.wait_all_tasks_blocked()
            assert (await asked(app, b"3"))[0] == 503
            held.gate.set()
        assert await asked(app, b"4") == (200, b"4")

    anyio.run(all_of_it)


def test_who_sends_too_slowly_or_hangs_up_gives_the_place_back() -> None:
    async def all_of_it() -> None:
        held = Held()
        held.gate.set()
        app = Load(held, 1, seconds=0.05)
        assert (await asked(app, b"a", 60.0, b"b"))[0] == 408
        assert await asked(app) == (0, b"")
        assert (app.waiting, app.held, held.begun) == (0, 0, 0)
        assert await asked(app, b"c") == (200, b"c")

    anyio.run(all_of_it)


def test_a_full_queue_answers_503_with_a_time_to_wait(client_of: Callable[..., TestClient]) -> None:
    client = client_of(queue=1)
    load = next(one for one in layers(client.app) if isinstance(one, Load))
    load.waiting = 1
    answer = client.post("/search", json={"like": "ape"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["do"] == "ask again in a moment"
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200
    load.waiting = 0
    assert client.post("/search", json={"like": "ape"}).status_code == 200


def layers(app: object) -> list[object]:
    """The application and what it wraps, once it has been asked."""
    TestClient(app, base_url="http://localhost").get("/health")  # type: ignore[arg-type]
    found, one = [], app.middleware_stack  # type: ignore[attr-defined]
    while one is not None:
        found.append(one)
        one = getattr(one, "app", None) or getattr(one, "_app", None)
    return found


def test_a_thumbnail_is_small_upright_and_holds_nothing_else(client: TestClient) -> None:
    answer = client.get("/records/red/picture")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (240, 320))
        assert not drawn.getexif()
        red, green, blue = drawn.convert("RGB").getpixel((100, 100))  # type: ignore[misc]
        assert red > 230
        assert green < 30
        assert blue < 30
    assert b"photographer" not in answer.content
    again = client.get("/records/red/picture", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_thumbnail_of_a_frame_is_of_that_frame(
    client: TestClient, shop: Collection, tmp_path: Path
) -> None:
    pages = [Image.new("RGB", (20, 10), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with search.open(shop.path) as writer:
        writer.add(
            [
                {"id": f"p#{n}", "kind": "image", "uri": str(path), "metadata": {"frame": n, "frames": 3}}
                for n in (1, 2, 4)
            ]
        )
    for n, colour in ((1, 0), (2, 1)):
        answer = client.get(f"/records/p%23{n}/picture")
        with Image.open(io.BytesIO(answer.content)) as shown:
            pixel = shown.convert("RGB").getpixel((10, 5))
        assert [value > 200 for value in pixel] == [band == colour for band in range(3)]  # type: ignore[union-attr]
    assert client.get("/records/p%234/picture").status_code == 404


def test_a_changed_file_is_another_thumbnail(client: TestClient, red: Path) -> None:
    before = client.get("/records/red/picture")
    Image.new("RGB", (100, 50), (0, 0, 250)).save(red)
    after = client.get("/records/red/picture", headers={"if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    with Image.open(io.BytesIO(after.content)) as drawn:
        assert drawn.size == (100, 50)


def test_no_other_file_is_ever_shown(
    client: TestClient, client_of: Callable[..., TestClient], shop: Collection, tmp_path: Path
) -> None:
    for id in ("secret", "gone", "ape", "none", "..%2f..%2fetc%2fpasswd", "%2Fetc%2Fpasswd", "", "%00"):
        assert client.get(f"/records/{id}/picture").status_code == 404, id
    words = tmp_path / "words.txt"
    words.write_text("no picture")
    with search.open(shop.path) as writer:
        writer.add(
            [
                {"id": "words", "kind": "image", "uri": str(words)},
                {"id": "folder", "kind": "image", "uri": str(tmp_path)},
                {"id": "device", "kind": "image", "uri": "/dev/zero"},
                {"id": "relative", "kind": "image", "uri": "red.jpg"},
                {"id": "web", "kind": "image", "uri": "https://example.org/red.jpg"},
            ]
        )
    for id in ("words", "folder", "device", "relative", "web"):
        assert client.get(f"/records/{id}/picture").status_code == 404, id
    closed = client_of(files=False)
    assert closed.get("/records/red/picture").status_code == 404
    assert closed.get("/records/red").status_code == 200


def test_thumbnails_are_kept_for_a_while(shop: Collection) -> None:
    file = thumbnails.found(shop, "red", files=True)
    assert isinstance(file, thumbnails.File)
    assert thumbnails.drawn(file) is thumbnails.drawn(file)


def test_thumbnails_of_the_collection_are_shown_without_the_files(
    client_of: Callable[..., TestClient], shop: Collection
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (32, 24), (0, 200, 0)).save(out, "WEBP")
    with search.open(shop.path) as made, made.writing() as writer:
        with made.database.reading() as transaction:
            keys = reads.keys_of(transaction, ["gone", "red"])
        writer.put_thumbnails({keys["gone"]: Thumbnail(out.getvalue(), 32)})
    client = client_of(files=False)
    answer = client.get("/records/gone/picture")
    assert (answer.status_code, answer.content) == (200, out.getvalue())
    again = client.get("/records/gone/picture", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    refused = client.get("/records/red/picture")
    assert (refused.status_code, refused.json()["do"]) == (404, "look at its uri")
    assert client_of().get("/records/red/picture").status_code == 200
