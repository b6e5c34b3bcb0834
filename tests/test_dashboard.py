"""The live page's server: who may ask, what it answers, and that nobody who asks can hold it up or reach a file."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from commandline import PAIR, call, contents, refused, runs_folder
from PIL import Image, ImageColor

pytest.importorskip("starlette", reason="needs the extra 'dashboard'")
pytest.importorskip("uvicorn", reason="needs the extra 'dashboard'")

from ganglion.engine.api import learn
from ganglion.engine.dashboard.app import Dashboard
from ganglion.engine.dashboard.drawing import Drawing
from ganglion.engine.dashboard.forms import Forms
from ganglion.engine.dashboard.looking import Listing, details, row_of
from ganglion.engine.dashboard.processes import Jobs, learning_process
from ganglion.engine.dashboard.streaming import EventStream, Subscriber, encode
from ganglion.engine.dashboard.watching import OneRun
from ganglion.engine.dashboard.workers import Superseded, Worker
from ganglion.engine.errors import InputError, StoreError
from ganglion.engine.locks import FileLock
from ganglion.engine.pictures import GREY
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.runs import RunInfo

TOKEN = "a-token-of-the-tests"
ORIGIN = "http://127.0.0.1:8765"
JOB = {"strategy": "CGAN", "iterations": 4, "batchSize": 8, "traceInterval": 1, "sampleInterval": 2, "threads": 1}
WRITE = {"origin": ORIGIN, "content-type": "application/json"}
FORMS = Forms(())  # loads what is registered once, when it is first asked
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one run, learnt once."""
    keys = {**JOB, "tag": "cgan", "traces": "lines,pictures", "execution": "eager"}
    return Path(learn(PAIR, "Digits", keys, runs=tmp_path_factory.mktemp("runs"), quiet=True).directory)


@pytest.fixture
def run(learnt: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(learnt, runs_folder() / "cgan"))


@cache
def everything() -> Registry:
    return Registry().load()


class Here:
    """A worker that answers in this process."""

    def __init__(self) -> None:
        self.forms, self.drawing = FORMS, Drawing(str(runs_folder()), ())
        self.drawing._registry = everything()

    async def ask(self, question: dict[str, Any], page: str = "") -> dict[str, Any]:
        part = self.forms if question["do"] in ("catalogue", "check") else self.drawing
        answer: dict[str, Any] = getattr(part, question["do"])(question)
        return json.loads(json.dumps(answer))

    async def end(self) -> None:
        pass


def dashboard() -> Dashboard:
    made = Dashboard(runs_folder())
    made.forms = made.drawing = Here()  # type: ignore[assignment]
    return made


def ask(method: str, path: str, *, token: str | None = TOKEN, served: Dashboard | None = None, **more: Any) -> Any:
    """One question to the application, as a browser asks it."""

    async def asked() -> httpx.Response:
        app = (served or dashboard()).application(TOKEN, "127.0.0.1", 8765)
        transport = httpx.ASGITransport(app=app)
        cookies = {"ganglion-8765": token} if token else {}
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, cookies=cookies) as client:
            return await client.request(method, path, **more)

    return asyncio.run(asked())


def write(path: str, body: Any, **more: Any) -> Any:
    return ask("POST", path, headers=WRITE, json=body, **more)


# --- who may ask --------------------------------------------------------------------------------------------------


def test_the_token_becomes_a_cookie_that_no_script_reads_and_leaves_the_address() -> None:
    answer = ask("GET", f"/?token={TOKEN}", token=None)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert TOKEN in cookie and "httponly" in cookie and "samesite=strict" in cookie
    assert ask("GET", "/").status_code == 200
    for wrong in (ask("GET", "/?token=other", token=None), ask("GET", "/?token="), ask("GET", "/", token="other")):
        assert wrong.status_code == 403 and "ganglion dashboard" in wrong.text


@pytest.mark.parametrize("path", ["/", "/static/dashboard.js", "/api/runs", "/api/events", "/api/runs/cgan", "/no"])
def test_nothing_is_told_without_the_token(path: str) -> None:
    assert ask("GET", path, token=None).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "10.0.0.1:8765"])
