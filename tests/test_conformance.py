"""The conformance kit: what is right passes, and each check fails on what is broken on purpose, and says what to do."""

from __future__ import annotations

import itertools
import json
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from commandline import call
from commandline import refused as refused_command
from torch import Tensor, nn

from ganglion.engine import api, assembly
from ganglion.engine.conformance.attributes import fingerprint, unsaved_prints
from ganglion.engine.conformance.results import Check, Failed, Skipped, carry_out
from ganglion.engine.conformance.strategychecks import CHECKS
from ganglion.engine.conformance.watching import contained, watching
from ganglion.engine.errors import ConfigError
from ganglion.engine.registry import Registry
from ganglion.engine.testing import ConformanceError, check_strategy

PAIR = ("Generator,Discriminator", "Circle")
TINY = {"size": 256, "testSize": 8, "batchSize": 8, "discriminator.Dropout.p": 0.5}


class Plain(api.LearningStrategy):
    """Two players by hand: the smallest strategy that does everything right."""

    class Settings(api.Settings):
        """Settings of Plain."""

        weight: float = api.setting(1.0, "weight of the generator's loss", ge=0)

    roles = ("generator", "discriminator")

    @classmethod
    def shapes(cls, settings: Any, spec: api.DataSpec) -> Any:
        data = api.Port(spec.kind, spec.shape)
        return {
            "generator": api.RoleShape(api.Port("noise", (4,)), data),
            "discriminator": api.RoleShape(data, api.Port("score", (1,))),
        }

    def bind(self, context: api.LearningContext) -> None:
        super().bind(context)
        self.generator, self.discriminator = context.networks["generator"], context.networks["discriminator"]

    def setup(self, context: api.LearningContext) -> None:
        self.mean = torch.zeros(())

    def process_iteration(self, i: int) -> api.LearnProgress:
        sampler = self.context.sampler
        assert sampler is not None
        rows = sampler.next_batch().input
        judged = self.judge(rows, self.made(len(rows)))
        made = self.train("generator", self.generator_loss, self.drawn(len(rows)))
        self.mean = 0.9 * self.mean + 0.1 * judged.total
        return api.LearnProgress(i, {"judged": judged.total, "made": made.total, "mean": self.mean})

    def judge(self, rows: Tensor, fake: Tensor) -> api.Loss:
        return self.train("discriminator", self.discriminator_loss, rows, fake)

    def train(self, role: str, loss_of: Any, *inputs: Any) -> api.Loss:
        return self.context.processors[role].update(loss_of, *inputs)

    def made(self, count: int) -> Tensor:
        with torch.no_grad():
            fake: Tensor = self.generator(self.drawn(count))
        return fake

    def drawn(self, count: int) -> Tensor:
        return self.noise(count, self.random("noise"))

    def discriminator_loss(self, rows: Tensor, fake: Tensor) -> Tensor:
        return (self.discriminator(rows) - 1).square().mean() + self.discriminator(fake).square().mean()

    def generator_loss(self, noise: Tensor) -> Tensor:
        loss: Tensor = (self.discriminator(self.generator(noise)) - 1).square().mean()
        return self.context.settings.weight * loss

    def validate(self, batch: api.Batch) -> Any:
        return {"loss": self.discriminator(batch.input).flatten(1).mean(1)}

    def noise(self, count: int, stream: api.RandomStream) -> Tensor:
        return stream.normal(count, 4)

    def generate(self, noise: Tensor) -> Tensor:
        samples: Tensor = self.generator(noise)
        return samples


def refused(strategy: Any, skip: Sequence[str] = ()) -> dict[str, str]:
    """The sentences of the checks that fail."""
    with pytest.raises(ConformanceError) as caught:
        check_strategy(strategy, *PAIR, skip=skip, **TINY)
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value).startswith(f"strategy {strategy.__name__}: ")
    return {found.check: found.sentence for found in caught.value.findings if found.result == "failed"}


def test_what_is_right_passes_and_leaves_no_trace() -> None:
    random.seed(1)
    numpy.random.seed(1)
    before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state(), torch.get_num_threads()
    findings = check_strategy(Plain, *PAIR, **TINY)
    skipped = {found.check for found in findings if found.result == "skipped"}
    assert skipped <= {"cuda"} and len(findings) == 22
    assert all(found.sentence.endswith(".") for found in findings if found.result == "passed")
    assert before[:2] == (random.getstate(), numpy.random.get_state()[1].tolist())
    assert torch.equal(before[2], torch.get_rng_state()) and before[3] == torch.get_num_threads()


