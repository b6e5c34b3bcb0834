"""The strategies with autoencoders in them, and distillation: their losses by hand, and that they learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import QUIET, learn_tiny
from torch import Tensor, nn

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import Batch, DataSpec
from ganglion.engine.errors import ConfigError, NetworkError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.launch import learn
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.strategies.charges import Drawn
from ganglion.strategies.ebgan import pulling_away
from ganglion.strategies.reconstructing import values_of
from ganglion.strategies.vae import VAE
from ganglion.strategies.variational import divergence_of

REGISTRY = Registry().load()
POINTS = {"size": 64, "testSize": 16}
PAIR = "Generator,Autoencoder"


def session(strategy: str, networks: str, dataset: str = "Circle", **keys: Any) -> Session:
    points = POINTS if dataset == "Circle" else {}
    asked = request(networks, dataset, {"batchSize": 8, "iterations": 10, **points, "strategy": strategy, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def number(value: Tensor) -> float:
    return float(value.detach())


class Times(nn.Module):
    """Multiplies by one learnt number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


REAL = Batch(torch.tensor([[1.0, 3.0], [2.0, -4.0]]))  # halved: errors 1 and 1.5, squares 1.25 * 2 = 2.5 and 5
FAKE = torch.tensor([[0.4, 0.0], [0.0, 2.0]])  # errors .1 and .5, squares .02 and .5


# --- BEGAN --------------------------------------------------------------------------------------------------------


def test_began_losses_are_the_absolute_errors_by_hand() -> None:
    strategy: Any = session("BEGAN", PAIR).strategy
    for joint in (True, False):
        strategy._discriminator, strategy._joint = Times(0.5), joint
        strategy._k.fill_(0.25)
        loss = strategy.discriminator_loss(REAL, FAKE, Drawn())
        assert number(loss.terms["realError"]) == pytest.approx((1.0 + 1.5) / 2)
        assert number(loss.terms["fakeError"]) == pytest.approx((0.1 + 0.5) / 2)
        assert number(loss.total) == pytest.approx(1.25 - 0.25 * 0.3)
    strategy.fake = lambda noise, batch: FAKE
    assert number(strategy.generator_loss(None, None).total) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("start", "real", "fake", "end"),
    [(0.5, 2.0, 1.0, 0.5 + 0.1 * (1.5 - 1.0)), (0.01, 0.2, 1.0, 0.0), (0.99, 2.0, 0.5, 1.0)],
)
def test_k_follows_the_balance_and_is_held_between_0_and_1(start: float, real: float, fake: float, end: float) -> None:
    strategy: Any = session("BEGAN", PAIR, lambdaK=0.1).strategy
    strategy._k.fill_(start)
    strategy.discriminator_loss = lambda batch, samples, drawn: _constant(
        strategy, "discriminator", real, realError=real
    )
    strategy.generator_loss = lambda noise, batch: _constant(strategy, "generator", fake)
    values = strategy.process_iteration(0).values
    assert float(values["k"]) == pytest.approx(end, abs=1e-6) == float(strategy._k)
    assert float(values["convergence"]) == pytest.approx(real + abs(0.75 * real - fake))
    strategy.process_iteration(1)
    assert float(values["k"]) == pytest.approx(end, abs=1e-6)  # what was reported does not change afterwards


def _constant(strategy: Any, role: str, value: float, **terms: float) -> Any:
    from ganglion.engine.contracts import Loss

    weight = next(strategy.context.networks[role].parameters())
    return Loss(weight.sum() * 0 + value, {name: torch.tensor(term) for name, term in terms.items()})


def test_k_starts_at_0_and_goes_on_where_it_stopped() -> None:
    live = session("BEGAN", PAIR, lambdaK=0.5)
    strategy: Any = live.strategy
    assert float(strategy._k) == 0.0
    for i in range(5):
        strategy.process_iteration(i)
    assert 0 < float(strategy._k) <= 1
    other: Any = session("BEGAN", PAIR, lambdaK=0.5).strategy
    other.load_state_dict(strategy.state_dict())
    assert torch.equal(other._k, strategy._k) and torch.equal(other._real_error, strategy._real_error)


# --- EBGAN --------------------------------------------------------------------------------------------------------


