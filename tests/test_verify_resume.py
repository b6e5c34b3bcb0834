"""`ganglion verify-resume`: a run that is killed and gone on with is the same, and one that is not is told apart."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from commandline import PAIR, call, refused, runs_folder
from tiny import TINY, learn_tiny

from ganglion.engine import execution, verifying, verifykills
from ganglion.engine.contracts import LearnProgress
from ganglion.engine.errors import InputError, RunError
from ganglion.engine.job import JobSettings
from ganglion.engine.launch import learn
from ganglion.engine.repository import Repository, Run
from ganglion.engine.verifychild import Template
from ganglion.engine.verifydifference import compare_runs
from ganglion.engine.verifying import Templates, two_templates, verify_resume
from ganglion.engine.verifykills import GOING_ON, LEARNING, STORING, Kill, Moment, planned, shown_iteration
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy

EXAMPLE = Path(__file__).parent / "examples" / "local_plugin.py"
POINTS = {"size": 64, "testSize": 8, "batchSize": 8, "threads": 1, "sampleInterval": 0}

FORGETFUL = """
from ganglion.engine import api
from ganglion.strategies.api import AdversarialSettings, AdversarialStrategy

calls = 0


class Forgetful(AdversarialStrategy):
    "Counts where nobody saves it."
    Settings = AdversarialSettings
    preset = {"method": "SGD", "learningRate": 0.01}

    def generator_loss(self, noise, batch):
        global calls
        calls += 1
        return api.Loss(self.scores(self.fake(noise, batch), batch).mean() * calls, {})


@api.hookimpl
def register_strategies(register):
    register("Forgetful", Forgetful)
"""


def verify(capsys: pytest.CaptureFixture[str], *words: str, **keys: object) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of the command."""
    said = call(
        capsys, "ganglion", "verify-resume", *words, *(f"{key}={value}" for key, value in keys.items()), "--json"
    )
    assert said.out, said.err
    return said.code, json.loads(said.out)


# --- the whole ----------------------------------------------------------------------------------------------------


