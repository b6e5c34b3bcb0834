"""`ganglion bench`: loops that do the engine's mathematics, honest limits and overhead, and the command."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from commandline import call, refused
from torch import Tensor, nn

from ganglion.engine import benchcommand
from ganglion.engine.bench import driving, processes
from ganglion.engine.bench.driving import JOBS, PLAIN, PLUGIN, Engine, engine, variants
from ganglion.engine.bench.limits import PRODUCTS, Recorder, copy_bandwidth, limits_of, traffic
from ganglion.engine.bench.loops import batches
from ganglion.engine.bench.loops.tasks import STYLES, WRITTEN, write_loop
from ganglion.engine.bench.measuring import Against, How, Measured, measure
from ganglion.engine.bench.overhead import TASK, Overhead, bare_loop, measure_overhead
from ganglion.engine.bench.processes import Process, engine_process, loop_process, peak_memory
from ganglion.engine.bench.timing import Spread, calibrated, in_turn, ratios, spread
from ganglion.engine.errors import RunError
from ganglion.engine.job import read_job
from ganglion.engine.registry import Registry
from ganglion.networks import modules

ITERATIONS = 3
# Keys that make the jobs small. One pass over both draws other dropout masks than two, so where there is dropout: two.
SMALL: dict[str, dict[str, Any]] = {
    "circle": {"batchSize": 8, "jointPass": "no"},
    "dianne": {"batchSize": 8, "size": 64},
    "mnist-16": {"batchSize": 8, "size": 64, "jointPass": "no"},
    "dcgan-28": {"batchSize": 4, "size": 64},
    "wgan-gp": {"batchSize": 8, "size": 64},
    "rgan-24": {"batchSize": 4, "size": 64, "length": 6},
}


def eager(task: str, keys: Mapping[str, Any] | None = None) -> AbstractContextManager[Engine]:
    """The engine without compiling, which takes a minute where nothing is cached."""
    return engine(task, {**variants()[PLAIN], **(keys or {})}, 1, "cpu")


class Followed(NamedTuple):
    """What the engine did: its networks' weights before and after, the batches it drew, all losses."""

    before: list[list[Tensor]]
    after: list[list[Tensor]]
    batches: list[Tensor]
    losses: list[tuple[float, float]]


def weights(networks: tuple[nn.Module, ...]) -> list[list[Tensor]]:
    return [[parameter.detach().clone() for parameter in network.parameters()] for network in networks]


def follow(own: Engine) -> Followed:
    """Iterate, and take down what happens."""
    session, drawn, losses = own.session, [], []
    networks = (session.networks["generator"], session.networks["discriminator"])
    next_batch = session.sampler.next_batch

    def recorded(size: int | None = None) -> Any:
        batch = next_batch(size)
        drawn.append(batch.input.clone())
        return batch

    session.sampler.next_batch = recorded  # type: ignore[method-assign]
    before = weights(networks)
    torch.manual_seed(7)
    for i in range(ITERATIONS):
        values = session.strategy.process_iteration(i).values
        losses.append((float(values["discriminatorLoss"]), float(values["generatorLoss"])))
    return Followed(before, weights(networks), drawn, losses)