def test_ebgan_losses_are_the_squared_errors_and_the_hinge_per_sample() -> None:
    strategy: Any = session("EBGAN", PAIR, margin=0.3, ptWeight=0).strategy
    strategy._discriminator = Times(0.5)
    loss = strategy.discriminator_loss(REAL, FAKE, Drawn())
    real, near, far = (1.25 + 2.5) * 1.0, 0.02, 0.5
    assert number(loss.terms["realError"]) == pytest.approx((1.25 + 2.5) / 2 * 1.0) and real == 3.75
    assert number(loss.terms["fakeError"]) == pytest.approx((near + far) / 2)
    assert number(loss.total) == pytest.approx(1.875 + (0.3 - near + 0.0) / 2)
    strategy.fake = lambda noise, batch: FAKE
    assert number(strategy.generator_loss(None, None).total) == pytest.approx((near + far) / 2)


def test_pulling_away_is_the_mean_squared_cosine_of_pairs() -> None:
    right_angle = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    assert number(pulling_away(right_angle)) == pytest.approx(0.0, abs=1e-7)
    assert number(pulling_away(torch.tensor([[1.0, 2.0], [-3.0, -6.0]]))) == pytest.approx(1.0)  # squared: both ways
    three = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])  # cosines 0, 1/sqrt 2, 1/sqrt 2
    assert number(pulling_away(three)) == pytest.approx((0.0 + 0.5 + 0.5) / 3)
    assert number(pulling_away(three[:1])) == pytest.approx(0.0, abs=1e-7)


def test_the_code_is_what_the_layer_named_code_gives() -> None:
    live = session("EBGAN", PAIR, ptWeight=2.0)
    strategy: Any = live.strategy
    network: Any = live.networks["discriminator"]
    noise = strategy.draw_noise(8)
    loss = strategy.generator_loss(noise, None)
    codes = strategy.fake(noise, None)
    for layer in network.layers:
        codes = layer(codes)
        if layer is network.layers.code:
            break
    torch.testing.assert_close(loss.terms["pullingAway"], 2.0 * pulling_away(codes))
    energy = strategy.errors(strategy.fake(noise, None)).mean()
    torch.testing.assert_close(loss.total, energy + loss.terms["pullingAway"])
    assert not network.layers.code._forward_hooks


def test_margin_follows_the_batch_size_unless_given() -> None:
    assert session("EBGAN", PAIR).strategy._margin == 1.0  # type: ignore[attr-defined]
    assert session("EBGAN", PAIR, batchSize=64, size=96, accumulate=2).strategy._margin == 1.0  # type: ignore[attr-defined]
    assert session("EBGAN", PAIR, batchSize=128, size=160).strategy._margin == 2.0  # type: ignore[attr-defined]
    assert session("EBGAN", PAIR, margin=3).strategy._margin == 3.0  # type: ignore[attr-defined]


def test_a_discriminator_without_code_is_not_pulled_and_that_is_said() -> None:
    live = session("EBGAN", "Generator,Discriminator")
    assert any("no layer named 'code'" in sentence for sentence in live.notices)
    assert "pullingAway" not in live.strategy.process_iteration(0).values
    with pytest.raises(ConfigError, match=r"ptWeight=0.5: the discriminator has no layer named 'code'"):
        session("EBGAN", "Generator,Discriminator", ptWeight=0.5)


@pytest.mark.parametrize("strategy", ["BEGAN", "EBGAN"])
@pytest.mark.parametrize("networks", [PAIR, "Generator,Discriminator", "DianneGenerator,DianneDiscriminator"])
def test_the_discriminator_gives_back_pictures(strategy: str, networks: str) -> None:
    live = session(strategy, networks, "Digits")
    assert values_of(live.networks["discriminator"], torch.zeros(3, 1, 8, 8)).shape == (3, 1, 8, 8)
    values = live.strategy.process_iteration(0).values
    assert all(math.isfinite(float(value)) and value.dim() == 0 for value in values.values())


def test_a_sigmoid_that_is_left_to_the_loss_is_applied_to_a_reconstruction() -> None:
    network: Any = session("BEGAN", "DianneGenerator,DianneDiscriminator", "Digits").networks["discriminator"]
    rows = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(values_of(network, rows), network(rows).sigmoid())


@pytest.mark.parametrize("strategy", ["BEGAN", "EBGAN"])
def test_an_objective_or_a_penalty_is_refused_with_the_reason(strategy: str) -> None:
    for key, value in (("objective", "hinge"), ("penalty", "R1")):
        reason = "it has no objective" if key == "objective" else "no score that a penalty could be on"
        with pytest.raises(ConfigError, match=f"unknown key '{key}': this strategy.*{reason}"):
            session(strategy, PAIR, **{key: value})


# --- VAE ----------------------------------------------------------------------------------------------------------


