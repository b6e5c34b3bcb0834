"""Jobs of several processes that something happens to: they go on exactly, or one sentence says why, in time."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from commandline import refused, tiny
from faultbench import become, warm
from torch import nn
from torch.distributed import HashStore

from ganglion.engine import joining, launch, launcher
from ganglion.engine.cli import main
from ganglion.engine.errors import ConfigError, DivergedError, RunError
from ganglion.engine.joining import Meeting, tell_once
from ganglion.engine.launcher import Launch, launched
from ganglion.engine.learner import Learner
from ganglion.engine.processes import Part
from ganglion.engine.resuming import refuse_other_processes
from ganglion.engine.runs import Run
from ganglion.engine.samplers import BatchSampler

KEYS = ("execution=eager", "iterations=12", "traceInterval=1", "storeInterval=5", "healthInterval=0")
SECONDS = 60.0  # after which a process counts as hung


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """What the forked processes share."""
    warm()


@pytest.fixture(autouse=True)
def unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test has counted the start of this process."""
    monkeypatch.setattr(joining, "_again", None)


class Ended(NamedTuple):
    """How one of several processes ended."""

    code: int
    err: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def shared(
    tag: str, runs: Path, *words: str, count: int = 2, fault: Callable[[int], object] = lambda rank: None
) -> list[Ended]:
    """Learn in `count` forked processes, as a launcher starts them; `fault` prepares what happens in each."""
    port = free_port()
    environment = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def prepare(rank: int) -> Callable[[], object]:
        def before() -> None:
            os.environ.update({**environment, "RANK": str(rank)})
            fault(rank)

        return before

    job = tiny(*KEYS, *words, f"tag={tag}")[1:]
    return in_children([prepare(rank) for rank in range(count)], ["learn", "--runs", str(runs), *job])


def in_children(preparations: Sequence[Callable[[], object]], words: Sequence[str]) -> list[Ended]:
    """Carry out one command in several forked processes."""
    children, files = [], []
    for before in preparations:
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        files.append(err)
        child = os.fork()
        if child == 0:
            become(words, before, out.fileno(), err.fileno())
        out.close()
        children.append(child)
    ends = []
    for child, err in zip(children, files, strict=True):
        code = waited(child)
        err.seek(0)
        ends.append(Ended(code, err.read().decode()))
        err.close()
    return ends


def waited(child: int) -> int:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("a process hangs")


def at(iteration: int, act: Callable[[], object]) -> None:
    """Do something after an iteration."""
    attend = Learner._attend

    def attended(self: Learner, *arguments: Any) -> Any:
        if self.iteration == iteration:
            act()
        return attend(self, *arguments)

    Learner._attend = attended  # type: ignore[method-assign]


