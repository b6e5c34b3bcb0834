"""The commands as a person uses them: what they print where, for people and for programs, and what they leave."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import PAIR, TINY, TINY_DIGITS, Said, call, runs_folder, tiny
from forked import Forked
from PIL import Image

from ganglion.engine.hookspecs import KINDS
from ganglion.engine.registry import Registry

Capture = pytest.CaptureFixture[str]
FIRST = ["learn", PAIR, "Digits", "strategy=NSGAN"]
SHORT = ["iterations=4", "batchSize=8", "threads=1"]


def program(capsys: Capture, *words: str) -> Any:
    """What a command prints with --json: valid JSON, and nothing else on the standard output."""
    said = call(capsys, *words, "--json")
    assert said.code == 0, said
    return json.loads(said.out)


# --- learn --------------------------------------------------------------------------------------------------------


def test_the_first_command_ends_by_itself_with_a_picture_and_what_to_type_next(capsys: Capture) -> None:
    said = call(capsys, *FIRST, *SHORT, "traceInterval=2")
    assert said.code == 0 and said.out == ""  # messages are for a person; the results are on disk
    run = runs_folder() / "nsgan-digits-1"
    assert f"begins in {run}".replace(" ", "") in "".join(said.err.split())  # a long path is broken over lines
    for hint in (str(run / "samples" / "4.png"), "ganglion sample nsgan-digits-1", "ganglion evaluate nsgan-digits-1"):
        assert hint in said.err
    assert f"learn tag={run.name} iterations=" in said.err
    with Image.open(run / "samples" / "4.png") as picture:
        assert min(picture.size) >= 8 * 8
    points = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    assert [point["iteration"] for point in points if "generatorLoss" in point] == [2, 4]
    assert json.loads((run / "record.json").read_text())["status"] == "finished"


def test_the_printed_hints_are_commands_that_work(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hints = [line.split(": ", 1) for line in call(capsys, *FIRST, *SHORT).err.splitlines() if line.startswith("  ")]
    commands = [rest[0].split() for _, *rest in hints if rest and rest[0].startswith(("ganglion ", "learn "))]
    assert [words[0] for words in commands] == ["ganglion", "ganglion", "learn"]
    for words in commands:
        short = ["iterations=6" if word.startswith("iterations=") else word for word in words]
        assert call(capsys, *short).code == 0


@pytest.mark.parametrize("dataset", ["Digits", "Circle", "Ring"])
def test_one_command_line_fits_pictures_and_points(dataset: str, capsys: Capture) -> None:
    """DIANNE's published line, with another data set in the place of MNIST."""
    line = (
        "strategy=GANLearningStrategy generatorDim=10 batchSize=16 method=SGD learningRate=0.001 momentum=0.9 "
        "trace=true clean=true iterations=3 threads=1"
    )
    learnt = program(capsys, "learn", PAIR, dataset, *line.split())
    assert learnt["iteration"] == 3 and learnt["status"] == "finished"
    samples = Path(learnt["directory"]) / "x.npz"
    assert call(capsys, "ganglion", "sample", learnt["tag"], "count=5", f"out={samples}").code == 0
    with np.load(samples) as arrays:
        assert arrays["input"].shape == {"Digits": (5, 1, 8, 8)}.get(dataset, (5, 2))


def test_trace_false_shows_start_end_and_problems_only(capsys: Capture) -> None:
    loud = call(capsys, *FIRST, *SHORT, "tag=loud", "traceInterval=1")
    quiet = call(capsys, *FIRST, *SHORT, "tag=quiet", "traceInterval=1", "trace=false")
    table = re.compile(r"^ +[1-4] +[\d.]+ +[\d.]+ s ", re.MULTILINE)
    assert (len(table.findall(loud.err)), len(table.findall(quiet.err))) == (4, 0)
    assert "iteration " in loud.err and "it/s" not in quiet.err
    assert "begins in" in quiet.err and "quiet finished at iteration 4 of 4" in quiet.err
    assert quiet.out == ""