def test_a_name_that_was_bound_to_this_machine_elsewhere_is_refused(host: str) -> None:
    assert ask("GET", "/api/runs", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:9000", "[::1]:8765"])
def test_this_machine_may_be_called_by_its_own_names(host: str) -> None:
    assert ask("GET", "/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:8766"},
        {"origin": "http://localhost:8765"},
        {"sec-fetch-site": "cross-site"},
        {"content-type": "text/plain"},
    ],
)
def test_only_the_page_itself_may_change_anything(change: dict[str, str], run: Path) -> None:
    before = contents()
    answer = ask("POST", "/api/runs/cgan/continue", headers={**WRITE, **change}, content=b"{}")
    assert answer.status_code == 403 and contents() == before
    assert ask("POST", "/api/check", headers=WRITE, content=b'{"keys": {}}').status_code == 200


def test_every_answer_keeps_other_pages_and_foreign_scripts_out() -> None:
    for answer in (ask("GET", "/"), ask("GET", "/api/runs"), ask("GET", "/", token=None)):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert ask("OPTIONS", "/api/jobs", headers={"origin": "http://evil.example"}).status_code in (403, 405)


# --- what is told of runs -----------------------------------------------------------------------------------------


def test_a_run_is_told_with_its_job_and_its_pictures(run: Path) -> None:
    row = ask("GET", "/api/runs").json()[0]
    assert (row["tag"], row["status"], row["iteration"], row["strategy"]) == ("cgan", "finished", 4, "CGAN")
    told = ask("GET", "/api/runs/cgan").json()
    assert told["samples"] == [0, 2, 4] and told["canGoOn"] and told["canDraw"] and not told["canStop"]
    assert told["job"]["settings"]["batchSize"] == "8"
    picture = ask("GET", "/api/runs/cgan/samples/4.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == (run / "samples" / "4.png").read_bytes()


@pytest.mark.parametrize("tag", ["other", "..", "%2e%2e", "..%2fcgan", ".dashboard", "cgan%00", "cgan%2f..%2fcgan"])
def test_only_runs_that_are_there_can_be_named(tag: str, run: Path) -> None:
    for path in (f"/api/runs/{tag}", f"/api/runs/{tag}/samples/4.png", f"/api/events?run=/{tag}"):
        answer = ask("GET", path)
        assert answer.status_code in (400, 404) and "error" in answer.json()
    assert write(f"/api/runs/{tag}/draw", {}).status_code == 404


def test_a_picture_is_a_file_of_the_run_and_a_picture(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes((run / "samples" / "4.png").read_bytes())
    (run / "samples" / "5.png").symlink_to(tmp_path / "secret.png")
    (run / "samples" / "6.png").write_text("<script>alert(1)</script>")
    os.mkfifo(run / "samples" / "7.png")
    (run / "samples" / "8.png").mkdir()
    for number in (5, 6, 7, 8, 9):
        answer = ask("GET", f"/api/runs/cgan/samples/{number}.png")
        assert answer.status_code == 404 and "has no picture" in answer.json()["error"]


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "index", "%2fetc%2fpasswd", "", "charts.js%00"])
def test_only_listed_files_are_served(name: str) -> None:
    assert ask("GET", f"/static/{name}").status_code == 404


def test_the_list_reads_again_only_what_changed_and_survives_damage(run: Path) -> None:
    listing = Listing(Repository(runs_folder()), Jobs(runs_folder()))
    first = listing._info("cgan")
    assert listing._info("cgan") is first
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({**record, "status": "failed"}))
    assert [row["status"] for row in listing.rows()] == ["failed"]
    (run / "record.json").write_text("{")
    assert [row["status"] for row in listing.rows()] == ["damaged"]
    shutil.rmtree(run)
    assert listing.rows() == []


def test_what_comes_from_a_record_is_cut_to_what_a_person_reads() -> None:
    row = row_of(RunInfo("x", "\x1b[31mred\u202e", strategy="s" * 500, networks=("n" * 500,) * 50))
    assert row["status"] == "red" and len(row["strategy"]) < 100 and len(row["networks"]) == 20


# --- streams ------------------------------------------------------------------------------------------------------