def test_divergence_is_the_closed_form() -> None:
    mean, variance = torch.tensor([[0.0, 0.0], [1.0, -2.0]]), torch.tensor([[1.0, 1.0], [0.25, 4.0]])
    wanted = [0.0, 0.5 * ((0.25 + 1 - 1 - math.log(0.25)) + (4 + 4 - 1 - math.log(4)))]
    assert divergence_of(mean, variance.log()).tolist() == pytest.approx(wanted)
    own, other = (torch.distributions.Normal(*pair) for pair in ((mean, variance.sqrt()), (0.0, 1.0)))
    torch.testing.assert_close(
        divergence_of(mean, variance.log()), torch.distributions.kl_divergence(own, other).sum(1)
    )


def _vae(decoder: nn.Module | None = None, **keys: Any) -> Any:
    live = session("VAE", "Encoder,Decoder", latentDims=2, **keys)
    strategy: Any = live.strategy
    strategy._encoder = lambda rows: torch.cat((rows, torch.full_like(rows, math.log(4.0))), 1)  # mean x, deviation 2
    strategy._decoder = decoder if decoder is not None else Times(1.0)
    return strategy


def test_loss_is_the_sum_over_the_row_and_beta_times_the_divergence() -> None:
    """Codes are x + 2 e, and so is the reconstruction: the squared error is 4 e^2, summed over both values."""
    strategy = _vae(beta=0.5)
    rows, drawn = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[[0.5, 0.0]], [[1.0, -1.0]]])
    loss = strategy.loss(Batch(rows), drawn)
    reconstruction = (4 * 0.25 + 4 * 2.0) / 2
    divergence = 0.5 * ((4 + 1 - 1 - math.log(4)) + (4 + 4 - 1 - math.log(4)) + (3 - math.log(4)) + (4 - math.log(4)))
    assert number(loss.terms["reconstruction"]) == pytest.approx(reconstruction)
    assert number(loss.terms["divergence"]) == pytest.approx(divergence / 2)
    assert number(loss.total) == pytest.approx(reconstruction + 0.5 * divergence / 2)


def test_several_draws_are_averaged_row_by_row() -> None:
    strategy = _vae(sampleSize=2)
    rows = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    drawn = torch.tensor([[[0.5, 0.0], [0.0, 0.0]], [[1.0, -1.0], [0.0, 2.0]]])
    reconstruction, _ = strategy._row_losses(Batch(rows), drawn)
    assert reconstruction.detach().tolist() == pytest.approx([(1.0 + 0.0) / 2, (8.0 + 16.0) / 2])


def test_denoising_reconstructs_the_clean_target() -> None:
    live = session("VAE", "Encoder,Decoder", "Digits", autoencode=True, encoderNoise=0.3, latentDims=3)
    strategy: Any = live.strategy
    batch = strategy.context.sampler.next_batch()
    assert not torch.equal(batch.input, batch.target)
    drawn = torch.zeros(8, 1, 3)
    clean, _ = strategy._row_losses(batch, drawn)
    noisy, _ = strategy._row_losses(Batch(batch.input), drawn)
    logits = live.networks["decoder"](live.networks["encoder"](batch.input)[:, :3])
    wanted = nn.functional.binary_cross_entropy_with_logits(logits, batch.target, reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(clean, wanted)
    assert not torch.allclose(clean, noisy)


class Half(nn.Module):
    """Gives .5 twice, as a probability or as its logit, declared or not."""

    def __init__(self, value: float, output_range: tuple[float, float] | None = None, sigmoid: bool = False) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(value))
        self.last = nn.Sigmoid() if sigmoid else nn.Identity()
        self.output_range = output_range

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x * 0 + self.bias)


def test_no_sigmoid_is_applied_twice() -> None:
    """Binary cross-entropy of .8 against 1, twice, is -2 log .8, however the decoder gives its .8."""
    live = session("VAE", "Encoder,Decoder", "Digits", latentDims=2)
    layered: Any = live.networks["decoder"]
    assert layered.output_range == (0.0, 1.0) and live.spec.value_range == (0.0, 1.0)
    logit = math.log(4.0)
    from ganglion.strategies import variational

    for decoder in (Half(logit), Half(0.8, (0.0, 1.0)), Half(logit, (0.0, 1.0), sigmoid=True)):
        strategy: Any = live.strategy
        strategy._decoder, strategy._in_range = decoder, variational._in_range(decoder)
        judged = strategy._judged(torch.zeros(3, 2))
        assert judged.detach().flatten().tolist() == pytest.approx([logit] * 6, rel=1e-4)
        assert strategy._criterion.loss(judged, torch.ones(3, 2)).detach().tolist() == pytest.approx(
            [-math.log(0.8)] * 3
        )
        assert strategy.generate(torch.zeros(3, 2)).detach().flatten().tolist() == pytest.approx([0.8] * 6)