def test_a_built_in_strategy_is_identical(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {**TINY["WGAN"].keys, **POINTS, "strategy": "WGAN", "iterations": 60, "generator.ema": 0.9}
    code, found = verify(capsys, PAIR, "Circle", "--kills", "3", **keys)
    assert code == 0 and found["identical"] is True and found["difference"] is None
    assert found["iterations"] == 60 and found["tracePoints"] == 60
    assert found["checkpoints"] == list(range(0, 61, 3))
    assert len(found["kills"]) == 3 and all(0 < kill["iteration"] < 60 for kill in found["kills"])
    assert GOING_ON in [kill["during"] for kill in found["kills"]]
    assert found["folder"] is None


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    with two_templates() as pair:
        yield pair


@pytest.fixture
def shared(templates: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command starts its processes from templates that are there."""
    monkeypatch.setattr(verifying, "two_templates", lambda: nullcontext(templates))


@pytest.mark.parametrize("strategy", list(TINY))
def test_every_strategy_survives_a_kill(strategy: str, templates: Templates) -> None:
    """The quick form of scripts/verify_resume.py."""
    row = TINY[strategy]
    keys = {"sampleInterval": 0, **row.keys, "strategy": strategy, "iterations": 24, "threads": 1}
    found = verify_resume(row.networks, row.dataset, keys, kills=1, templates=templates)
    assert found.identical, found.compared.difference
    assert found.iterations == 24 and len(found.kills) == 1 and len(found.compared.checkpoints) >= 24


@pytest.mark.usefixtures("shared")
def test_a_plugin_of_somebody_else_is_identical(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("Slim,Slim", "Spiral", "--plugin", str(EXAMPLE), "--kills", "1", "--runs", str(tmp_path / "kept"))
    code, found = verify(capsys, *words, strategy="CalmGAN", tag="mine", threads=1, sampleInterval=0)
    assert code == 0 and found["identical"] is True
    assert found["iterations"] == 200 and found["tracePoints"] == 200 and len(found["kills"]) == 1
    assert found["folder"] == str(tmp_path / "kept")
    killed = Repository(tmp_path / "kept").run("mine-killed")
    assert killed.read_record()["sessions"] == 2
    assert [json.loads(line)["iteration"] for line in killed.trace_path.read_text().splitlines()] == [*range(1, 201)]


@pytest.mark.usefixtures("shared")
def test_state_in_a_module_is_told_with_the_first_tensor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plugin = tmp_path / "forgetful.py"
    plugin.write_text(FORGETFUL)
    words = (PAIR, "Circle", "--plugin", str(plugin), "--kills", "1")
    # Not measured before it starts: its counter would count that too.
    code, found = verify(capsys, *words, strategy="Forgetful", iterations=60, execution="eager", **POINTS)
    folder = Path(found["folder"])
    try:
        assert code == 1 and found["identical"] is False
        difference, kill = found["difference"], found["kills"][0]["iteration"]
        assert difference["what"] == "generator layers.0.weight" and difference["others"] > 0
        # The last checkpoint before the kill is the same; the counter starts anew after it.
        assert difference["same_until"] <= kill + 3 and difference["iteration"] == difference["same_until"] + 3
        assert {path.name for path in folder.iterdir()} == {"verify-straight", "verify-killed"}
    finally:
        shutil.rmtree(folder)


# --- what is refused ----------------------------------------------------------------------------------------------

JOB = ["ganglion", "verify-resume", PAIR, "Circle", "strategy=GAN"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["iterations=9"], "iterations=9: expected at least 10, two for each of 5 kills"),
        (
            ["storeInterval=0"],
            "storeInterval=0: expected 1 to 50, so that a process which was killed goes on from what",
        ),
        (["storeInterval=60", "iterations=60"], "storeInterval=60: expected 1 to 15"),
        (["iterations=-1"], "iterations=-1: a run without an end cannot be verified"),
        (["seconds=3"], "seconds=3: two runs that end by the clock need not be the same; give iterations="),
        (["initTag=gan"], "initTag=gan: give --runs FOLDER too, the one that run is in"),
        (["batchSiz=3"], "batchSiz"),
        (["size=4", "batchSize=8"], "batchSize"),
        (["--kills", "0"], "0 is not in the range"),
    ],
)
def test_wrong_input_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, [*JOB, *words], sentence)


def test_a_run_that_is_there_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    learn_tiny("GAN", runs_folder(), "x-killed", iterations=2)
    words = [*JOB, "iterations=20", "tag=x", "--runs", str(runs_folder())]
    said = call(capsys, *words)
    assert said.code == 2 and said.out == ""
    assert "run 'x-killed' exists in" in said.err and "clean=true starts it anew" in said.err
    assert not (runs_folder() / "x-straight").exists()


def test_what_a_verification_needs_stands_above_the_job_file_and_below_the_command_line() -> None:
    settings = {**POINTS, "storeInterval": "0", "traceInterval": "50", "keep": "3", "iterations": "40"}
    job = {"networks": ["Generator", "Discriminator"], "dataset": "Circle", "strategy": "GAN", "settings": settings}
    work = verifying._prepare(None, None, {"job.traceInterval": "7"}, job, (), print)
    kept = (work.settings.store_interval, work.settings.trace_interval, work.settings.keep, work.settings.iterations)
    assert kept == (2, 7, 0, 40)
    assert "iterations" not in work.settled and work.settled["validationInterval"] == 4
    del settings["iterations"]
    assert verifying._prepare(None, None, {"epochs": "2"}, job, (), print).settings.iterations == 2 * 64 // 8
    assert verifying._prepare(None, None, {}, job, (), print).settings.iterations == 200


# --- the processes ------------------------------------------------------------------------------------------------


def test_a_process_that_learns_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    keys = {
        **POINTS,
        "strategy": "GAN",
        "iterations": -1,
        "execution": "eager",
        "tag": "endless",
        "traces": "lines",
        "traceInterval": 1,
    }
    task = {"networks": PAIR, "dataset": "Circle", "keys": keys, "runs": str(tmp_path)}
    run = Repository(tmp_path).run("endless")
    with Template() as template:
        pid = template.start({**task, "keys": {**keys, "batchSize": "none"}})
        assert template.ended(60)
        with pytest.raises(InputError, match="batchSize=none"):
            template.result()
        pid = template.start(task)
        wait_for(lambda: shown_iteration(run) > 0 or template.ended(0))
        assert run.locked
        assert template.process.stdin is not None
        template.process.stdin.close()  # as at the death of the process that verifies
        assert template.ended(60) and template.process.wait(60) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not run.locked and run.info().status == "interrupted"


def wait_for(reached: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.01)


class Stuck:
    """A process that does nothing, for ever."""

    killed = False

    def ended(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False

    def kill(self) -> bool:
        self.killed = True
        return True

    def start(self, task: object) -> int:
        return 1


def test_a_process_that_stands_still_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifykills, "CALM", 0.01)
    template: Any = Stuck()
    began = time.monotonic()
    with pytest.raises(RunError, match=r"run 'still' changed no file for 0\.05 seconds, so its process was ended"):
        verifykills.learn_straight(template, Repository(tmp_path).run("still"), {}, patience=0.05)
    assert template.killed and time.monotonic() - began < 2


class Quick(Stuck):
    """Processes that are over before anybody can look."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.found: list[int] = []

    def start(self, task: object) -> int:
        self.found.append(shown_iteration(self.run))
        stored(self.run.directory.parent, self.run.tag, SAME, SAME, trace='{"iteration": 60}\n')
        return 1

    def ended(self, seconds: float) -> bool:
        return True

    def result(self) -> dict[str, Any]:
        return {"status": "finished", "iteration": 60}


def test_kills_that_come_too_late_are_tried_again_from_the_start(tmp_path: Path) -> None:
    run, said = Repository(tmp_path).run("quick"), list[str]()
    template: Any = Quick(run)
    course = verifykills.Course(template, run, {"runs": str(tmp_path)}, 4, 60, 1.0)
    work = verifying._Work({}, JobSettings(), {}, said.append)
    with pytest.raises(RunError, match="only 0 of 2 kills landed before the run was over; give more iterations"):
        verifying._killed_often_enough(work, course, 2)
    assert template.found == [0, 0, 0]
    assert said == ["the run was over after 0 of 2 kills; once more from its start"] * 2


# --- the moments --------------------------------------------------------------------------------------------------


def test_moments_are_spread_over_the_run_and_follow_from_the_seed() -> None:
    for seed in range(50):
        moments = planned(5, 11, 200, random.Random(seed))
        assert moments == planned(5, 11, 200, random.Random(seed))
        assert sorted(moment.during for moment in moments) == sorted([GOING_ON, STORING, *[LEARNING] * 3])
        assert moments[0].during != GOING_ON
        assert all(0 <= each.iteration - (11 + 29.8 * number) + 1 < 30.8 for number, each in enumerate(moments))
    assert planned(5, 11, 200, random.Random(0)) != planned(5, 11, 200, random.Random(1))
    assert [moment.during for moment in planned(1, 11, 200, random.Random(0))] == [STORING]


def test_storing_is_tried_again_until_it_was_hit() -> None:
    moments = [Moment(STORING, 10), Moment(LEARNING, 20), Moment(GOING_ON, 30), Moment(LEARNING, 40)]
    missed = [Kill(12, LEARNING), Kill(25, LEARNING), Kill(31, GOING_ON)]
    assert [verifykills._due(moments, missed[:count], 0) for count in (0, 1, 2)] == [
        Moment(STORING, 10), Moment(STORING, 20), Moment(GOING_ON, 30),
    ]  # fmt: skip
    assert verifykills._due(moments, [Kill(12, STORING), *missed[1:]], 38) == Moment(LEARNING, 40)
    assert verifykills._due(moments, missed, 57) == Moment(STORING, 58)  # past what was shown before
    assert verifykills._due(moments, [*missed, Kill(58, STORING)], 58) is None


# --- the comparison -----------------------------------------------------------------------------------------------

WEIGHTS = {"a": torch.tensor([1.0, 0.0, float("nan")]), "b": torch.tensor([1, 2])}
STATE = {
    "session": {"strategy": {"best": float("inf"), "names": ["x"], "none": []}, "rng": torch.arange(4)},
    "learner": {"seconds": 1.5, "iteration": 0},
    "trace": {"offset": 10, "pinned": [0]},
}


def stored(folder: Path, tag: str, *checkpoints: tuple[dict[str, Any], dict[str, Any]], trace: str = "") -> Run:
    """A run with a checkpoint every 10 iterations; `weights` and `state` are laid over the common ones."""
    run = Repository(folder).run(tag).create()
    for number, (weights, state) in enumerate(checkpoints):
        networks = {"generator": {**WEIGHTS, **weights}}
        run.checkpoints().store(10 * number, networks, {}, {**STATE, **state}, keep=0, unchecked=("",))
    run.trace_path.write_text(trace)
    return run


SAME: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
LATER = ({}, {"learner": {"seconds": 9.0, "iteration": 0}, "trace": {"offset": 11, "pinned": [0]}})


def test_the_clock_and_nan_make_no_difference(tmp_path: Path) -> None:
    one = stored(tmp_path, "one", SAME, SAME, trace='{"iteration": 1, "seconds": 1, "loss": 0.5}\n')
    other = stored(tmp_path, "other", LATER, LATER, trace='{"iteration": 1, "seconds": 2, "loss": 0.5}\n')
    assert compare_runs(one, other) == ((0, 10), 6, 1, None)  # 2 weights and 1 tensor of state, twice


@pytest.mark.parametrize(
    ("weights", "state", "sentence"),
    [
        ({"a": torch.tensor([1.0, -0.0, float("nan")])}, {}, "generator a, at"),
        ({"b": torch.tensor([1.0, 2.0])}, {}, "generator b, at"),
        ({"b": torch.tensor([1, 2]).view(torch.float64)}, {}, "generator b, at"),  # the same bytes
        ({"b": torch.tensor([[1, 2]])}, {}, "generator b, at"),
        ({"c": torch.tensor(1)}, {}, "generator c, which only one of the runs has, at"),
        ({}, {"trace": {"offset": 0, "pinned": [0, 5]}}, "state trace.pinned.1, which only one of the runs has, at"),
        ({}, {"learner": {"seconds": 0.0, "iteration": 7}}, "state learner.iteration (0, not 7), at"),
        ({}, {"session": {"rng": torch.arange(4) + 1}}, "state session.strategy.best, which only one of the runs has"),
        ({"a": torch.zeros(3), "b": torch.zeros(2)}, {}, "generator a, and 1 more, at"),
    ],
)
def test_one_bit_is_a_difference(weights: dict[str, Any], state: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    one, other = stored(tmp_path, "one", SAME, SAME, SAME), stored(tmp_path, "other", SAME, SAME, (weights, state))
    difference = compare_runs(one, other).difference
    assert str(difference).startswith(sentence)
    assert str(difference).endswith("at iteration 20 (the first checkpoint that differs; the last same one is 10)")
    assert compare_runs(one, stored(tmp_path, "third", (weights, state))).difference.same_until is None


def test_a_checkpoint_that_only_one_has_is_a_difference_unless_the_clock_made_it(tmp_path: Path) -> None:
    one, other = stored(tmp_path, "one", SAME, SAME), stored(tmp_path, "other", SAME)
    assert str(compare_runs(one, other).difference).startswith("the checkpoint, which only 'one' has, at iteration 10")
    assert compare_runs(one, other, timed=True).difference is None


@pytest.mark.parametrize(
    ("trace", "sentence"),
    [
        ('{"iteration": 1, "loss": 0.5}\n', "line 2 of trace.jsonl: there are 2 and 1 lines"),
        ('{"iteration": 2, "loss": 0.25}\n{"iteration": 1, "loss": 0.5}\n', "iteration at iteration 1 in trace.jsonl"),
        ('{"iteration": 1, "loss": 0.5}\n' * 2, "iteration at iteration 2 in trace.jsonl (2, not 1)"),
        ('{"iteration": 1, "loss": 0.5}\n{"iteration": 2, "loss": 0.3}\n', "loss at iteration 2 in trace.jsonl"),
        ('{"iteration": 1, "loss": 0.5}\n{"iteration": 2}\n', "loss at iteration 2 in trace.jsonl (0.25, not None)"),
    ],
)
def test_a_trace_point_too_few_too_many_or_another_is_a_difference(trace: str, sentence: str, tmp_path: Path) -> None:
    whole = '{"iteration": 1, "loss": 0.5}\n{"iteration": 2, "loss": 0.25}\n'
    one, other = stored(tmp_path, "one", SAME, trace=whole), stored(tmp_path, "other", SAME, trace=trace)
    difference = str(compare_runs(one, other).difference)
    assert difference.startswith(sentence) and difference.endswith("(every checkpoint is the same)")


def test_what_a_run_shows(tmp_path: Path) -> None:
    run = Repository(tmp_path).run("run")
    assert shown_iteration(run) == 0
    stored(tmp_path, "run", SAME, SAME)
    assert shown_iteration(run) == 10
    run.trace_path.write_text('{"iteration": 11}\n{"iteration": 12}\n')
    assert shown_iteration(run) == 12
    run.trace_path.write_text('{"iteration": 11}\n{"itera')  # a line that is being written
    assert shown_iteration(run) == 10


class Late(AdversarialStrategy):
    """Asks for a stream in an iteration, for the first time."""

    Settings = AdversarialSettings
    preset: ClassVar[dict[str, Any]] = {"method": "SGD", "learningRate": 0.01}

    def process_iteration(self, i: int) -> LearnProgress:
        self.random("late").normal(1)
        return super().process_iteration(i)


def test_a_measurement_before_the_start_is_not_seen_in_any_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "has_compiler", lambda: True)  # so that auto measures
    keys = {**POINTS, "iterations": 2, "storeInterval": 1, "keep": 0, "traces": "lines"}
    for way in ("auto", "eager"):
        learn(PAIR, "Circle", {**keys, "tag": way, "execution": way}, strategy=Late, runs=tmp_path)
    compared = compare_runs(*(Repository(tmp_path).run(way) for way in ("auto", "eager")))
    assert compared.checkpoints == (0, 1, 2) and compared.difference is None
