"""Runs that cannot be used as asked: tags, folders, full disks, damaged checkpoints, samples of what makes none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from commandline import PAIR, TINY_DIGITS, call, contents, refused, runs_folder, tiny

Capture = pytest.CaptureFixture[str]

# --- tags ---------------------------------------------------------------------------------------------------------

TAGS = {
    "a/b": "contains other characters",
    "../x": "starts with '.'",
    "..": "starts with '.'",
    "a..b": "contains '..'",
    ".hidden": "starts with '.'",
    "-x": "starts with '-'",
    "a b": "contains other characters",
    "x" * 300: "has 300 characters",
    "a\nb": "contains other characters",
    "a\0b": "contains other characters",
    "a\x1b[31mb": "contains other characters",
    "[red]x[/red]": "contains other characters",
    "name\u202e": "contains other characters",
    "NUL": "device name",
    "/etc/passwd": "contains other characters",
}


@pytest.mark.parametrize("tag", TAGS, ids=range(len(TAGS)))
def test_a_tag_that_cannot_name_a_run(tag: str, capsys: Capture) -> None:
    refused(capsys, tiny(f"tag={tag}"), "tag=", TAGS[tag], "1 to 100 letters")
    if tag[0] not in "-":
        refused(capsys, ["ganglion", "sample", tag], TAGS[tag])
    refused(capsys, tiny(f"initTag={tag}"), TAGS[tag])
    assert not (runs_folder().parent / "x").exists()


# --- a run, made once ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `pair` of four iterations (checkpoints 0, 2 and 4) and one of a classifier, `judge`."""
    from ganglion.engine.launch import learn

    runs = tmp_path_factory.mktemp("made")
    names, keys = _job(tiny("iterations=4", "storeInterval=2", "tag=pair"))
    learn(*names, keys, runs=runs)
    names, keys = _job(tiny("tag=judge", names=("MLP", "Digits"), keys=TINY_DIGITS))
    learn(*names, keys, runs=runs)
    return runs


def _job(words: Sequence[str]) -> tuple[tuple[str, str], dict[str, str]]:
    return (words[1], words[2]), dict(word.split("=", 1) for word in words[3:])


@pytest.fixture
def runs(made: Path) -> Path:
    """A copy of these runs, as this test's own."""
    shutil.copytree(made, runs_folder())
    return runs_folder()


def test_going_on_with_another_job(runs: Path, capsys: Capture) -> None:
    ways = ("run 'pair' was started with", "clean=true", "another tag")
    refused(capsys, tiny("tag=pair", "iterations=9", "seed=4"), *ways, "seed=0, not 4")
    refused(capsys, tiny("tag=pair", "iterations=9", names=(PAIR, "Ring")), *ways, "dataset Circle, not Ring")
    refused(capsys, tiny("tag=pair", "iterations=9", "strategy=NSGAN"), *ways, "strategy GAN, not NSGAN")
    refused(capsys, ["learn", "tag=pair"], "has all its 4 iterations", "e.g. iterations=")
    refused(capsys, ["learn", "tag=pair", "iterations=3"], "has all its 4 iterations")
    refused(capsys, ["learn", "tag=pear", "iterations=9"], "there is no run 'pear'", "did you mean 'pair'?")
    refused(capsys, ["learn", "tag=pair", "clean=true"], "clean=true", "name the networks and the data set again")


def test_weights_of_another_run_that_do_not_fit(runs: Path, capsys: Capture) -> None:
    refused(capsys, tiny("initTag=pear"), "there is no run 'pear'", "did you mean 'pair'?")
    refused(capsys, tiny("initTag=judge"), "initTag=judge", "the roles network", "generator, discriminator")
    refused(capsys, tiny("initTag=pair", "generatorDim=7"), "initTag=pair", "generator is another network", "layers.0")


