"""Run directories: tags, locks, documents, listing, and cleaning that a crash cannot spoil."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from ganglion.engine import files
from ganglion.engine.contracts import DataSpec
from ganglion.engine.documents import read_yaml
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.locks import FileLock, is_held
from ganglion.engine.repository import Repository, Run
from ganglion.engine.tags import check_tag

HOLD = """
import sys, time
from pathlib import Path
from ganglion.engine.repository import Repository
lock = Repository(sys.argv[1]).run(sys.argv[2]).lock()
print("locked", flush=True)
time.sleep(120)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "runs")


@pytest.fixture
def holder(repository: Repository) -> Iterator[subprocess.Popen[str]]:
    """Another process that has locked run "taken"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(repository.root), "taken"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def begun(repository: Repository, tag: str, **record: Any) -> Run:
    run = repository.run(tag).create()
    run.write_record({"status": "finished", **record})
    return run


# --- tags ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["a", "gan-mnist-1", "_x", "7", "A.b_c-d", "x" * 100, "company", "v1.0"])
def test_good_tags(tag: str) -> None:
    assert check_tag(tag) == tag


@pytest.mark.parametrize(
    "tag",
    [
        *(
            "",
            ".",
            "..",
            ".x",
            "-x",
            "a/b",
            "../a",
            "/etc",
            "a\\b",
            "a..b",
            "a b",
            "a\n",
            "\n",
            "a\0",
            "é",
            "\u0661",
            "x" * 101,
        ),
        *("con", "NUL", "Aux.txt", "com1", "LPT9.x", "a.", "~", "$HOME", "a:b", "*", "\ud800", None, 7),
    ],
    ids=repr,
)
def test_bad_tags(repository: Repository, tag: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        repository.run(tag)
    assert "\n" not in str(caught.value) and "a tag is 1 to 100" in str(caught.value) and len(str(caught.value)) < 250
    assert not repository.root.exists()


def test_fresh_tags_are_readable_and_numbered(repository: Repository) -> None:
    pair = ["Generator", "Discriminator"]
    assert repository.fresh_tag(pair, "MNIST", "GANLearningStrategy") == "gan-mnist-1"
    assert repository.fresh_tag(pair, "MNIST", "GAN") == "gan-mnist-2"
    (repository.root / "gan-mnist-9").mkdir()
    assert repository.fresh_tag(pair, "MNIST", "gan") == "gan-mnist-10"
    assert repository.fresh_tag(["CNN"], "Digits", "FeedForward") == "feedforward-cnn-digits-1"
    assert repository.fresh_tag(pair, "data/my table.csv", "./plugins/own.py:My_Strategy") == "my-strategy-my-table-1"
    long = repository.fresh_tag(pair, "d" * 300, "s" * 300)
    assert check_tag(long) == long
    assert check_tag(repository.fresh_tag(pair, "../..", "con")) == "con-1"


def test_two_processes_never_get_the_same_fresh_tag(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.fresh_tag(["A", "B"], "x", "y")
    monkeypatch.setattr(Repository, "tags", lambda self: [])  # the other one was made after this one looked
    assert repository.fresh_tag(["A", "B"], "x", "y") == "y-x-2"


def test_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Repository().root == tmp_path / "runs"
    monkeypatch.delenv("GANGLION_RUNS")
    assert Repository().root == Path("runs")
    assert Repository(tmp_path).root == tmp_path
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make the folder .*file"):
        Repository(tmp_path / "file" / "runs").fresh_tag(["A"], "b", "c")
    with pytest.raises(StoreError, match=r"cannot list the runs in .*a part of the path|a folder"):
        Repository(tmp_path / "file").tags()


def test_listing_needs_no_torch(repository: Repository) -> None:
    begun(repository, "a")
    program = (
        "import sys; from ganglion.engine.repository import Repository\n"
        "print([run.tag for run in Repository(sys.argv[1]).list_runs()], 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(repository.root)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "['a'] False\n"


# --- locks --------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_until_the_first_is_killed(
    repository: Repository, holder: subprocess.Popen[str]
) -> None:
    run = repository.run("taken")
    assert run.locked
    with pytest.raises(StoreError, match=f"run 'taken' is in use by another process .pid {holder.pid}."):
        run.lock()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run.lock():
        assert run.locked
    assert not run.locked


def test_looking_does_not_take_the_lock(repository: Repository) -> None:
    run = repository.run("a")
    with run.lock():
        for _ in range(3):
            assert run.locked
        with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
            Repository(repository.root).run("a").lock()
    assert not is_held(repository.root / "missing")


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock", "x")
    worker = os.fork()
    if worker == 0:
        time.sleep(60)
        os._exit(0)
    try:
        time.sleep(0.1)
        lock.release()
        assert not is_held(tmp_path / "lock")
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_the_lock_of_a_run_that_was_moved_away_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "lock"
    path.parent.mkdir()
    original, moved = os.open, []

    def opening(*arguments: Any) -> int:
        handle = original(*arguments)
        if not moved:  # between opening and locking, another process cleans the run
            moved.append(path.parent.rename(tmp_path / "old"))
            path.parent.mkdir()
            path.touch()
        return handle

    monkeypatch.setattr(os, "open", opening)
    with FileLock.acquire(path, "x"):
        assert path.exists() and is_held(path)
        assert not is_held(tmp_path / "old" / "lock")


def test_a_run_in_which_nothing_was_begun_leaves_no_directory(repository: Repository) -> None:
    tag = repository.fresh_tag(["A"], "b", "c")
    run = repository.run(tag)
    run.lock()
    run.release()
    assert not run.directory.exists()
    run = begun(repository, "kept")
    run.lock()
    run.release()
    run.release()
    assert run.exists and not run.locked


# --- documents ----------------------------------------------------------------------------------------------------


def test_a_job_comes_back(repository: Repository) -> None:
    run = repository.run("a").create()
    job = {"networks": ("G", "D"), "strategy": "GAN", "rate": 1e-5, "big": 1e300, "limit": math.inf, "none": None}
    job |= {"yes": "no", "range": "1:30", "code": "0123", "tiny": "1e-3", "date": "2020-01-01", "text": "# é: 'x'\n"}
    job |= {"generator": {"layers": [1, 2]}, "flag": True, "empty": "", "null text": "null", "hex": "0x1F", "count": 0}
    job |= {"negative": -3, "fraction": -0.5, "under": "1_000", "equals": "=", "merge": "<<"}
    run.write_job(job)
    expected = {**job, "networks": ["G", "D"]}
    assert run.read_job() == expected and list(run.read_job()) == list(job)
    assert "!!" not in (run.directory / "job.yaml").read_text()


def test_job_text_by_hand_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("a: no\nb: 1:30\nc: 0123\nd: 1e-3\ne: 2020-01-01\nf: 7\ng: 0.5\nh: true\ni:\nj: 0x10\n")
    assert read_yaml(path) == {
        **{"a": "no", "b": "1:30", "c": "0123", "d": "1e-3", "e": "2020-01-01"},
        **{"f": 7, "g": 0.5, "h": True, "i": None, "j": "0x10"},
    }
    path.write_text("# nothing\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: 1\n\tb: 2\n", "job.yaml, line 2: "),
        (b"a: [1\n", "job.yaml, line 2: "),
        (b"a: !!python/object/apply:os.system ['true']\n", "line 1: could not determine a constructor"),
        (b"- 1\n", "expected lines of 'key: value', got a list"),
        (b"text\n", "got text"),
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
        (b"1: 2\n", "keys that are not text"),
        (b"[1]: 2\n", "keys that are not text|unhashable"),
        (b"a: \xff\n", "byte 3 is not UTF-8"),
        (b"a: *b\n", "undefined alias"),
        (b"a: 1\n---\nb: 2\n", "single document"),
        (b"a: \0\n", "not YAML"),
        (b"[" * 1500, "job.yaml"),
    ],
)
def test_broken_jobs_are_named(repository: Repository, text: bytes, words: str) -> None:
    run = repository.run("a").create()
    (run.directory / "job.yaml").write_bytes(text)
    with pytest.raises(StoreError, match=words) as caught:
        run.read_job()
    assert "\n" not in str(caught.value)


def test_missing_documents_are_named(repository: Repository) -> None:
    run = repository.run("a").create()
    for read in (run.read_job, run.read_record, run.read_data):
        with pytest.raises(StoreError, match=r"cannot read .*: it does not exist"):
            read()
    with pytest.raises(StoreError, match="a value is not plain"):
        run.write_job({"a": object()})
    assert os.listdir(run.directory) == []


def test_records(repository: Repository) -> None:
    run = repository.run("a").create()
    run.write_record(
        {"status": "running", "loss": math.nan, "values": torch.tensor([1.0, math.inf]), "path": Path("x")}
    )
    assert run.read_record() == {"format": 1, "status": "running", "loss": None, "values": [1.0, None], "path": "x"}
    run.update_record(status="finished", rate=numpy.float32(0.5))
    assert run.read_record()["status"] == "finished" and run.read_record()["rate"] == 0.5
    assert run.read_record()["path"] == "x"
    for text, words in (("{", "line 1"), ("[]", "JSON object"), ('{"format": 2}', "newer version"), ("{}", "'format'")):
        (run.directory / "record.json").write_text(text)
        with pytest.raises(StoreError, match=words):
            run.read_record()


@pytest.mark.parametrize(
    "spec",
    [
        DataSpec("image", (1, 28, 28), (0.0, 1.0), classes=("0", "1")),
        DataSpec("vector", (3,), (-math.inf, 0.1), features=("a", "b", "c"), target_shape=(2, 1)),
        DataSpec("sequence", (24, 5), sampling_rate=250.0),
    ],
)
def test_data_specs_come_back_exactly(repository: Repository, spec: DataSpec) -> None:
    run = repository.run("a").create()
    scalers = {"standard": {"mean": torch.tensor([0.1, 1 / 3], dtype=torch.float64), "count": 3}}
    run.write_data(spec, scalers)
    assert run.read_data() == (spec, {"standard": {"mean": [0.1, 1 / 3], "count": 3}})
    (run.directory / "data.json").write_text('{"format": 1, "spec": {"shape": [1]}, "scalers": {}}')
    with pytest.raises(StoreError, match="not the description of data"):
        run.read_data()


def test_networks_and_folders(repository: Repository) -> None:
    run = repository.run("a").create()
    assert run.read_networks() == {}
    run.write_network("generator", "layers: é\n")
    assert run.read_networks() == {"generator": "layers: é\n"}
    assert run.samples() == run.directory / "samples" and run.samples().is_dir()
    assert run.evaluation().is_dir()
    assert run.checkpoints().folder == run.directory / "checkpoints"


def test_the_trace_is_cut(repository: Repository) -> None:
    run = repository.run("a").create()
    run.truncate_trace(0)
    assert run.trace_offset() == 0 and not run.trace_path.exists()
    run.trace_path.write_text("one\n")
    offset = run.trace_offset()
    run.trace_path.write_text("one\ntwo\nthr")
    run.truncate_trace(100)
    assert run.trace_offset() == 11
    run.truncate_trace(offset)
    assert run.trace_path.read_text() == "one\n"


# --- atomic writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.ENAMETOOLONG, "the name is too long"),
        (errno.EIO, "the disk reported an error"),
    ],
)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, words: str
) -> None:
    path = tmp_path / "record.json"
    files.write_atomic(path, b"old")

    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(
            files, "SYSTEM", type("System", (), {"__getattr__": lambda _, name: getattr(os, name), call: fail})()
        )
        with pytest.raises(StoreError) as caught:
            files.write_atomic(path, b"new")
    assert str(caught.value) == f"cannot write {path}: {words}"
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["record.json"]


def test_real_refusals(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the name is too long"):
        files.write_atomic(tmp_path / ("x" * 300), b"")
    files.write_atomic(tmp_path / ("x" * 255), b"")  # the temporary's name must not be longer than the target's
    with pytest.raises(StoreError, match="it does not exist"):
        files.write_atomic(tmp_path / "missing" / "file", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="it is a folder"):
        files.write_atomic(tmp_path / "folder", b"")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a file"):
        Run(tmp_path / "file").create()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(files.TEMPORARY)]


# --- listing and finding ------------------------------------------------------------------------------------------


def test_listing(repository: Repository, holder: subprocess.Popen[str]) -> None:
    assert [info.tag for info in Repository(repository.root / "nowhere").list_runs()] == []
    begun(
        repository, "done", iteration=10, strategy="GAN", dataset="MNIST", networks=["G", "D"], seconds=2, started="2"
    )
    begun(repository, "cut", status="running", networks={"generator": "G"})
    begun(repository, "taken", status="running")
    begun(repository, "odd", iteration="x", networks=3, seconds="long", status=None)
    (begun(repository, "broken").directory / "record.json").write_text("{")
    repository.run("reserved").create()
    repository.run("foreign").create().directory.joinpath("notes.txt").write_text("")
    (repository.root / "file").write_text("")
    (repository.root / ".hidden").mkdir()
    checkpoints = repository.run("cut").directory / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "latest").write_text("500\n")
    found = {info.tag: info for info in repository.list_runs()}
    assert set(found) == {"done", "cut", "taken", "odd", "broken", "foreign"}
    done = found["done"]
    assert (done.status, done.iteration, done.strategy, done.dataset) == ("finished", 10, "GAN", "MNIST")
    assert (done.networks, done.seconds, done.started) == (("G", "D"), 2.0, "2")
    assert (found["cut"].status, found["cut"].iteration, found["cut"].networks) == ("interrupted", 500, ("G",))
    assert found["taken"].status == "running"
    assert (found["odd"].iteration, found["odd"].seconds, found["odd"].networks) == (None, None, ("3",))
    assert found["broken"].status == "damaged" and "record.json, line 1" in found["broken"].problem
    assert found["foreign"].status == "damaged" and "it does not exist" in found["foreign"].problem
    (repository.run("taken").directory / "record.json").unlink()
    assert repository.run("taken").info().status == "starting"


def test_finding(repository: Repository) -> None:
    with pytest.raises(StoreError, match=r"there is no run in .*: 'learn"):
        repository.find()
    with pytest.raises(StoreError, match=r"there is no run 'a' in [^;]*$"):
        repository.find("a")
    for number, tag in enumerate(("gan-mnist-1", "wgan-circle-1", "other")):
        run = begun(repository, tag)
        os.utime(run.directory / "record.json", ns=(number, number))
    (begun(repository, "zz").directory / "record.json").write_text("")
    assert repository.find().tag == "other"
    assert repository.find("gan-mnist-1").tag == "gan-mnist-1"
    with pytest.raises(StoreError, match=r"there is no run 'gan-mnst-1' in .*; did you mean 'gan-mnist-1'\?"):
        repository.find("gan-mnst-1")
    with pytest.raises(ConfigError):
        repository.find("../x")
    repository.run("empty").create()
    with pytest.raises(StoreError, match="there is no run 'empty'"):
        repository.find("empty")
    os.utime(repository.run("gan-mnist-1").directory / "record.json")
    assert repository.find().tag == "gan-mnist-1"


# --- cleaning -----------------------------------------------------------------------------------------------------


def test_clean_gives_an_empty_locked_directory(repository: Repository) -> None:
    run = begun(repository, "a")
    with pytest.raises(StoreError, match="must be locked"):
        repository.clean(run)
    assert run.exists
    run.lock()
    repository.clean(run)
    assert os.listdir(run.directory) == ["lock"] and not run.exists and run.locked
    assert os.listdir(repository.root) == ["a"]
    with pytest.raises(StoreError, match="in use"):
        repository.run("a").lock()
    run.write_record({})
    run.release()
    assert not run.locked and run.exists


def test_clean_of_a_linked_directory_leaves_what_it_points_to(repository: Repository, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    repository.root.mkdir()
    (repository.root / "a").symlink_to(target)
    run = begun(repository, "a")
    run.lock()
    repository.clean(run)
    assert run.directory.is_dir() and not run.directory.is_symlink()
    assert (target / "record.json").exists()


def failing_rename(count: int) -> Any:
    """`os`, whose rename number `count` fails."""
    done: list[int] = []

    def rename(source: Path, target: Path) -> None:
        done.append(1)
        if len(done) == count:
            raise OSError(errno.EIO, "")
        os.rename(source, target)

    return type("System", (), {"__getattr__": lambda _, name: getattr(os, name), "rename": staticmethod(rename)})()


@pytest.mark.parametrize("count", [1, 2])
def test_a_clean_that_fails_keeps_the_old_run(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    run = begun(repository, "a")
    run.lock()
    with monkeypatch.context() as patch:
        patch.setattr(files, "SYSTEM", failing_rename(count))
        with pytest.raises(StoreError, match=r"cannot clean .*the disk reported an error"):
            repository.clean(run)
    assert run.exists and run.locked and os.listdir(repository.root) == ["a"]


@pytest.mark.parametrize("dies_at", range(6))
def test_a_crash_during_clean_leaves_the_old_or_nothing(repository: Repository, dies_at: int) -> None:
    begun(repository, "a", name="old")
    begun(repository, "a.b")
    child = os.fork()
    if child == 0:
        calls: list[str] = []

        def step(name: str) -> Any:
            def call(*arguments: Any) -> Any:
                calls.append(name)
                return os._exit(9) if len(calls) > dies_at else getattr(os, name)(*arguments)

            return call

        run = repository.run("a")
        run.lock()
        files.SYSTEM = type("System", (), {"__getattr__": lambda _, name: step(name)})()
        repository.clean(run)
        os._exit(0)
    os.waitpid(child, 0)
    run = repository.run("a")
    assert not run.exists or run.read_record()["name"] == "old"
    run.lock()
    assert sorted(os.listdir(repository.root)) == ["a", "a.b"]


def test_what_another_process_prepares_is_not_swept(repository: Repository) -> None:
    run = repository.run("a")
    for name in (".a.new-1", ".a.old-1", ".b.old-1"):
        (repository.root / name).mkdir(parents=True)
    with FileLock.acquire(repository.root / ".a.new-1" / "lock", "x"):
        run.lock()
        assert sorted(os.listdir(repository.root)) == [".a.new-1", ".b.old-1", "a"]
    (run.directory / ".tmp-1234").write_text("")
    run.release()
    run.lock()
    assert ".tmp-1234" not in os.listdir(run.directory)