def fail(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def tensors(runs: Path, tag: str, iteration: int = 12) -> dict[str, bytes]:
    folder = runs / tag / "checkpoints" / str(iteration)
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def record(runs: Path, tag: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((runs / tag / "record.json").read_text())
    return found


# --- what happens while they learn --------------------------------------------------------------------------------


def test_after_a_kill_the_same_command_goes_on_byte_for_byte(tmp_path: Path) -> None:
    def killed(rank: int) -> None:
        if rank == 1:
            at(7, lambda: os.kill(os.getpid(), signal.SIGKILL))

    assert [each.code for each in shared("plain", tmp_path)] == [0, 0]
    first, second = shared("killed", tmp_path, fault=killed)
    assert (first.code, second.code) == (1, -signal.SIGKILL)
    lost = "process 1 of 2 lost another, which ended or was killed"
    sentence = f"{lost}; given its tag, the run goes on from where it stored"
    assert first.err.splitlines().count(f"learn: {sentence}") == 1 and "Traceback" not in first.err
    assert record(tmp_path, "killed")["reason"] == sentence
    assert record(tmp_path, "killed")["status"] == "failed"
    assert [each.code for each in shared("killed", tmp_path)] == [0, 0]
    assert record(tmp_path, "killed")["sessions"] == 2
    wanted = tensors(tmp_path, "plain")
    assert len(wanted) == 3 and tensors(tmp_path, "killed") == wanted


def test_a_follower_that_is_left_alone_says_so_once(tmp_path: Path) -> None:
    def killed(rank: int) -> None:
        if rank == 0:
            at(7, lambda: os.kill(os.getpid(), signal.SIGKILL))

    first, second = shared("alone", tmp_path, fault=killed)
    assert (first.code, second.code) == (-signal.SIGKILL, 1)
    said = [line for line in second.err.splitlines() if line.startswith("learn: ")]
    assert len(said) == 1 and said[0].startswith("learn: process 2 of 2 lost another, which ended or was killed; ")


def test_nobody_waits_longer_than_the_jobs_patience(tmp_path: Path) -> None:
    began = time.monotonic()
    first, _ = shared(
        "late", tmp_path, "patience=1", fault=lambda rank: at(7, lambda: time.sleep(4)) if rank == 1 else None
    )
    assert first.code == 1 and time.monotonic() - began < SECONDS / 2
    assert first.err.count("has waited 1 s (patience) for another, which is cut off, stopped or too slow") == 1


@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("error", [RunError("boom"), ValueError("boom")])
def test_what_goes_wrong_in_one_process_is_said_once_and_recorded(tmp_path: Path, error: Exception, wrong: int) -> None:
    first, second = shared("wrong", tmp_path, fault=lambda rank: at(7, fail(error)) if rank == wrong else None)
    assert (first.code, second.code) == (1, 1)
    said = ("process 2 of 2: " if wrong else "") + ("boom" if isinstance(error, RunError) else "ValueError: boom")
    told = first.err + second.err
    assert told.count(said) == 1 + ("Traceback" in told) and told.count("learn: ") == 1 and "lost another" not in told
    assert record(tmp_path, "wrong")["reason"] == said
    assert "Traceback" not in first.err + second.err or isinstance(error, ValueError)


def test_what_goes_wrong_in_all_is_said_once(tmp_path: Path) -> None:
    first, second = shared("all", tmp_path, fault=lambda rank: at(7, fail(DivergedError("loss is nan"))))
    assert (first.code, second.code) == (1, 1)
    assert (first.err + second.err).count("loss is nan") == 1
    assert "loss is nan" in record(tmp_path, "all")["reason"]


def test_a_process_whose_launcher_is_gone_stores_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "LOOKS", 0.1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    latest = tmp_path / "left" / "checkpoints" / "latest"
    job = tiny("seconds=60", "storeSeconds=0.1", "tag=left", "execution=eager", "iterations=-1")[1:]
    words = ["learn", "--runs", str(tmp_path), *job]
    middle = os.fork()
    if middle == 0:  # stands for torchrun
        in_children([lambda: None], words)
        os._exit(0)
    until = time.monotonic() + SECONDS
    while not latest.exists() or latest.read_text() == "0":
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(middle, signal.SIGKILL)
    os.waitpid(middle, 0)
    while record(tmp_path, "left")["status"] != "stopped":
        assert time.monotonic() < until, record(tmp_path, "left")
        time.sleep(0.05)
    assert record(tmp_path, "left")["reason"] == "stopped by SIGTERM"


# --- what is wrong in the first process alone ---------------------------------------------------------------------


@pytest.mark.parametrize("place", ["refuse_other_processes", "settle_execution"])
def test_what_the_first_process_refuses_before_it_goes_on_ends_all(tmp_path: Path, place: str) -> None:
    def refuses(rank: int) -> None:
        if rank == 0:
            setattr(launch, place, lambda *given: fail(ConfigError("not with these"))())

    assert [each.code for each in shared("again", tmp_path)] == [0, 0]
    first, second = shared("again", tmp_path, fault=refuses)
    assert (first.code, second.code) == (2, 2)
    assert (first.err + second.err).count("learn: not with these") == 1


# --- what is wrong before -----------------------------------------------------------------------------------------


def test_an_address_that_nobody_answers_at_is_told(tmp_path: Path) -> None:
    words = ["learn", "--runs", str(tmp_path), *tiny("patience=1", "tag=lonely")[1:]]
    environment = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ended = in_children([lambda: os.environ.update(environment)], words)[0]
    assert ended.code == 1
    said = [line for line in ended.err.splitlines() if line.startswith("learn: ")]
    assert len(said) == 1 and "process 2 of 2 cannot reach the others at 127.0.0.1:" in said[0]
    assert "within 1 s" in said[0] and "Traceback" not in ended.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        ("WORLD_SIZE=2", "WORLD_SIZE is set and RANK, MASTER_ADDR, MASTER_PORT not; torchrun sets all of them"),
        ("RANK=0 MASTER_ADDR=here MASTER_PORT=1", "RANK, MASTER_ADDR, MASTER_PORT are set and WORLD_SIZE not"),
        ("RANK=2 WORLD_SIZE=2 MASTER_ADDR=here MASTER_PORT=1", "RANK=2: expected a whole number from 0 to 1"),
        ("RANK=0 WORLD_SIZE=two MASTER_ADDR=here MASTER_PORT=1", "WORLD_SIZE=two: expected a whole number from 1"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=here MASTER_PORT=x", "MASTER_PORT=x: expected a whole number from 1"),
    ],
)
def test_half_of_a_launch_is_refused(
    variables: str, parts: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    refused(capsys, tiny(), parts)


def test_an_address_alone_is_no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "here")
    assert launched() == Launch()


def test_other_commands_are_refused_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    refused(capsys, ["ganglion", "list", "strategies"], "'list' is the work of one process, and 2 were started")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(launcher, "LAST_WORDS", 0.0)
    with pytest.raises(SystemExit, match="2"):
        main(["runs"])
    assert capsys.readouterr() == ("", "")


def test_another_number_of_processes_is_refused_where_it_changes_the_mathematics() -> None:
    class Kept(Run):
        def read_record(self) -> dict[str, Any]:
            return {"processes": 2}

    def session(statistics: str, layer: nn.Module) -> Any:
        plan = SimpleNamespace(job=SimpleNamespace(batch_statistics=statistics))
        return SimpleNamespace(networks={"generator": nn.Sequential(layer)}, plan=plan)

    run = Kept(Path("runs/own"))
    with pytest.raises(ConfigError, match=r"run 'own' was shared by 2 processes, .*; go on with 2"):
        refuse_other_processes(run, session("process", nn.BatchNorm1d(2)))
    assert refuse_other_processes(run, session("whole", nn.BatchNorm1d(2))) == []
    assert refuse_other_processes(run, session("process", nn.Linear(2, 2))) == []


def test_processes_that_may_be_started_again_need_a_tag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    refused(capsys, tiny(), "find their run by its tag: give tag=")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    refused(capsys, tiny("tag=mine", "clean=true"), "clean=true would remove the run at every start")


def test_a_refused_job_leaves_no_thread_that_fetches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(*given: Any) -> None:
        raise ConfigError("not with these")

    closed: list[BatchSampler] = []

    def close(sampler: BatchSampler) -> None:
        closed.append(sampler)

    monkeypatch.setattr(launch, "_checked", refuses)
    monkeypatch.setattr(BatchSampler, "close", close)
    refused(capsys, tiny(), "not with these")
    assert len(closed) == 1


# --- meeting ------------------------------------------------------------------------------------------------------


def met(store: HashStore, count: int) -> list[tuple[str, bool]]:
    found: dict[int, tuple[str, bool]] = {}

    def meet(rank: int) -> None:
        time.sleep(0.1 * (count - rank))  # the first comes last, and finds what an earlier start has left
        found[rank] = joining._meet(store, Launch(rank, count, "here", 1), 20.0)

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(count)]