@pytest.fixture
def same_numbers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets torch.randn and torch.rand give the same numbers again, whoever asks; the function returned starts anew.

    Masks of dropout are torch's own, as the loop's are.
    """
    monkeypatch.setattr(modules, "FEW", 1 << 40)
    source = torch.Generator()

    def drawing(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(*shape: Any, generator: Any = None, **others: Any) -> Tensor:
            return draw(*shape, generator=source, **others)

        return drawn

    monkeypatch.setattr(torch, "randn", drawing(torch.randn))
    monkeypatch.setattr(torch, "rand", drawing(torch.rand))

    def start_anew() -> None:
        source.manual_seed(3)

    return start_anew


@pytest.mark.parametrize("style", ["careful", "tutorial"])
@pytest.mark.parametrize("task", list(SMALL))
def test_a_loop_does_what_the_engine_does(task: str, style: str, same_numbers: Callable[[], None]) -> None:
    """The same weights, batches and noise: the same losses in every iteration, and the same weights after them."""
    written, keys = WRITTEN[task], SMALL[task]
    networks = written.networks()
    if style == "tutorial":  # one set of fakes serves both players, so a generator with dropout makes no others
        keys = {**keys, "reuseNoise": "true", **without_dropout(networks)}
    with eager(task, keys) as own:
        same_numbers()
        done = follow(own)
    take_over(networks, done.before)
    shape = written.rows[1:] if "length" not in keys else (keys["length"], 1)
    stream = iter([batch.reshape(-1, *shape) for batch in done.batches])
    loop = getattr(written, style)(*networks, stream, keys["batchSize"])
    same_numbers()
    torch.manual_seed(7)
    losses = loop(ITERATIONS, every=1)
    assert list(stream) == [] and len(losses) == ITERATIONS
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(done.losses), rtol=1e-4, atol=1e-5)
    for mine, start, end in zip(weights(networks), done.before, done.after, strict=True):
        moved, apart = (distance(each, end) for each in (start, mine))
        assert moved > 0 and apart < 0.01 * moved, (apart, moved)


def without_dropout(networks: tuple[nn.Module, ...]) -> dict[str, Any]:
    """Switches dropout off in some networks; the key that does it in the engine, where there was any."""
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, nn.Dropout)]
    for layer in layers:
        layer.p = 0.0
    return {"Dropout.p": 0} if layers else {}


@torch.no_grad()
def take_over(networks: tuple[nn.Module, ...], values: list[list[Tensor]]) -> None:
    """Weights of other networks with the same layers."""
    for network, start in zip(networks, values, strict=True):
        for parameter, value in zip(network.parameters(), start, strict=True):
            assert parameter.shape == value.shape
            parameter.copy_(value)


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    differences = [(mine - theirs).flatten() for mine, theirs in zip(one, other, strict=True)]
    return float(torch.cat(differences).norm())


# --- tasks --------------------------------------------------------------------------------------------------------


def test_every_task_has_a_job_and_a_loop_of_the_same_size() -> None:
    assert {path.stem for path in JOBS.glob("*.yaml")} == {*WRITTEN, TASK}
    registry = Registry().load([PLUGIN])
    for name, written in WRITTEN.items():
        job = read_job(JOBS / f"{name}.yaml")
        settings = job["settings"]
        assert int(settings["batchSize"]) == written.batch_size
        assert registry.get("dataset", job["dataset"]).thing.Settings().size == written.rows[0]
        assert written.rows[1] == int(settings.get("length", written.rows[1]))
        small = {name.rstrip("0123456789"): name for name in SMALL}[name.rstrip("0123456789")]
        assert job["networks"] == read_job(JOBS / f"{small}.yaml")["networks"]  # which are compared above
        assert written.networks is WRITTEN[small].networks and written.careful is WRITTEN[small].careful


def test_the_loops_are_nothing_but_torch() -> None:
    """A loop can be read, copied and run without Ganglion: only what lists them imports from their own folder."""
    folder = Path(batches.__file__).parent
    for path in folder.glob("*.py"):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        modules = {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}
        own = {module for module in modules if module.startswith("ganglion")}
        allowed = {"ganglion.engine.bench.loops", "ganglion.engine.bench.loops.tasks"}
        assert own <= (allowed if path.stem in ("tasks", "__main__") else set()), path


def test_loops_get_their_batches_in_two_ways() -> None:
    rows = torch.arange(10.0).reshape(10, 1)
    stream = batches.loaded(rows, 4)
    epoch = torch.cat([next(stream), next(stream)])
    assert epoch.shape == (8, 1) and len(epoch.unique()) == 8  # no row twice, the last two of the epoch dropped
    assert next(stream).shape == (4, 1)
    assert next(batches.gathered(rows, 4)).shape == (4, 1)


@pytest.mark.parametrize("style", STYLES)
def test_a_loop_reads_its_losses_once_in_a_hundred_iterations(style: str) -> None:
    written = WRITTEN["circle"]._replace(batch_size=2)
    assert len(write_loop(written, style, torch.rand(8, 2))(101)) == (101 if style == "tutorial" else 2)


# --- timing -------------------------------------------------------------------------------------------------------


def test_contenders_take_turns() -> None:
    """After a warm-up of each: forwards, backwards, forwards."""
    order: list[str] = []
    times = in_turn({name: lambda _, name=name: order.append(name) for name in "ab"}, 5, 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([4.0, 1.0]) == Spread(2.5, 1.0, 4.0)


def test_iterations_fill_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganglion.engine.bench.timing.seconds_of", lambda run, iterations, device: 0.004 * iterations)
    assert calibrated(lambda iterations: None, 2.0) == 500
    assert calibrated(lambda iterations: None, 0.001) == 1


# --- limits -------------------------------------------------------------------------------------------------------


def test_the_products_of_an_iteration_are_counted() -> None:
    """Circle: 3 layers against 4; the discriminator sees both halves in one pass, and gets no gradient afterwards.

    Forward: 3 + 4, then 3 + 4. Backward: 4 weights and 3 inputs, then 4 inputs, 3 weights and 2 inputs.
    """
    with eager("circle") as own:
        own.run(1)
        with Recorder(PRODUCTS.__contains__) as recorder:
            own.session.strategy.process_iteration(1)
    found = Counter(str(call_.function).split(".")[1] for call_ in recorder.calls)
    assert found == {"addmm": 3 + 4 + 3 + 4, "mm": 4 + 3 + 4 + 3 + 2}


def test_what_adam_moves() -> None:
    """Ten weights: parameters, two averages and a counter read and written, gradients read; four bytes each."""
    ten = torch.zeros(10)
    memory = {"average": {"w": ten}, "square": {"w": ten}, "step": {"w": torch.zeros(())}}
    assert traffic([ten], memory) == (7 * 40 + 2 * 4, 4 * 40 + 4)
    assert traffic([ten], {}) == (3 * 40, 2 * 40)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_limits_lie_below_the_time_of_an_iteration(precision: str) -> None:
    with eager("circle", {"precision": precision}) as own:
        found = limits_of(own.session, 0)
        times = in_turn({"engine": own.run, "products": found.products}, 3, 3)
        usual, products = (min(times[name]) for name in ("engine", "products"))
        with Recorder() as recorder:
            found.products(2)
    assert 0 < found.optimisers < usual
    assert precision == "bf16" or products < usual  # without hardware for it, bf16 may be slow
    assert Counter(recorder.names) == {"addmm": 2 * (3 + 4 + 3 + 4), "mm": 2 * (4 + 3 + 4 + 3 + 2)}
    assert copy_bandwidth(1 << 20, torch.device("cpu")) > 1e6


@pytest.mark.parametrize(("task", "left_out"), [("wgan-gp", {"mm": 5 * 3}), ("rgan-24", {})])
def test_products_with_zeros_are_no_limit(task: str, left_out: dict[str, int]) -> None:
    """Each of five penalties takes the zeros of LeakyReLU's second derivative through two layers: three products.

    The zeros that LSTMs begin with are something else.
    """
    with eager(task) as own, Recorder() as whole, Recorder() as needed:
        own.session.strategy.process_iteration(0)
        before = Counter(name for name in whole.names if name in PRODUCTS)
        found = limits_of(own.session, 0)
        needed.names.clear()
        found.products(1)
    assert before - Counter(needed.names) == left_out


# --- overhead -----------------------------------------------------------------------------------------------------


def test_the_bare_calls_are_the_engines() -> None:
    """With more of them the overhead would look smaller than it is, with fewer larger."""
    with eager(TASK) as own:
        own.run(1)
        with Recorder() as whole:
            own.session.strategy.process_iteration(1)
        networks = [nn.Sequential(nn.Linear(*sizes)) for sizes in ((1, 2), (2, 1))]
        bare = bare_loop(own.rows(), 2, *networks)
        for mine, theirs in zip(own.session.networks.values(), networks, strict=True):
            assert [each.shape for each in mine.parameters()] == [each.shape for each in theirs.parameters()]
    bare(1)
    with Recorder() as recorder:
        bare(1)
    assert Counter(recorder.names) - Counter(whole.names) == Counter(slice=1)  # the engine cuts more than one at once
    assert Counter(whole.names) - Counter(recorder.names) == Counter()
    kernels = ("addmm", "mm", "softplus", "softplus_backward", "randn", "cat", "_fused_adam_", "mean")
    assert all(recorder.names.count(name) > 0 for name in kernels)


def test_the_bare_loop_learns_as_the_engine_does() -> None:
    """A game of one layer each, from the same start: the generator's weights move by Adam's steps of 0.001."""
    networks = [nn.Sequential(nn.Linear(*sizes)) for sizes in ((1, 2), (2, 1))]
    before = weights(tuple(networks))
    bare_loop(torch.rand(10, 2), 2, *networks)(1)
    for start, end in zip(before, weights(tuple(networks)), strict=True):
        for one, other in zip(start, end, strict=True):
            assert float((one - other).abs().max()) == pytest.approx(1e-3, rel=1e-2)


def test_overhead_is_the_difference() -> None:
    found = measure_overhead(1, 0.02, 1, "cpu")
    assert found.overhead.median == pytest.approx(found.engine.median - found.bare.median)
    assert found.bare.median > 0


# --- variants -----------------------------------------------------------------------------------------------------


def test_a_variant_without_its_keys_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "VARIANTS", {PLAIN: {"noSuchKey": "1"}, "odd": {"no": "1"}, "seeded": {"seed": "1"}})
    assert variants() == {PLAIN: {}, "seeded": {"seed": "1"}}


def test_a_variant_that_does_not_fit_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {PLAIN: variants()[PLAIN], "large": {"batchSize": "99999"}, "seeded": {"execution": "eager", "seed": "1"}}
    monkeypatch.setattr(driving, "VARIANTS", made)
    told: list[str] = []
    found = measure("circle", How(2, 0.01), told.append)
    assert told == ["circle: left out large: batchSize=99999 is more than the 10000 rows of the training data"]
    assert [each.variant for each in found.engine] == [PLAIN, "seeded"]
    assert set(found.loops) == set(STYLES) == set(found.engine[0].ratios)


# --- processes ----------------------------------------------------------------------------------------------------


def test_processes_tell_when_they_began_to_learn_and_how_large_they_were() -> None:
    for start in (engine_process, loop_process):
        found = start("circle", 1, "cpu")
        assert 0.1 < found.seconds < 300
        assert found.mebibytes is None or 50 < found.mebibytes < 5000


def test_a_process_that_fails_is_told() -> None:
    sentence = r"^bench: the process 'ganglion.engine learn --nonsense ...' ended with 2: ganglion: no such option"
    with pytest.raises(RunError, match=sentence):
        processes._watched(["ganglion.engine", "learn", "--nonsense"], lambda: True)


def test_peak_memory_is_that_of_the_process_alone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        if peak_memory(process.pid) is None:
            pytest.skip("this system does not tell it")
        assert peak_memory(process.pid) < 100 < (peak_memory(os.getpid()) or 0)
    finally:
        process.communicate(b"\n")
    assert peak_memory(process.pid) is None


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No processes, and no variant that compiles."""
    monkeypatch.setattr(driving, "VARIANTS", {PLAIN: variants()[PLAIN]})
    monkeypatch.setattr(benchcommand, "engine_process", lambda *how: Process(1.5, 300.0))
    monkeypatch.setattr(benchcommand, "loop_process", lambda *how: Process(1.25, None))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