def test_learn_tells_programs_its_outcome(capsys: Capture) -> None:
    learnt = program(capsys, *tiny("tag=mine"))
    assert learnt["tag"] == "mine" and learnt["directory"] == str(runs_folder() / "mine")
    assert learnt["iteration"] == 2 and learnt["signal"] == 0 and set(learnt["values"]) >= {"generatorLoss"}


def test_a_diverging_run_fails_with_exit_code_1_and_says_what_helps(capsys: Capture) -> None:
    words = tiny("learningRate=1e30", "traceInterval=1", "iterations=9", "tag=wild")
    said = call(capsys, *words)
    assert said.code == 1 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("learn: ") and "nanRetry=3" in said.err
    assert json.loads((runs_folder() / "wild" / "record.json").read_text())["status"] == "failed"
    with_terminal = call(capsys, *[word for word in words if not word.startswith("traces")], "clean=true")
    assert with_terminal.code == 1 and "Traceback" not in with_terminal.err
    assert with_terminal.err.count("nanRetry=3") == 1  # the terminal has told it; it is not told twice


def test_a_run_that_asks_for_too_much_memory_fails_in_one_sentence(capsys: Capture) -> None:
    said = call(capsys, *tiny("samples=1e12", "sampleInterval=1", "tag=large"))
    assert said.code == 1 and said.err.count("\n") == 1
    assert said.err.startswith("learn: there is not enough memory") and "batchSize" in said.err
    assert json.loads((runs_folder() / "large" / "record.json").read_text())["status"] == "failed"


# --- the commands on runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of a pair on points and one of a classifier."""
    from ganglion.engine.launch import learn

    runs = tmp_path_factory.mktemp("made")
    learn(PAIR, "Ring", {**TINY, "tag": "points"}, runs=runs)
    learn("MLP", "Digits", {**TINY_DIGITS, "tag": "judge"}, runs=runs)
    return runs


@pytest.fixture
def runs(made: Path) -> Path:
    """A copy of these runs, as this test's own."""
    shutil.copytree(made, runs_folder())
    return runs_folder()


def test_runs_are_listed_for_people_and_programs(runs: Path, capsys: Capture) -> None:
    said = call(capsys, "ganglion", "runs")
    assert said.code == 0 and said.err == "" and "points" in said.out and "judge" in said.out
    listed = program(capsys, "ganglion", "runs")
    assert {(run["tag"], run["status"], run["iteration"]) for run in listed} == {
        ("points", "finished", 2),
        ("judge", "finished", 2),
    }


