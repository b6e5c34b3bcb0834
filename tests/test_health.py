"""A run's health: figures against hand-computed ones, alarms that begin and end, and that reading changes nothing."""

from __future__ import annotations

import json
import math
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commandline import call, tiny
from tiny import TINY, learn_tiny, weights_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganglion.engine.assembly import assemble
from ganglion.engine.conformance.courses import MemoryStore
from ganglion.engine.contracts import Batch, DataSpec
from ganglion.engine.errors import ConfigError
from ganglion.engine.execution import use_graphs
from ganglion.engine.folders import data_context
from ganglion.engine.health import alarms
from ganglion.engine.health.alarms import RULES, Diagnosis
from ganglion.engine.health.figures import by_feature, contest, diversity, ranges, reference_of
from ganglion.engine.health.kinds import AlarmKind
from ganglion.engine.health.reader import HealthReader, gradient_ratio, interval_of
from ganglion.engine.health.watching import Watch
from ganglion.engine.job import request
from ganglion.engine.learner import Learner
from ganglion.engine.lines import LinesSettings, LinesTrace
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session
from ganglion.engine.streams import RandomStream
from ganglion.engine.trace import Alarm, HealthRead, TraceContext, Traces
from ganglion.engine.tracing import interpreted
from ganglion.strategies.adversarial import AdversarialStrategy

REGISTRY = Registry().load()
POINTS = DataSpec("vector", (2,))
NET = """
name: Small
doc: A small network with what a second pass could change.
layers:
  - Linear: 6
  - BatchNorm1d
  - Dropout: 0.3
  - LeakyReLU: 0.2
  - Linear: ${output.size}
"""


