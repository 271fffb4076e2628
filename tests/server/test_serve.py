"""The command itself, in a process of its own: where it listens, whom it serves, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

import search
from ingest.cli.main import app
from search.cli.main import outcome

TOKEN = "a token that is long"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "c"
    with search.open(path) as c:
        c.add(
            [{"id": "a", "text": "A"}, {"id": "b"}, {"id": "c"}], [[1, 0], [0.8, 0.6], [0, 1]], space="mine"
        )
    return path


@contextmanager
def served(
    path: Path, *flags: str, code: str = "", **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and its address; `code` is run in it first."""
    command = f"{code}\nfrom ingest.cli.main import run\nrun()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", "-c", str(path), "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"is served at (http://\S+);", line)
            if found:
                yield process, found[1]
                break
        else:
            raise AssertionError(f"it ended with {process.wait()}")
    finally:
        process.kill()
        process.communicate()


def test_it_answers_and_ends_well_at_ctrl_c(path: Path) -> None:
    with served(path) as (process, url):
        asked = {"like": "a", "k": 1, "space": "mine"}
        hits = httpx.post(f"{url}/search", json=asked, timeout=60).json()
        assert [hit["id"] for hit in hits] == ["b"]
        assert hits[0]["score"] == pytest.approx(0.8)
        assert httpx.get(f"{url}/", timeout=60).text.startswith("<!doctype html>")
        assert httpx.get(f"{url}/info", headers={"host": "evil.example"}, timeout=60).status_code == 403
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        assert (process.returncode, out, error) == (0, "", "stopped\n")


# A search that says so in a file, and takes until another file is there.
SLOW = """
import sys, time, pathlib
from search.collection import Collection
real = Collection.search
def slow(self, *given, **named):
    begun = pathlib.Path({begun!r}); begun.touch()
    while not pathlib.Path({gate!r}).exists():
        time.sleep(0.01)
    return real(self, *given, **named)
Collection.search = slow
"""


def test_told_to_end_it_finishes_what_is_in_work_and_takes_no_more(path: Path, tmp_path: Path) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    code = SLOW.format(begun=str(begun), gate=str(gate))
    with served(path, code=code) as (process, url), ThreadPoolExecutor(1) as pool:
        asked = {"like": "a", "k": 1, "space": "mine"}
        answer = pool.submit(httpx.post, f"{url}/search", json=asked, timeout=60)
        wait_for(begun.exists)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(url))
        assert not answer.done()
        assert process.poll() is None
        gate.touch()
        assert [hit["id"] for hit in answer.result().json()] == ["b"]
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, "stopped\n")


def refuses(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(true: object) -> None:
    for _ in range(3000):
        if true():  # type: ignore[operator]
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_clients_that_hang_up_do_not_disturb_the_others(path: Path, tmp_path: Path) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    with served(path, "--queue", "16", code=SLOW.format(begun=str(begun), gate=str(gate))) as (_, url):
        body = b'{"like": "a", "k": 1, "space": "mine"}'
        host, _, port = url.removeprefix("http://").partition(":")
        head = (
            b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
        )
        for _ in range(4):
            with socket.create_connection((host, int(port))) as gone:
                gone.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
                wait_for(begun.exists)
        with socket.create_connection((host, int(port))) as half:
            half.sendall(head + b"100\r\n\r\n{")
        gate.touch()
        with ThreadPoolExecutor(4) as pool:
            kind = {"content-type": "application/json"}
            asked = [
                pool.submit(httpx.post, f"{url}/search", content=body, headers=kind, timeout=60)
                for _ in range(8)
            ]
            for answer in asked:
                assert [hit["id"] for hit in answer.result().json()] == ["b"]


def test_beyond_this_machine_it_needs_a_token_and_warns(path: Path) -> None:
    with served(path, "--host", "0.0.0.0", NEARKIN_TOKEN=TOKEN) as (process, url):
        own = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{own}/info", timeout=60).status_code == 401
        answer = httpx.get(f"{own}/info", headers={"authorization": f"Bearer {TOKEN}"}, timeout=60)
        assert answer.json()["records"] == 3
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("NEARKIN_TOKEN", raising=False)

    def run(*flags: str) -> tuple[int, str]:
        code = outcome(app, ["serve", "-c", str(path), *flags])
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        return code, captured.err

    return run


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "set NEARKIN_TOKEN to a secret of 16 characters or more"),
        (["--host", "::"], 2, "set NEARKIN_TOKEN"),
        (["--host", "0.0.0.0", "--token", "short"], 2, "the token needs 16 characters or more"),
        (["--token", "ü" * 20], 2, "all of them ASCII"),
        (["--allow-host", "shop.example:443"], 2, "'shop.example:443' is no name of a host"),
        (["--allow-host", "https://shop.example"], 2, "is no name of a host"),
        (["--allow-origin", "*"], 2, "'*' is no site"),
        (["--allow-origin", "https://a.example/page"], 2, "is no site"),
        (["--queue", "0"], 2, "--queue"),
        (["--port", "70000"], 2, "--port"),
        (["--host", "no host"], 1, "error: 'no host' is no address of this machine"),
        (["--host", "192.0.2.1", "--token", TOKEN], 1, "192.0.2.1:8000 cannot be listened at"),
    ],
)
def test_what_makes_no_sense_is_refused(refused, flags: list[str], code: int, said: str) -> None:  # type: ignore[no-untyped-def]
    ended, error = refused(*flags)
    assert ended == code
    assert said in " ".join(error.split())


def test_a_port_that_is_taken_is_told(refused) -> None:  # type: ignore[no-untyped-def]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, error = refused("--port", str(port))
    assert code == 1
    assert f"error: 127.0.0.1:{port} cannot be listened at (Address already in use); choose another" in error


def test_without_a_collection_nothing_is_served(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, error = refused("-c", str(tmp_path / "none"))
    assert code == 1
    assert error.startswith("error: there is no collection at")


def test_without_its_libraries_it_says_what_to_install(path: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None\nfrom ingest.cli.main import run\nrun()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "-c", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        'error: nearkin serve needs an optional package; install it with: pip install "nearkin[serve]"\n'
    )
