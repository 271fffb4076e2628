"""One model in a process for each device: the same vectors and errors as in one, and no process is left."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torchvision import models

import ingest
import search
from ingest import pipeline
from ingest.report import QUIET
from ingest.workers import several
from ingest.workers.devices import devices
from ingest.workers.wire import Failure, Loaded
from search.encoders.contract import PROBES, Encoder, PictureModel, TextModel
from search.encoders.load import PUBLISHED, Device, ModelChoice, load_named
from search.errors import MissingExtra, ModelError, SourceError, WrongModality
from search.types import EncoderSpec, Modality
from tests.conformance.test_encoder import pictures
from tests.letters import LetterEncoder, Words, job
from tests.search.test_text_encoder import save_bert

TWO = Device("cpu,cpu", "fp32")
SENTENCES = [
    f"the {('cat', 'dog', 'mat')[n % 3]} sat {'on ' * (n % 7)}the {chr(97 + n % 26)}" for n in range(300)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def one(folder: Path) -> Encoder:
    return load_named(str(folder), device=Device("cpu", "fp32"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """As many threads in this process as each of two has, so that sums are made in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def two(folder: Path):
    encoder = several.load(str(folder), PUBLISHED, TWO)
    yield encoder
    several.end(encoder)


def gone(pids: tuple[int, ...]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


def test_two_processes_give_the_bytes_of_one(two, one):
    assert isinstance(two, TextModel)
    assert two.at_once == 2
    assert (two.spec, two.max_tokens, two.probe_texts()) == (one.spec, one.max_tokens, one.probe_texts())
    assert len(set(two.pids)) == 2
    for role in ("document", "query"):
        np.testing.assert_array_equal(two.encode(SENTENCES, role=role), one.encode(SENTENCES, role=role))
    outcome = two.attempt(SENTENCES[:5])
    np.testing.assert_array_equal(outcome.vectors, one.encode(SENTENCES[:5]))
    assert outcome.done.all()
    for there, here in zip(two.token_offsets(SENTENCES), one.token_offsets(SENTENCES), strict=True):
        np.testing.assert_array_equal(there, here)
    assert two.encode([]).shape == (0, one.spec.dim)


def test_calls_of_several_threads_are_shared_out_and_do_not_get_mixed_up(two, one):
    expected = one.encode(SENTENCES)
    alike = [None] * 12

    def ask(number: int) -> None:
        some = SENTENCES[number * 25 : (number + 1) * 25]
        alike[number] = np.allclose(two.encode(some), expected[number * 25 : (number + 1) * 25], atol=1e-6)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alike == [True] * 12
    assert two.memory_elsewhere() > 2 * 50e6  # two processes that have torch


def test_an_error_comes_up_as_it_was_and_the_process_goes_on(two, one):
    with pytest.raises(WrongModality, match="encodes texts, not PosixPath; pass a str"):
        two.encode([Path("a.png")])
    np.testing.assert_array_equal(two.encode(SENTENCES[:3]), one.encode(SENTENCES[:3]))


@pytest.mark.parametrize(
    "error",
    [
        MissingExtra("this", "timm"),
        SourceError("is damaged; mend it", "a.png", 3),
        MemoryError("out of memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ModelError("no"),
    ],
)
def test_an_error_is_the_same_after_the_way_between_processes(error):
    again = pickle.loads(pickle.dumps(Failure.of(error))).error()
    assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)


def test_an_error_that_cannot_be_sent_says_what_it_was():
    class Local(Exception):
        pass

    assert str(Failure.of(Local("odd")).error()) == "Local: odd"


def test_a_model_that_cannot_be_loaded_is_told_and_leaves_no_process(folder):
    mine = {child.pid for child in psutil.Process().children()}
    with pytest.raises(ModelError, match="no layer"):
        several.load(str(folder), ModelChoice(layer="99"), TWO)
    assert {child.pid for child in psutil.Process().children()} == mine


def test_a_process_killed_in_the_midst_of_its_work_is_noticed_and_the_end_leaves_none(folder):
    two = several.load(str(folder), PUBLISHED, TWO)
    threading.Timer(0.3, os.kill, (two.pids[0], signal.SIGKILL)).start()
    said = r"process for cpu was killed by signal 9.*committed is kept, run again"
    with pytest.raises(ModelError, match=said):
        encode_for_ever(two)
    with pytest.raises(ModelError, match=said):  # also where it was at rest
        encode_for_ever(two)
    several.end(two)
    assert gone(two.pids)
    with pytest.raises(ModelError, match="run again"):
        two.encode(["a"])


def encode_for_ever(encoder: Encoder) -> None:
    while True:
        encoder.encode(SENTENCES)


def test_the_processes_end_with_the_one_that_started_them(folder):
    script = (
        "import sys, time\n"
        "from ingest.workers import several\n"
        "from search.encoders.load import PUBLISHED, Device\n"
        "e = several.load(sys.argv[1], PUBLISHED, Device('cpu,cpu'))\n"  # no main guard: this is how people write
        "print(*e.pids, flush=True)\n"
        "while True: e.encode(['the cat'] * 2000)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pids = tuple(int(pid) for pid in run.stdout.readline().split())
    assert len(pids) == 2
    run.kill()
    run.wait()
    for _ in range(200):
        if gone(pids):
            break
        time.sleep(0.05)
    assert gone(pids)
    run.stdout.close()


def test_ctrl_c_ends_the_run_and_its_processes(folder, tmp_path):
    source = tmp_path / "texts.jsonl"
    source.write_text(
        "".join(json.dumps({"id": str(n), "text": f"the cat {n} " * 9}) + "\n" for n in range(60_000))
    )
    command = ("ingest", "text", source, "-c", tmp_path / "c", "--model", folder, "--device", "cpu,cpu")
    run = subprocess.Popen(
        [sys.executable, "-c", "from ingest.cli.main import run; run()", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
    )
    started = psutil.Process(run.pid)
    while not (tmp_path / "c" / "catalog.sqlite").exists() and run.poll() is None:
        time.sleep(0.05)  # the models are loaded before the collection is made
    children = tuple(child.pid for child in started.children())
    run.send_signal(signal.SIGINT)
    _, said = run.communicate()
    assert len(children) == 2
    assert run.returncode == 130
    assert "interrupted; what was committed is kept" in said
    assert gone(children)


class InTurns(Encoder):
    """The letter encoder, of which two calls are at work side by side, the first of them the slower one."""

    def __init__(self, fails_at: str | None = None) -> None:
        self._letters = LetterEncoder()
        self.spec = self._letters.spec
        self.at_once = 2
        self.together = self.most = 0
        self._lock = threading.Lock()
        self._fails_at = fails_at

    def encode(self, items, *, role="document"):
        with self._lock:
            self.together += 1
            self.most = max(self.most, self.together)
            first = self.together == 1
        time.sleep(0.02 if first else 0)
        vectors = self._letters.encode(items)
        with self._lock:
            self.together -= 1
        if self._fails_at in items:
            raise ModelError("out of memory; take less")
        return vectors


def test_a_run_has_several_calls_at_work_and_stores_what_one_would(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "ENCODE_AT_ONCE", 5)
    texts = {f"r{n}": f"{chr(97 + n % 7) * 3}{chr(97 + n % 11)}" for n in range(120)}  # many twice
    stored = {}
    for encoder in (LetterEncoder(), InTurns()):
        with search.open(tmp_path / str(encoder.at_once)) as shelf:
            report = pipeline.fill(shelf, Words(texts), job(encoder), QUIET)
            assert (report.added, report.vectors, report.reused) == (120, 120, 43)
            stored[encoder.at_once] = [
                [(hit.id, hit.score) for hit in shelf.search(vector=row, k=120)] for row in np.eye(26)[:11]
            ]
    assert encoder.most == 2
    assert stored[1] == stored[2]
    assert sorted(encoder._letters.calls) == sorted({*texts.values(), *PROBES})


def test_what_came_before_a_failed_call_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "ENCODE_AT_ONCE", 5)
    texts = {f"r{n:02}": f"{chr(97 + n)}" for n in range(20)}
    with search.open(tmp_path / "shelf") as shelf:
        with pytest.raises(ModelError, match="out of memory"):
            pipeline.fill(shelf, Words(texts), job(InTurns(fails_at="m")), QUIET)
        assert shelf.count() == 10  # two handfuls of five; "m" is in the third
        pipeline.fill(shelf, Words(texts), job(LetterEncoder()), QUIET)
        assert shelf.count() == 20


@pytest.mark.parametrize("level", ["passage", "word"])
def test_texts_on_two_devices_are_stored_as_on_one(folder, tmp_path, level):
    source = tmp_path / "texts.jsonl"
    source.write_text(
        "".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(SENTENCES[:60]))
    )
    rows = {}
    for device in ("cpu", "cpu,cpu"):
        with search.open(tmp_path / device) as shelf:
            ingest.text(
                shelf,
                source,
                model=str(folder),
                level=level,
                space="t",
                options=ingest.Options(device=device, precision="fp32", passage_tokens=8, passage_overlap=2),
            )
            hits = shelf.search(vector=np.ones(shelf.spaces()["t"].dim), space="t", k=60)
            rows[device] = [(hit.id, hit.score, hit.part) for hit in hits]
    assert len(rows["cpu"]) == 60
    assert rows["cpu"] == rows["cpu,cpu"]


def test_pictures_on_two_devices_are_stored_as_on_one(tmp_path):
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "a.pth")
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures()):
        picture.resize((64, 64)).save(tmp_path / "photos" / f"{number}.png")
    rows = {}
    for device in ("cpu", "cpu,cpu"):
        with search.open(tmp_path / device) as shelf:
            ingest.images(
                shelf,
                tmp_path / "photos",
                model="torchvision:squeezenet1_1",
                weights=tmp_path / "a.pth",
                options=ingest.Options(device=device),
            )
            rows[device] = [(hit.id, hit.score) for hit in shelf.search(vector=np.ones(512), k=7)]
    assert len(rows["cpu"]) == 7
    assert rows["cpu"] == rows["cpu,cpu"]