SAMPLES = {
    "sample pear": ("there is no run 'pear'", "did you mean 'pair'?"),
    "sample judge": ("run 'judge'", "FeedForward makes no samples"),
    "sample pair extra": ("'extra'", "expected key=value after the tag"),
    "sample pair count=0": ("count=0", "int >= 1"),
    "sample pair count=1e9": ("count=1e9", "<= 1000000"),
    "sample pair count=2 count=3": ("given twice",),
    "sample pair cont=3": ("unknown key 'cont'", "did you mean 'count'"),
    "sample pair xyzzy=3": ("unknown key 'xyzzy'", "there are: count, out, seed, classes, checkpoint, device"),
    "sample pair seed=-1": ("seed=-1", "int >= 0"),
    "sample pair checkpoint=3": ("there is no checkpoint 3", "there are: 0, 2, 4"),
    "sample pair checkpoint=newest": ("checkpoint=newest", "latest, best, or an iteration"),
    "sample pair out=x.jpeg": ("out=x.jpeg", ".png, .npz, .csv"),
    "sample pair out=x": ("out=x", ".png, .npz, .csv"),
    "sample pair out=/etc/passwd/x.png": ("/etc/passwd", "a file, not a folder"),
    "sample pair out=/proc/x.csv": ("/proc/x.csv", "cannot be written"),
    "sample pair out=/proc/x/y.npz": ("cannot make the folder /proc/x",),
    "sample pair out=a\0.png": ("cannot be written",),
    "sample pair device=foo": ("device=foo", "auto, cpu, cuda"),
    "sample pair device=meta": ("device=meta",),
    "evaluate pear": ("there is no run 'pear'", "did you mean 'pair'?"),
    "evaluate pair metric=points-v2": ("unknown metric 'points-v2'", "did you mean 'points-v1'?"),
    "evaluate pair metric=classification": ("metric classification needs", "predicts classes"),
    "evaluate judge metric=points-v1": ("makes no samples",),
    "evaluate judge xyzzy=1": ("unknown key 'xyzzy'",),
    "evaluate judge top=many": ("top=many", "expects int"),
    "evaluate judge testSet=0,9999": ("testSet=0,9999", "rows"),
    "evaluate judge checkpoint=7": ("there is no checkpoint 7",),
    "evaluate judge device=foo": ("device=foo",),
}


@pytest.mark.parametrize("line", SAMPLES, ids=repr)
def test_samples_and_evaluations_that_cannot_be_had(line: str, runs: Path, capsys: Capture) -> None:
    refused(capsys, ["ganglion", *line.split(" ")], *SAMPLES[line])


def test_without_any_run(capsys: Capture) -> None:
    for command in ("sample", "evaluate"):
        refused(capsys, ["ganglion", command], "there is no run in", "'learn NETWORKS DATASET' makes one")
    said = call(capsys, "ganglion", "runs")
    assert said.code == 0 and said.out == "" and said.err == f"no runs in {runs_folder()}\n"


def test_the_best_checkpoint_of_a_run_that_has_none(runs: Path, capsys: Capture) -> None:
    said = call(capsys, "ganglion", "sample", "pair", "checkpoint=best", "count=2", "--json")
    assert said.code == 0 and json.loads(said.out)["iteration"] == 4
    assert "no checkpoint was marked as the best one; checkpoint 4 is used instead" in said.err


# --- damage -------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("traces", ["lines", "terminal,lines"])
def test_a_flipped_byte_is_found_and_the_checkpoint_before_used(traces: str, runs: Path, capsys: Capture) -> None:
    damaged = runs / "pair" / "checkpoints" / "4" / "generator.safetensors"
    flip(damaged)
    said = call(capsys, "ganglion", "sample", "pair", "count=2", "--json")
    assert said.code == 0 and json.loads(said.out)["iteration"] == 2
    assert f"checkpoint 4 is damaged ({damaged}: its sha256 differs from the manifest's)" in said.err
    assert "checkpoint 2 is used instead" in said.err
    refused(capsys, ["ganglion", "sample", "pair", "checkpoint=4"], "checkpoint 4 is damaged", "sha256 differs")
    said = call(capsys, "learn", "tag=pair", "iterations=5", f"traces={traces}")
    assert said.code == 0 and said.err.count("checkpoint 4 is damaged") == 1
    assert "checkpoint 2 is used instead" in " ".join(said.err.split())
    answer = "2 samples of run 'pair' after 5 iterations:\n"
    assert call(capsys, "ganglion", "sample", "pair", "count=2") == (0, f"{runs}/pair/samples.png\n", answer)


