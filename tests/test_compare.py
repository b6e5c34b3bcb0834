"""`ganglion compare`: its table, common random numbers, failures, going on after any end, and wrong input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commandline import PAIR, call, refused, runs_folder
from inprocess import carry_out_here
from safetensors.torch import load_file

from ganglion.engine.comparepictures import _panel
from ganglion.engine.comparerecord import Record, refuse_others
from ganglion.engine.comparetable import remarks, summarise, tables
from ganglion.engine.comparetask import carry_out
from ganglion.engine.comparing import Budget, Comparison, plan_comparison
from ganglion.engine.comparison import Compared, compare
from ganglion.engine.comparison import _keep as keep
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.launch import learn
from ganglion.engine.locks import FileLock
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.suites import parse_suite

REGISTRY = Registry().load()
DATA = {"size": "64", "testSize": "8", "batchSize": "8"}
KEYS = {**DATA, "networks": PAIR, "seeds": "2", "metrics": "points-v1", "evaluate.count": "100", "tag": "tiny"}
WORDS = [f"{key}={value}" for key, value in KEYS.items()]
BROKEN = {"NSGAN.learningRate": "1e30"}  # the loss is no number after three iterations


def plan(*words: str, entries: str = "GAN,NSGAN", dataset: str | None = "Circle", **keys: str) -> Comparison:
    given = {key.replace("__", "."): value for key, value in keys.items()}
    return plan_comparison(REGISTRY, entries, dataset, {**KEYS, **given, **dict(word.split("=") for word in words)})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """A comparison of three entries and two seeds, one entry failing."""
    keys = {**KEYS, **BROKEN, "budget": "iterations:3", "keep": "0"}
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:  # tests below start processes, the failing one's too
        carry_out_here(patch)
        return compare("GAN,Minimax,NSGAN", "Circle", keys, runs=runs, notify=lambda sentence: None, command="typed")


# --- what comes out -----------------------------------------------------------------------------------------------


def test_the_table_holds_the_medians_of_what_evaluate_says(done: Compared) -> None:
    runs = Repository(done.directory / "runs")
    found = {
        label: [
            evaluate_run(
                REGISTRY, runs.find(f"{label}-{seed}"), "points-v1", "latest", "cpu", 0, {"count": "100"}, print
            )
            for seed in (0, 1)
        ]
        for label in ("GAN", "Minimax")
    }
    assert done.summary is not None and done.summary.against == "GAN"
    figures = {figure.name: figure for figure in done.summary.figures}
    assert "points-v1.withinTenth" in {*figures, *done.summary.constant}
    assert figures
    for name, figure in figures.items():
        for row in figure.rows[:2]:
            values = [each[0].values[name.partition(".")[2]] for each in found[row.entry]]
            assert list(row.values.values()) == values
            assert row.median == pytest.approx(statistics.median(values))
            assert row.interval == (min(values), max(values))
        gan, other = (list(row.values.values()) for row in figure.rows[:2])
        differences = [one - two for one, two in zip(other, gan, strict=True)]
        assert figure.rows[1].difference == pytest.approx(sum(differences) / 2)
        # Two pairs give the sums +-(a + b) and +-(a - b): half of them are as large where a and b have one sign.
        expected = 0.5 if differences[0] * differences[1] > 0 else 1.0
        assert figure.rows[1].p == figure.rows[1].holm == expected
    assert "no sign-flip test can be significant at 5 %" in done.summary.notices[0]
    assert "2 / 2^2 = 0.5" in done.summary.notices[0]


def test_an_entry_that_fails_stops_no_other(done: Compared) -> None:
    assert done.summary is not None
    assert set(done.summary.failed) == {"NSGAN-0", "NSGAN-1"}
    assert "iteration 3" in done.summary.failed["NSGAN-0"]
    assert [row.median for figure in done.summary.figures for row in figure.rows if row.entry == "NSGAN"][:1] == [None]
    assert [(speed.entry, speed.runs, speed.iterations) for speed in done.summary.speeds] == [
        ("GAN", 2, 3),
        ("Minimax", 2, 3),
        ("NSGAN", 0, None),
    ]


def test_one_seed_means_the_same_start_for_every_entry(done: Compared) -> None:
    def first(tag: str, role: str) -> dict[str, Any]:
        return load_file(done.directory / "runs" / tag / "checkpoints" / "0" / f"{role}.safetensors")

    for role in ("generator", "discriminator"):
        one, two, other = first("GAN-1", role), first("Minimax-1", role), first("GAN-0", role)
        assert all(bool((one[name] == two[name]).all()) for name in one)
        assert any(bool((one[name] != other[name]).any()) for name in one)
    data = [
        json.loads((done.directory / "runs" / tag / "record.json").read_text())["data"]
        for tag in ("GAN-1", "Minimax-1")
    ]
    assert data[0] == data[1]


def test_a_comparison_leaves_a_record_a_table_and_pictures(done: Compared) -> None:
    record = json.loads((done.directory / "comparison.json").read_text())
    assert record["tasks"]["GAN-1"]["status"] == "finished" and record["tasks"]["GAN-1"]["iteration"] == 3
    assert record["tasks"]["NSGAN-0"]["status"] == "failed"
    assert record["asked"]["entries"]["NSGAN"]["generator.learningRate"] == "1e+30"
    text = (done.directory / "table.md").read_text()
    assert "# Comparison tiny" in text and "- command: `typed`" in text and "| GAN | 2 |" in text
    assert re.search(
        rf"- made with: ganglion .*, torch {re.escape(torch.__version__)}, .* on cpu, at most \d at a time", text
    )
    for name in ("comparison.png", "samples.png"):
        assert (done.directory / name).read_bytes().startswith(b"\x89PNG")
    assert Repository(done.directory.parent).list_runs() == []  # it is no damaged run


def test_the_same_command_runs_nothing_again_and_more_seeds_and_metrics_are_added(
    done: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out_here(monkeypatch)
    shutil.copytree(done.directory, tmp_path / "compare-tiny")
    said: list[str] = []
    keys = {**KEYS, "budget": "iterations:3", "keep": "0"}
    again = compare("GAN,Minimax", "Circle", keys, runs=tmp_path, notify=said.append)
    assert len(said) == 1 and said[0].startswith("comparison 'tiny': 4 runs, 0 to do")
    assert again.summary is not None and done.summary is not None
    before = [figure for figure in done.summary.figures if figure.rows[0].values != figure.rows[1].values]
    assert before and [figure.rows for figure in again.summary.figures] == [figure.rows[:2] for figure in before]
    began = (tmp_path / "compare-tiny" / "runs" / "GAN-0" / "record.json").read_bytes()
    keys |= {"metrics": "points-v1,transport-v1", "seeds": "[0]"}
    more = compare("GAN", "Circle", keys, runs=tmp_path, notify=said.append)
    assert more.summary is not None and "transport-v1.w1" in {figure.name for figure in more.summary.figures}
    assert (tmp_path / "compare-tiny" / "runs" / "GAN-0" / "record.json").read_bytes() == began


def test_the_command_prints_the_table_and_ends_with_1_where_runs_failed(
    done: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done.directory, runs_folder() / "compare-tiny")
    words = [f"{key}={value}" for key, value in {**KEYS, **BROKEN, "budget": "iterations:3", "seeds": "1"}.items()]
    said = call(capsys, "ganglion", "compare", "GAN,Minimax,NSGAN", "Circle", *words, "--json")
    assert said.code == 1
    assert said.err.endswith("ganglion: 1 of 3 runs failed\n") and "NSGAN-0: failed: " in said.err
    result = json.loads(said.out)
    assert result["tag"] == "tiny" and set(result["failed"]) == {"NSGAN-0"}
    assert [row["entry"] for row in result["figures"][0]["rows"]] == ["GAN", "Minimax", "NSGAN"]
    plain = call(capsys, "ganglion", "compare", "GAN,Minimax", "Circle", *(w for w in words if "1e30" not in w))
    assert plain.code == 0 and "time to learn (medians)" in plain.out


# --- stopping and going on ----------------------------------------------------------------------------------------


def start(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ganglion.engine", "compare", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for_checkpoint(folder: Path, beyond: int) -> None:
    """Until a run has stored something after its first `beyond` iterations."""
    wait_until(lambda: any(int(path.name) > beyond for path in folder.glob("*/checkpoints/[0-9]*")))


@pytest.mark.slow
def test_after_sigkill_and_after_sigint_the_same_command_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**DATA, "networks": PAIR, "seeds": "[3]", "metrics": "points-v1", "tag": "long", "storeSeconds": "0.1"}
    words = ["GAN", "Circle", *(f"{key}={value}" for key, value in keys.items()), "budget=iterations:600"]
    folder = runs_folder() / "compare-long"
    first = start(*words)
    wait_for_checkpoint(folder / "runs", 0)
    first.kill()
    first.communicate()
    assert json.loads((folder / "comparison.json").read_text())["tasks"] == {}
    wait_until(lambda: not Repository(folder / "runs").run("GAN-3").locked)  # its process ends a little later
    reached = max(int(path.name) for path in folder.glob("runs/*/checkpoints/[0-9]*"))
    second = start(*words)
    wait_for_checkpoint(folder / "runs", reached + 20)
    second.send_signal(signal.SIGINT)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 130, errors
    assert b"stopped with 0 of 1 runs done; the same command goes on" in errors
    stopped = json.loads((folder / "comparison.json").read_text())["tasks"]["GAN-3"]
    assert stopped["status"] == "stopped" and 0 < stopped["iteration"] < 600
    carry_out_here(monkeypatch)
    third = compare("GAN", "Circle", {**keys, "budget": "iterations:600"}, notify=lambda sentence: None)
    assert third.tasks["GAN-3"]["status"] == "finished"
    job = {**DATA, "strategy": "GAN", "threads": 1, "traces": "lines", "sampleInterval": 0, "keep": 1}
    straight = learn(PAIR, "Circle", {**job, "seed": 3, "iterations": 600, "tag": "x"}, runs=tmp_path / "other")
    for role in ("generator", "discriminator"):
        one, two = (
            load_file(directory / "checkpoints" / "600" / f"{role}.safetensors")
            for directory in (folder / "runs" / "GAN-3", straight.directory)
        )
        assert all(bool((one[name] == two[name]).all()) for name in one)


def task(runs: Path, **changes: Any) -> dict[str, Any]:
    given = {**DATA, "iterations": "4"}
    settings = {"traces": "lines", "sampleInterval": "0", "threads": "1"}
    return {
        "tag": "GAN-0", "runs": str(runs), "others": str(runs), "networks": PAIR.split(","), "dataset": "Circle",
        "strategy": "GAN", "settings": settings, "given": given, "seed": 0, "threads": 1, "device": "auto",
        "budget": {"kind": "iterations", "amount": 4}, "plugins": [], "judging": [], **changes,
    }  # fmt: skip


def test_a_run_that_was_killed_before_it_could_say_that_it_finished_is_finished(tmp_path: Path) -> None:
    first = carry_out(task(tmp_path))
    run = Repository(tmp_path).find("GAN-0")
    run.update_record(status="running", iteration=0)
    again = carry_out(task(tmp_path))
    assert again["status"] == "finished" and again["iteration"] == 4
    assert again["seconds"] == pytest.approx(first["seconds"], abs=0.5)
    assert run.read_record()["status"] == "finished"


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_afresh(tmp_path: Path) -> None:
    carry_out(task(tmp_path))
    shutil.rmtree(tmp_path / "GAN-0" / "checkpoints")
    drawing = {"name": "n", "metric": "points-v1", "keys": {"Checkpoint": "4", "seed": "7", "count": "50"}}
    found = carry_out(task(tmp_path, judging=[drawing]))
    assert found["iteration"] == 4 and found["evaluations"]["n"]["points-v1"]["samples"] == 50
    kept = json.loads((tmp_path / "GAN-0" / "evaluation" / "points-v1.json").read_text())
    assert kept["seed"] == 7 and kept["iteration"] == 4


def test_a_budget_of_seconds_ends_every_run_as_finished(tmp_path: Path) -> None:
    given = {**DATA, **Budget("seconds", 0.3).keys(), "traceInterval": "1000000"}  # only the clock can end it
    changes = {"given": given, "budget": {"kind": "seconds", "amount": 0.3}}
    found = carry_out(task(tmp_path, **changes))
    assert found["status"] == "finished" and 0.3 <= found["seconds"] < 2 and found["iteration"] > 1
    record = Repository(tmp_path).find("GAN-0").read_record()
    assert record["reason"] == "its 0.3 seconds are over" and record["iteration"] == found["iteration"]
    lines = (tmp_path / "GAN-0" / "trace.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["iteration"] == found["iteration"]
    with pytest.raises(ConfigError, match=r"has learnt for 0.\d+ of its 0.3 seconds; give a larger number"):
        learn(None, None, {"tag": "GAN-0"}, runs=tmp_path)
    more = learn(None, None, {"tag": "GAN-0", "seconds": found["seconds"] + 0.2}, runs=tmp_path)
    assert more.outcome.seconds < found["seconds"] + 2 and more.outcome.iteration > found["iteration"]


def test_another_tag_is_refused_while_it_is_in_use_and_for_other_runs(done: Compared) -> None:
    runs = done.directory.parent
    keys = {**KEYS, "budget": "iterations:3"}
    with pytest.raises(ConfigError, match=r"'tiny' was started with budget=iterations:3, not iterations:4; clean=true"):
        compare("GAN", "Circle", {**keys, "budget": "iterations:4"}, runs=runs)
    with pytest.raises(ConfigError, match=r"entry GAN: batchSize=8, not 4"):
        compare("GAN", "Circle", {**keys, "batchSize": "4"}, runs=runs)
    with (
        FileLock.acquire(done.directory / "lock", "x"),
        pytest.raises(StoreError, match=r"comparison 'tiny' is in use"),
    ):
        compare("GAN", "Circle", keys, runs=runs)
    (runs / "compare-mine").mkdir()
    (runs / "compare-mine" / "letter.txt").write_text("dear")
    for clean in ("false", "true"):
        with pytest.raises(StoreError, match="is no comparison; give another tag"):
            compare("GAN", "Circle", {**keys, "tag": "mine", "clean": clean}, runs=runs)


def test_clean_forgets_what_was_there(done: Compared, tmp_path: Path) -> None:
    shutil.copytree(done.directory, tmp_path / "compare-tiny")
    asked = plan_comparison(REGISTRY, "GAN", "Circle", {**KEYS, "budget": "iterations:9", "clean": "true"}, tmp_path)
    with Record.locked(asked) as record:
        record.save()
        assert record.tasks == {}
    assert sorted(path.name for path in asked.directory.iterdir()) == ["comparison.json", "lock"]


# --- what is asked for --------------------------------------------------------------------------------------------


def test_keys_reach_the_entries_they_are_for() -> None:
    made = plan("NSGAN.generator.learningRate=0.5", "learningRate=0.25", "NSGAN.batchSize=4")
    one, two = made.entries
    assert one.plan.values["generator.learningRate"] == 0.25 and two.plan.values["generator.learningRate"] == 0.5
    assert (one.plan.job.batch_size, two.plan.job.batch_size) == (8, 4)
    assert one.plan.job.threads == 1 and one.plan.job.sample_interval == 0 and one.plan.job.iterations == 10_000
    assert made.judging[0].keys == {"count": "100"} and made.against == "GAN"
    assert plan("traces=lines,pictures").entries[0].plan.job.sample_interval is None


def test_the_tag_follows_from_the_runs_alone() -> None:
    def tag(*words: str, entries: str = "GAN,NSGAN") -> str:
        return plan("tag=none", *words, entries=entries).tag

    assert tag() == tag("seeds=3", "metrics=transport-v1", "against=NSGAN", "traceInterval=7", "evaluate.count=99")
    assert tag().startswith("circle-")
    assert (
        len({tag(), tag("budget=iterations:5"), tag("batchSize=4"), tag("NSGAN.batchSize=4"), tag(entries="GAN")}) == 5
    )


SUITE = """
format: 1
doc: Two ways.
dataset: Circle
networks: [Generator, Discriminator]
budget: iterations:12
seeds: [1, 4]
metrics: [points-v1]
against: heavy
figures: [points-v1.withinTenth:higher]
evaluate: {count: 50}
settings: {size: 64, testSize: 8, batch_size: 8}
entries:
  light: {strategy: NSGAN}
  heavy: {strategy: NSGAN, settings: {penalty: R1, batchSize: 4}}