def test_samples_of_the_decoder_for_pictures_lie_in_0_to_1_and_the_loss_takes_its_logits() -> None:
    live = session("VAE", "Encoder,Decoder", "Digits")
    strategy: Any = live.strategy
    noise = strategy.noise(5, live.streams("test"))
    samples, logits = strategy.generate(noise), live.networks["decoder"](noise)
    assert samples.shape == (5, 1, 8, 8)
    torch.testing.assert_close(samples, logits.sigmoid())
    torch.testing.assert_close(strategy._judged(noise), logits)
    squared: Any = session("VAE", "Encoder,Decoder", "Digits", criterion="MSE").strategy
    torch.testing.assert_close(squared._judged(noise), squared.generate(noise))


def test_gaussian_decoders_give_means_and_deviations() -> None:
    strategy: Any = session("VAE", "Encoder,Decoder", criterion="GAU").strategy
    codes = torch.randn(4, 2)
    raw = strategy._decoder(codes)
    assert raw.shape == (4, 4)
    judged = strategy._judged(codes)
    torch.testing.assert_close(judged[:, :2], raw[:, :2])
    torch.testing.assert_close(judged[:, 2:], nn.functional.softplus(raw[:, 2:]), rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(strategy.generate(codes), raw[:, :2])
    normal = torch.distributions.Normal(judged[:, :2], judged[:, 2:])
    rows = Batch(torch.randn(4, 2))
    strategy._encoder = lambda given: torch.cat((codes, torch.zeros(4, 2)), 1)
    torch.testing.assert_close(strategy._row_losses(rows, torch.zeros(4, 1, 2))[0], -normal.log_prob(rows.input).sum(1))


def test_criterion_follows_the_data() -> None:
    for spec, criterion in (
        (DataSpec("image", (1, 8, 8), (0.0, 255.0)), "BCE"),
        (DataSpec("vector", (3,), (0.0, 1.0)), "BCE"),
        (DataSpec("vector", (3,)), "MSE"),
    ):
        assert VAE.defaults(spec) == {"criterion": criterion}


@pytest.mark.parametrize(
    ("networks", "dataset", "keys", "words"),
    [
        (
            "Encoder,Decoder",
            "Circle",
            {"criterion": "BCE"},
            "criterion=BCE wants data in 0..1, and these are unbounded",
        ),
        ("Encoder,Generator", "Digits", {}, "these are in -1..1; use criterion=MSE"),
        ("Encoder,Decoder", "Digits", {"criterion": "NLL"}, "criterion=NLL: VAE compares numbers with numbers"),
        ("Encoder,Decoder", "Digits", {"criterion": "GKL"}, "criterion=GKL: VAE compares numbers with numbers"),
        ("Encoder,Decoder", "Digits", {"criterion": "GAU"}, "criterion=GAU: the decoder declares the range"),
        ("Encoder,Decoder", "Circle", {"encoder.accumulate": 2}, "encoder.accumulate=2 and decoder.accumulate=1"),
        ("Decoder,Encoder", "Digits", {}, "Decoder is made for the decoder, not for the encoder"),
    ],
)
def test_what_does_not_fit_a_vae_is_said(networks: str, dataset: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, NetworkError), match=words.replace("(", r"\(")):
        session("VAE", networks, dataset, **keys)


def test_an_undeclared_sigmoid_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ending.yaml"
    file.write_text("name: Ending\ndoc: One.\nlayers:\n  - Linear: ${output.size}\n  - Sigmoid\n")
    with pytest.raises(ConfigError, match=r"ends in a Sigmoid and does not say so; declare output_range: \[0, 1\]"):
        session("VAE", f"Encoder,{file}", "Digits")
    file.write_text(file.read_text() + "output_range: [0, 1]\n")
    assert session("VAE", f"Encoder,{file}", "Digits").strategy.process_iteration(0).values


# --- all of them learn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "networks", "keys", "mean", "covariance"),
    [
        ("VAE", "Encoder,Decoder", {"iterations": 600, "learningRate": 3e-3, "beta": 0.1}, 0.2, 0.4),
        ("EBGAN", PAIR, {"iterations": 600, "learningRate": 2e-3}, 0.2, 0.4),
        # Reconstruction errors say little of how dense points are: BEGAN finds place and direction, and is narrower.
        (
            "BEGAN",
            "Generator,Discriminator",
            {
                "iterations": 700,
                "learningRate": 1e-3,
                "batchSize": 64,
                "gamma": 1,
                "lambdaK": 0.5,
                "generator.ema": 0.99,
            },
            0.2,
            0.65,
        ),
    ],
)
def test_learns_a_gaussian(
    strategy: str, networks: str, keys: dict[str, Any], mean: float, covariance: float, tmp_path: Path
) -> None:
    points = {"mean": "0.5,-0.5", "covariance": "1,0.6,1", "strategy": strategy, "tag": "gaussian"}
    learn(networks, "Gaussians", {**QUIET, "traceInterval": 100, **points, **keys}, runs=tmp_path)
    samples = draw_samples(open_run(REGISTRY, Repository(tmp_path).run("gaussian")), 4000, 0)
    apart = samples.T.cov() - torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    assert float((samples.mean(0) - torch.tensor([0.5, -0.5])).abs().max()) < mean
    assert float(apart.abs().max()) < covariance
    assert float(samples.T.cov()[0, 1]) > 0.1