def test_a_run_without_an_intact_checkpoint_is_refused_and_left_alone(runs: Path, capsys: Capture) -> None:
    for path in runs.glob("pair/checkpoints/*/generator.safetensors"):
        flip(path)
    refused(capsys, ["learn", "tag=pair", "iterations=6"], "no checkpoint is intact", "checkpoint 0 is damaged")
    refused(capsys, ["ganglion", "sample", "pair"], "no checkpoint is intact")
    refused(capsys, ["ganglion", "evaluate", "pair"], "no checkpoint is intact")


@pytest.mark.parametrize(
    ("victim", "text"),
    [("checkpoints/4/state.json", "{"), ("checkpoints/4/manifest.json", "none"), ("checkpoints/latest", "../../x")],
)
def test_other_damage_to_the_latest_checkpoint(victim: str, text: str, runs: Path, capsys: Capture) -> None:
    (runs / "pair" / victim).write_text(text)
    said = call(capsys, "learn", "tag=pair", "iterations=5")
    assert said.code == 0 and "is used instead" in said.err and said.err.count("\n") == 1
    assert json.loads((runs / "pair" / "record.json").read_text())["iteration"] == 5


DOCUMENTS = {
    ("job.yaml", "\t"): ("learn", "sample"),
    ("job.yaml", "[]"): ("learn", "sample"),
    ("job.yaml", "networks: [A]"): ("learn", "sample"),
    ("data.json", "["): ("sample",),
    ("data.json", '{"format": 99}'): ("sample",),
    ("record.json", "{"): ("learn",),
    ("record.json", '{"format": 99}'): ("learn",),
}


