"""The conformance kit on networks, data sets and gradient processors: built-ins pass, and what is broken is found."""

from __future__ import annotations

import itertools
import random
import socket
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from commandline import refused as refused_command
from PIL import Image
from seriesfiles import write_series
from torch import Tensor, nn

from ganglion.engine import api
from ganglion.engine.conformance import datasetchecks, networkchecks, processorchecks
from ganglion.engine.errors import ConfigError
from ganglion.engine.registry import BUILT_IN, Registry
from ganglion.engine.testing import ConformanceError, Finding, check_dataset, check_network, check_processor

REGISTRY = Registry().load()
CHECKERS = {"network": check_network, "dataset": check_dataset, "processor": check_processor}
CHECKS = {
    "network": networkchecks.CHECKS,
    "dataset": datasetchecks.CHECKS,
    "processor": processorchecks.CHECKS,
}


def builtin(kind: str) -> list[str]:
    """Names of the built-in things of a kind."""
    return [entry.name for entry in REGISTRY.all(kind) if entry.origin == BUILT_IN]


def skipped(findings: list[Finding]) -> set[str]:
    """The checks that did not apply."""
    assert "failed" not in {found.result for found in findings}
    return {found.check for found in findings if found.result == "skipped"}


def sentence(kind: str, thing: Any, check: str, **keys: Any) -> str:
    """What one check finds wrong; the others are left out."""
    others = [each.name for each in CHECKS[kind] if each.name != check]
    with pytest.raises(ConformanceError) as caught:
        CHECKERS[kind](thing, skip=others, **keys)
    (failed,) = [found for found in caught.value.findings if found.result == "failed"]
    assert failed.check == check and "\n" not in failed.sentence
    return failed.sentence


# --- the built-ins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", builtin("network"))
def test_built_in_networks_pass(network: str) -> None:
    assert skipped(check_network(network)) <= {"cuda"}


@pytest.mark.parametrize("processor", builtin("processor"))
def test_built_in_processors_pass(processor: str) -> None:
    assert skipped(check_processor(processor)) <= {"learning rate", "averaged weights"}


def data_keys(dataset: str, folder: Path) -> dict[str, Any]:
    """Keys of a data set that reads files, which are written first."""
    if dataset == "Table":
        lines = [f"{number / 7},{number * number},{'ab'[number % 2]}" for number in range(40)]
        (folder / "points.csv").write_text("\n".join(["x,y,kind", *lines]))
        return {"path": str(folder / "points.csv"), "target": "kind", "classification": True}
    if dataset == "Shards":
        for number in range(4):
            numpy.save(folder / f"part-{number}.npy", numpy.arange(30.0).reshape(15, 2) * (number + 1))
        return {"path": str(folder / "part-*.npy"), "testShare": 0.25}
    if dataset == "Images":
        for number in range(30):
            (folder / "pictures" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4), (number, 2 * number, 200)).save(
                folder / "pictures" / "ab"[number % 2] / f"{number}.png"
            )
        return {"path": str(folder / "pictures")}
    if dataset == "Text":
        drawn = torch.randint(0, 23, (600,), generator=torch.Generator().manual_seed(0)).tolist()
        (folder / "text.txt").write_text("".join(chr(97 + number) for number in drawn))
        return {"path": str(folder / "text.txt")}
    return write_series(dataset, folder)


@pytest.mark.parametrize("dataset", builtin("dataset"))
def test_built_in_data_sets_pass(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGLION_DATA", "")
    findings = check_dataset(dataset, **data_keys(dataset, tmp_path))
    if "loads" in skipped(findings):
        (reason,) = [found.sentence for found in findings if found.check == "loads"]
        assert reason.startswith("the data are not here: ") and "MNIST" in dataset
    else:
        assert skipped(findings) == set()


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["MNIST", "MNIST-all", "StackedMNIST"])
def test_data_sets_of_real_files_pass(dataset: str, real_data: Path) -> None:
    assert skipped(check_dataset(dataset)) <= {"splits"}


# --- networks that are broken on purpose --------------------------------------------------------------------------