def test_an_event_is_one_line_of_data_whatever_is_in_it() -> None:
    text = encode("run", {"a": "x\n\nevent: gone\r\u2028", "b": float("nan")}, "7").decode()
    assert text.count("\n") == 4 and text.startswith("id: 7\nevent: run\ndata: {") and text.endswith("\n\n")
    assert json.loads(text.split("data: ")[1]) == {"a": "x\n\nevent: gone\r\u2028", "b": None}


async def _streamed(stream: EventStream, send: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    await stream({"type": "http"}, receive, send)


def test_a_browser_that_does_not_read_is_dropped_and_holds_nobody_up() -> None:
    async def scenario() -> None:
        slow, quick = Subscriber(limit=3), Subscriber(limit=50)
        left: list[str] = []

        async def joined() -> None:
            for number in range(20):  # never waits, though one of the two takes nothing
                slow.offer(encode("append", number))
                quick.offer(encode("append", number))

        async def hang(_: Any) -> None:
            await asyncio.Event().wait()

        began = time.monotonic()
        await _streamed(EventStream(slow, joined, lambda: left.append("slow"), patience=0.1), hang)
        assert time.monotonic() - began < 5 and left == ["slow"] and slow.dropped
        assert [await quick.next(1) for _ in range(20)] == [encode("append", number) for number in range(20)]
        assert not quick.dropped

    asyncio.run(scenario())


def test_a_stream_gives_signs_of_life_and_ends_when_it_is_dropped() -> None:
    async def scenario() -> list[bytes]:
        subscriber, sent = Subscriber(), list[bytes]()

        async def joined() -> None:
            subscriber.offer(encode("runs", []))

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if b"beat" in sent[-1]:
                subscriber.drop()

        await asyncio.wait_for(_streamed(EventStream(subscriber, joined, lambda: None, beat=0.05), send), 10)
        return sent

    assert [part.split(b"\n")[0] for part in asyncio.run(scenario())] == [
        b"", b"retry: 1000", b"event: runs", b"event: beat", b"",
    ]  # fmt: skip


def _events(subscriber: Subscriber) -> list[tuple[str, str, Any]]:
    """The events that wait: number, name and data."""
    found = []
    while not subscriber._queue.empty():
        fields = dict(
            line.split(": ", 1) for line in (subscriber._queue.get_nowait() or b"").decode().split("\n") if line
        )
        found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


def following() -> OneRun:
    """What follows the run, without a pause between points."""
    channel = OneRun(Repository(runs_folder()).run("cgan"), Jobs(runs_folder()))
    channel.pace = 0.0
    return channel


def test_curves_are_told_once_and_then_what_is_new(run: Path) -> None:
    async def scenario() -> None:
        channel = following()
        first, second, third = Subscriber(), Subscriber(), Subscriber()
        await channel.join(first)
        (_, _, told), (number, name, curves) = _events(first)
        assert told["tag"] == "cgan" and name == "show" and curves["last"] == 4
        assert next(curve for group in curves["groups"] for curve in group["curves"])["x"] == [1, 2, 3, 4]
        _append(run, {"iteration": 5, "generatorLoss": 0.25})
        await channel.update()
        ((later, name, curves),) = _events(first)
        assert name == "append" and curves["groups"][0]["curves"] == [{"name": "generatorLoss", "x": [5], "y": [0.25]}]
        await channel.join(second, after=number)  # who asks again is told what was missed
        assert [(mark, name) for mark, name, _ in _events(second)] == [("", "run"), (later, "append")]
        await channel.join(third, after="of another server-1")
        assert [name for _, name, _ in _events(third)] == ["run", "show"]
        await channel.update()
        assert _events(first) == []

    asyncio.run(scenario())


def test_a_trace_that_was_cut_is_shown_anew_and_a_directory_that_is_gone_is_told(run: Path) -> None:
    async def scenario() -> None:
        channel, watching = following(), Subscriber()
        await channel.join(watching)
        _events(watching)
        lines = (run / "trace.jsonl").read_bytes().splitlines(keepends=True)
        (run / "trace.jsonl").write_bytes(b"".join(lines[:2]))
        await channel.update()
        ((_, name, curves),) = _events(watching)
        assert name == "show" and curves["last"] == 2
        shutil.rmtree(run)
        await channel.update()
        assert [(name, data) for _, name, data in _events(watching)] == [("gone", {"tag": "cgan"})]
        await channel.update()
        assert _events(watching) == []

    asyncio.run(scenario())


def _append(run: Path, line: dict[str, Any]) -> None:
    with open(run / "trace.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


# --- the form -----------------------------------------------------------------------------------------------------


def checked(keys: dict[str, str], networks: str = PAIR, dataset: str = "Digits") -> dict[str, Any]:
    return FORMS.check({"networks": networks, "dataset": dataset, "keys": {"strategy": "NSGAN", **keys}})


def test_fields_come_from_the_declarations_with_the_values_of_the_preset() -> None:
    found = checked({"iterations": "50", "penalty": "R1"})
    fields = {field["key"]: field for group in found["groups"] for field in group["fields"]}
    assert found["command"] == f"learn {PAIR} Digits strategy=NSGAN iterations=50 penalty=R1"
    assert fields["iterations"]["value"] == "50" and fields["iterations"]["unit"] == "iterations"
    assert fields["generator.learningRate"]["value"] == "0.0002" and fields["generator.learningRate"]["bounds"] == "> 0"
    assert fields["execution"]["choices"] == ["auto", "eager", "compile", "graph"]
    assert "hinge" in fields["objective"]["choices"] and "ADAM" in fields["generator.method"]["choices"]
    assert fields["weight"]["help"] and "clean" not in fields and not fields["keep"]["first"]
    again = checked({key: fields[key]["value"] for key in ("batchSize", "generator.beta1", "halves", "seed", "traces")})
    assert "wrong" not in again


@pytest.mark.parametrize("word", ["batchSize=abc", "objectiv=hinge", "method=ADM", "discriminator.beta1=2"])
def test_a_mistake_is_answered_in_the_words_of_the_command_line(word: str, capsys: Capture) -> None:
    key, _, value = word.partition("=")
    found = checked({key: value})
    said = refused(capsys, ["learn", PAIR, "Digits", "strategy=NSGAN", word])
    assert f"learn: {found['wrong']}" == said and found["groups"] and "words" not in found


@pytest.mark.parametrize(
    ("networks", "dataset", "keys"),
    [
        ("/net.yaml,Discriminator", "Digits", {}),
        ("net.yaml,Discriminator", "Digits", {}),
        ("evil.py:Net,Discriminator", "Digits", {}),
        (PAIR, "evil.py:Data", {}),
        (PAIR, "Table", {}),
        (PAIR, "Energy", {"path": "passwd"}),
        (PAIR, "Energy", {"Energy.path": "passwd"}),
        (PAIR, "Digits", {"strategy": "evil.py:GAN"}),
        (PAIR, "Digits", {"objective": "evil.py:Loss"}),
        (PAIR, "Digits", {"initTag": "../other"}),
        (PAIR, "Digits", {"clean": "true"}),
        (PAIR, "Digits", {"job.clean": "true"}),
        (PAIR, "Digits", {"seed=1 x": "2"}),
        (PAIR, "Digits", {"seed": "1\n2"}),
        (PAIR, "Digits", {"seed": 1}),
    ],
)
def test_the_page_names_no_file_and_removes_no_run(networks: str, dataset: str, keys: dict[str, Any]) -> None:
    found = checked(keys, networks, dataset)
    assert found["wrong"] and "words" not in found


def test_files_that_are_there_are_neither_read_nor_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    definition = "name: Mine\noutputs: score\nlayers:\n  - Flatten\n  - Linear: ${output.size}\n"
    Path("mine.yaml").write_text(definition)
    Path("mine.py").write_text("open('run', 'w')\ndef Net(context):\n    pass\n")
    for networks in ("mine.yaml,Discriminator", "mine.py:Net,Discriminator", f"{tmp_path}/mine.yaml,Discriminator"):
        assert "here only registered names count" in checked({}, networks)["wrong"]
    assert "here only registered names count" in checked({}, PAIR, "mine.py:Net")["wrong"]
    assert not Path("run").exists()


def test_what_needs_a_file_is_not_offered() -> None:
    found = FORMS.catalogue({})
    names = [each["name"] for each in found["datasets"]]
    assert "Digits" in names and "Energy" in names and not {"Table", "Images", "Text", "Series"} & set(names)
    assert next(each for each in found["strategies"] if each["name"] == "NSGAN")["roles"] == [
        "generator",
        "discriminator",
    ]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"networks": PAIR, "dataset": "Digits", "keys": {"strategy": "NSGAN", "batchSize": "0"}}, "batchSize=0"),
        ({"networks": PAIR, "dataset": "Digits", "keys": {"strategy": "NSGAN", "tag": "cgan"}}, "exists already"),
        ({"networks": PAIR, "dataset": "Digits", "keys": {"strategy": "NSGAN", "tag": "../x"}}, "files are named"),
        ({"networks": PAIR, "dataset": "Digits", "keys": {"strategy": "NSGAN", "tag": "-x"}}, "a tag is 1 to"),
        ({}, "something else"),
        ([], "JSON object"),
    ],
)
def test_a_job_with_a_mistake_is_not_started_and_leaves_nothing(body: Any, part: str, run: Path) -> None:
    before = contents()
    answer = write("/api/jobs", body)
    assert answer.status_code == 400 and part in answer.json()["error"]
    assert contents() == before