@pytest.mark.parametrize("extension", ["png", "npz", "csv"])
def test_samples_as_picture_array_and_table(extension: str, runs: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "new" / f"x.{extension}"
    said = call(capsys, "ganglion", "sample", "points", "count=7", f"out={out}")
    assert said == Said(0, f"{out}\n", "7 samples of run 'points' after 2 iterations:\n")
    if extension == "png":
        with Image.open(out) as picture:
            assert picture.format == "PNG"
    elif extension == "npz":
        with np.load(out) as arrays:
            assert arrays["input"].shape == (7, 2) and np.isfinite(arrays["input"]).all()
    else:
        with out.open(newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) == 8 and all(len(row) == 2 for row in rows) and float(rows[1][0]) == float(rows[1][0])


def test_the_seed_decides_the_samples(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        call(capsys, "ganglion", "sample", "points", f"seed={seed}", f"out={tmp_path / name}.csv")
    first, again, other = ((tmp_path / f"{name}.csv").read_text() for name in "abc")
    assert first == again != other


def test_sampling_needs_neither_the_data_nor_other_settings(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "".join(f"{row},{row % 7}\n" for row in range(40)))
    keys = {**TINY_DIGITS, "strategy": "GAN", "generatorDim": 3, "tag": "mine"}
    assert call(capsys, *tiny(f"path={table}", names=(PAIR, "Table"), keys=keys)).code == 0
    table.unlink()
    monkeypatch.setenv("GANGLION_DATA", "/nowhere")
    assert program(capsys, "ganglion", "sample", "mine", "count=3", f"out={tmp_path / 'x.csv'}")["count"] == 3
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "a,b"


def test_a_classifier_is_judged_by_class(runs: Path, capsys: Capture) -> None:
    (evaluation,) = program(capsys, "ganglion", "evaluate", "judge", "metric=classification")["evaluations"]
    values, details = evaluation["values"], evaluation["details"]
    assert 0 <= values["accuracy"] <= values["top2"] <= values["top3"] <= 1
    confusion = details["confusion"]["rows"]
    counts = [row[1:] for row in confusion]
    assert len(counts) == 10 and sum(map(sum, counts)) == values["rows"]
    right = sum(row[index] for index, row in enumerate(counts))
    assert right / values["rows"] == pytest.approx(values["accuracy"])
    assert any(len(table["rows"]) == 10 for name, table in details.items() if name != "confusion")
    text = call(capsys, "ganglion", "evaluate", "judge")
    assert text.code == 0 and "accuracy" in text.out and "true \\ predicted" in text.out


def test_a_generator_of_points_is_judged_by_where_they_lie(runs: Path, capsys: Capture) -> None:
    assert program(capsys, *tiny("tag=circle"))["tag"] == "circle"
    (circle,) = program(capsys, "ganglion", "evaluate", "circle", "metric=points-v1")["evaluations"]
    assert set(circle["values"]) >= {"withinTenth", "arcsHit"} and 0 <= circle["values"]["withinTenth"] <= 1
    judged = program(capsys, "ganglion", "evaluate", "points")
    assert judged["tag"] == "points" and judged["evaluations"]
    for evaluation in judged["evaluations"]:
        assert all(isinstance(value, float) for value in evaluation["values"].values())
        stored = json.loads((runs / "points" / "evaluation" / f"{evaluation['metric']}.json").read_text())
        assert stored["values"] == evaluation["values"]


def test_the_newest_run_is_meant_where_no_tag_is_given(runs: Path, capsys: Capture) -> None:
    call(capsys, *tiny("tag=newest"))
    assert program(capsys, "ganglion", "sample", "count=2")["tag"] == "newest"
    assert program(capsys, "ganglion", "evaluate")["tag"] == "newest"


# --- while it runs ------------------------------------------------------------------------------------------------


def process(*words: str, **environment: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ganglion.engine", *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def endless() -> Iterator[Forked]:
    """An endless run `live`, in a process of its own, that has made some iterations."""
    running = Forked(*tiny("iterations=-1", "tag=live", "storeInterval=20", "keep=2", "execution=eager"))
    latest = runs_folder() / "live" / "checkpoints" / "latest"
    try:
        deadline = time.monotonic() + 60
        while not (latest.is_file() and int(latest.read_text() or 0) >= 20):
            assert running.poll() is None and time.monotonic() < deadline, running.communicate()
            time.sleep(0.05)
        yield running
    finally:
        running.kill()
        running.communicate()


def test_samples_of_a_run_that_is_still_going(endless: Forked, tmp_path: Path, capsys: Capture) -> None:
    (listed,) = program(capsys, "ganglion", "runs")
    assert listed["status"] == "running" and listed["iteration"] >= 20
    seen = [program(capsys, "ganglion", "sample", "count=4", f"out={tmp_path / 'x.csv'}") for _ in range(3)]
    assert endless.poll() is None
    assert 20 <= seen[0]["iteration"] <= seen[-1]["iteration"]
    refusal = call(capsys, "learn", "tag=live")
    assert refusal.code == 2 and f"in use by another process (pid {endless.pid})" in refusal.err

    endless.send_signal(signal.SIGTERM)
    out, err = endless.communicate(timeout=60)
    assert endless.returncode == 143 and out == "" and "Traceback" not in err
    record = json.loads((runs_folder() / "live" / "record.json").read_text())
    assert record["status"] == "stopped" and "SIGTERM" in record["reason"]
    assert record["iteration"] >= seen[-1]["iteration"]
    assert (runs_folder() / "live" / "checkpoints" / str(record["iteration"])).is_dir()
    went_on = program(capsys, "learn", "tag=live", f"iterations={record['iteration'] + 3}")
    assert went_on["iteration"] == record["iteration"] + 3


# --- what there is ------------------------------------------------------------------------------------------------


def test_everything_registered_is_listed_and_shown(capsys: Capture) -> None:
    registry = Registry().load(())
    for kind in KINDS:
        names = {entry.name for entry in registry.all(kind)}
        assert {row["name"] for row in program(capsys, "ganglion", "list", kind)} == names
        text = call(capsys, "ganglion", "list", kind)
        assert text.code == 0 and all(name in text.out for name in names)
        for name in sorted(names)[:1]:  # test_documented.py looks at every one
            shown = program(capsys, "ganglion", "show", kind, name)
            assert shown["name"] == f"{kind} {name}" and shown["about"]
            text = call(capsys, "ganglion", "show", kind, name)
            assert text.code == 0 and text.err == ""
            assert all(setting["key"] in text.out and setting["help"] for setting in shown["settings"])


def test_the_keys_of_jobs_roles_data_and_chains_are_shown(capsys: Capture) -> None:
    for part, key in (("job", "batchSize"), ("role", "device"), ("data", "validationSet"), ("chain", "processors")):
        assert key in {setting["key"] for setting in program(capsys, "ganglion", "show", part)["settings"]}
        assert key in call(capsys, "ganglion", "show", part).out


def test_plugins_and_the_machine_are_reported(capsys: Capture) -> None:
    assert isinstance(program(capsys, "ganglion", "plugins"), list)
    said = call(capsys, "ganglion", "doctor", "--json")
    assert said.code in (0, 1) and {"what", "found", "good"} <= set(json.loads(said.out)[0])


# --- the installed commands ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["learn", "list", "show", "runs", "sample", "evaluate", "plugins", "new", "doctor"])
def test_every_command_explains_itself(command: str, capsys: Capture) -> None:
    said = call(capsys, "ganglion", command, "--help")
    assert said.code == 0 and said.err == "" and said.out.startswith(f"Usage: ganglion {command} ")
    if command not in ("learn", "new"):
        assert "--json" in said.out
    assert command in call(capsys, "ganglion", "--help").out


def test_the_module_and_the_version(capsys: Capture) -> None:
    ended = process("--help")
    out, err = ended.communicate(timeout=60)
    assert ended.returncode == 0 and err == "" and out.startswith("Usage: ganglion ")
    said = call(capsys, "learn", "--help")
    assert said.code == 0 and "learn Generator,Discriminator Digits strategy=NSGAN" in said.out
    assert re.fullmatch(r"ganglion, version \d+\.\d+\.\d+\S*\n", call(capsys, "ganglion", "--version").out)


def test_a_reader_that_goes_away_is_no_error() -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "ganglion.engine", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listing.stdout is not None and listing.stderr is not None
    listing.stdout.close()
    assert b"Traceback" not in listing.stderr.read()
    listing.stderr.close()
    assert listing.wait(timeout=60) in (0, 1)


def on_a_terminal(*words: str, **environment: str) -> tuple[int, str]:
    """The exit code, and what a command writes when both outputs are a terminal of 100 columns."""
    leader, follower = pty.openpty()
    values = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **environment}
    running = Forked("ganglion", *words, onto=follower, **values)
    os.close(follower)
    written = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(leader)
    running.communicate()
    return running.returncode or 0, written.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|9[0-7])[0-9;]*m")


def test_colours_on_a_terminal_and_none_with_no_color() -> None:
    words = [word for word in tiny("iterations=3") if not word.startswith("traces=")]
    code, coloured = on_a_terminal(*words, NO_COLOR="")
    assert code == 0 and COLOUR.search(coloured)
    code, plain = on_a_terminal(*words, NO_COLOR="1")
    assert code == 0 and "finished at iteration 3 of 3" in plain and not COLOUR.search(plain)


def test_an_error_on_a_terminal_is_one_plain_line() -> None:
    code, written = on_a_terminal(*tiny("strategy=\x1b[31mGUM"))
    assert code == 2 and written.startswith("ganglion: unknown strategy 'GUM'; ")
    assert written.count("\n") == 1 and "\x1b" not in written