def session(strategy: str, networks: str, dataset: str, **keys: Any) -> Session:
    asked = request(networks, dataset, {"strategy": strategy, "iterations": 4, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def numbers(figures: typing.Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


# --- figures ------------------------------------------------------------------------------------------------------


def test_samples_that_are_the_data_have_the_figures_of_the_data() -> None:
    rows = torch.randn(40, 2)
    reference = reference_of(rows, POINTS)
    found = numbers({**diversity(rows, reference), **ranges(rows, reference, POINTS)})
    assert found["pairwiseDistance"] == pytest.approx(1.0)
    assert (found["coverage"], found["closeness"], found["outOfRange"]) == (1.0, 1.0, 0.0)
    assert found["narrowestFeature"] == pytest.approx(1.0) == found["widestFeature"]
    assert found["nearDuplicates"] < 0.3


def test_diversity_by_hand() -> None:
    """Real rows 0, 1, ..., 9: neighbours are 1 apart, the mean distance is 11/3, fifth neighbours 3 to 5 away."""
    rows = torch.arange(10.0).unsqueeze(1)
    reference = reference_of(rows, DataSpec("vector", (1,)))
    assert float(reference.distance) == pytest.approx(11 / 3)
    assert float(reference.alike) == pytest.approx(0.25)
    assert reference.radii.tolist() == pytest.approx([5, 4, 3, 3, 3, 3, 3, 3, 4, 5])
    samples = torch.tensor([[0.0], [0.1], [2.0], [-20.0]])
    found = numbers(diversity(samples, reference))
    apart = (0.1 + 2 + 20 + 1.9 + 20.1 + 22) / 6
    assert found["pairwiseDistance"] == pytest.approx(apart / (11 / 3), rel=1e-5)
    assert found["nearDuplicates"] == 0.5
    assert found["coverage"] == pytest.approx(0.6)  # 0 to 5: within their radius lies 0, 0.1 or 2
    assert found["closeness"] == 0.75


def test_one_sample_again_and_again_is_collapsed() -> None:
    rows = torch.randn(40, 3)
    found = numbers(diversity(rows[:1].expand(30, 3), reference_of(rows, DataSpec("vector", (3,)))))
    assert found["nearDuplicates"] == 1.0 and found["pairwiseDistance"] == pytest.approx(0.0, abs=1e-6)


def test_equal_real_rows_make_no_duplicates_of_samples() -> None:
    reference = reference_of(torch.zeros(10, 2), POINTS)
    assert float(diversity(torch.zeros(10, 2), reference)["nearDuplicates"]) == 0.0


def test_ranges_are_those_of_each_feature() -> None:
    """Features from 0 to 1 and from 0 to 10: half of the width is allowed on both sides."""
    rows = torch.stack((torch.linspace(0, 1, 11), torch.linspace(0, 10, 11)), 1)
    reference = reference_of(rows, POINTS)
    samples = torch.tensor([[1.4, 14.0], [1.6, 14.0], [-0.4, -6.0], [0.5, 5.0]])
    found = numbers(ranges(samples, reference, POINTS))
    assert found["outOfRange"] == 0.25
    assert found["widestFeature"] == pytest.approx(float((samples.std(0) / rows.std(0)).max()))


def test_features_are_channels_of_images_and_columns_of_steps() -> None:
    image, series = torch.arange(24.0).view(2, 3, 2, 2), torch.arange(12.0).view(2, 3, 2)
    assert by_feature(image, DataSpec("image", (3, 2, 2)))[:, 1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert by_feature(series, DataSpec("sequence", (3, 2)))[:, 1].tolist() == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        ([[2.0], [1.0]], [[0.0], [-1.0]], (1.0, 1.0, 2.0)),
        ([[102.0], [101.0]], [[100.0], [99.0]], (1.0, 1.0, 2.0)),  # relativistic scores may drift together
        ([[3.0], [0.0]], [[1.0], [0.0]], (0.5, 0.5, 1.0)),
        ([[1.0], [1.0]], [[1.0], [1.0]], (0.0, 0.0, 0.0)),  # the same score for everything tells nothing
        ([[[4.0], [0.0]], [[1.0], [1.0]]], [[[0.0], [0.0]], [[0.0], [0.0]]], (1.0, 1.0, 1.5)),  # steps are averaged
    ],
)
def test_a_contest_is_judged_at_the_middle_of_the_mean_scores(real: Any, fake: Any, expected: Any) -> None:
    found = numbers(contest(torch.tensor(real), torch.tensor(fake)))
    assert (found["accuracyReal"], found["accuracyFake"], found["scoreMargin"]) == expected


def test_scores_without_a_last_dimension_are_taken_too() -> None:
    assert float(contest(torch.ones(3), torch.zeros(3))["accuracyFake"]) == 1.0


# --- what a chain notes -------------------------------------------------------------------------------------------


def test_a_watch_notes_the_gradient_and_the_step_by_hand() -> None:
    """Weights (3, 4) of norm 5, gradient (6, 8) of norm 10, a step of 0.1 times that."""
    weights, watch = nn.Parameter(torch.tensor([3.0, 4.0])), Watch()
    weights.grad = torch.tensor([6.0, 8.0])
    watch.before([weights])
    with torch.no_grad():
        weights.sub_(weights.grad, alpha=0.1)
    watch.after([weights])
    assert watch.gradient is not None and watch.step is not None
    assert (float(watch.gradient), float(watch.step)) == pytest.approx((10.0, 0.2))


def test_a_step_that_a_gate_may_have_put_back_is_not_noted() -> None:
    live = session("GAN", "Generator,Discriminator", "Circle", size=64, testSize=8, batchSize=8)
    chain = live.chains["generator"]
    for gate, noted in ((None, True), (lambda loss: loss.total > 1e9, False)):
        chain.watch = Watch()
        noise = torch.randn(8, 2)
        chain.update(lambda rows: live.networks["generator"](rows).square().mean(), noise, gate=gate)
        assert chain.watch.gradient is not None
        assert (chain.watch.step is not None) == noted


def test_a_watched_iteration_reads_nothing_from_the_device() -> None:
    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Reads.count += "_local_scalar_dense" in str(function)
            return function(*args, **(kwargs or {}))

    live = session("NSGAN", "Generator,Discriminator", "Circle", size=64, testSize=8, batchSize=8, clipNorm=1)
    reader = HealthReader(live, print)
    live.strategy.process_iteration(0)
    reader.watch()
    with Reads():
        live.strategy.process_iteration(1)
    assert Reads.count == 0
    values = reader.read(2, {}).values
    assert values["generator.gradient"] > 0 and values["discriminator.update"] > 0
    assert values["gradientRatio"] == values["generator.gradient"] / values["discriminator.gradient"]
    assert all(chain.watch is None for chain in live.chains.values())


def test_a_ratio_needs_two_players() -> None:
    assert gradient_ratio([6.0, 3.0]) == {"gradientRatio": 2.0}
    assert gradient_ratio([6.0]) == gradient_ratio([6.0, None]) == gradient_ratio([1.0, 0.0]) == {}


@pytest.mark.parametrize(
    ("points", "trace", "expected"), [(None, 100, 500), (None, 200, 600), (None, 1000, 1000), (3, 100, 300), (0, 9, 0)]
)
def test_readings_are_a_whole_number_of_trace_points_apart(points: int | None, trace: int, expected: int) -> None:
    assert interval_of(SimpleNamespace(health_interval=points, trace_interval=trace)) == expected


# --- alarms -------------------------------------------------------------------------------------------------------

FINE = {
    "pairwiseDistance": 1.0, "nearDuplicates": 0.1, "coverage": 0.9, "closeness": 0.95, "outOfRange": 0.0,
    "accuracyReal": 0.6, "accuracyFake": 0.6, "scoreMargin": 0.2, "rateLeft": 1.0,
    "generator.gradient": 1.0, "discriminator.gradient": 1.0, "generator.update": 1e-3, "discriminator.update": 1e-3,
    "discriminator.clipped": 0.3,
}  # fmt: skip
UNLIKE = {"coverage": 0.05, "closeness": 0.1}
WRONG: dict[str, dict[str, float]] = {
    "collapse": {"nearDuplicates": 0.95},
    "coverage": {"coverage": 0.3},
    "overpowering": {**UNLIKE, "accuracyReal": 1.0, "accuracyFake": 0.99},
    "blind": {**UNLIKE, "accuracyReal": 0.5, "accuracyFake": 0.5},
    "vanishing": {**UNLIKE, "generator.gradient": 1e-7},
    "divergence": {"scoreMargin": -5e4},
    "clipping": {"discriminator.clipped": 0.97},
    "range": {"outOfRange": 0.5},
    "stalled": {"generator.update": 1e-9},
}


def kinds(reading: HealthRead) -> list[str]:
    return [alarm.kind for alarm in reading.alarms]


def test_every_kind_has_one_rule_and_an_example_here() -> None:
    named = list(typing.get_args(AlarmKind))
    assert sorted(named) == sorted(rule.kind for rule in RULES) == sorted(WRONG)


@pytest.mark.parametrize("kind", list(WRONG))
def test_what_is_wrong_is_named_and_nothing_else(kind: str) -> None:
    diagnosis = Diagnosis()
    found = [kinds(diagnosis.read(500, FINE, {"loss": 1.0}))]
    found += [kinds(diagnosis.read(500 * n, {**FINE, **WRONG[kind]}, {"loss": 1.0})) for n in (2, 3)]
    assert found == [[], [], [kind]]


def test_an_alarm_is_one_sentence_that_says_what_to_try() -> None:
    for kind, wrong in WRONG.items():
        diagnosis = Diagnosis()
        for n in range(1, 4):
            reading = diagnosis.read(500 * n, {**FINE, **(wrong if n > 1 else {})}, {})
        sentence = reading.alarms[0].sentence
        assert reading.alarms[0].kind == kind and "; try " in sentence and "\n" not in sentence, sentence
        assert not sentence.endswith("."), sentence


def test_an_alarm_must_last_and_so_must_its_end() -> None:
    diagnosis, bad = Diagnosis(), {**FINE, "nearDuplicates": 0.95}
    found = [bool(kinds(diagnosis.read(100 * n, bad, {}))) for n in range(1, 8)]
    assert found == [False] * 5 + [True] * 2  # first seen after 100, so told after 600
    sentence = diagnosis.read(800, {**bad, "nearDuplicates": 1.0}, {}).alarms[0].sentence
    assert "95%" in sentence  # what was said when it began
    ends = [bool(kinds(diagnosis.read(900 + 100 * n, values, {}))) for n, values in enumerate((FINE, bad, FINE, FINE))]
    assert ends == [True, True, True, False]


def test_what_holds_once_is_no_alarm() -> None:
    diagnosis, bad = Diagnosis(), {**FINE, "scoreMargin": math.inf}
    found = [kinds(diagnosis.read(1000 * n, values, {})) for n, values in enumerate((FINE, bad, FINE, bad, FINE))]
    assert found == [[]] * 5


def test_coverage_that_wavers_about_the_threshold_is_seen_over_three_readings() -> None:
    for course, expected in (((0.43, 0.47, 0.42), ["coverage"]), ((0.55, 0.44, 0.49), []), ((0.3, 0.55, 0.3), [])):
        diagnosis = Diagnosis()
        found = [kinds(diagnosis.read(500 * n, {**FINE, "coverage": value}, {})) for n, value in enumerate(course)]
        assert found == [[], expected, expected], course  # begun in the first reading, told 500 iterations later


def test_a_discriminator_that_changes_its_mind_about_samples_unlike_the_data_is_blind() -> None:
    unlike = {**FINE, **UNLIKE, "accuracyReal": 0.9, "accuracyFake": 0.9}
    for margins, values, expected in (
        ((-0.1, 0.1, -0.1, -0.1), unlike, ["blind"]),
        ((0.1, 0.1, 0.1, 0.1), unlike, []),
        ((-0.1, 0.1, -0.1, -0.1), FINE, []),
    ):
        diagnosis = Diagnosis()
        course = [diagnosis.read(500 * n, {**values, "scoreMargin": each}, {}) for n, each in enumerate(margins)]
        assert kinds(course[-1]) == expected, margins
        assert all("now one way and now the other" in alarm.sentence for alarm in course[-1].alarms)


def test_divergence_does_not_wait() -> None:
    diagnosis = Diagnosis()
    diagnosis.read(10, FINE, {"loss": 1.0})
    for values, progress in (({"discriminator.gradient": 1e9}, {"loss": 1.0}), ({}, {"loss": 1e5})):
        again = Diagnosis()
        again.load_state_dict(diagnosis.state_dict())
        assert kinds(again.read(20, {**FINE, **values}, progress)) == []
        assert kinds(again.read(30, {**FINE, **values}, progress)) == ["divergence"]


def test_small_steps_at_the_end_of_a_falling_rate_are_meant() -> None:
    diagnosis = Diagnosis()
    assert not any(
        kinds(diagnosis.read(500 * n, {**FINE, "generator.update": 0, "rateLeft": 0.01}, {})) for n in (1, 2, 3)
    )


def test_a_supervised_run_that_has_learnt_everything_is_healthy() -> None:
    diagnosis, values = Diagnosis(), {"classifier.gradient": 1.0, "classifier.update": 1e-3, "rateLeft": 1.0}
    diagnosis.read(500, values, {"loss": 2.0})
    solved = [diagnosis.read(500 * n, {**values, "classifier.gradient": 1e-7}, {"loss": 1e-6}) for n in (2, 3, 4)]
    assert not any(kinds(each) for each in solved)
    stuck = [kinds(diagnosis.read(500 * n, {**values, "classifier.gradient": 1e-7}, {"loss": 2.0})) for n in (5, 6)]
    assert stuck == [[], ["vanishing"]]


def test_what_alarms_remember_survives_a_checkpoint() -> None:
    straight, bad = Diagnosis(), {**FINE, "nearDuplicates": 0.95}
    straight.read(500, bad, {"loss": 1.0})
    state = json.loads(json.dumps(straight.state_dict()))
    gone_on = Diagnosis()
    gone_on.load_state_dict(state)
    for n in (2, 3, 4, 5, 6):
        values = bad if n < 4 else FINE
        assert gone_on.read(500 * n, values, {"loss": 1.0}) == straight.read(500 * n, values, {"loss": 1.0})
    assert gone_on.state_dict() == straight.state_dict()


# --- in a run -----------------------------------------------------------------------------------------------------


def carried_out(tmp_path: Path, graphs: bool, **keys: Any) -> tuple[dict[str, bytes], list[HealthRead]]:
    """The bytes of the last checkpoint of a run with batch statistics, dropout and averaged weights, and its health."""
    network = tmp_path / "small.yaml"
    network.write_text(NET)
    common = {"size": 64, "testSize": 8, "batchSize": 8, "generator.ema": 0.9, "iterations": 4, "traceInterval": 1}
    live = session("NSGAN", f"{network},{network}", "Ring", **common, **keys, sampleInterval=0)
    if graphs:
        use_graphs(live, interpreted)
    seen: list[HealthRead] = []
    listener: Any = SimpleNamespace(receive=lambda event: seen.append(event) if isinstance(event, HealthRead) else None)
    store = MemoryStore()
    Learner(live, store, Traces([listener])).learn()
    assert store.kept is not None
    files: dict[str, bytes] = {name: data for name, data in store.kept.files.items() if name.endswith("safetensors")}
    return files, seen


@pytest.mark.parametrize("graphs", [False, True])
def test_reading_health_leaves_every_weight_and_random_state_as_it_was(graphs: bool, tmp_path: Path) -> None:
    plain, nothing = carried_out(tmp_path, graphs, healthInterval=0)
    read, seen = carried_out(tmp_path, graphs, healthInterval=2)
    assert len(plain) >= 3
    assert plain == read
    assert not nothing and [each.iteration for each in seen] == [2, 4]
    assert {"accuracyReal", "coverage", "generator.gradient", "discriminator.update"} <= set(seen[0].values)


def test_a_run_that_goes_on_reads_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    keys = {"traceInterval": 1, "healthInterval": 3, "decayIterations": 8, "traces": "lines"}
    straight = learn_tiny("NSGAN", tmp_path, "straight", iterations=9, **keys)
    learn_tiny("NSGAN", tmp_path, "stopped", iterations=5, **keys)
    gone_on = learn_tiny("NSGAN", tmp_path, "stopped", iterations=9)
    assert weights_of(straight) == weights_of(gone_on)
    found = [[line for line in lines_of(run.directory) if "health" in line] for run in (straight, gone_on)]
    assert [line["iteration"] for line in found[0]] == [3, 6, 9]
    assert [line for line in found[1] if line["iteration"] % 3 == 0] == found[0]


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines()]


def test_short_runs_are_not_read_unless_asked(tmp_path: Path) -> None:
    learnt = learn_tiny("GAN", tmp_path, iterations=7, traceInterval=2)
    assert not any("health" in line for line in lines_of(learnt.directory))
    told = learn_tiny("GAN", tmp_path, "told", iterations=7, traceInterval=2, healthInterval=2)
    assert [line["iteration"] for line in lines_of(told.directory) if "health" in line] == [4, 7]


def test_an_alarm_named_by_stop_on_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alarms, "PATIENCE", 0)
    monkeypatch.setenv("GANGLION_RUNS", str(tmp_path))
    keys = {
        "method": "SGD",
        "learningRate": 1e-12,
        "traceInterval": 1,
        "healthInterval": 2,
        "stopOn": "clipping,stalled",
    }
    words = [f"{key}={value}" for key, value in keys.items()]
    said = call(capsys, *tiny("tag=still", "iterations=40", *words))
    record = json.loads((tmp_path / "still" / "record.json").read_text())
    assert said.code == 1
    assert (record["status"], record["iteration"]) == ("stopped", 4)
    assert "hardly learns" in record["reason"]
    assert (tmp_path / "still" / "checkpoints" / "4").is_dir()
    again = call(capsys, "learn", "tag=still")
    assert again.code == 1
    assert json.loads((tmp_path / "still" / "record.json").read_text())["iteration"] == 6
    freed = call(capsys, "learn", "tag=still", "stopOn=", "iterations=7")
    assert freed.code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stopOn=colapse"], ("stopOn=colapse", "collapse")),
        (["stopOn=collapse", "healthInterval=0"], ("stopOn=collapse", "healthInterval=0")),
        (["healthInterval=-1"], ("healthInterval=-1",)),
        (["healthInterval=often"], ("healthInterval=often",)),
    ],
)
def test_what_is_no_alarm_is_refused_before_anything_is_written(
    words: list[str], expected: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = call(capsys, *tiny(*words))
    assert said.code == 2 and "Traceback" not in said.err and not (tmp_path / "runs").exists()
    assert all(word in said.err for word in expected), said.err


def test_lines_hold_figures_and_alarms(tmp_path: Path) -> None:
    trace = LinesTrace(LinesSettings(), TraceContext(tmp_path))
    trace.receive(HealthRead(500, {"coverage": 0.5}))
    trace.receive(HealthRead(1000, {"scoreMargin": math.inf}, (Alarm("collapse", "so; try that"),)))
    trace.close()
    assert lines_of(tmp_path) == [
        {"iteration": 500, "health": {"coverage": 0.5}},
        {
            "iteration": 1000,
            "health": {"scoreMargin": None},
            "alarms": [{"kind": "collapse", "sentence": "so; try that"}],
            "nonFinite": ["scoreMargin"],
        },
    ]


# --- what strategies say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TINY))
def test_every_two_player_strategy_says_how_it_scores_and_changes_nothing(name: str) -> None:
    """Pieces of a third of the tiny jobs' rows: packs, conditions and codes need batches of the usual size."""
    row = TINY[name]
    live = session(name, row.networks, row.dataset, **{**row.keys, "iterations": 4})
    before, random = live.state_dict(), torch.get_rng_state()
    rows = live.data.plain.rows(torch.arange(8))
    with torch.no_grad():
        found = live.strategy.appraise(rows, RandomStream(0, "health", torch.device("cpu")))
    assert (found is not None) == isinstance(live.strategy, AdversarialStrategy)
    if found is not None:
        real, fake = found
        assert len(real) == len(fake) > 0 and real.isfinite().all() and fake.isfinite().all()
        assert set(contest(real, fake)) == {"accuracyReal", "accuracyFake", "scoreMargin"}
    after = live.state_dict()
    assert str(after["strategy"]) == str(before["strategy"]) and str(after["streams"]) == str(before["streams"])
    if not any(isinstance(module, nn.Dropout) for network in live.networks.values() for module in network.modules()):
        assert torch.equal(random, torch.get_rng_state())
    live.sampler.close()


def test_a_strategy_whose_scores_cannot_be_read_learns_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, batch: Batch, stream: RandomStream) -> Any:
        raise KeyError("codes")

    live = session("NSGAN", "Generator,Discriminator", "Circle", size=64, testSize=8, batchSize=8)
    monkeypatch.setattr(type(live.strategy), "appraise", broken)
    said: list[str] = []
    reader = HealthReader(live, said.append)
    values = [reader.read(n, {}).values for n in (1, 2)]
    assert "accuracyReal" not in values[0] and "coverage" in values[1]
    assert len(said) == 1 and "KeyError" in said[0]


def test_the_share_at_the_clip_bound_is_read() -> None:
    live = session("WGAN", "Generator,Discriminator", "Circle", size=64, testSize=8, batchSize=8, clamp=0.01)
    with torch.no_grad():
        for weights in live.chains["discriminator"].parameters:
            weights.fill_(0.01)
    assert HealthReader(live, print).read(1, {}).values["discriminator.clipped"] == 1.0


def test_unknown_alarms_are_refused_in_python_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stopOn"):
        learn_tiny("GAN", tmp_path, stopOn="colapse")
    assert not (tmp_path / "tiny").exists()