def test_each_start_meets_by_itself_in_a_store_that_lives_on() -> None:
    store = HashStore()
    starts = []
    for count in (3, 2, 3):
        joining._again = None  # other processes
        starts.append(met(store, count))
    for number, found in enumerate(starts):
        assert len(set(found)) == 1 and found[0][1] is (number > 0)
    assert len({found[0][0] for found in starts}) == 3


def test_a_process_that_learns_twice_has_started_once() -> None:
    store = HashStore()
    assert [met(store, 2)[0][1] for _ in range(2)] == [False, False]
    assert store.add("ganglion/starts", 0) == 1


def test_a_meeting_ends_when_somebody_stays_away() -> None:
    with pytest.raises(OSError, match="not all of them have come"):
        joining._meet(HashStore(), Launch(0, 2, "here", 1), 0.2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "LEADER_FIRST", 0.3)
    monkeypatch.setattr(joining, "ANSWER", 1.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ranks", [(0, 1, 2), (1, 2), (2, 0)])
def test_one_process_says_what_was_written_first(ranks: tuple[int, ...]) -> None:
    store, told = HashStore(), {}

    def fails(rank: int) -> None:
        told[rank] = tell_once(Meeting(Part(rank, 3), store, False), f"{rank} failed")

    threads = [threading.Thread(target=fails, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.says for each in told.values()) == 1
    assert len({each.sentence for each in told.values()}) == 1
    assert 0 not in told or told[0].says


@pytest.mark.usefixtures("quick")
def test_where_nobody_answers_a_process_says_it_itself() -> None:
    class Gone(HashStore):
        def compare_set(self, *words: str) -> bytes:
            time.sleep(3.0)
            return b""

    began = time.monotonic()
    assert tell_once(Meeting(Part(1, 2), Gone(), False), "lost") == ("lost", True)
    assert time.monotonic() - began < 2.5


def test_no_patience_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, tiny("patience=0"), "patience")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked for the addresses of its interfaces")
def test_gloo_listens_where_the_first_process_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert joining._interface_towards("127.0.0.1") is None  # no other host could come
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    assert joining._interface_towards("127.0.0.1") == "lo"
    assert joining._interface_towards("no such host") is None