# --- Target -------------------------------------------------------------------------------------------------------


def test_target_reaches_what_the_teacher_of_another_run_gives(tmp_path: Path) -> None:
    learn_tiny("FeedForward", tmp_path, "source", iterations=40)
    said: list[str] = []
    keys = {"strategy": "Target", "tag": "taught", "initTag": "source", "batchSize": 64, "iterations": 150}
    learn("MLP,MLP", "Digits", {**QUIET, **keys, "traces": "lines"}, runs=tmp_path, notify=said.append)
    repository = Repository(tmp_path)
    source = open_run(REGISTRY, repository.run("source"))
    taught = open_run(REGISTRY, repository.run("taught"))
    rows = torch.rand(32, 1, 8, 8)
    given, wanted = taught.strategy.predict(rows), source.networks["network"](rows)  # type: ignore[attr-defined]
    untaught: Any = session("Target", "MLP,MLP", "Digits").strategy
    assert torch.equal(taught.networks["teacher"](rows), wanted)
    assert number((given - wanted).square().mean()) < 0.15 * number((untaught.predict(rows) - wanted).square().mean())


def test_the_teacher_has_averaged_weights_where_its_run_has_some(tmp_path: Path) -> None:
    learn_tiny("FeedForward", tmp_path, "source", iterations=4, ema=0.5)
    learn_tiny("Target", tmp_path, "taught", iterations=1, initTag="source")
    repository = Repository(tmp_path)
    averaged = repository.run("source").checkpoints().weights_only().averaged["network"]
    teacher = repository.run("taught").checkpoints().weights_only().networks["teacher"]
    assert all(torch.equal(value, averaged[name]) for name, value in teacher.items())


def test_the_loss_is_the_criterion_between_the_two_and_the_teacher_is_frozen() -> None:
    live = session("Target", "MLP,CNN", "Digits", criterion="ABS")
    strategy: Any = live.strategy
    teacher = live.networks["teacher"]
    assert not teacher.training and live.networks["trainee"].training
    rows = strategy.context.sampler.next_batch().input
    wanted = strategy._wanted(rows)
    assert not wanted.requires_grad and torch.equal(wanted, strategy._wanted(rows))  # no dropout in it
    loss = strategy.loss(rows, wanted)
    torch.testing.assert_close(loss.total, (live.networks["trainee"](rows) - teacher(rows)).abs().mean())


def test_target_says_where_the_teacher_comes_from_and_what_does_not_fit(tmp_path: Path) -> None:
    learn_tiny("FeedForward", tmp_path, "source", iterations=1)
    learn_tiny("GAN", tmp_path, "pair", iterations=1)
    for initial, network, words in (
        ("pair", "MLP", "initTag=pair: it has the roles generator, discriminator, this job has trainee, teacher"),
        ("source", "CNN", "initTag=source: its network is another network"),
    ):
        with pytest.raises(ConfigError, match=words):
            learn(f"MLP,{network}", "Digits", {**QUIET, "strategy": "Target", "initTag": initial}, runs=tmp_path)
    with pytest.raises(ConfigError, match="criterion=NLL: the teacher gives numbers of any size; use MSE"):
        session("Target", "MLP,MLP", "Digits", criterion="NLL")
    said = _notices(tmp_path, "alone"), _notices(tmp_path, "taught", initTag="source")
    assert "the teacher has random weights; initTag=TAG takes those of a run" in said[0]
    assert "weights of teacher (network there) taken from run 'source', iteration 1" in said[1]


def _notices(runs: Path, tag: str, **keys: Any) -> list[str]:
    from ganglion.engine.resuming import weights_of

    asked = request("MLP,MLP", "Digits", {"strategy": "Target", "tag": tag, "batchSize": 8, **keys})
    live = assemble(REGISTRY, asked, data_context(lambda sentence: None), weights_of(Repository(runs)))
    return list(live.notices)