class Net(nn.Module):
    """A perceptron that fits any role; `spoil` is what a broken one does to it."""

    def __init__(self, context: api.NetworkContext, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(context.input.size, width)
        self.second = nn.Linear(width, context.output.size)
        self.shape = context.output.shape

    def forward(self, rows: Tensor) -> Tensor:
        return self.second(self.first(rows.flatten(1)).tanh()).unflatten(1, self.shape)


class Wide(Net):
    """Gives one value too many."""

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.pad(super().forward(rows), (0, 1))


class Bounded(Net):
    """Declares a range that it does not keep to."""

    output_range = (-1.0, 1.0)

    def forward(self, rows: Tensor) -> Tensor:
        return 5 * super().forward(rows)


class Chances(Net):
    """Calls numbers of any size probabilities."""

    outputs = "probability"


class Private(Net):
    """Draws its weights from a generator of its own."""

    def __init__(self, context: api.NetworkContext) -> None:
        super().__init__(context)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)


class Shared(Net):
    """Draws its weights from NumPy's generator."""

    def __init__(self, context: api.NetworkContext) -> None:
        super().__init__(context)
        self.first.weight.data += float(numpy.random.rand())


class Drawing(Net):
    """Always drops out."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(rows, 0.5))


class Counting(Net):
    """Changes a buffer in evaluation mode too."""

    def __init__(self, context: api.NetworkContext) -> None:
        super().__init__(context)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        self.calls.add_(1)
        return super().forward(rows)


class Mixing(Net):
    """Centres every batch."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows - rows.mean(0))


class Unused(Net):
    """Has a parameter that nothing uses."""

    def __init__(self, context: api.NetworkContext) -> None:
        super().__init__(context)
        self.third = nn.Linear(2, 2)


class Cut(Net):
    """Lets no gradient through to its input."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows.detach())


class Hidden(Net):
    """Keeps what it drew where no state_dict finds it."""

    def __init__(self, context: api.NetworkContext) -> None:
        super().__init__(context)
        self.offset = torch.randn(())

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows) + self.offset


class Floating(Net):
    """Names a type."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows).to(torch.float32)


class Waiting(Net):
    """Decides on the host."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows) if rows.sum() > -1e9 else rows


def factory(module: Any) -> Any:
    """A factory as an author writes it."""

    def make(context: api.NetworkContext) -> nn.Module:
        return module(context)

    make.__name__, make.__doc__ = module.__name__, module.__doc__
    return make


def evaluating(context: api.NetworkContext) -> nn.Module:
    """A network in the wrong mode."""
    return Net(context).eval()


def never(context: api.NetworkContext) -> nn.Module:
    """A network for nothing."""
    raise api.NetworkError(f"never is not for {context.data.kind} data")


def squashed(context: api.NetworkContext) -> nn.Module:
    """A network that ends in a Tanh and does not say so."""
    return nn.Sequential(Net(context), nn.Tanh())


BROKEN_NETWORKS = [
    (evaluating, "built", "classifier", ("evaluation mode",)),
    (never, "built", "classifier", ("no kind of data", "never is not for vector data")),
    (factory(Wide), "shape", "generator", ("it gives (4, 3) where (4, 2) is wanted as generator", "NetworkError")),
    (factory(Bounded), "range", "generator", ("output_range -1..1 and gives",)),
    (squashed, "range", "generator", ("ends in Tanh and declares no output_range", "(-1.0, 1.0)")),
    (factory(Chances), "range", "classifier", ("'probability' and gives", "Sigmoid")),
    (factory(Private), "first weights", "classifier", ("two seeds give the same weights",)),
    (factory(Shared), "first weights", "classifier", ("numpy.random is used",)),
    (factory(Drawing), "evaluation mode", "classifier", ("draws random numbers", "self.training")),
    (factory(Counting), "evaluation mode", "classifier", ("'calls' changes",)),
    (factory(Mixing), "rows apart", "classifier", ("depends on the other rows", "BatchNorm")),
    (factory(Unused), "gradients", "classifier", ("no gradient reaches 'third.weight'", "buffer")),
    (factory(Cut), "gradients", "classifier", ("no gradient reaches its input",)),
    (factory(Hidden), "state_dict", "classifier", ("register_buffer",)),
    (factory(Floating), "float64", "classifier", ("'its output' is torch.float32",)),
    (factory(Waiting), "no host synchronisation", "classifier", ("rows.sum() > -1e9",)),
]


@pytest.mark.parametrize(
    ("network", "check", "role", "words"), BROKEN_NETWORKS, ids=lambda v: getattr(v, "__name__", "")
)
def test_broken_networks_are_found(network: Any, check: str, role: str, words: tuple[str, ...]) -> None:
    found = sentence("network", network, check, role=role)
    assert all(word in found for word in words), found


def test_a_network_of_ones_own_passes_by_function_and_for_one_kind_of_data_only() -> None:
    assert skipped(check_network(factory(Net))) <= {"cuda"}
    assert skipped(check_network(factory(Net), "generator", api.DataSpec("sequence", (5, 2)))) <= {"cuda"}
    with pytest.raises(ConfigError, match="role=critic: the kit knows these"):
        check_network(factory(Net), "critic")
    with pytest.raises(ConfigError, match="unknown key 'width'"):
        check_network(factory(Net), width=3)


# --- data sets that are broken on purpose -------------------------------------------------------------------------


class Dots(api.DatasetFactory):
    """Points with two classes: the smallest data set that does everything right."""

    spec = api.DataSpec("vector", (2,), value_range=(0.0, 1.0), classes=("low", "high"))

    def load(self) -> api.Splits:
        return api.Splits(train=self.part("train", 64), test=self.part("test", 16))

    def part(self, name: str, count: int) -> Any:
        generator = torch.Generator().manual_seed(api.stream_seed(self.context.seed, "Dots", name))
        return api.TensorDataset(self.spec, *self.draw(count, generator))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.rand(count, 2, generator=generator)
        return rows, (rows[:, 0] > 0.5).long()


class Fetching(Dots):
    """Connects without being asked."""

    def load(self) -> api.Splits:
        socket.create_connection(("127.0.0.1", 9)).close()
        return super().load()


class Writing(Dots):
    """Writes while it loads."""

    def load(self) -> api.Splits:
        (self.context.cache / "dots.bin").write_bytes(b"0")
        return super().load()


class Global(Dots):
    """Draws from torch's default generator."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.rand(count, 2)
        return rows, (rows[:, 0] > 0.5).long()