def test_what_a_page_sends_is_bounded() -> None:
    answer = ask("POST", "/api/check", headers=WRITE, content=b'{"x": "' + b"a" * 70_000 + b'"}')
    assert answer.status_code == 413
    assert ask("POST", "/api/check", headers=WRITE, content=b"[" * 50_000).status_code == 400


# --- processes ----------------------------------------------------------------------------------------------------

HOLDER = """
import signal, sys, time
from pathlib import Path
from ganglion.engine.locks import FileLock
from ganglion.engine.pictures import GREY
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
lock = FileLock.acquire(Path(sys.argv[1]), "it")
print("held", flush=True)
time.sleep(60)
"""


def test_a_run_is_stopped_by_sigint_to_the_process_that_holds_its_lock_once(run: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, run / "lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        served = dashboard()
        answer = write("/api/runs/cgan/stop", {}, served=served)
        assert answer.json() == {"said": "run 'cgan' stores a checkpoint and stops"}
        assert process.wait(20) == 7
        again = write("/api/runs/cgan/stop", {}, served=served)
        assert (again.status_code, again.json()["error"]) == (400, "run 'cgan' is not learning")
    finally:
        process.kill()
        process.communicate()


def test_a_second_wish_to_stop_does_not_stop_at_once(run: Path) -> None:
    patient = HOLDER.replace("lambda *_: sys.exit(7)", "lambda *_: print('asked', flush=True)")
    process = subprocess.Popen([sys.executable, "-c", patient, run / "lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        served = dashboard()
        assert "stores a checkpoint" in write("/api/runs/cgan/stop", {}, served=served).json()["said"]
        assert process.stdout.readline() == "asked\n"
        assert "is being stopped" in write("/api/runs/cgan/stop", {}, served=served).json()["said"]
    finally:
        process.kill()
        rest, _ = process.communicate()
    assert rest == ""


def test_a_process_that_does_not_hold_the_lock_is_never_signalled(run: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with FileLock.acquire(run / "lock", "it"):
            for text in (str(bystander.pid), "1", "0", "-1", "99999999", "x", ""):
                (run / "lock").write_text(text)
                with pytest.raises(StoreError, match="cannot be sure of"), learning_process(Repository().run("cgan")):
                    pass
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_going_on_needs_a_whole_number_and_a_run_that_does_not_learn(run: Path) -> None:
    for text in ("x", "0", "-3", "1.5", "9" * 5000):
        answer = write("/api/runs/cgan/continue", {"iterations": text})
        assert answer.status_code == 400 and "expected int >= 1" in answer.json()["error"]
    with FileLock.acquire(run / "lock", "it"):
        assert write("/api/runs/cgan/continue", {}).json() == {"error": "run 'cgan' is learning"}


def test_a_job_that_never_began_says_why_and_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, repository = Jobs(runs_folder()), Repository(runs_folder())
    tag = repository.fresh_tag(["A"], "B", "C")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    jobs.start(tag, ["A", "B"])
    jobs._processes[tag].wait(10)
    (runs_folder() / ".dashboard" / f"{tag}.log").write_text("first\nlearn: \x1b[31mno such thing\n\n")
    jobs.look()
    told = details(repository.run(tag), jobs)
    assert told is not None and told["refused"] == "learn: no such thing" and told["status"] == "failed"
    assert repository.tags() == [] and jobs.learning() == []


def test_a_run_that_cannot_go_on_says_why_until_something_changes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, gone_on = Jobs(runs_folder()), Repository(runs_folder()).run("cgan")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    jobs.start("cgan", ["tag=cgan"])
    jobs._processes["cgan"].wait(10)
    told = details(gone_on, jobs)
    assert told is not None and told["refused"] == "the process ended and printed nothing" and told["canGoOn"]
    gone_on.update_record(reason="it went on elsewhere")
    told = details(gone_on, jobs)
    assert told is not None and told["refused"] == "" and told["reason"] == "it went on elsewhere"


# --- workers ------------------------------------------------------------------------------------------------------

FAKE = """
import json, sys, time
print("ready", flush=True)
for line in sys.stdin:
    question = json.loads(line)
    if question["do"] == "crash":
        sys.exit(3)
    time.sleep(question.get("sleep", 0))
    print(json.dumps({"error": "no"} if question["do"] == "error" else {"got": question["do"]}), flush=True)
"""


def with_worker(scenario: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
    async def carried_out() -> None:
        worker = Worker("worker", "runs", (), seconds=1.0)
        worker._command = [sys.executable, "-c", FAKE]
        try:
            await scenario(worker)
        finally:
            await worker.end()

    asyncio.run(carried_out())


def test_a_worker_that_hangs_or_ends_is_replaced() -> None:
    async def scenario(worker: Worker) -> None:
        assert await worker.ask({"do": "a"}) == {"got": "a"}
        for question, part in (
            ({"do": "error"}, "^no$"),
            ({"do": "long", "sleep": 30}, "within 1 seconds"),
            ({"do": "crash"}, "ended"),
        ):
            with pytest.raises(InputError, match=part):
                await worker.ask(question)
            assert await worker.ask({"do": "b"}) == {"got": "b"}

    with_worker(scenario)


def test_of_several_questions_of_one_page_the_newest_is_answered() -> None:
    async def scenario(worker: Worker) -> None:
        await worker.ask({"do": "warm"})
        asked = [worker.ask({"do": str(number), "sleep": 0.1}, "one") for number in range(5)]
        found = await asyncio.gather(worker.ask({"do": "x"}, "two"), *asked, return_exceptions=True)
        assert found[0] == {"got": "x"} and found[-1] == {"got": "4"}
        assert [type(each) for each in found[1:-1]] == [Superseded] * 4
        many = [worker.ask({"do": "y", "sleep": 0.001}, f"page {number}") for number in range(60)]
        found = await asyncio.gather(*many, return_exceptions=True)
        assert "too many" in str(found[-1]) and found[0] == {"got": "y"}

    with_worker(scenario)


def test_the_server_itself_never_imports_torch() -> None:
    code = "import sys, ganglion.engine.dashboard.serving; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "False\n"


# --- looking at the generator -------------------------------------------------------------------------------------


def drawn(**asked: Any) -> dict[str, Any]:
    answer: dict[str, Any] = write("/api/runs/cgan/draw", {"asked": asked}).json()
    return answer


def test_what_is_drawn_is_what_the_command_draws(run: Path, capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "samples.png"
    assert call(capsys, "ganglion", "sample", "cgan", "count=9", "seed=3", f"out={out}").code == 0
    found = drawn(count="9", seed="3")
    assert found["iteration"] == 4 and base64.b64decode(found["picture"]) == out.read_bytes()


def test_points_are_drawn_beside_the_data_as_in_the_pictures_of_the_run() -> None:
    keys = {"strategy": "NSGAN", "iterations": 2, "batchSize": 8, "threads": 1, "execution": "eager", "tag": "points"}
    learn(PAIR, "Ring", {**keys, "size": 256, "testSize": 32}, runs=runs_folder(), quiet=True)
    drawing = Here().drawing
    answers = [drawing.draw({"tag": "points", "asked": {"seed": 0, "towards": 1, "share": share}}) for share in (0, 1)]
    first, last = (np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["picture"])))) for answer in answers)
    grey = [(each[..., :3] == ImageColor.getrgb(GREY)).all(-1) for each in (first, last)]
    assert grey[0].sum() > 500  # 256 points on a ring, which an untrained generator is far from
    assert (grey[0] == grey[1]).mean() > 0.99 and (first != last).any()  # the data stay where they are
    learn(PAIR, "Grid", {**keys, "size": 256, "testSize": 32, "clean": True}, runs=runs_folder(), quiet=True)
    answer = drawing.draw({"tag": "points", "asked": {"seed": 0}})  # begun anew under its tag: other data
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["picture"]))))
    own = Here().drawing.draw({"tag": "points", "asked": {"seed": 0}})["picture"]
    assert answer["picture"] == own and (image[..., :3] == ImageColor.getrgb(GREY)).all(-1).sum() > 500
    assert (image != first).any()