@pytest.mark.parametrize(("document", "text"), DOCUMENTS)
def test_damaged_documents_of_a_run_are_named(document: str, text: str, runs: Path, capsys: Capture) -> None:
    (runs / "pair" / document).write_text(text)
    lines = {"learn": ["learn", "tag=pair", "iterations=5"], "sample": ["ganglion", "sample", "pair"]}
    for command in DOCUMENTS[document, text]:
        refused(capsys, lines[command], f"pair/{document}", *(["newer version"] if "99" in text else []))
    listed = call(capsys, "ganglion", "runs", "--json")
    assert listed.code == 0 and len(json.loads(listed.out)) == 2


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["FILE", "FILE/below", "/proc/ganglion", "/dev/null", "x" * 300])
def test_a_folder_of_runs_that_cannot_be_written(folder: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("kept")
    place = folder.replace("FILE", str(tmp_path / "file"))
    words = tiny()
    for tokens in ([], ["tag=mine"]):
        refused(capsys, [words[0], "--runs", place, *words[1:], *tokens], "cannot make the folder")
    refused(capsys, ["ganglion", "sample", "--runs", place, "mine"], place)
    assert (tmp_path / "file").read_text() == "kept" and os.listdir(tmp_path) == ["file"]


def test_a_run_in_whose_place_is_a_file(capsys: Capture) -> None:
    runs_folder().mkdir()
    (runs_folder() / "mine").write_text("kept")
    refused(capsys, tiny("tag=mine"), str(runs_folder() / "mine"), "a file, not a folder")


def test_a_run_that_another_process_holds(runs: Path, capsys: Capture) -> None:
    from ganglion.engine.locks import FileLock

    with FileLock.acquire(runs / "pair" / "lock", "run 'pair'"):
        for tokens in (["learn", "tag=pair", "iterations=6"], tiny("tag=pair", "clean=true")):
            refused(capsys, tokens, "run 'pair' is in use by another process", f"pid {os.getpid()}", "another tag")


# --- full disks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 KiB; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    able = os.geteuid() == 0 and shutil.which("mount") is not None
    if not able or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_full_disk(disk: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_RUNS", str(disk / "runs"))
    (disk / "runs").mkdir()
    for tokens in ([], ["tag=mine"]):
        refused(capsys, tiny("momentum=0.9", *tokens), "cannot write", "the disk is full")
    assert contents() == {}  # nothing was learnt, so nothing is left

    resize(disk, "1m")
    words = tiny("momentum=0.9", "tag=mine", "iterations=100", "storeInterval=1", "keep=0")
    _failed_later(capsys, words, disk / "runs" / "mine", "the disk is full")
    resize(disk, "20m")
    assert call(capsys, "learn", "tag=mine", "iterations=20", "storeInterval=0").code == 0


def _failed_later(capsys: Capture, words: list[str], run: Path, cause: str) -> None:
    said = call(capsys, *words)
    assert said.code == 1 and said.out == ""
    assert said.err.startswith("learn: cannot write ") and cause in said.err and said.err.count("\n") == 1
    latest = int((run / "checkpoints" / "latest").read_text())
    assert latest > 0 and not [path for path in run.rglob("*") if "tmp" in path.name]
    sampled = call(capsys, "ganglion", "sample", run.name, "count=2", f"out={run.parents[2] / 'x.csv'}", "--json")
    assert sampled.code == 0 and json.loads(sampled.out)["iteration"] == latest


def limited(size: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Carry out `learn` in a process in which no file can become larger than `size` bytes."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY));"
        "from ganglion.engine.cli import learn_main; learn_main()"
    )
    command = [sys.executable, "-B", "-c", code, *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_disk_that_takes_no_checkpoint(size: int) -> None:
    """At 100 bytes the job cannot be written; at 20,000 it can, and the first checkpoint cannot."""
    ended = limited(size, *tiny("tag=mine"))
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("learn: cannot write ") and ended.stderr.count("\n") == 1
    assert "the file would be larger than the system allows" in ended.stderr
    assert contents() == {}


SHRINK = '''
import resource
from ganglion.engine.api import NoSettings, Trace, hookimpl

class Shrink(Trace):
    """From iteration 4 on no file can become larger than 1,000 bytes."""

    Settings = NoSettings

    def __init__(self, settings, context):
        pass

    def receive(self, event):
        if getattr(event, "iteration", 0) >= 4 and type(event).__name__ == "TracePoint":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))

@hookimpl
def register_traces(register):
    register("shrink", Shrink)
'''


def test_a_disk_that_fills_while_learning(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "shrink.py").write_text(SHRINK)
    words = tiny("tag=mine", "iterations=9", "storeInterval=1", "traceInterval=1", "traces=shrink", "keep=0")
    ended = limited(10_000_000, words[0], "--plugin", str(tmp_path / "shrink.py"), *words[1:])
    assert ended.returncode == 1, ended
    assert ended.stderr.startswith("learn: cannot write ") and ended.stderr.count("\n") == 1
    run = runs_folder() / "mine"
    assert (run / "checkpoints" / "latest").read_text().strip() == "3"
    assert not [path for path in run.rglob("*") if "tmp" in path.name]
    uninterrupted = call(capsys, *tiny("tag=whole", "iterations=9"))
    resumed = call(capsys, "learn", "tag=mine", "iterations=9", "traces=lines", "storeInterval=0")
    assert (uninterrupted.code, resumed.code) == (0, 0), resumed
    weights = [runs_folder() / tag / "checkpoints" / "9" / "generator.safetensors" for tag in ("mine", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