SHORT = ("--pairs", "2", "--seconds", "0.01")


def test_the_document_holds_every_figure(capsys: pytest.CaptureFixture[str], quick: None) -> None:
    said = call(capsys, "ganglion", "bench", "Circle", "OVERHEAD", *SHORT, "--json")
    found = json.loads(said.out)
    assert said.code == 0 and found["how"] == {"pairs": 2, "seconds": 0.01, "threads": 1, "device": "cpu"}
    (task,) = found["tasks"]
    assert task["task"] == "circle" and task["iterations"] >= 1 and set(task["loops"]) == set(STYLES)
    plain = task["engine"][0]
    assert plain["variant"] == PLAIN and plain["rate"] > 0
    assert plain["products"] > 0 and plain["optimisers"] > 0
    assert all(each["low"] <= each["median"] <= each["high"] for each in plain["ratios"].values())
    assert set(found["overhead"]) == {"engine", "bare", "overhead"}
    assert found["processes"] == [
        {"task": "circle", "engine": {"seconds": 1.5, "mebibytes": 300.0}, "loop": {"seconds": 1.25, "mebibytes": None}}
    ]
    assert said.err.splitlines()[0].startswith("circle, overhead: at least ")


def test_the_tables_are_for_people(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    how = How(2, 0.01)
    styles = {style: Spread(1.25, 1.0, 1.5) for style in STYLES}
    measured = Measured("circle", 7, {}, (Against("auto", "compile", 1234.5, styles, 0.5, 0.0125),))
    overhead = Overhead(Spread(300.4, 290, 310), Spread(260, 250, 270), Spread(40.4, 20, 60))
    monkeypatch.setattr(benchcommand, "measure", lambda task, asked, notify: measured if asked == how else None)
    monkeypatch.setattr(benchcommand, "measure_overhead", lambda *asked: overhead if asked == tuple(how) else None)
    said = call(capsys, "ganglion", "bench", "overhead", "circle", *SHORT)
    assert said.code == 0 and max(map(len, said.out.splitlines())) <= 100
    assert [line.split() for line in said.out.splitlines() if line.startswith(("circle", "task"))] == [
        ["task", "engine", "it/s", "DataLoader", "one", "gather", "tutorial"],
        ["circle", "auto", "(compile)", "1234", *["1.25", "1.00..1.50"] * 3],
        ["task", "engine", "matrix", "products", "optimisers'", "memory"],
        ["circle", "auto", "(compile)", "50.0", "%", "1.2", "%"],
        ["task", "engine", "starts", "in", "loop", "in", "engine's", "peak", "memory", "loop's"],
        ["circle", "1.5", "s", "1.2", "s", "300", "MiB", "-"],
    ]
    assert "40 20..60 us per iteration (networks of one layer)" in said.out


def test_a_wrong_task_or_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["ganglion", "bench", "cirlce"], "bench: unknown task 'cirlce'; did you mean 'circle'?")
    refused(capsys, ["ganglion", "bench", "circle", "--device", "tpu"], "--device=tpu: no such device")
    refused(capsys, ["ganglion", "bench", "--pairs", "0"], "0 is not in the range")