class Far(Dots):
    """Leaves its range."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows, target = super().draw(count, generator)
        return rows * 2, target


class Long(Dots):
    """Has rows of another shape."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows, target = super().draw(count, generator)
        return torch.cat((rows, rows), 1), target


class Holes(Dots):
    """Has a value that is none."""

    spec = api.DataSpec("vector", (2,), classes=("low", "high"))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows, target = super().draw(count, generator)
        rows[3, 1] = torch.nan
        return rows, target


class Classes(Dots):
    """Has more classes than it names."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows, target = super().draw(count, generator)
        return rows, target + 1


class Aliased(Dots):
    """Gives its own memory away."""

    def part(self, name: str, count: int) -> Any:
        part = super().part(name, count)
        part.rows = lambda indices: api.Batch(part.input[: len(indices)], part.target[indices])
        return part


class Wrapping(Dots):
    """Begins again after its last row."""

    def part(self, name: str, count: int) -> Any:
        part, rows = super().part(name, count), api.TensorDataset.rows
        part.rows = lambda indices: rows(part, indices % count)
        return part


class Changing(Dots):
    """Is another one every time."""

    numbers = itertools.count()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return super().draw(count, generator.manual_seed(next(self.numbers)))


class Leaking(Dots):
    """Tests on what was learnt."""

    def part(self, name: str, count: int) -> Any:
        return super().part("train", count)


class Fixed(Dots):
    """Names a type."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.rand(count, 2, generator=generator, dtype=torch.float32)
        return rows, (rows[:, 0] > 0.5).long()


class Judging(Dots):
    """Judges by what is not finite."""

    def assess(self, samples: Tensor) -> Any:
        return {"quality": float("nan")}


class Empty(Dots):
    """Has a part without rows."""

    def load(self) -> api.Splits:
        return super().load()._replace(validation=self.part("validation", 0))