def test_the_way_between_two_seeds_leads_from_the_one_to_the_other(run: Path) -> None:
    first, middle, last = (drawn(count=4, seed=3, towards=8, share=share)["picture"] for share in (0, 0.5, 1))
    assert first == drawn(count=4, seed=3)["picture"] and last == drawn(count=4, seed=8)["picture"]
    assert len({first, middle, last}) == 3
    assert Image.open(io.BytesIO(base64.b64decode(middle))).format == "PNG"


def test_a_class_can_be_chosen_where_there_are_some(run: Path) -> None:
    about = ask("GET", "/api/runs/cgan/generator").json()
    assert about["classes"] == [str(number) for number in range(10)] and about["draws"]
    assert drawn(count=4, classes="7")["picture"] != drawn(count=4, classes="1")["picture"]
    assert "knows no class '77'" in drawn(classes="77")["error"]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"count": "0"}, "count=0"),
        ({"count": 10**9}, "count=1000000000"),
        ({"seed": "x"}, "seed=x: the page expects int >= 0"),
        ({"share": "nan"}, "share"),
        ({"share": 1.5}, "share"),
        ({"checkpoint": "/etc"}, "unknown key 'checkpoint'"),
    ],
)
def test_what_is_asked_of_a_generator_is_checked(asked: dict[str, Any], part: str, run: Path) -> None:
    assert part in drawn(**asked)["error"]


