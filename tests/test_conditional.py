"""Strategies that are told a class or a code: what the players see and minimise, and that they make what is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import call, refused
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import Batch, DataSpec, LearningContext
from ganglion.engine.data import TensorDataset
from ganglion.engine.errors import ConfigError, NetworkError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.launch import learn
from ganglion.engine.opening import draw_labelled, draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.samplers import BatchSampler, Sequential
from ganglion.engine.session import Session
from ganglion.engine.streams import RandomStream, Streams
from ganglion.strategies.acgan import ACGAN, head_sizes
from ganglion.strategies.cgan import CGAN
from ganglion.strategies.charges import Charge, Drawn
from ganglion.strategies.infogan import InfoGAN
from ganglion.strategies.labels import one_hots
from ganglion.strategies.objectives import NonSaturating, RelativisticPaired
from ganglion.strategies.penalties import R1
from ganglion.strategies.projectiongan import ProjectionGAN
from ganglion.strategies.telling import beside

REGISTRY = Registry().load()
CPU = torch.device("cpu")
Capture = pytest.CaptureFixture[str]
MEANS = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
CLUSTERS = {"mean": "-2,0,2,0,0,3", "covariance": "0.1,0,0.1", "size": 1000, "testSize": 8}
QUIET = {"threads": 1, "traces": "lines", "sampleInterval": 0, "storeSeconds": 0, "traceInterval": 1000}
LABELLED = pytest.mark.parametrize("strategy", ["CGAN", "ACGAN", "ProjectionGAN"])


def clusters(fields: Mapping[str, Tensor] | None = None) -> TensorDataset:
    """Six points of three classes."""
    target = torch.tensor([2, 0, 1, 0, 2, 2])
    spec = DataSpec("vector", (2,), classes=("a", "b", "c"))
    return TensorDataset(spec, MEANS[target] + torch.arange(12.0).view(6, 2) / 10, target, fields)


def ready(strategy_class: type[Any], data: TensorDataset, generator: int, discriminator: nn.Module, **keys: Any) -> Any:
    """A strategy on `data` with a linear generator from `generator` numbers, and this discriminator."""
    parts = {"objective": keys.pop("playing", NonSaturating()), "penalty": keys.pop("penalties", ())}
    networks = {"generator": nn.Linear(generator, 2), "discriminator": discriminator}
    streams, sampler = Streams(0, CPU), BatchSampler(data, Sequential(None, data), 6, 0, CPU)
    context = LearningContext(
        strategy_class.Settings(**keys), data.spec, networks, dict.fromkeys(networks, CPU), streams, sampler, {}, parts
    )
    strategy = strategy_class()
    strategy.bind(context)
    strategy.setup(context)
    return strategy


def session(strategy: str, dataset: str = "Ring", networks: str = "Generator,Discriminator", **keys: Any) -> Session:
    small = {
        "batchSize": 16,
        "iterations": 10,
        **({"size": 64, "testSize": 8} if dataset in ("Ring", "Circle") else {}),
    }
    asked = request(networks, dataset, {**small, "strategy": strategy, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


# --- what is learnt -----------------------------------------------------------------------------------------------


def learn_clusters(strategy: str, runs: Path, **keys: Any) -> Any:
    pair = "PerceptronGenerator,PerceptronDiscriminator"
    fast = {"learningRate": 1e-3, "beta1": 0.0, "batchSize": 64, "discriminatorIterations": 1, "iterations": 150}
    learn(pair, "Gaussians", {**CLUSTERS, **QUIET, **fast, "strategy": strategy, "tag": "t", **keys}, runs=runs)
    return open_run(REGISTRY, Repository(runs).find("t"))


@LABELLED
def test_samples_are_of_the_class_that_is_asked_for(strategy: str, tmp_path: Path) -> None:
    opened = learn_clusters(strategy, tmp_path)
    samples, classes = draw_labelled(opened, 300, 0)
    assert classes.tolist() == [0, 1, 2] * 100
    distance = torch.cdist(samples, MEANS)
    assert float((distance.argmin(1) == classes).float().mean()) >= 0.9
    assert float(distance.gather(1, classes[:, None]).mean()) < 0.8  # real points: 0.4
    only = draw_samples(opened, 50, 0, [2])
    assert only.shape == (50, 2) and float((torch.cdist(only, MEANS).argmin(1) == 2).float().mean()) >= 0.9


def test_codes_find_the_clusters_without_labels(tmp_path: Path) -> None:
    opened = learn_clusters("InfoGAN", tmp_path, iterations=300, continuous=1)
    noise = opened.strategy.noise(300, RandomStream(0, "test", CPU))
    with torch.no_grad():
        nearest = torch.cdist(opened.strategy.generate(noise), MEANS).argmin(1)
    found = [nearest[noise[:, 2:5].argmax(1) == code].bincount(minlength=3) for code in range(3)]
    assert {int(counts.argmax()) for counts in found} == {0, 1, 2}
    assert min(int(counts.max()) for counts in found) >= 90


# --- conditions ---------------------------------------------------------------------------------------------------


def test_labels_stand_behind_the_noise_in_turn() -> None:
    strategy = ready(CGAN, clusters(), 5, nn.Linear(5, 1))
    noise = strategy.noise(7, RandomStream(0, "test", CPU))
    assert noise.shape == (7, 5)
    assert noise[:, 2:].argmax(1).tolist() == [0, 1, 2, 0, 1, 2, 0] == strategy.requested(noise).tolist()
    assert noise[:, 2:].sum(1).tolist() == [1.0] * 7


def test_labels_beside_points_sequences_and_images() -> None:
    label = one_hots([torch.tensor([1, 2])], [3])
    assert beside(torch.full((2, 2), 9), label).tolist() == [[9, 9, 0, 1, 0], [9, 9, 0, 0, 1]]
    assert beside(torch.full((2, 2, 1), 9), label)[1].tolist() == [[9, 0, 0, 1], [9, 0, 0, 1]]
    rows = beside(torch.full((2, 1, 2, 2), 9), label, "row")
    assert rows.tolist() == [[[[9, 9], [9, 9], [0, 1], [0, 0]]], [[[9, 9], [9, 9], [0, 0], [1, 0]]]]
    planes = beside(torch.full((2, 1, 2, 2), 9), label)
    assert planes.shape == (2, 4, 2, 2)
    assert planes[0].flatten(1).tolist() == [[9] * 4, [0] * 4, [1] * 4, [0] * 4]


@pytest.mark.parametrize("conditioning", ["row", "planes"])
@pytest.mark.parametrize("networks", ["Generator,Discriminator", "DCGANGenerator,DCGANDiscriminator"])
def test_images_with_every_pair(networks: str, conditioning: str) -> None:
    live = session("CGAN", "Digits", networks, conditioning=conditioning, **keys_of(networks))
    progress = live.strategy.process_iteration(0)
    assert all(math.isfinite(float(value)) for value in progress.values.values())
    told = [sentence for sentence in live.notices if "conditioning=" in sentence]
    assert len(told) == int((conditioning == "row") == networks.startswith("DCGAN"))
    for strategy in ("ACGAN", "ProjectionGAN", "InfoGAN"):
        session(strategy, "Digits", networks, **keys_of(networks)).strategy.process_iteration(0)


def keys_of(networks: str) -> dict[str, int]:
    return {"width": 4} if networks.startswith("DCGAN") else {}


@LABELLED
def test_fakes_have_the_labels_of_the_real_rows(strategy: str) -> None:
    live: Any = session(strategy, labelNoise=0.0).strategy
    batch, made = live.real_batch(), []
    live._generator = lambda noise: made.append(noise) or torch.zeros(len(noise), 2)
    live.train_discriminator(batch)
    assert torch.equal(made[0][:, 2:].argmax(1), batch.target)


@pytest.mark.parametrize("labels", ["data", "uniform"])
def test_what_the_generators_update_asks_for(labels: str) -> None:
    data = clusters()
    data.target = torch.tensor([1] * 6)  # one class only
    strategy = ready(ProjectionGAN, data, 5, nn.Linear(2, 4), generator_labels=labels)
    batch = strategy.real_batch() if strategy.reads_real() else None
    asked = strategy.asked(strategy.draw_noise(300), batch).target
    assert set(asked.tolist()) == ({1} if labels == "data" else {0, 1, 2})
    assert strategy.context.sampler.offset == 0 and (batch is None) == (labels == "uniform")


def test_uniform_labels_go_into_the_samples_and_the_scores() -> None:
    strategy = ready(ProjectionGAN, clusters(), 5, nn.Linear(2, 4), generator_labels="uniform")
    noise = strategy.draw_noise(6)
    fake = strategy._generator(noise)
    output, label = strategy._discriminator(fake), noise[:, 2:].argmax(1)
    scores = output[:, 0] + output[torch.arange(6), label + 1]
    torch.testing.assert_close(strategy.generator_loss(noise, None).total, softplus(-scores).mean())


# --- what the players minimise --------------------------------------------------------------------------------------


def test_the_projection_score_is_psi_plus_the_inner_product() -> None:
    body, last = nn.Sequential(nn.Linear(2, 5), nn.ReLU()), nn.Linear(5, 4)
    strategy = ready(ProjectionGAN, clusters(), 5, nn.Sequential(body, last))
    batch = strategy.real_batch()
    features, embedding = body(batch.input), last.weight[1:]
    psi = features @ last.weight[0] + last.bias[0]
    inner = (embedding[batch.target] * features).sum(1) + last.bias[1 + batch.target]
    torch.testing.assert_close(strategy.scores(batch.input, batch), (psi + inner)[:, None])


@pytest.mark.parametrize("joint", ["yes", "no"])
def test_a_penalty_sees_the_rows_own_classes(joint: str) -> None:
    """A linear discriminator's gradient is w0 + w_class."""
    discriminator = nn.Linear(2, 4)
    weights = [[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [2.0, 0.0]]  # classes 0, 1, 2: squared norms 2, 5, 9
    discriminator.load_state_dict({"weight": torch.tensor(weights), "bias": torch.zeros(4)})
    penalty = R1(R1.Settings(weight=4.0))
    strategy = ready(ProjectionGAN, clusters(), 5, discriminator, penalties=(penalty,), joint_pass=joint)
    batch = strategy.real_batch()  # classes 2 0 1 0 2 2
    fake = torch.ones(6, 2)
    loss = strategy.discriminator_loss(batch, fake, Drawn((Charge(penalty, 4.0, None),)))
    assert loss.terms["penalty"].item() == pytest.approx(4 * 0.5 * (3 * 9 + 2 * 2 + 5) / 6)
    mapped = torch.tensor(weights)[0] + torch.tensor(weights)[1:][batch.target]
    real, false = (batch.input * mapped).sum(1), (fake * mapped).sum(1)
    halves = softplus(-real).mean() + softplus(false).mean()
    torch.testing.assert_close(loss.total, halves + loss.terms["penalty"])


def numbers(rows: list[list[float]]) -> nn.Module:
    """A discriminator that answers the i-th row of two batches with the i-th row of numbers; it counts its passes."""

    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Parameter(torch.tensor(rows))
            self.passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return self.rows[: len(x)] + 0 * x.sum()

    return Told()


@pytest.mark.parametrize(("halves", "share"), [("sum", 1.0), ("mean", 0.5)])
def test_acgan_adds_the_classes_cross_entropies(halves: str, share: float) -> None:
    """Logits log 1, log 2, log 5 name the classes with 1/8, 2/8, 5/8; of equal ones each has 1/3."""
    sure = [0.0, 0.0, math.log(2), math.log(5)]
    discriminator: Any = numbers([sure] * 6 + [[0.0] * 4] * 6)
    keys = {"class_weight": 3.0, "generator_class_weight": 0.5, "halves": halves}
    strategy = ready(ACGAN, clusters(), 5, discriminator, **keys)
    batch = strategy.real_batch()  # classes 2 0 1 0 2 2
    real = -(3 * math.log(5 / 8) + 2 * math.log(1 / 8) + math.log(2 / 8)) / 6
    loss = strategy.discriminator_loss(batch, torch.zeros(6, 2), Drawn())
    assert loss.terms["classesReal"].item() == pytest.approx(real)
    assert loss.terms["classesFake"].item() == pytest.approx(math.log(3))
    assert loss.total.item() == pytest.approx(share * (2 * math.log(2) + 3 * (real + math.log(3))))
    assert discriminator.passes == 1
    played = strategy.generator_loss(torch.zeros(6, 2), batch)
    assert played.total.item() == pytest.approx(math.log(2) + 0.5 * real)
    assert discriminator.passes == 2


def test_acgan_with_an_objective_that_reads_real_scores() -> None:
    strategy = ready(ACGAN, clusters(), 5, nn.Linear(2, 4), playing=RelativisticPaired())
    batch, noise = strategy.real_batch(), strategy.draw_noise(6)
    fake = strategy._generator(strategy.told(noise, strategy.condition(batch)))
    scores = [strategy._discriminator(rows)[:, 0] for rows in (batch.input, fake)]
    terms = strategy.generator_loss(noise, batch).terms
    torch.testing.assert_close(terms["generatorScore"], softplus(scores[0] - scores[1]).mean())


def test_infogan_adds_the_codes_negative_log_likelihood() -> None:
    """Category 2 of probabilities 1/8, 2/8, 5/8; the codes 0.5 and -1 of Gaussians around 0 and 1."""
    discriminator: Any = numbers([[0.0] * 6] * 6 + [[0.0, 0.0, math.log(2), math.log(5), 0.0, 1.0]] * 6)
    strategy = ready(InfoGAN, clusters(), 7, discriminator, information=2.0)
    codes = torch.tensor([[0.0, 0.0, 1.0, 0.5, -1.0]]).expand(6, 5)
    batch = Batch(torch.zeros(6, 2), None, {"codes": codes})
    lost = -math.log(5 / 8) + (0.5**2 + 2.0**2) / 2 + math.log(2 * math.pi)
    loss = strategy.discriminator_loss(batch, torch.zeros(6, 2), Drawn())
    assert loss.terms["discriminatorCodes"].item() == pytest.approx(lost)
    assert loss.total.item() == pytest.approx(2 * math.log(2) + 2 * lost)
    assert discriminator.passes == 1
    strategy._discriminator = numbers([[0.0, 0.0, math.log(2), math.log(5), 0.0, 1.0]] * 6)
    played = strategy.generator_loss(torch.cat((torch.zeros(6, 2), codes), 1), None)
    assert played.total.item() == pytest.approx(math.log(2) + 2 * lost)


def test_infogan_judges_fakes_by_the_codes_that_they_were_made_from() -> None:
    live: Any = session("InfoGAN", "Circle", categories=3, continuous=2, reuseNoise=True).strategy
    made: list[Tensor] = []
    judged: list[Tensor] = []
    generator, code_loss = live._generator, live.code_loss
    live._generator = lambda noise: made.append(noise) or generator(noise)
    live.code_loss = lambda output, codes: judged.append(codes) or code_loss(output, codes)
    live.process_iteration(0)
    assert torch.equal(made[0][:, 2:], judged[0]) and torch.equal(made[1][:, 2:], judged[1])
    assert torch.equal(made[0], made[1])  # reuseNoise
    assert judged[0][:, :3].sum(1).tolist() == [1.0] * 16 and float(judged[0][:, 3:].abs().max()) <= 1
    assert live.requested(made[0]) is None
    shown = live.noise(4, RandomStream(0, "test", CPU))
    assert shown[:, 2:5].argmax(1).tolist() == [0, 1, 2, 0]


def test_codes_of_one_kind_alone() -> None:
    assert session("InfoGAN", categories=0).strategy.process_iteration(0).values["generatorCodes"] > 0
    assert session("InfoGAN", continuous=0).networks["discriminator"](torch.zeros(1, 2)).shape == (1, 1 + 8)
    assert session("InfoGAN", "Circle").networks["discriminator"](torch.zeros(1, 2)).shape == (1, 1 + 10 + 2)


# --- further heads --------------------------------------------------------------------------------------------------


def test_acgan_with_several_heads() -> None:
    side = torch.tensor([0, 1, 1, 0, 0, 1])
    strategy = ready(ACGAN, clusters({"side": side}), 7, nn.Linear(2, 6), heads=("side:2",))
    noise = strategy.noise(7, RandomStream(0, "test", CPU))
    assert noise[:, 2:5].argmax(1).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert noise[:, 5:].argmax(1).tolist() == [0, 0, 0, 1, 1, 1, 0]
    batch = strategy.real_batch()
    assert strategy.condition(batch)[0].tolist() == [0, 0, 1, 1, 0]
    output = torch.zeros(6, 6)
    output[:, 5] = math.log(3)  # side 1 with 3/4
    wanted = math.log(3) - (math.log(1 / 4) + math.log(3 / 4)) / 2
    assert strategy.class_loss(output, strategy.labels(batch)).item() == pytest.approx(wanted)


def test_heads_that_do_not_fit() -> None:
    for text in ("side", "side:1", ":2", "target:3", "side:x"):
        with pytest.raises(ConfigError, match=f"heads={text}: expected NAME:CLASSES"):
            head_sizes([text])
    for field, said in (
        (None, "no field 'side'"),
        (torch.arange(6) - 4, "numbers from -4 to 1, expected one whole number from 0 to 1"),
        (torch.arange(6), "numbers from 0 to 5"),
        (torch.zeros(6), "other values"),
    ):
        with pytest.raises(ConfigError, match=said):
            ready(ACGAN, clusters({} if field is None else {"side": field}), 7, nn.Linear(2, 6), heads=("side:2",))


# --- wrong use ------------------------------------------------------------------------------------------------------


@LABELLED
def test_data_without_labels(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"^{strategy} needs class labels, and the data have none; .* NSGAN$"):
        session(strategy, "Circle")


def test_what_cannot_be_together() -> None:
    with pytest.raises(ConfigError, match="categories=0 continuous=0: InfoGAN without any code is NSGAN"):
        session("InfoGAN", categories=0, continuous=0)
    with pytest.raises(ConfigError, match="generatorLabels=uniform: objective relativisticPaired compares"):
        session("CGAN", objective="relativisticPaired", generatorLabels="uniform")


def test_a_discriminator_that_ends_in_a_sigmoid() -> None:
    with pytest.raises(NetworkError, match="ACGAN: the discriminator ends in a Sigmoid"):
        ready(ACGAN, clusters(), 5, nn.Sequential(nn.Linear(2, 4), nn.Sigmoid()))
    live = session("ACGAN", networks="Generator,DianneDiscriminator")  # declared: it gives the logits
    assert float(live.networks["discriminator"](torch.full((1, 2), 1e4)).detach().abs().max()) > 1


# --- samples of a class ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a labelled and of a plain strategy, hardly trained."""
    runs = tmp_path_factory.mktemp("ring")
    tiny = {**QUIET, "size": 64, "testSize": 8, "batchSize": 16, "iterations": 2}
    for tag, strategy in (("mine", "CGAN"), ("plain", "NSGAN")):
        learn("Generator,Discriminator", "Ring", {**tiny, "strategy": strategy, "tag": tag}, runs=runs)
    return runs


def test_sample_of_a_class(ring: Path, tmp_path: Path, capsys: Capture) -> None:
    strategy = open_run(REGISTRY, Repository(ring).find("mine")).strategy
    found = {}
    for words in (("class=3",), ("label=135 degrees",), ("classes=3,0",), ()):
        out = tmp_path / "x.npz"
        assert (
            call(capsys, "ganglion", "sample", "--runs", str(ring), "mine", "count=5", *words, f"out={out}").code == 0
        )
        with np.load(out) as arrays:
            found[words] = torch.from_numpy(arrays["input"])
    assert found[("class=3",)].shape == (5, 2)
    assert torch.equal(found[("class=3",)], found[("label=135 degrees",)])  # a number, and that class's name
    assert torch.equal(found[("class=3",)][:3], found[("classes=3,0",)][::2])
    noise = strategy.noise(64, RandomStream(0, "sample", CPU))  # eight for each class: more than are needed
    with torch.no_grad():
        threes, zeros = (strategy.generate(noise[strategy.requested(noise) == each]) for each in (3, 0))
    torch.testing.assert_close(found[("class=3",)], threes[:5])
    torch.testing.assert_close(found[("classes=3,0",)][1::2], zeros[:2])
    picture = tmp_path / "x.png"
    assert call(capsys, "ganglion", "sample", "--runs", str(ring), "mine", "class=1", f"out={picture}").code == 0
    assert picture.stat().st_size > 1000


def test_more_samples_of_a_class_than_one_draw_gives(ring: Path) -> None:
    opened = open_run(REGISTRY, Repository(ring).find("mine"))
    assert draw_samples(opened, 200, 0, [5]).unique(dim=0).shape == (200, 2)


def test_classes_that_are_not_there(ring: Path, capsys: Capture) -> None:
    sample = ["ganglion", "sample", "--runs", str(ring)]
    refused(capsys, [*sample, "mine", "class=8"], "class=8: run 'mine' knows no class '8'", "degrees")
    refused(capsys, [*sample, "mine", "class=-1"], "class=-1: run 'mine' knows no class '-1'")
    refused(capsys, [*sample, "mine", "class=1,45 degree"], "knows no class '45 degree'; did you mean '45 degrees'?")
    refused(capsys, [*sample, "plain", "class=1"], "class=1: run 'plain' was learnt by NSGAN, which takes no classes")