BROKEN_DATA = [
    (Empty, "loads", ("validation part has no rows",)),
    (Fetching, "offline", ("connects to the network at test_conformance_parts.py", "download=true")),
    (Writing, "offline", ("writes dots.bin", "context.cache")),
    (Global, "random numbers", ("torch's default generator is used", "stream_seed")),
    (Far, "spec", ("values of the train part are 0", "the spec says 0..1")),
    (Long, "spec", ("have shape (4,), and the spec says (2,)",)),
    (Holes, "spec", ("not finite",)),
    (Classes, "spec", ("torch.int64 1..2", "from 0 to 1")),
    (Aliased, "access", ("in another order", "be a copy")),
    (Wrapping, "access", ("beyond its last one", "IndexError")),
    (Changing, "repeatable", ("loaded twice", "stream_seed")),
    (Leaking, "splits", ("100% of its test rows are training rows",)),
    (Fixed, "float64", ("torch.get_default_dtype()",)),
    (Judging, "used", ("'quality' = nan",)),
]


@pytest.mark.parametrize(("dataset", "check", "words"), BROKEN_DATA, ids=lambda value: getattr(value, "__name__", ""))
def test_broken_data_sets_are_found(dataset: Any, check: str, words: tuple[str, ...]) -> None:
    found = sentence("dataset", dataset, check)
    assert all(word in found for word in words), found


def test_a_data_set_of_ones_own_passes_and_connections_work_again() -> None:
    connect = socket.create_connection
    assert skipped(check_dataset(Dots)) == set()
    assert socket.create_connection is connect
    with pytest.raises(ConfigError, match="Table needs path="):
        check_dataset("Table")


# --- processors that are broken on purpose ------------------------------------------------------------------------


class Shrink(api.GradientProcessor):
    """Takes a part of every gradient away: the smallest link that does everything right."""

    class Settings(api.Settings):
        """Settings of Shrink."""

        shrink: float | None = api.setting(None, "part that is taken away", ge=0, lt=1)

    key = "shrink"
    position = 15

    def before(self, step: int) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                self.change(parameter, parameter.grad)

    def change(self, parameter: Tensor, gradient: Tensor) -> None:
        gradient.mul_(1 - self.settings.shrink)


class Always(Shrink):
    """Is part of every chain."""

    class Settings(api.Settings):
        shrink: float = api.setting(0.5, "part that is taken away", ge=0, lt=1)


class Idle(api.GradientProcessor):
    """Does nothing."""


class Late(Shrink):
    """Changes gradients after the method."""

    position = 60


class Buffer(Shrink):
    """Changes what is not its own."""

    def before(self, step: int) -> None:
        super().before(step)
        for buffer in self.network.buffers():
            buffer.add_(1)


class Deaf(Shrink):
    """Takes everything away."""

    def change(self, parameter: Tensor, gradient: Tensor) -> None:
        gradient.zero_()


class Careless(Shrink):
    """Expects a gradient everywhere."""

    def before(self, step: int) -> None:
        for parameter in self.parameters:
            parameter.grad.mul_(0.5)  # type: ignore[union-attr]


class Forgetful(Shrink):
    """Remembers a number that it does not save."""

    count = 0

    def change(self, parameter: Tensor, gradient: Tensor) -> None:
        self.count += 1
        gradient.div_(self.count)


class Unsaved(Shrink):
    """Saves what no file can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"when": object()}


class Random(Shrink):
    """Draws from Python's generator."""

    def change(self, parameter: Tensor, gradient: Tensor) -> None:
        gradient.mul_(random.random())


class Timed(Shrink):
    """Depends on the clock."""

    def change(self, parameter: Tensor, gradient: Tensor) -> None:
        gradient.mul_(1 + time.perf_counter_ns() % 1000)


class Host(Shrink):
    """Decides on the host."""

    def change(self, parameter: Tensor, gradient: Tensor) -> None:
        if gradient.norm() > 1e-9:
            gradient.mul_(0.5)