# --- strategies that are broken on purpose ------------------------------------------------------------------------


class Undescribed(Plain):
    __doc__ = ""


class NoHelp(Plain):
    """One setting without a meaning."""

    class Settings(api.Settings):
        weight: float = api.setting(1.0, "", ge=0)


class NoDefault(Plain):
    """One setting without a default."""

    class Settings(api.Settings):
        weight: float


class NoRange(Plain):
    """A number that may be anything."""

    class Settings(api.Settings):
        weight: float = api.setting(1.0, "weight of something")


class WrongDefault(Plain):
    """A default outside of its own range."""

    class Settings(api.Settings):
        weight: float = api.setting(-1.0, "weight of something", ge=0)


class LostDefault(Plain):
    """A default that is not of its type."""

    class Settings(Plain.Settings):
        kind: tuple[str, ...] = api.setting(("a,b",), "kinds of something")


class TwoRoles(Plain):
    """One role named twice."""

    roles = ("generator", "generator")


class Shapeless(Plain):
    """No shape for one role."""

    @classmethod
    def shapes(cls, settings: Any, spec: api.DataSpec) -> Any:
        return {"generator": super().shapes(settings, spec)["generator"]}


class OtherInput(Plain):
    """A network is fed something else than declared."""

    def discriminator_loss(self, rows: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator_loss(rows[:, None], fake)


class Crashing(Plain):
    """An iteration fails."""

    def drawn(self, count: int) -> Tensor:
        raise ValueError("not today")


class NoProgress(Plain):
    """Returns a dict."""

    def process_iteration(self, i: int) -> Any:
        return dict(super().process_iteration(i).values)


class Attached(Plain):
    """Reports what still has its graph."""

    def process_iteration(self, i: int) -> api.LearnProgress:
        values = super().process_iteration(i).values
        return api.LearnProgress(i, {**values, "more": next(self.generator.parameters()).sum()})


class Vector(Plain):
    """Reports several numbers at once."""

    def process_iteration(self, i: int) -> api.LearnProgress:
        return api.LearnProgress(i, {**super().process_iteration(i).values, "more": torch.zeros(2)})


class Infinite(Plain):
    """Reports what is not finite."""

    def process_iteration(self, i: int) -> api.LearnProgress:
        return api.LearnProgress(i, {**super().process_iteration(i).values, "more": torch.tensor(float("nan"))})


class Reading(Plain):
    """Decides on the host."""

    def judge(self, rows: Tensor, fake: Tensor) -> api.Loss:
        loss = super().judge(rows, fake)
        return loss if loss.total > 0 else super().judge(rows, fake)


class Listing(Plain):
    """Hands values over without an operation."""

    def judge(self, rows: Tensor, fake: Tensor) -> api.Loss:
        self.last = super().judge(rows, fake)
        self.seen = self.last.total.tolist()
        return self.last


class Masking(Plain):
    """Picks rows by a mask, whose number the host must know."""

    def discriminator_loss(self, rows: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator_loss(rows[rows[:, 0] > -10], fake)


class Default(Plain):
    """Draws from torch's default generator."""

    def drawn(self, count: int) -> Tensor:
        return torch.randn(count, 4)


class Python(Plain):
    """Draws from Python's generator."""

    def generator_loss(self, noise: Tensor) -> Tensor:
        return super().generator_loss(noise) * random.random()


class Numpy(Plain):
    """Draws from NumPy's generator."""

    def drawn(self, count: int) -> Tensor:
        return torch.from_numpy(numpy.random.randn(count, 4)).float()


class Seeding(Plain):
    """Seeds torch's default generator."""

    def drawn(self, count: int) -> Tensor:
        torch.manual_seed(3)
        return super().drawn(count)


class Backward(Plain):
    """Leaves gradients on the discriminator."""

    def train(self, role: str, loss_of: Any, *inputs: Any) -> api.Loss:
        if role == "discriminator":
            return super().train(role, loss_of, *inputs)
        chain = self.context.processors["generator"]
        chain.zero()
        loss = loss_of(*inputs)
        loss.backward()
        chain.step(chain.iteration)
        chain.zero()
        return api.Loss(loss.detach())


class Adding(Backward):
    """Steps on gradients that another update left behind."""

    def judge(self, rows: Tensor, fake: Tensor) -> api.Loss:
        self.train("generator", self.generator_loss, self.drawn(8))
        loss = self.discriminator_loss(rows, fake)
        loss.backward()  # type: ignore[no-untyped-call]
        self.context.processors["discriminator"].step(0)
        return api.Loss(loss.detach())


class Through(Plain):
    """Differentiates through the fakes."""

    def made(self, count: int) -> Tensor:
        fake: Tensor = self.generator(self.drawn(count))
        return fake


class Beside(Plain):
    """Changes weights beside the chain."""

    def judge(self, rows: Tensor, fake: Tensor) -> api.Loss:
        with torch.no_grad():
            for parameter in self.discriminator.parameters():
                parameter.mul_(0.99)
        return super().judge(rows, fake)


class Forgetting(Plain):
    """Never trains its generator."""

    def train(self, role: str, loss_of: Any, *inputs: Any) -> api.Loss:
        return super().train(role, loss_of, *inputs) if role == "discriminator" else api.Loss(torch.zeros(()))


class Flat(Plain):
    """Its generator's loss has no slope."""

    def generator_loss(self, noise: Tensor) -> Tensor:
        return super().generator_loss(noise) * 0


class Ticking(Plain):
    """Depends on the clock."""

    def drawn(self, count: int) -> Tensor:
        return super().drawn(count) + time.perf_counter_ns() % 1000 / 1000


class Constant(Plain):
    """Ends the same from any seed."""

    def process_iteration(self, i: int) -> api.LearnProgress:
        super().process_iteration(i)
        with torch.no_grad():
            for parameter in [*self.generator.parameters(), *self.discriminator.parameters()]:
                parameter.fill_(i + 1.0)
        return api.LearnProgress(i, {"one": torch.ones(())})


class Counting(Plain):
    """Keeps a number where no checkpoint finds it."""

    def setup(self, context: api.LearningContext) -> None:
        super().setup(context)
        self.count = itertools.count(1)

    def generator_loss(self, noise: Tensor) -> Tensor:
        return super().generator_loss(noise) / next(self.count)


class Closing(Plain):
    """Keeps a tensor in a closure, where nothing can see it."""

    def setup(self, context: api.LearningContext) -> None:
        super().setup(context)
        kept = [1.0]

        def factor() -> float:
            kept[0] *= 0.5
            return kept[0]

        self.factor = factor

    def generator_loss(self, noise: Tensor) -> Tensor:
        return super().generator_loss(noise) * self.factor()


class Unsavable(Plain):
    """Its state has something in it that no file can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "when": object()}


class Sixteen(Plain):
    """Always takes sixteen rows."""

    def process_iteration(self, i: int) -> api.LearnProgress:
        assert self.context.sampler is not None
        rows = self.context.sampler.next_batch(16).input
        judged = self.judge(rows, self.made(16))
        made = self.train("generator", self.generator_loss, self.drawn(16))
        return api.LearnProgress(i, {"judged": judged.total, "made": made.total})


class Single(Plain):
    """Makes numbers of single precision."""

    def process_iteration(self, i: int) -> api.LearnProgress:
        values = super().process_iteration(i).values
        return api.LearnProgress(i, {name: value.float() for name, value in values.items()})


class Hiding(Plain):
    """Keeps a number that changes where a graph does not see it."""

    def setup(self, context: api.LearningContext) -> None:
        super().setup(context)
        self.factors = [1.0]

    def process_iteration(self, i: int) -> api.LearnProgress:
        self.factors[0] *= 1.5
        return super().process_iteration(i)

    def generator_loss(self, noise: Tensor) -> Tensor:
        return super().generator_loss(noise) * self.factors[0]


class Averaging(Plain):
    """Validates whole batches only."""

    def validate(self, batch: api.Batch) -> Any:
        return {"loss": super().validate(batch)["loss"].mean()}


class Restless(Plain):
    """Makes other samples every time."""

    def generate(self, noise: Tensor) -> Tensor:
        return super().generate(noise + self.random("more").normal(*noise.shape))


class Noisy(Plain):
    """Draws the noise of pictures from its own stream."""

    def noise(self, count: int, stream: api.RandomStream) -> Tensor:
        return self.random("noise").normal(count, 4)


class Flattening(Plain):
    """Makes samples of another shape."""

    def generate(self, noise: Tensor) -> Tensor:
        return super().generate(noise).flatten()


class Leaving(Plain):
    """Ends the program."""

    def drawn(self, count: int) -> Tensor:
        raise SystemExit(0)


class Handing(Plain):
    """Hands its samples to the host."""

    def drawn(self, count: int) -> Tensor:
        return super().drawn(count).to("cpu")


class OwnSteps(Plain):
    """Leaves the processor chains alone."""

    def train(self, role: str, loss_of: Any, *inputs: Any) -> api.Loss:
        parameters = list(self.context.networks[role].parameters())
        loss = loss_of(*inputs)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.sub_(0.01 * gradient)
        return api.Loss(loss.detach())


class DrawingOnce(Plain):
    """Draws from torch's generator before its first update only."""

    def process_iteration(self, i: int) -> api.LearnProgress:
        if i == 0:
            self.mean = torch.rand(())
        return super().process_iteration(i)


class Mixing(Plain):
    def discriminator_loss(self, rows: Tensor, fake: Tensor) -> Tensor:
        apart = self.discriminator(fake).std() - self.discriminator(rows).std()
        return super().discriminator_loss(rows, fake) + apart.square()


BROKEN: list[tuple[type[Plain], str, tuple[str, ...]]] = [
    (Mixing, "data-parallel", ("learn something else than one", "differs by", "gathered(rows)")),
    (DrawingOnce, "random streams", ("torch.rand(())", "self.random('name')")),
    (Leaving, "iteration", ("calls sys.exit(0)",)),
    (Handing, "no host synchronisation", ('to("cpu") at test_conformance.py',)),
    (OwnSteps, "learning", ("generator learns without its processor chain", "context.processors['generator']")),
    (Undescribed, "description", ("does not say what it is", "docstring")),
    (NoHelp, "settings", ("'weight'", "no meaning")),
    (NoDefault, "settings", ("'weight'", "no default", "setting(DEFAULT")),
    (NoRange, "settings", ("'weight'", "without range and unit", "ge=")),
    (WrongDefault, "settings", ("default -1.0", "refused by its own range")),
    (LostDefault, "settings", ("'kind'", "not what list of text reads")),
    (TwoRoles, "roles", ("names one twice",)),
    (Shapeless, "roles", ("says nothing of the discriminator", "RoleShape")),
    (OtherInput, "shapes", ("discriminator is given rows of shape (1, 2)", "shapes() says (2,)")),
    (Crashing, "iteration", ("ValueError: not today at test_conformance.py, line",)),
    (NoProgress, "iteration", ("returns a dict", "LearnProgress(i, values)")),
    (Attached, "progress", ("'more' carries its graph", "detach()")),
    (Vector, "progress", ("'more' has shape (2,)", "mean()")),
    (Infinite, "progress", ("'more' is nan in iteration 0",)),
    (Reading, "no host synchronisation", ("loss.total > 0", "test_conformance.py, line", "torch.where")),
    (Listing, "no host synchronisation", ("tolist()", "test_conformance.py, line")),
    (Masking, "no host synchronisation", ("picked by a mask", "rows[rows[:, 0] > -10]")),
    (Default, "random streams", ("torch.randn(count, 4)", "self.random('name')")),
    (Python, "random streams", ("Python's random is used", "self.random('name')")),
    (Numpy, "random streams", ("numpy.random is used",)),
    (Seeding, "random streams", ("torch.manual_seed",)),
    (Backward, "roles apart", ("update of the generator leaves gradients on the discriminator", "chain.update")),
    (Adding, "roles apart", ("left on the discriminator are added to its own", "zero()")),
    (Through, "roles apart", ("the discriminator learns from what the generator made", "no_grad()")),
    (Beside, "roles apart", ("weights of the discriminator change outside", "context.processors['discriminator']")),
    (Forgetting, "learning", ("generator is never updated", "evaluation mode")),
    (Flat, "learning", ("weights of the generator are the same after 5 updates",)),
    (Ticking, "seeds", ("same seed differ", "time")),
    (Constant, "seeds", ("another seed gives the same weights",)),
    (Counting, "resume", ("'count' changed while learning", "state_dict")),
    (Closing, "resume", ("goes on ends otherwise", "first in the tensor 'generator: ")),
    (Unsavable, "resume", ("cannot be stored", "when")),
    (Sixteen, "batch size", ("batchSize=16 changes nothing", "len(batch)")),
    (Single, "float64", ("torch.float32", "torch.zeros_like")),
    (Hiding, "graphs", ("with losses as graphs the weights differ", "generator", "argument of update()")),
    (Averaging, "unseen rows", ("one figure per row",)),
    (Restless, "samples", ("other samples for the same noise",)),
    (Noisy, "samples", ("does not follow from its stream",)),
    (Noisy, "intervals", ("the weights differ", "noise()")),
    (Flattening, "samples", ("expected (3, 2)",)),
]


@pytest.mark.parametrize(("strategy", "check", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_broken_is_found_and_told(strategy: type[Plain], check: str, words: tuple[str, ...]) -> None:
    others = [each.name for each in CHECKS if each.name != check]
    sentences = refused(strategy, skip=others)
    assert check in sentences, sentences
    assert "\n" not in sentences[check]
    for word in words:
        assert word in sentences[check], sentences[check]


def test_every_check_of_strategies_is_broken_once() -> None:
    never = {"job", "wrong networks", "cuda"}  # the engine's own, or not here
    assert {check.name for check in CHECKS} - {check for _, check, _ in BROKEN} == never


def test_wrong_networks_that_the_engine_would_accept_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "check_networks", lambda networks, shapes, plan: None)
    sentence = refused(Plain, skip=[each.name for each in CHECKS if each.name != "wrong networks"])["wrong networks"]
    assert "one too long is accepted as the generator: shapes() must be exact" in sentence


def test_a_job_that_cannot_be_put_together_is_the_callers_mistake() -> None:
    with pytest.raises(ConfigError, match="takes its networks in the order generator,discriminator"):
        check_strategy(Plain, "PerceptronDiscriminator,PerceptronGenerator", "Circle", size=64, batchSize=8)


def test_numbers_that_torchs_optimiser_reads_on_the_host_are_no_waiting() -> None:
    class Helped(Plain):
        """Has a weight of its own that torch's Adam moves."""

        def setup(self, context: api.LearningContext) -> None:
            super().setup(context)
            self.weight = torch.ones((), requires_grad=True)
            self.adam = torch.optim.Adam([self.weight], foreach=False)

        def judge(self, rows: Tensor, fake: Tensor) -> api.Loss:
            self.weight.grad = self.weight.detach()
            self.adam.step()
            return super().judge(rows, fake)

    check_strategy(Helped, *PAIR, **TINY)


def test_calls_by_keyword_and_outputs_of_several_parts_are_seen(tmp_path: Path) -> None:
    plugin = tmp_path / "pairs.py"
    plugin.write_text(
        "from torch import nn\nfrom ganglion.engine import api\n\n"
        "class Pair(nn.Module):\n"
        "    def __init__(self, size):\n"
        "        super().__init__()\n        self.layer = nn.Linear(size, 1)\n"
        "    def forward(self, x):\n        return self.layer(x), x.sum()\n\n"
        "def pair(context):\n    return Pair(context.input.size)\n\n"
        "@api.hookimpl\ndef register_networks(register):\n    register('Pair', pair)\n"
    )

    class Named(Plain):
        """Calls the discriminator by the name of its argument."""

        def discriminator_loss(self, rows: Tensor, fake: Tensor) -> Tensor:
            return (self.discriminator(x=rows)[0] - 1).square().mean() + self.discriminator(x=fake)[0].square().mean()

        def generator_loss(self, noise: Tensor) -> Tensor:
            loss: Tensor = (self.discriminator(x=self.generator(noise))[0] - 1).square().mean()
            return loss * self.context.settings.weight

        def validate(self, batch: api.Batch) -> Any:
            return {}

    check_strategy(Named, "Generator,Pair", "Circle", plugins=[str(plugin)], size=256, testSize=8, batchSize=8)


def test_several_failures_are_told_together() -> None:
    class Awful(NoRange):
        """Two things are wrong."""

        def drawn(self, count: int) -> Tensor:
            raise ValueError("not today")

    with pytest.raises(ConformanceError) as caught:
        check_strategy(Awful, *PAIR, skip=["settings"], **TINY)
    assert str(caught.value).count("\n") == 1
    sentences = refused(Awful)
    assert list(sentences) == ["settings"]


def test_manual_gradients_are_no_leak() -> None:
    class Manual(Plain):
        """Updates by hand, and tidies up."""

        def train(self, role: str, loss_of: Any, *inputs: Any) -> api.Loss:
            chain, others = self.context.processors[role], [n for r, n in self.context.networks.items() if r != role]
            chain.zero()
            for network in others:
                network.requires_grad_(False)
            loss = loss_of(*inputs)
            loss.backward()
            for network in others:
                network.requires_grad_(True)
            chain.step(chain.iteration)
            return api.Loss(loss.detach())

    assert {found.result for found in check_strategy(Manual, *PAIR, **TINY)} == {"passed", "skipped"}


# --- what is checked, and on what ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [entry.name for entry in Registry().load().all("strategy")])
def test_networks_and_data_are_found_for_every_built_in(strategy: str) -> None:
    others = [check.name for check in CHECKS if check.name not in ("roles", "job", "iteration")]
    assert {found.result for found in check_strategy(strategy, skip=others)} == {"passed", "skipped"}


def test_a_job_that_is_wrong_is_no_failure_of_the_strategy() -> None:
    for keys, message in (
        ({"wieght": 2}, "unknown key 'wieght'; did you mean 'weight'"),
        ({"iterations": 3}, "iterations=3: the conformance kit chooses this itself"),
        ({"skip": ["nothing"]}, "there is no check 'nothing'"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_strategy(Plain, *PAIR, **{**TINY, **keys})
    with pytest.raises(ConfigError, match="takes 2 networks"):
        check_strategy(Plain, "Generator", "Circle", **TINY)
    with pytest.raises(ConfigError, match="needs targets"):
        check_strategy("FeedForward", "MLP", "Circle")


FILE = """
from ganglion.engine import api
from ganglion.strategies.api import AdversarialStrategy


class Sharp(api.Objective):
    def discriminator(self, real, fake):
        return (1 - real).relu().mean(), (1 + fake).relu().mean()

    def generator(self, real, fake):
        return -fake.mean()


class FileGAN(AdversarialStrategy):
    preset = {"objective": "sharp", "method": "ADAM"}

    def train_generator(self):
        values = super().train_generator()
        return {**values, "value": values["generatorLoss"].item()}


@api.hookimpl
def register_objectives(register):
    register("sharp", Sharp)
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A plugin file with a strategy that is not registered, and has three things wrong."""
    (tmp_path / "mine.py").write_text(FILE)
    return f"{tmp_path / 'mine.py'}:FileGAN"


def test_a_class_in_a_file_is_checked_with_what_its_file_registers(file: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_strategy(file, *PAIR, size=256, batchSize=8)
    failed = {found.check for found in caught.value.findings if found.result == "failed"}
    assert failed == {"description", "progress", "no host synchronisation"}


def test_the_command_prints_a_table_and_exits_by_what_it_finds(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "ganglion", "check", file, *PAIR, "size=256", "batchSize=8")
    assert said.code == 1
    assert re.search(r"^check +result +what was found$", said.out, re.MULTILINE)
    assert re.search(r"^progress +failed +progress 'value' is a float: report a tensor", said.out, re.MULTILINE)
    assert re.search(r"^resume +passed +Stopped and gone on with", said.out, re.MULTILINE)
    assert said.err == "strategy FileGAN: 14 passed, 3 failed, 5 skipped\n"
    skip = "skip=description,progress,no host synchronisation,float64,intervals"
    told = call(capsys, "ganglion", "check", file, skip, "--json")
    document = json.loads(told.out)
    assert (told.code, document["kind"], document["name"], document["passed"]) == (0, "strategy", "FileGAN", True)
    assert {check["result"] for check in document["checks"]} == {"passed", "skipped"}
    for words in (["ADAM", "beta1=0.5"], ["Circle", "radius=2"], ["MLP", "role=encoder"]):
        assert call(capsys, "ganglion", "check", *words).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("Targt", "nothing is called 'Targt'; did you mean 'Target'?"),
        ("BCE", "'BCE' is a criterion, and the kit checks strategy, network, dataset, processor"),
        ("Table", "Table needs path="),
        ("Circle size=a", "size"),
        ("Circle foo=1", "unknown key 'foo'"),
        ("Circle Circle", "'Circle': expected key=value after the name of a dataset"),
        ("GAN A B C", "'C': expected key=value after the data set"),
        ("MLP role=x", "role=x: the kit knows these"),
        ("GAN role=generator", "only networks play a role here"),
        ("Circle kind=foo", "kind=foo: the kit checks these kinds"),
        ("Circle kind=network", "'Circle' is a dataset, not a network"),
        ("kind=strategy", "expected the name of what is to be checked"),
        ("nofile.py:Thing", "does not exist"),
        ("mine.py", "add what is meant in it: mine.py:MyName"),
    ],
)
def test_a_wrong_command_is_answered_in_one_sentence(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused_command(capsys, ["ganglion", "check", *words.split()], message)


# --- the engine of the kit ----------------------------------------------------------------------------------------


def test_checks_that_need_a_failed_one_are_skipped_and_all_others_are_carried_out() -> None:
    def bad(subject: Any) -> None:
        """Never said."""
        raise Failed("it is bad: make it good")

    def absent(subject: Any) -> None:
        raise Skipped("not here")

    def good(subject: Any) -> None:
        """All
        is well.

        And more.
        """

    checks = [
        Check("one", bad), Check("two", good, ("one",)), Check("three", good), Check("four", absent),
        Check("five", good, ("four",)), Check("six", lambda subject: print(1 / subject)),
    ]  # fmt: skip
    found = [(f.check, f.result, f.sentence) for f in carry_out(checks, 0)]
    assert found[:5] == [
        ("one", "failed", "it is bad: make it good"),
        ("two", "skipped", "'one' has to pass first"),
        ("three", "passed", "All is well."),
        ("four", "skipped", "not here"),
        ("five", "skipped", "'four' does not apply here"),
    ]
    assert found[5][2].startswith("ZeroDivisionError: division by zero at test_conformance.py, line ")
    asked = {f.check: f.sentence for f in carry_out(checks, 1, skip=["ONE"])}
    assert (asked["one"], asked["two"]) == ("left out, as asked", "All is well.")
    with pytest.raises(ConfigError, match="there is no check 'ones'; did you mean 'one'"):
        carry_out(checks, 0, skip=["ones"])


def test_attributes_that_no_checkpoint_keeps_have_a_fingerprint() -> None:
    class Holder:
        context = None

        def __init__(self) -> None:
            self.kept = torch.zeros(2)
            self.seen = {1, 2}
            self.streams = {"a.b": [random.Random(3)], "c": torch.Generator().manual_seed(1)}
            self.array = numpy.zeros(2)

    holder = Holder()
    before = unsaved_prints(holder)
    assert set(before) == {"seen", "streams.a.b.0", "streams.c", "array"}
    assert unsaved_prints(holder) == before
    holder.seen.add(3)
    holder.streams["a.b"][0].random()
    torch.randn(1, generator=holder.streams["c"])
    holder.array[1] = 1
    assert all(before[name] != after for name, after in unsaved_prints(holder).items())
    assert fingerprint({"b": 1}) != fingerprint({"b": 2})


def test_the_watch_sees_reads_and_draws_but_not_those_of_modules() -> None:
    layer, rows = nn.Dropout(0.5), torch.ones(4)
    with contained(), watching() as watch:
        layer(rows)
        torch.randn(2, generator=torch.Generator())
        torch.where(rows > 0, rows, -rows).sum()
        rows[torch.tensor([1, 2])] = 3.0
    assert (watch.reads, watch.draws) == ([], [])
    with contained(), watching() as watch:
        nn.functional.dropout(rows)
        rows.numpy()
        rows.nonzero()
        bool(rows[0])
    assert len(watch.draws) == 1 and len(watch.reads) == 3
    assert "nn.functional.dropout(rows)" in watch.draws[0]
