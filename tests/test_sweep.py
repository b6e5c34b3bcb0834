"""`ganglion sweep`: ranges and conditions, a search that is the same however it is stopped, pruning, wrong input."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commandline import PAIR, call, refused

from ganglion.engine.comparetask import carry_out
from ganglion.engine.engines import Pool
from ganglion.engine.errors import ConfigError, EngineError, StoreError
from ganglion.engine.job import read_job
from ganglion.engine.launch import learn
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.settings import NotUsed
from ganglion.engine.sweeps.planning import Aim, Sweep, plan_sweep
from ganglion.engine.sweeps.ranges import Range, is_range, ordered, parse_range
from ganglion.engine.sweeps.space import Space

pytest.importorskip("optuna", reason="needs the extra 'sweep'")

from ganglion.engine.sweeps.record import taken
from ganglion.engine.sweeps.search import Search
from ganglion.engine.sweeps.study import Drawing, Review, Trial, importances
from ganglion.engine.sweeps.studyfile import StudyFile
from ganglion.engine.sweeps.sweep import Swept, sweep
from ganglion.engine.sweeps.table import best_first, summarise, tables

REGISTRY = Registry().load()
DATA = {"strategy": "NSGAN", "size": "64", "testSize": "8", "batchSize": "8"}
KEYS = {**DATA, "metric": "points-v1.withinTenth:lower", "evaluate.count": "50", "budget": "iterations:3", "seed": "1"}
SPACE = {"learningRate": "log(1e-4,1e-2)", "penalty": "choice(none,R1)", "R1.weight": "uniform(0.1,2)"}


def plan(runs: Path | None = None, **keys: str) -> Sweep:
    given = {key.replace("__", "."): value for key, value in keys.items()}
    return plan_sweep(REGISTRY, PAIR, "Circle", {**KEYS, "tag": "tiny", **given}, runs)


# --- ranges and conditions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log(1e-5,1e-2)", Range("k", "log", 1e-5, 1e-2)),
        ("uniform( -1 , 2.5 )", Range("k", "uniform", -1.0, 2.5)),
        ("int(1,5)", Range("k", "int", 1, 5)),
        ("choice(16,[1,2],none)", Range("k", "choice", choices=("16", "[1,2]", "none"))),
        ("Choice(a,b)", Range("k", "choice", choices=("a", "b"))),
    ],
)
def test_a_range_is_read_and_written_back(text: str, expected: Range) -> None:
    assert is_range(text) and parse_range("k", text) == expected
    assert parse_range("k", str(expected)) == expected


@pytest.mark.parametrize("text", ["0.1", "R1", "none", "[1,2]", "folder/a(1).csv", "my.module(1)"])
def test_what_is_no_range_stays_a_value(text: str) -> None:
    assert not is_range(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("log(0,1)", "two numbers above 0"),
        ("uniform(2,1)", "the smaller first"),
        ("uniform(1,inf)", "expected two numbers"),
        ("int(1.5,3)", "two whole numbers"),
        ("int(1,2,3)", "two whole numbers"),
        ("choice(a,A)", "different choices"),
        ("choice(a,,b)", "different choices"),
        ("choice()", "different choices"),
        ("lgo(1,2)", "expected uniform(low,high)"),
        ("log(1,2) if method", "expected 'if KEY=VALUE'"),
    ],
)
def test_a_wrong_range_is_told(text: str, part: str) -> None:
    assert is_range(text)
    with pytest.raises(ConfigError) as told:
        parse_range("k", text)
    assert part in str(told.value) and str(told.value).startswith(f"k={text}: ")


def ranges(**texts: str) -> tuple[Range, ...]:
    return ordered([parse_range(key, text) for key, text in texts.items()])


def test_choices_come_first_and_what_depends_on_them_after() -> None:
    found = ranges(a="log(1,2)", b="choice(x,y) if c=1|2", c="int(1,3)", d="choice(p,q) if b!=x and c=1")
    assert [each.key for each in found] == ["c", "b", "d", "a"]
    b, d = found[1], found[2]
    assert b.conditions[0].holds({"c": 2}) and not b.conditions[0].holds({"c": 3})
    assert [each.holds({"b": "y", "c": 1}) for each in d.conditions] == [True, True]
    assert not d.conditions[0].holds({"b": "x"}) and not d.conditions[0].holds({})  # not drawn: it has no value


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        ({"a": "log(1,2) if b=x"}, "b is not"),
        ({"a": "log(1,2) if mehtod=x", "method": "choice(x,y)"}, "did you mean 'method'"),
        ({"a": "log(1,2) if b=z", "b": "choice(x,y)"}, "b=choice(x,y) is never z"),
        ({"a": "log(1,2) if b=4", "b": "int(1,3)"}, "is never 4"),
        ({"a": "choice(1,2) if b=1", "b": "choice(1,2) if a=1"}, "a and b wait for each other"),
    ],
)
def test_a_condition_that_cannot_hold_is_told(texts: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError, match=part.replace("(", r"\(").replace(")", r"\)")):
        ranges(**texts)


def takes(keys: Mapping[str, str]) -> None:
    """A job that takes `weight` with the penalty R1 alone, and no other key than these."""
    for key, value in keys.items():
        if key not in ("penalty", "rate", "weight") or (key == "weight" and keys.get("penalty") != "R1"):
            error = NotUsed(f"unknown key '{key}'")
            error.key = key
            raise error
        if key == "rate" and float(value) > 5:
            raise ConfigError(f"rate={value}: expected at most 5")


def test_a_key_of_what_is_not_chosen_is_neither_drawn_nor_refused() -> None:
    space = Space({"rate": "1"}, ranges(weight="log(1,2)", penalty="choice(none,R1)"), takes)
    space.check()
    picked: list[str] = []

    def first(each: Range) -> float | int | str:
        picked.append(each.key)
        return each.probes()[0]

    assert space.draw(first) == {"penalty": "none"} and picked == ["penalty"]
    assert space.draw(lambda each: each.probes()[-1]) == {"penalty": "R1", "weight": 2.0}
    fixed = Space({"weight": "3"}, ranges(penalty="choice(none,R1)"), takes)
    fixed.check()
    assert fixed.keys({"penalty": "none"}) == {"penalty": "none"}
    assert fixed.keys({"penalty": "R1"}) == {"weight": "3", "penalty": "R1"}


def test_a_key_that_no_trial_takes_and_a_bound_that_is_wrong_are_refused() -> None:
    for fixed, texts, part in (
        ({}, {"wieght": "log(1,2)"}, r"wieght=log\(1,2\): unknown key 'wieght'"),
        ({"other": "1"}, {"rate": "uniform(1,2)"}, "unknown key 'other'"),
        ({}, {"rate": "uniform(1,6)"}, r"rate=uniform\(1,6\): rate=6: expected at most 5"),
        ({}, {"weight": "log(1,2)", "penalty": "choice(none,GP)"}, "unknown key 'weight'"),
    ):
        with pytest.raises(ConfigError, match=part):
            Space(fixed, ranges(**texts), takes).check()


# --- wrong input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"learningRate": "log(1e-4,1e-2)", "learnigRate2": "1"}, "did you mean 'learningRate'"),
        ({"learnigRate": "log(1e-4,1e-2)"}, "did you mean 'learningRate'"),
        ({"beta1": "uniform(0.5,1.5)"}, "beta1=uniform(0.5,1.5): beta1=1.5: "),
        ({"discriminatorIterations": "uniform(1,3)"}, "expects int"),
        ({"penalty": "choice(none,R3)"}, "R3"),
        ({"iterations": "int(1,9)"}, "budget=iterations:N"),
        ({"trials": "int(1,9)"}, "this key is the sweep's"),
        ({"learningRate": "0.1"}, "no key has a range"),
        ({"learningRate": "log(1e-4,1e-2)", "sampler": "grid"}, "sampler=grid takes every value"),
        (
            {"learningRate": "log(1e-4,1e-2)", "metric": "points-v1.withinTenth"},
            "metric=points-v1.withinTenth: expected",
        ),
        ({"learningRate": "log(1e-4,1e-2)", "metric": "pionts-v1.radius:lower"}, "did you mean 'points-v1'"),
        ({"learningRate": "log(1e-4,1e-2)", "pruneBy": "validation.loss"}, "no effect without pruner"),
        ({"learningRate": "log(1e-4,1e-2)", "evaluate.cuont": "5"}, "did you mean 'count'"),
        ({"learningRate": "log(1e-4,1e-2)", "budget": "epochs:3"}, "budget=epochs:3"),
    ],
)
def test_wrong_input_is_one_sentence_before_any_data_are_read(keys: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError) as told:
        plan(**keys)
    assert part in str(told.value) and "\n" not in str(told.value)


def test_the_command_refuses_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ganglion", "sweep", PAIR, "Circle", *(f"{key}={value}" for key, value in KEYS.items())]
    drawn = "learningRate=log(1e-4,1e-2)"
    refused(capsys, ["ganglion", "sweep", PAIR], "no data set", "ganglion sweep Generator,Discriminator Ring")
    refused(capsys, [*words, drawn, "R1.weight=log(1,2)"], "R1.weight=log(1,2): unknown key 'R1.weight'")
    loss = [word for word in words if not word.startswith(("metric=", "evaluate."))]
    refused(capsys, [*loss, drawn], "metric=validation.loss", "validationSet=START,END")
    refused(capsys, [*loss, drawn, "validationSet=0,8"], "NSGAN has no loss on unseen rows")
    refused(capsys, [*words, drawn, "pruner=median"], "pruneBy=validation.loss")
    refused(capsys, [*words, drawn, "--engine", "rya"], "did you mean 'ray'")


def test_without_optuna_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install ganglion\[sweep\]"):
        sweep(PAIR, "Circle", {**KEYS, **SPACE})


# --- drawing ------------------------------------------------------------------------------------------------------


def drawing(sampler: str = "tpe", pruner: str = "none", after: int = 0, **texts: str) -> Drawing:
    texts = texts or {"weight": "log(1,2)", "penalty": "choice(none,R1)", "rate": "uniform(0,5)"}
    return Drawing(Space({}, ranges(**texts), takes), 7, sampler, True, pruner, True, after)


def far_from(rate: float) -> Callable[[Mapping[str, Any]], float]:
    return lambda drawn: float((drawn["rate"] - rate) ** 2)


GOALS = (far_from(4.5), far_from(4.5), far_from(0.5))


def searched(own: Drawing, count: int, value: Callable[[Mapping[str, Any]], float]) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(count):
        drawn = own.draw(number, trials)
        assert drawn is not None
        trials.append(Trial(number, drawn, "finished", value(drawn)))
    return trials


def test_draws_depend_on_seed_number_and_history_and_find_what_is_good() -> None:
    found, again, other = (searched(drawing(), 30, goal) for goal in GOALS)
    assert [each.drawn for each in found] == [each.drawn for each in again]
    assert found[0].drawn == other[0].drawn and found[29].drawn != other[29].drawn
    assert all(("weight" in each.drawn) is (each.drawn["penalty"] == "R1") for each in found)
    assert {each.drawn["penalty"] for each in found} == {"none", "R1"}
    high, low = (statistics.median(each.drawn["rate"] for each in trials[15:]) for trials in (found, other))
    assert low < 1.5 and high > 3.5
    assert importances(drawing(), found)["rate"] > 0.8
    seeded = Drawing(drawing().space, 8, "tpe", True)
    assert seeded.draw(0, []) != drawing().draw(0, [])


def test_a_grid_has_every_combination_once() -> None:
    own, trials = drawing("grid", penalty="choice(none,R1)", weight="int(1,3)"), list[Trial]()
    while (drawn := own.draw(len(trials), trials)) is not None:
        trials.append(Trial(len(trials), drawn, "failed"))
    assert sorted((str(each.drawn["penalty"]), each.drawn.get("weight", 0)) for each in trials) == [
        ("R1", 1), ("R1", 2), ("R1", 3), ("none", 0),
    ]  # fmt: skip


def test_a_grid_leaves_out_what_is_picked_and_then_not_used() -> None:
    def resolve(keys: Mapping[str, str]) -> None:
        if "momentum" in keys and keys.get("method", "SGD") == "ADAM":
            error = NotUsed("unknown key 'momentum'")
            error.key = "momentum"
            raise error

    space = Space({}, ranges(momentum="choice(0,0.9)", method="choice(SGD,ADAM)", wait="int(1,2)"), resolve)
    own, trials = Drawing(space, 7, "grid", True), list[Trial]()
    while (drawn := own.draw(len(trials), trials)) is not None:
        trials.append(Trial(len(trials), drawn, "failed"))
    found = [(each.drawn["method"], each.drawn.get("momentum"), each.drawn["wait"]) for each in trials]
    assert len(set(found)) == len(found) == 6 and found.count(("ADAM", None, 1)) == 1
    again = Drawing(space, 7, "grid", True)  # as in another process, that goes on
    assert again.draw(4, trials[:4]) == trials[4].drawn and again.draw(6, trials) is None


def told(number: int, *values: float) -> Trial:
    steps = {10 * (place + 1): value for place, value in enumerate(values)}
    return Trial(number, {"penalty": "none", "rate": 1.0}, "finished", values[-1], steps)


def test_the_median_decides_at_the_same_iteration() -> None:
    before = [told(number, float(number), 9.0) for number in range(5)]  # at 10: 0 1 2 3 4, the median is 2
    bad, good = Review(drawing(pruner="median"), before), Review(drawing(pruner="median"), before)
    assert bad.look([(10, 2.5), (20, 0.0)]) == 10 and bad.steps == {10: 2.5}
    assert good.look([(10, 1.5)]) is None and good.look([(10, 7.0), (20, 8.0)]) is None  # told again: not asked again
    assert good.steps == {10: 1.5, 20: 8.0}
    assert Review(drawing(pruner="median"), before[:4]).look([(10, 99.0)]) is None  # too few to compare with
    assert Review(drawing(pruner="median", after=11), before).look([(10, 99.0)]) is None
    assert Review(drawing(pruner="median", after=10), before).look([(10, math.nan), (20, 99.0)]) == 20


def test_halving_goes_on_with_the_best_quarter_and_remembers_it() -> None:
    before: list[Trial] = []
    for number in range(7):  # the first of each rung goes on, then only what is better than all before
        review = Review(drawing(pruner="halving", after=10), before)
        stop = review.look([(10, float(number))])
        assert stop == (None if number == 0 else 10)
        before.append(Trial(number, {"penalty": "none"}, "pruned", None, review.steps, {}, review.marks))
    assert Review(drawing(pruner="halving", after=10), before).look([(10, 0.5)]) is None  # the second of eight
    assert Review(drawing(pruner="halving", after=10), before).look([(10, 1.5)]) == 10


@pytest.mark.parametrize("lower", [True, False])
def test_pruned_trials_are_weighed_in_the_direction_of_what_they_told(lower: bool) -> None:
    """All are pruned at the same step, by a figure that is best where the rate is 4.5, whatever is searched for."""
    space, trials = drawing().space, list[Trial]()
    own = Drawing(space, 7, "tpe", lower, "median", not lower, 0)
    for number in range(30):
        drawn = own.draw(number, trials)
        assert drawn is not None
        told = far_from(4.5)(drawn) * (-1 if lower else 1)
        trials.append(Trial(number, drawn, "pruned", None, {10: told}))
    assert statistics.median(each.drawn["rate"] for each in trials[15:]) > 3.5
    assert own.study(trials[:1]).trials[0].intermediate_values == {10: -trials[0].steps[10]}
    assert own.study(trials[:1], pruned=True).trials[0].intermediate_values == trials[0].steps


def test_the_study_file_gives_back_what_it_was_given(tmp_path: Path) -> None:
    folder = tmp_path / "a?b#c%20 d"  # signs that would mean something in an address
    folder.mkdir()
    trials = [
        Trial(0, {"penalty": "R1", "weight": 1.5, "rate": 2.0}, "finished", 0.25, {10: 1.0}, {"iteration": 10}),
        Trial(1, {"penalty": "none", "rate": 1.0}, "pruned", None, {5: 2.0}, {"prunedAt": 5}, {"rung": 1}),
        Trial(2, {"penalty": "none", "rate": 0.5}, "failed", None, {}, {"error": "why"}),
        Trial(3, {"penalty": "none", "rate": 0.1}),
    ]
    with StudyFile.opened(folder / "study.db", True) as file:
        assert file.asked() == {} and file.trials() == []
        file.ask({"metric": "x"})
        for each in trials:
            file.add(drawing(), Trial(each.number, each.drawn))
            if each.state != "running":
                file.end(each)
    with StudyFile.opened(folder / "study.db", True) as file:
        assert file.asked() == {"metric": "x"} and file.trials() == trials
    (folder / "study.db").write_bytes(b"no database" * 100)
    with (
        pytest.raises(StoreError, match="not the study of a sweep"),
        StudyFile.opened(folder / "study.db", True),
    ):
        pass


# --- the course of a search, without processes --------------------------------------------------------------------


class Memory:
    """A study that is kept nowhere; what a search left in it is found by the next one."""

    def __init__(self) -> None:
        self.kept: list[Trial] = []

    def trials(self) -> list[Trial]:
        return [Trial(**vars(each)) for each in self.kept]

    def add(self, own: Drawing, trial: Trial) -> None:
        assert trial.number == len(self.kept)
        self.kept.append(Trial(trial.number, trial.drawn))

    def end(self, trial: Trial) -> None:
        assert self.kept[trial.number].state == "running"
        self.kept[trial.number] = Trial(**vars(trial))


def answer(task: Mapping[str, Any]) -> dict[str, Any]:
    value = abs(math.log10(float(task["given"]["learningRate"])) + 3.0) + 0.1 * (task["given"]["penalty"] == "none")
    if float(task["given"]["learningRate"]) > 5e-3:
        return {"status": "failed", "error": "it diverged"}
    return {
        "status": "finished",
        "iteration": 3,
        "seconds": 1.0,
        "evaluations": {"*": {"points-v1": {"withinTenth": value}}},
    }


def course(own: Sweep, kept: Memory, order: Sequence[int], until: int = 10_000) -> Search:
    """Carry out a search, three trials at a time; of those that run, the one that `order` says ends next."""
    (own.directory / "runs").mkdir(parents=True, exist_ok=True)
    search = Search(own, own.space, kept, 6, lambda sentence: None)  # type: ignore[arg-type]
    tasks, running, step = search.tasks(), dict[str, Any](), 0
    while step < until:
        while len(running) < 3 and (following := next(tasks, None)) is not None:
            running[following[0]] = following[1]
        if not running:
            break
        tag = list(running)[order[step % len(order)] % len(running)]
        search.ended(tag, answer(running.pop(tag)), 1.0)
        step += 1
    return search


def test_the_search_is_the_same_in_whatever_order_trials_end_and_however_often_it_is_stopped(tmp_path: Path) -> None:
    own = plan(tmp_path, **SPACE, trials="16")
    straight = course(own, Memory(), [0])
    kept = Memory()
    course(own, kept, [2, 0, 1], until=5)
    assert sum(each.state == "running" for each in kept.kept) == 2
    broken = course(own, kept, [1, 2, 2, 0])
    assert [vars(each) for each in broken.trials] == [vars(each) for each in straight.trials]
    assert {each.state for each in straight.trials} == {"finished", "failed"}
    more = course(plan(tmp_path, **SPACE, trials="18"), kept, [0])
    assert more.trials[:16] == straight.trials and len(more.trials) == 18
    document = json.loads((own.directory / "sweep.json").read_text())
    assert document["tasks"]["trial-0"]["status"] == straight.trials[0].state
    summary = summarise(more)
    assert summary.best is not None and summary.best.value == min(
        each.value for each in more.trials if each.value is not None
    )
    assert summary.counts["finished"] + summary.counts["failed"] == 18
    table = tables(summary)[0]
    assert table.columns == [
        "trial",
        "points-v1.withinTenth",
        "penalty",
        "learningRate",
        "R1.weight",
        "iterations",
        "seconds",
    ]
    assert table.rows[0][0] == str(summary.best.number)
    assert any("failed: it diverged" in sentence for sentence in summary.remarks)


def test_runs_without_a_study_are_not_gone_on_with(tmp_path: Path) -> None:
    own = plan(tmp_path, **SPACE)
    (own.directory / "runs" / "trial-0").mkdir(parents=True)
    with taken(own, 1):
        assert not (own.directory / "runs" / "trial-0").exists()
    (own.directory / "runs" / "trial-0").mkdir()
    with taken(own, 1):
        assert (own.directory / "runs" / "trial-0").exists()


def test_equal_trials_are_ranked_by_their_number_and_the_direction_counts() -> None:
    trials = [Trial(0, {}, "finished", 1.0), Trial(1, {}, "finished", 2.0), Trial(2, {}, "finished", 2.0)]
    assert [each.number for each in best_first(Aim("m.f", True), trials)] == [0, 1, 2]
    assert [each.number for each in best_first(Aim("m.f", False), trials)] == [1, 2, 0]


def test_a_figure_that_no_run_has_stops_the_search_and_costs_no_trial(tmp_path: Path) -> None:
    own = plan(tmp_path, **SPACE, metric="points-v1.withinTeth:lower")
    kept = Memory()
    search = course(own, kept, [0])
    assert "did you mean 'points-v1.withinTenth'" in search.wrong
    diverged = [float(each.drawn["learningRate"]) > 5e-3 for each in kept.kept]  # these had failed by themselves
    assert [each.state for each in kept.kept] == ["failed" if each else "running" for each in diverged]
    assert not all(diverged)


def test_a_trial_that_tells_too_much_is_stopped_at_its_iteration(tmp_path: Path) -> None:
    own = plan(tmp_path, **SPACE, pruner="median", pruneBy="health.gap:lower", trials="7")
    kept, said = Memory(), list[str]()
    search = Search(own, own.space, kept, 1, said.append)  # type: ignore[arg-type]
    (own.directory / "runs").mkdir(parents=True)
    tasks = search.tasks()

    def tell(tag: str, *values: float) -> None:
        folder = own.directory / "runs" / tag
        folder.mkdir(exist_ok=True)
        lines = [{"iteration": 10 * (place + 1), "health": {"gap": value}} for place, value in enumerate(values)]
        (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    done = {
        "status": "finished",
        "iteration": 20,
        "seconds": 1.0,
        "evaluations": {"*": {"points-v1": {"withinTenth": 1.0}}},
    }
    for number in range(5):
        tag, _ = next(tasks) or ("", {})
        assert search.watch() == []
        tell(tag, float(number), 1.0)
        search.ended(tag, done, 1.0)
    tag, _ = next(tasks) or ("", {})
    tell(tag, 1.5)
    assert search.watch() == []
    tell(tag, 1.5, 5.0)  # 1.5, its best, is worse than 1.0, the median of the others at 20
    assert search.watch() == [tag]
    again = Search(own, own.space, kept, 1, said.append)  # type: ignore[arg-type]  # as after a SIGKILL at this moment
    search.ended(tag, {"status": "stopped", "iteration": 25, "seconds": 1.0}, 1.0)
    assert search.trials[5].state == "pruned" and search.trials[5].facts["prunedAt"] == 20
    assert search.trials[5].steps == {10: 1.5, 20: 5.0} and "trial-5: pruned at iteration 20" in said[-1]
    kept.kept[5] = Trial(5, search.trials[5].drawn)
    tag, _ = next(again.tasks()) or ("", {})
    assert tag == "trial-6" and again.trials[5].state == "pruned"  # its trace said so already: it was not begun again
    tell(tag, 3.5, 0.0)
    again.ended(tag, done, 1.0)
    assert again.trials[6].state == "pruned" and again.trials[6].steps == {
        10: 3.5
    }  # it had ended before anybody looked
    assert summarise(again).counts == {"finished": 5, "pruned": 2}
    kept.kept[6] = Trial(6, again.trials[6].drawn)
    other = Search(own, own.space, kept, 1, said.append)  # type: ignore[arg-type]
    other._look(other.trials[6])
    other.ended(tag, {"status": "failed", "error": "its process was ended by SIGTERM"}, 1.0)
    assert other.trials[6].state == "pruned"


# --- with runs ----------------------------------------------------------------------------------------------------


class Here:
    """Carries out a task in this process, at once."""

    seconds, killed = 0.0, False

    def __init__(self, name: str, task: Mapping[str, Any]) -> None:
        try:
            self.answer = carry_out(task)
        except EngineError as error:
            self.answer = {"status": "failed", "error": str(error)}

    def ended(self) -> bool:
        return True

    def stop(self, at_once: bool = False) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass

    def result(self) -> dict[str, Any]:
        return self.answer


RUN = {**KEYS, **SPACE, "trials": "3", "workers": "1", "tag": "tiny", "keep": "0"}


def carried_out(runs: Path, monkeypatch: pytest.MonkeyPatch, start: Any = Here, **keys: str) -> Swept:
    @contextmanager
    def pool(*asked: Any) -> Iterator[Pool]:
        yield Pool("local", start)

    monkeypatch.setattr("ganglion.engine.sweeps.sweep.task_pool", pool)
    monkeypatch.setattr("ganglion.engine.taskpool.PAUSE", 0.0)
    return sweep(PAIR, "Circle", {**RUN, **keys}, runs=runs, notify=lambda sentence: None)


class Killed(BaseException):
    """In the place of a SIGKILL."""


def test_after_a_kill_the_same_search_goes_on_and_leaves_a_job_a_table_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = carried_out(tmp_path / "straight", monkeypatch)
    begun: list[str] = []

    def dying(name: str, task: Mapping[str, Any]) -> Here:
        begun.append(name)
        if len(begun) == 2:  # it has learnt, and nobody was told
            carry_out(task)
            raise Killed
        return Here(name, task)

    with pytest.raises(Killed):
        carried_out(tmp_path / "broken", monkeypatch, dying)
    record = tmp_path / "broken" / "sweep-tiny" / "runs" / "trial-1" / "record.json"
    before = record.read_bytes()
    broken = carried_out(tmp_path / "broken", monkeypatch, dying)
    assert begun == ["trial-0", "trial-1", "trial-1", "trial-2"]
    assert record.read_bytes() == before  # it was judged, not learnt again
    assert straight.summary is not None and broken.summary is not None
    assert [(each.drawn, each.value) for each in broken.summary.trials] == [
        (each.drawn, each.value) for each in straight.summary.trials
    ]
    assert {each.state for each in straight.summary.trials} == {"finished"}
    folder = straight.directory
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "| trial | points-v1.withinTenth |" in (folder / "table.md").read_text()
    assert Repository(folder.parent).list_runs() == [] and len(Repository(folder / "runs").list_runs()) == 3
    best = straight.summary.best
    assert best is not None
    job = read_job(folder / "best.yaml")
    learnt = learn(job=job, runs=tmp_path / "best", quiet=True, threads=1, execution="eager", sampleInterval=0)
    ran = read_job(folder / "runs" / best.tag / "job.yaml")["settings"]
    for key in ("learningRate", "penalty", "seed", "iterations", "batchSize"):
        for own in (key, f"generator.{key}"):
            assert read_job(learnt.directory / "job.yaml")["settings"].get(own) == ran.get(own)
    said = call(capsys, "ganglion", "sweep", PAIR, "Circle", "--runs", str(folder.parent), "--json", *words(RUN))
    assert said.code == 0 and json.loads(said.out)["best"]["number"] == best.number  # nothing is left to do
    refused(
        capsys, ["ganglion", "sweep", PAIR, "Circle", "--runs", str(folder.parent), *words({**RUN, "seed": "2"})],
        "sweep 'tiny' was started with seed=1, not 2", "clean=true starts it anew",
    )  # fmt: skip
    (tmp_path / "other" / "sweep-tiny").mkdir(parents=True)
    (tmp_path / "other" / "sweep-tiny" / "mine.txt").write_text("kept")
    with pytest.raises(StoreError, match="is no sweep"):
        carried_out(tmp_path / "other", monkeypatch)
    anew = carried_out(folder.parent, monkeypatch, clean="true", seed="2", trials="1")
    assert anew.summary is not None and len(anew.summary.trials) == 1


def words(keys: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in keys.items()]


def test_the_command_carries_out_trials_in_processes_and_one_that_fails_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {**KEYS, "learningRate": "choice(0.001,1e30)", "sampler": "grid", "workers": "2", "trials": "9"}
    said = call(capsys, "ganglion", "sweep", PAIR, "Circle", "--runs", str(tmp_path), *words({**keys, "tag": "two"}))
    assert said.code == 0 and "all 2 combinations have been there" in said.err
    assert "the best of 2 trials (1 finished, 1 failed; lower is better)" in " ".join(said.out.split())
    assert "iteration 3" in said.err and "learn --job" in said.err
    shutil.rmtree(tmp_path / "sweep-two")