class Hooked(Shrink):
    """Acts on every part of a batch."""

    def __init__(self, settings: Any, network: nn.Module, parameters: Any) -> None:
        super().__init__(settings, network, parameters)
        for parameter in self.parameters:
            parameter.register_post_accumulate_grad_hook(self.limit)

    def limit(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.clamp_(-1e-3, 1e-3)


class Casting(Shrink):
    """Rounds to single precision."""

    def after(self, step: int) -> None:
        for parameter in self.parameters if step == 1 else ():
            parameter.data = parameter.data.float()


class Half(Shrink):
    """Averages a part of the weights only."""

    def averaged(self) -> dict[str, Tensor]:
        return {"first.weight": self.parameters[0].detach()}


class Step(api.Method):
    """Plain descent: the smallest method that does everything right."""

    class Settings(api.Settings):
        """Settings of Step."""

        learning_rate: float = api.setting(0.01, "size of the steps", gt=0)

    def update(self, step: int, learning_rate: float) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-self.rate(learning_rate))

    def rate(self, learning_rate: float) -> float:
        return learning_rate


class Stubborn(Step):
    """Knows its own rate only."""

    def rate(self, learning_rate: float) -> float:
        return 0.01


class Uphill(Step):
    """Goes the wrong way."""

    def rate(self, learning_rate: float) -> float:
        return -learning_rate


class Restless(Step):
    """Changes parameters without a gradient."""

    def update(self, step: int, learning_rate: float) -> None:
        super().update(step, learning_rate)
        for parameter in self.parameters:
            parameter.mul_(1 - learning_rate)


BROKEN_PROCESSORS = [
    (Always, "place", ("'shrink' has a value by default", "None")),
    (Idle, "place", ("neither before() nor after()",)),
    (Late, "place", ("position = 60", "below the method's, 40")),
    (Buffer, "own weights", ("'statistics' is not one of its parameters",)),
    (Deaf, "own weights", ("'first.weight' stays the same",)),
    (Stubborn, "learning rate", ("rate of 0 'first.weight' changes",)),
    (Uphill, "learning rate", ("do not lower the loss",)),
    (Restless, "no gradients", ("whose grad is None changes",)),
    (Careless, "no gradients", ("AttributeError", "parameter.grad.mul_(0.5)")),
    (Random, "repeatable", ("Python's random is used",)),
    (Timed, "repeatable", ("other weights",)),
    (Forgetful, "resume", ("ends otherwise, first in 'first.weight'", "load_state_dict()")),
    (Unsaved, "resume", ("cannot be stored",)),
    (Host, "no host synchronisation", ("gradient.norm() > 1e-9",)),
    (Hooked, "accumulation", ("in halves of the batch",)),
    (Casting, "float64", ("torch.float32",)),
    (Half, "averaged weights", ("every name of the network's state_dict",)),
]


@pytest.mark.parametrize(("processor", "check", "words"), BROKEN_PROCESSORS, ids=lambda v: getattr(v, "__name__", ""))
def test_broken_processors_are_found(processor: Any, check: str, words: tuple[str, ...]) -> None:
    found = sentence("processor", processor, check)
    assert all(word in found for word in words), found


def test_processors_of_ones_own_pass() -> None:
    assert skipped(check_processor(Shrink)) == {"learning rate", "averaged weights"}
    assert skipped(check_processor(Shrink, shrink=0.9)) == {"learning rate", "averaged weights"}
    assert skipped(check_processor(Step, learningRate=0.1)) == {"averaged weights"}
    with pytest.raises(ConfigError, match="unknown key 'shrunk'"):
        check_processor(Shrink, shrunk=0.9)


def test_every_check_is_broken_once() -> None:
    tables = {"network": BROKEN_NETWORKS, "dataset": BROKEN_DATA, "processor": BROKEN_PROCESSORS}
    for kind, table in tables.items():
        known = {check.name for check in CHECKS[kind]} - {"description", "settings", "cuda"}
        assert known == {row[1] for row in table}, kind


def test_every_output_of_a_network_with_several_counts() -> None:
    class Two(Net):
        """A score and something more, from a layer of its own."""

        def __init__(self, context: api.NetworkContext) -> None:
            super().__init__(context)
            self.more = nn.Linear(context.input.size, 3)

        def forward(self, x: Tensor) -> Any:
            return super().forward(x), {"more": self.more(x.flatten(1))}

    assert skipped(check_network(factory(Two))) <= {"cuda"}


def test_data_that_are_not_where_the_user_says_are_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    refused_command(capsys, ["ganglion", "check", "Table", "path=nowhere.csv"], "nowhere.csv")