def test_a_newer_checkpoint_is_drawn_from_at_once(run: Path) -> None:
    drawing = Here().drawing
    before = drawing.draw({"tag": "cgan"})
    assert drawing.draw({"tag": "cgan"}) == before
    learn(None, None, {"tag": "cgan", "iterations": 6}, runs=runs_folder(), quiet=True)
    after = drawing.draw({"tag": "cgan"})
    assert (before["iteration"], after["iteration"]) == (4, 6) and before["picture"] != after["picture"]


# --- the command --------------------------------------------------------------------------------------------------


def test_wrong_commands_are_answered_in_one_sentence(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(capsys, ["ganglion", "dashboard", "--port", str(taken.getsockname()[1])], "another program listens")
    refused(capsys, ["ganglion", "dashboard", "--port", "0", "--host", "no.such.name.invalid"], "is called that")
    refused(capsys, ["ganglion", "dashboard", "--port", "70000"], "70000")
    monkeypatch.setenv("GANGLION_DASHBOARD_TOKEN", "short")
    refused(capsys, ["ganglion", "dashboard", "--port", "0"], "GANGLION_DASHBOARD_TOKEN: expected at least 16")
    monkeypatch.setattr("ganglion.engine.dashboardcommand.find_spec", lambda name: None)
    refused(capsys, ["ganglion", "dashboard"], "pip install ganglion[dashboard]")


def test_the_server_prints_its_address_and_ends_at_ctrl_c() -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom ganglion.engine.cli import main"
    )
    words = [sys.executable, "-c", f"{code}\nmain(['dashboard', '--port', '0'])"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        base, _, token = address.partition("/?token=")
        assert base.startswith("http://127.0.0.1:") and len(token) > 30
        _wait(lambda: _reaches(base))
        name = f"ganglion-{base.rpartition(':')[2]}"
        with httpx.stream("GET", f"{base}/api/events", cookies={name: token}, timeout=20) as stream:
            assert next(text for text in stream.iter_lines() if text.startswith("event")) == "event: runs"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()


def _reaches(base: str) -> bool:
    try:
        return httpx.get(f"{base}/").status_code == 403
    except httpx.TransportError:
        return False


def _wait(ready: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)