"""


def test_a_suite_says_it_all_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SUITE)
    made = plan_comparison(REGISTRY, str(tmp_path / "two.yaml"), None, {}, tmp_path)
    assert [entry.label for entry in made.entries] == ["light", "heavy"] and made.against == "heavy"
    assert [entry.plan.job.batch_size for entry in made.entries] == [8, 4]
    assert made.seeds == (1, 4) and made.budget == Budget("iterations", 12) and made.figures[0].better == "higher"
    keys = {
        "batchSize": "16",
        "light.penalty": "R1",
        "seeds": "2",
        "entries": "light",
        "evaluate.count": "60",
        "against": "light",
    }
    other = plan_comparison(REGISTRY, str(tmp_path / "two.yaml"), "Ring", keys, tmp_path)
    assert [entry.label for entry in other.entries] == ["light"] and other.dataset == "Ring"
    assert other.entries[0].plan.job.batch_size == 16 and other.seeds == (0, 1)
    assert other.judging[0].keys == {"count": "60"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entires": {}}, r"unknown part 'entires'; did you mean 'entries'\?"),
        ({"entries": {}}, "entries: expected at least one"),
        ({"entries": {"a": {"settings": {}}}}, "entry a: expected 'strategy: NAME'"),
        ({"format": "2"}, "format 2 is not one that this version reads"),
        ({"settings": {"penalty": {"R1": "x"}}}, "settings: penalty: expected one value"),
    ],
)
def test_a_wrong_suite_is_told_in_one_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_suite(yaml.safe_dump({**yaml.safe_load(SUITE), **change}))


def test_a_suite_runs_no_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SUITE.replace("{strategy: NSGAN}", "{strategy: 'evil.py:Evil'}"))
    with pytest.raises(ConfigError, match=r"code in a local file; give --plugin evil.py too"):
        plan_comparison(REGISTRY, str(tmp_path / "two.yaml"), None, {}, tmp_path)


WRONG = {
    "": ("expected entries and a data set",),
    "GAN": ("no data set",),
    "GAN,NSGUN Circle": ("unknown strategy 'NSGUN'", "did you mean 'NSGAN'?"),
    "GAN,gan Circle": ("entry GAN is named twice",),
    "GAN,, Circle": ("a name is missing beside a comma",),
    "GAN Circl": ("entry GAN: unknown dataset 'Circl'",),
    "GAN Circle Ring": ("'Ring': expected key=value",),
    "GAN Circle networks=Generator": ("entry GAN: strategy GAN takes 2 networks",),
    "GAN Circle batchsise=8": ("entry GAN: unknown key 'batchsise'", "'batchSize'"),
    "GAN,NSGAN Circle NSGAN.batchsise=8": ("entry NSGAN: unknown key 'batchsise'",),
    "GAN Circle seed=3": ("'seed' is not one entry's", "seeds=5"),
    "GAN Circle iterations=3": ("budget=iterations:N",),
    "GAN Circle GAN.job.seconds=3": ("entry GAN: the key 'job.seconds'", "budget=seconds:T"),
    "GAN Circle seeds=0": ("seeds=0: expected how many seeds",),
    "GAN Circle seeds=1,1": ("seeds=1,1: expected",),
    "GAN Circle budget=hours:3": ("budget=hours:3: expected iterations:N or seconds:T",),
    "GAN Circle budget=iterations:0": ("budget=iterations:0",),
    "GAN Circle workers=0": ("workers=0", "int"),
    "GAN,NSGAN Circle against=WGAN": ("against=WGAN: there is no such entry", "GAN"),
    "GAN Circle metrics=point-v1": ("unknown metric 'point-v1'", "points-v1"),
    "GAN Circle evaluate.cuont=3": ("unknown key 'cuont'", "'count'"),
    "GAN Circle evaluate.count=x": ("count=x", "int"),
    "GAN Circle evaluate.metric=x": ("takes metrics= for that",),
    "GAN Circle figures=modes": ("figures=modes: expected metric.figure",),
    "GAN Circle metrics=points-v1 figures=transport-v1.w1": ("transport-v1 is not among metrics=points-v1",),
    "GAN Circle tag=a/b": ("tag=", "letters"),
    "GAN,CGAN Circle": ("entry CGAN: ", "label"),
    "PacGAN Circle pack=3": ("entry PacGAN: ", "8"),
    "GAN Circle device=cuda:77": ("entry GAN: ", "cuda:77"),
    "GAN,NSGAN Circle NSGAN.decayType=cosine budget=seconds:2": (
        "entry NSGAN: decayType=cosine needs decayIterations=N with budget=seconds",
    ),
    "GAN Circle metrics=coverage-v1 evaluate.count=10": ("metric coverage-v1 needs evaluate.classifier=TAG",),
    "GAN Circle metrics=coverage-v1 evaluate.count=10 evaluate.classifier=judge": ("there is no run 'judge'",),
    "nowhere.yaml Circle": ("suite nowhere.yaml", "does not exist"),
}


@pytest.mark.parametrize("line", WRONG, ids=str)
def test_wrong_input_is_answered_in_one_sentence(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = line.split()
    given = {word.partition("=")[0] for word in words}
    base = [word for word in WORDS if words and word.partition("=")[0] not in given]
    refused(capsys, ["ganglion", "compare", *words, *base], *WRONG[line])
    assert not runs_folder().exists()


def test_show_lists_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "ganglion", "show", "compare")
    assert said.code == 0 and "budget" in said.out and "iterations:N or seconds:T" in " ".join(said.out.split())


def test_tables_mark_the_best_and_what_is_missing() -> None:
    made = plan("figures=points-v1.a:lower")
    record = Record(made, {"tasks": {}})
    for entry, values in zip(made.entries, ([2.0, 4.0], [1.0, None]), strict=True):
        for seed, value in enumerate(values):
            found = {made.judging[0].name(): {"points-v1": {"a": value}}}
            record.of(entry, seed).update(status="finished", iteration=10, seconds=2.0, evaluations=found)
    summary = summarise(record)
    figure, speed = tables(summary)
    assert figure.rows == [["GAN", "2", "3 *", "2 .. 4", "", "", ""], ["NSGAN", "1!", "1", "1 .. 1", "-1", "1", "1"]]
    assert speed.rows == [["GAN", "2", "10", "2", "5"], ["NSGAN", "2", "10", "2", "5"]]
    refuse_others(made, {"asked": {"dataset": "Circle", "budget": "iterations:10000", "entries": {}}})


def found_by(made: Comparison, *columns: list[float | None]) -> Record:
    """A record of finished runs with one figure, `points-v1.a`."""
    record = Record(made, {"tasks": {}})
    for entry, values in zip(made.entries, columns, strict=True):
        for seed, value in enumerate(values):
            found = {made.judging[0].name(): {"points-v1": {"a": value}}}
            record.of(entry, seed).update(status="finished", iteration=10, seconds=2.0, evaluations=found)
    return record


def test_what_is_missing_wins_nothing_and_is_named() -> None:
    record = found_by(plan("figures=points-v1.a:lower"), [2.0, 4.0], [1.0, None])
    record.tasks["NSGAN-1"].update(status="failed", error="no memory")
    summary = summarise(record)
    assert summary.figures[0].best(2) == 3.0
    two = summary._replace(figures=[*summary.figures, *summary.figures])
    assert tables(two)[0].rows == [["GAN", "3", "3", "2"], ["NSGAN", "1!", "1!", "2"]]
    assert "!: figures are missing of NSGAN-1 (failed)" in remarks(summary)
    assert "NSGAN-1 failed: no memory" in remarks(summary)


def test_few_seeds_are_told_with_the_number_of_comparisons() -> None:
    values: list[float | None] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    made = plan("figures=points-v1.a", seeds="6", entries="GAN,NSGAN,WGAN")
    notices = list(summarise(found_by(made, values, [0.0] * 6, [0.5] * 6)).notices)
    assert notices == [  # 2 * 2 / 64 = 0.0625, and 2 * 2 / 128 = 0.03125
        "with 6 pairs and 2 comparisons no sign-flip test can be significant at 5 %: "
        "p (Holm) is at least 2 * 2 / 2^6 = 0.0625; it takes 7 seeds or more"
    ]
    two = plan("figures=points-v1.a", seeds="6")
    assert list(summarise(found_by(two, values, [0.0] * 6)).notices) == []
    four = plan("figures=points-v1.a", seeds="4")
    notices = list(summarise(found_by(four, values[:4], [0.0] * 4)).notices)
    assert notices[1] == "with n = 4 the interval of the median covers it at most 87.5 % of the time"


def test_a_figure_that_no_run_has_is_told_with_one_that_is_near() -> None:
    summary = summarise(found_by(plan("figures=points-v1.aa"), [1.0, 2.0], [1.0, 2.0]))
    assert list(summary.absent) == ["no run has the figure points-v1.aa; did you mean 'points-v1.a'?"]


def test_what_was_said_of_entries_is_shown_once() -> None:
    record = found_by(plan("figures=points-v1.a"), [1.0, 2.0], [3.0, 4.0])
    record.document["notices"] = {"GAN": ["dull"], "NSGAN": ["dull"]}
    record.tasks["GAN-0"]["notices"] = record.tasks["GAN-1"]["notices"] = ["a checkpoint was damaged"]
    said = remarks(summarise(record))
    assert said.count("every entry: dull") == 1 and said.count("GAN: a checkpoint was damaged") == 1


def test_a_metric_that_fails_takes_nothing_else_with_it(tmp_path: Path) -> None:
    judging = [
        {"name": "bad", "metric": "agreement-v1", "keys": {"classifier": "nobody"}},
        {"name": "good", "metric": "points-v1", "keys": {"count": "50"}},
    ]
    found = carry_out(task(tmp_path, judging=judging))
    assert found["status"] == "finished" and found["iteration"] == 4
    assert found["evaluations"]["good"]["points-v1"]["samples"] == 50
    assert list(found["problems"]) == ["bad"] and "nobody" in found["problems"]["bad"]


def test_a_failed_judging_is_told_once_and_tried_again() -> None:
    made = plan("figures=points-v1.a")
    record, name = found_by(made, [1.0, 2.0], [3.0, 4.0]), made.judging[0].name()
    assert record.is_done(made.entries[0], 0)
    for tag in ("GAN-0", "GAN-1"):
        keep(record.tasks[tag], {"status": "finished", "evaluations": {}, "problems": {name: "no metric fits it"}})
    assert not record.is_done(made.entries[0], 0)
    summary = summarise(record)
    assert "GAN-0, GAN-1 could not be judged: no metric fits it" in remarks(summary) and not summary.failed
    keep(record.tasks["GAN-0"], {"status": "stopped"})
    assert record.problems(made.entries[0], 0)
    keep(record.tasks["GAN-0"], {"status": "finished", "evaluations": {name: {"points-v1": {"a": 1.0}}}})
    assert not record.problems(made.entries[0], 0)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("tasks", "GAN-0"), []),
        (("tasks", "GAN-0", "seconds"), "long"),
        (("tasks", "GAN-0", "iteration"), None),
        (("tasks", "GAN-0", "evaluations"), {"points-v1": 3}),
        (("tasks", "GAN-0", "status"), "fine"),
        (("asked", "entries"), ["GAN"]),
    ],
)
def test_a_record_that_was_edited_is_refused(
    done: Compared, tmp_path: Path, place: tuple[str, ...], value: Any
) -> None:
    shutil.copytree(done.directory, tmp_path / "compare-tiny")
    path = tmp_path / "compare-tiny" / "comparison.json"
    document = json.loads(path.read_text())
    inner = document
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"comparison.json: .* is not as this version writes it"):
        compare("GAN", "Circle", {**KEYS, "budget": "iterations:3", "keep": "0"}, runs=tmp_path)


@pytest.mark.parametrize("label", ["generator", "Data", "job", "role", "chain", "evaluate"])
def test_labels_that_keys_begin_with_are_refused(label: str, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SUITE.replace("light:", f"{label}:"))
    with pytest.raises(ConfigError, match=f"entry '{label}': keys could not be told apart"):
        plan_comparison(REGISTRY, str(tmp_path / "two.yaml"), None, {}, tmp_path)


def test_the_baseline_of_a_suite_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SUITE)
    made = plan_comparison(REGISTRY, str(tmp_path / "two.yaml"), None, {"entries": "light"}, tmp_path)
    assert made.against == "light" and "against=heavy does not take part" in made.notices[0]
    with pytest.raises(ConfigError, match="against=heavy: there is no such entry"):
        plan_comparison(REGISTRY, str(tmp_path / "two.yaml"), None, {"entries": "light", "against": "heavy"}, tmp_path)


def test_metrics_of_a_suite_may_be_left_out_with_their_keys_and_figures(tmp_path: Path) -> None:
    figures = "[points-v1.withinTenth:higher, transport-v1.w1]"
    text = SUITE.replace("[points-v1]", "[points-v1, transport-v1]").replace("[points-v1.withinTenth:higher]", figures)
    (tmp_path / "two.yaml").write_text(text.replace("count: 50", "points-v1.count: 50, transport-v1.count: 20"))

    def planned(**keys: str) -> Comparison:
        return plan_comparison(REGISTRY, str(tmp_path / "two.yaml"), None, keys, tmp_path)

    assert [each.keys for each in planned().judging] == [{"points-v1.count": "50"}, {"transport-v1.count": "20"}]
    made = planned(metrics="points-v1")
    assert [(each.metric, each.keys) for each in made.judging] == [("points-v1", {"points-v1.count": "50"})]
    assert [figure.name for figure in made.figures] == ["points-v1.withinTenth"]
    with pytest.raises(ConfigError, match="transport-v1 is not among metrics=points-v1"):
        planned(metrics="points-v1", figures="transport-v1.w1")
    with pytest.raises(ConfigError, match=r"unknown key 'transport-v1\.count'"):
        planned(metrics="points-v1", **{"evaluate.transport-v1.count": "20"})


def test_json_is_printed_where_a_signal_stopped_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganglion.engine.engines.run_tasks", lambda *given: signal.SIGINT)
    said = call(capsys, "ganglion", "compare", "GAN", "Circle", *WORDS, "--json")
    result = json.loads(said.out)
    assert said.code == 130 and result["signal"] == 2 and result["runs"]["GAN-0"]["status"] == "pending"


def test_few_ticks_stand_below_a_panel() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    _panel(axes, summarise(found_by(plan("figures=points-v1.a"), [0.00011, 0.00052], [0.00033, 0.0009])).figures[0])
    low, high = axes.get_xlim()
    assert 2 <= len([tick for tick in axes.get_xticks() if low <= tick <= high]) <= 5