def test_a_picture_model_for_texts_is_refused_and_its_processes_are_ended(tmp_path, monkeypatch):
    spec = EncoderSpec("torchvision", "torchvision:a", Modality.IMAGE, 4, ("image",))
    made = several.SeveralPictures([], Loaded(spec, (), None, len))
    ended = []
    monkeypatch.setattr(made, "close", lambda: ended.append("now"))
    monkeypatch.setattr(several, "load", lambda *_: made)
    (tmp_path / "a.txt").write_text("the cat")
    with pytest.raises(SourceError, match="model for pictures"):
        ingest.text(tmp_path / "c", tmp_path / "a.txt", model="torchvision:a")
    assert ended == ["now"]
    assert isinstance(made, PictureModel)
    assert made.preparation is len


def test_the_devices_of_a_name(monkeypatch, folder):
    model = str(folder)
    assert devices("cpu", model) == ("cpu",)
    assert devices("cpu, cpu", model) == ("cpu", "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices("auto", model) == ("auto",)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices("auto", model) == ("cuda:0", "cuda:1", "cuda:2")
    assert devices("auto", "openai:small") == ("auto",)
    assert devices("auto", "glove") == ("auto",)
    for name, said in (
        ("cpu,auto", "auto stands for all"),
        ("cpu,", "unknown device ''"),
        ("cpu,gpu", "unknown device 'gpu'"),
    ):
        with pytest.raises(ModelError, match=said):
            devices(name, model)
    with pytest.raises(ModelError, match="'openai:small' does not run on several devices"):
        devices("cuda:0,cuda:1", "openai:small")


def test_devices_of_two_kinds_are_refused(monkeypatch, folder):
    from search.encoders import device

    monkeypatch.setattr(device, "choose_device", torch.device)
    with pytest.raises(ModelError, match="several kinds"):
        devices("cpu,cuda:0", str(folder))
