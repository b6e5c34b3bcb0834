"""The live page in a browser: what it shows while runs go on, are deleted, or its server is killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browsing
from commandline import PAIR

pytest.importorskip("uvicorn", reason="needs the extra 'dashboard'")
pytest.importorskip("bokeh", reason="needs the extra 'dashboard'")

from ganglion.engine.api import learn

TOKEN = "a-token-of-the-browser-tests"
HOSTILE = "<img src=x onerror=\"document.title='caught'\"><script>document.title='caught'</script>"
JOB = {
    "strategy": "NSGAN", "iterations": 4, "batchSize": 8, "traceInterval": 1, "sampleInterval": 2, "threads": 1,
    "execution": "eager", "traces": "lines,pictures", "tag": "first",
}  # fmt: skip
SHOWN = "document.body.innerText"


class Served:
    """A server in a process of its own; it can be killed and started again at the same port, with the same token."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = [
            sys.executable,
            "-m",
            "ganglion.engine",
            "dashboard",
            "--port",
            str(self.port),
            "--runs",
            str(self.runs),
        ]
        environment = {**os.environ, "GANGLION_DASHBOARD_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None and TOKEN in self.process.stdout.readline()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one run, learnt once."""
    return Path(learn(PAIR, "Digits", JOB, runs=tmp_path_factory.mktemp("runs"), quiet=True).directory)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as window:
        yield window


@pytest.fixture
def run(served: Served, learnt: Path) -> Iterator[Path]:
    """A run of that server that a test may change."""
    directory = Path(shutil.copytree(learnt, served.runs / "first"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def visit(window: Browser, served: Served, place: str = "") -> None:
    window.open(f"{served.url}/?token={TOKEN}")
    window.run("location.hash = arguments[0]", place)
    window.wait("document.getElementById('connection').textContent === 'connected'")


def append(run: Path, **line: Any) -> None:
    with open(run / "trace.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def test_two_browsers_follow_a_run_and_the_token_is_not_in_the_address(
    browser: Browser, served: Served, run: Path
) -> None:
    with browsing(400, 800) as other:
        for window in (browser, other):
            visit(window, served, "run/first")
            assert TOKEN not in window.run("return location.href")
            window.wait(f"{SHOWN}.includes('Losses') && {SHOWN}.includes('4 of 4 iterations')")
        append(run, iteration=5, seconds=1.0, iterationsPerSecond=2.0, generatorLoss=0.123, discriminatorLoss=4.56)
        alarm = {"kind": "collapse", "sentence": f"samples are alike {HOSTILE}"}
        append(run, iteration=6, health={"pairwiseDistance": 0.01}, alarms=[alarm])
        for window in (browser, other):
            window.wait(f"{SHOWN}.includes('0.123') && {SHOWN}.includes('samples are alike <img')")
        shutil.copy(run / "samples" / "4.png", run / "samples" / "6.png")
        browser.wait("document.querySelector('#samples img').src.endsWith('/samples/6.png')")
        other.resize(360, 800)
        other.wait("document.documentElement.scrollWidth <= 360")  # once the charts have followed
        for window in (browser, other):
            assert window.run("return document.title") == "first - Ganglion"
            assert window.complaints() == []
            assert {address.split("/")[2] for address in window.requests()} == {f"127.0.0.1:{served.port}"}


def test_what_a_hostile_record_says_is_text_and_a_deleted_directory_is_told(
    browser: Browser, served: Served, run: Path
) -> None:
    record = json.loads((run / "record.json").read_text())
    names = {"strategy": HOSTILE, "dataset": HOSTILE, "networks": [HOSTILE], "reason": HOSTILE, "status": HOSTILE}
    (run / "record.json").write_text(json.dumps({**record, **names}))
    append(run, iteration=5, **{HOSTILE: 0.5})
    visit(browser, served, "run/first")
    browser.wait(f"{SHOWN}.split('<img src=x onerror').length > 5")
    assert browser.run("return [...document.images].filter((each) => each.src.endsWith('/x')).length") == 0
    assert browser.run("return document.title") == "first - Ganglion"
    shutil.rmtree(run)
    browser.wait(f"{SHOWN}.includes('its directory is gone')")
    browser.wait("document.querySelectorAll('#runs a').length === 0")
    assert browser.complaints() == []


def test_a_killed_server_is_told_and_the_page_recovers(browser: Browser, served: Served, run: Path) -> None:
    visit(browser, served, "run/first")
    browser.wait(f"{SHOWN}.includes('Losses')")
    served.kill()
    browser.wait(f"{SHOWN}.includes('connection lost, trying again')")
    append(run, iteration=5, seconds=1.0, generatorLoss=0.987)
    served.start()
    browser.wait("document.getElementById('connection').textContent === 'connected'")
    browser.wait(f"{SHOWN}.includes('0.987')")
    browser.complaints()  # of the server that was not there


def test_a_job_is_started_from_the_form_stopped_and_looked_at_with_the_keyboard(
    browser: Browser, served: Served
) -> None:
    visit(browser, served, "new")
    browser.wait("document.getElementById('field-iterations')")
    fill(browser, "field-batchSize", "abc")
    browser.wait("document.getElementById('wrong').textContent.startsWith('batchSize=abc: the job expects int')")
    assert browser.run("return document.getElementById('begin').disabled")
    assert browser.run("return document.getElementById('field-batchSize').getAttribute('aria-invalid')") == "true"
    for key, value in (("batchSize", "8"), ("iterations", "-1"), ("threads", "1"), ("execution", "eager")):
        fill(browser, f"field-{key}", value)
    browser.wait("document.getElementById('command').textContent.includes('iterations=-1') && !begin.disabled")
    browser.run("document.getElementById('begin').focus()")
    browser.press("\ue007")
    tag = browser.wait("location.hash.startsWith('#run/') && decodeURIComponent(location.hash.slice(5))")
    try:
        browser.wait("!document.getElementById('stop').hidden && document.getElementById('actions').offsetHeight > 0")
        browser.wait(f"{SHOWN}.includes('Losses')")
        browser.run("document.getElementById('look').focus()")
        browser.press("\ue007")
        browser.wait("document.getElementById('picture').naturalWidth > 0")
        before = browser.run("return document.getElementById('picture').src")
        browser.run("document.getElementById('share').focus()")
        browser.press("\ue014", "\ue014")
        browser.wait("document.getElementById('picture').src !== arguments[0]", before)
        assert browser.run("return document.getElementById('share-text').textContent") == "2 %"
        browser.run("document.getElementById('stop').click()")
        browser.wait(f"{SHOWN}.includes('It was stopped. stopped by SIGINT')")
        assert not browser.run("return document.getElementById('continue').hidden")
        assert browser.complaints() == []
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((served.runs / tag / "lock").read_text()), signal.SIGKILL)


def fill(window: Browser, name: str, value: str) -> None:
    """Give a field a value as a person does, also where it lies behind a summary."""
    script = "const e = document.getElementById(arguments[0]); e.closest('details')?.setAttribute('open', '');"
    window.run(f"{script} e.value = arguments[1]; e.dispatchEvent(new Event('input', {{bubbles: true}}))", name, value)
