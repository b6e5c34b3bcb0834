"""The published update rules: every strategy's first updates against formulas written out here, in double precision.

Batches and noise come from samplers and streams that equal the engine's own; networks, losses, gradients and the rules
that turn gradients into steps are computed again, independently of the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine.assembly import assemble
from ganglion.engine.job import request
from ganglion.engine.launch import data_context
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session
from ganglion.engine.streams import RandomStream

REGISTRY = Registry().load()
Weights = list[Tensor]
Losses = dict[str, Tensor]
SEED, BATCH = 11, 8
KEYS: dict[str, Any] = {"seed": SEED, "batchSize": BATCH, "iterations": 100}
POINTS = {"size": 64, "testSize": 16, "discriminator.Dropout.p": 0}
DIGITS = {"generatorDim": 10}


def session(strategy: str, networks: str, dataset: str, **keys: Any) -> Session:
    asked = request(networks, dataset, {**KEYS, "strategy": strategy, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


# --- the networks: perceptrons as plain functions of their weights ------------------------------------------------


def weights_of(network: nn.Module) -> Weights:
    """Weight, bias, weight, bias... in double precision."""
    return [value.detach().double().clone().requires_grad_() for value in network.parameters()]


def perceptron(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Linear layers with max(0, x) between them."""
    x = x.flatten(1)
    for place in range(0, len(weights), 2):
        x = x @ weights[place].T + weights[place + 1]
        if place + 2 < len(weights):
            x = torch.where(x > 0, x, torch.zeros_like(x))
    return x


def steepness(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """How steep a perceptron's one output is at every row: the norm of its slope, multiplied up layer by layer."""
    open_ways = []
    for place in range(0, len(weights) - 2, 2):
        x = x @ weights[place].T + weights[place + 1]
        open_ways.append((x > 0).double())
        x = x * open_ways[-1]
    slope = weights[-2].expand(len(x), -1)
    for place in reversed(range(0, len(weights) - 2, 2)):
        slope = (slope * open_ways.pop()) @ weights[place]
    return (slope * slope).sum(1) ** 0.5


def squashed(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """A perceptron whose values are put into 0..1."""
    return 1 / (1 + (-perceptron(weights, x)).exp())


# --- the rules: what a gradient does to a weight --------------------------------------------------------------------


class Momentum:
    """v = mu v + g; w = w - lr v."""

    def __init__(self, rate: float, coefficient: float) -> None:
        self.rate, self.coefficient = rate, coefficient
        self.velocity: dict[int, Tensor] = {}

    def step(self, number: int, place: int, weight: Tensor, gradient: Tensor) -> Tensor:
        velocity = self.coefficient * self.velocity.get(place, torch.zeros_like(weight)) + gradient
        self.velocity[place] = velocity
        return weight - self.rate * velocity


class RmsProp:
    """s = alpha s + (1 - alpha) g^2; w = w - lr g / (sqrt(s) + epsilon); then, with a bound, clipped to it."""

    def __init__(self, rate: float, alpha: float, bound: float = math.inf) -> None:
        self.rate, self.alpha, self.bound = rate, alpha, bound
        self.square: dict[int, Tensor] = {}

    def step(self, number: int, place: int, weight: Tensor, gradient: Tensor) -> Tensor:
        before = self.square.get(place, torch.zeros_like(weight))
        square = self.alpha * before + (1 - self.alpha) * gradient * gradient
        self.square[place] = square
        return (weight - self.rate * gradient / (square**0.5 + 1e-8)).clamp(-self.bound, self.bound)


class Adam:
    """m and s average g and g^2; w = w - lr (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + epsilon), t counting updates."""

    def __init__(self, rate: float, first: float, second: float) -> None:
        self.rate, self.first, self.second = rate, first, second
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    def step(self, number: int, place: int, weight: Tensor, gradient: Tensor) -> Tensor:
        zero = torch.zeros_like(weight)
        mean, square = self.moments.get(place, (zero, zero))
        mean = self.first * mean + (1 - self.first) * gradient
        square = self.second * square + (1 - self.second) * gradient * gradient
        self.moments[place] = mean, square
        mean, square = mean / (1 - self.first**number), square / (1 - self.second**number)
        return weight - self.rate * mean / (square**0.5 + 1e-8)


Rule = Momentum | RmsProp | Adam


class Player:
    """The weights of one network and the rule that moves them."""

    def __init__(self, network: nn.Module, function: Callable[[Weights, Tensor], Tensor], rule: Rule) -> None:
        self.weights, self.function, self.rule = weights_of(network), function, rule
        self.start = [weight.detach().clone() for weight in self.weights]
        self.updates = 0

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(self.weights, x)

    def descend(self, loss: Tensor) -> None:
        """One update: only this player's weights move, by the gradient of this loss alone."""
        self.updates += 1
        gradients = torch.autograd.grad(loss, self.weights)
        self.weights = [
            self.rule.step(self.updates, place, weight.detach(), gradient).requires_grad_()
            for place, (weight, gradient) in enumerate(zip(self.weights, gradients, strict=True))
        ]


# --- the losses, as they are printed ------------------------------------------------------------------------------


def probability(scores: Tensor) -> Tensor:
    return 1 / (1 + (-scores).exp())


def entropy(p: Tensor, target: float) -> Tensor:
    """Cross-entropy of probabilities against one target, averaged over the batch."""
    return -(target * p.log() + (1 - target) * (1 - p).log()).sum() / p.numel()


class Game(NamedTuple):
    """The two losses as functions of scores: of (real, fake) for the discriminator, of fake for the generator."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


LABELLED = Game(
    lambda real, fake: entropy(probability(real), 0.85) + entropy(probability(fake), 0.15),
    lambda fake: entropy(probability(fake), 0.85),
)
NONSATURATING = Game(
    lambda real, fake: (-probability(real).log().mean() - (1 - probability(fake)).log().mean()) / 2,
    lambda fake: -probability(fake).log().mean(),
)
MINIMAX = Game(
    lambda real, fake: -probability(real).log().mean() - (1 - probability(fake)).log().mean(),
    lambda fake: (1 - probability(fake)).log().mean(),
)
WASSERSTEIN = Game(lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean())


# --- the play -----------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A job, and the same game by formulas; `steepness_weight` multiplies the gradient penalty, where there is one."""

    strategy: str
    networks: str
    dataset: str
    keys: Mapping[str, Any]
    game: Game
    generator: Callable[[Weights, Tensor], Tensor]
    rules: tuple[Callable[[], Rule], Callable[[], Rule]]  # the generator's, the discriminator's
    latent: int
    critic_updates: tuple[int, int, int] = (1, 1, 1)
    steepness_weight: float = 0.0


STEPS = {"method": "SGD", "learningRate": 0.1, "momentum": 0.9}
CASES = {
    "GAN on pictures": Case(
        "GAN", "DianneGenerator,DianneDiscriminator", "Digits", {**DIGITS, **STEPS}, LABELLED, squashed,
        (lambda: Momentum(0.1, 0.9), lambda: Momentum(0.1, 0.9)), 10,
    ),
    "GAN on points, a rate for each player": Case(
        "GAN", "Generator,Discriminator", "Circle", {**POINTS, **STEPS, "generator.learningRate": 0.5}, LABELLED,
        perceptron, (lambda: Momentum(0.5, 0.9), lambda: Momentum(0.1, 0.9)), 2,
    ),
    "WGAN": Case(
        "WGAN", "Generator,Discriminator", "Circle",
        {**POINTS, "initIterations": 1, "initDiscriminatorIterations": 4, "discriminatorIterations": 2},
        WASSERSTEIN, perceptron, (lambda: RmsProp(5e-5, 0.99), lambda: RmsProp(5e-5, 0.99, 0.01)), 2, (4, 2, 2),
    ),
    "WGAN_GP": Case(
        "WGAN_GP", "Generator,Discriminator", "Circle", {**POINTS, "initIterations": 1,
        "initDiscriminatorIterations": 5, "discriminatorIterations": 3}, WASSERSTEIN, perceptron,
        (lambda: Adam(1e-4, 0.0, 0.9), lambda: Adam(1e-4, 0.0, 0.9)), 2, (5, 3, 3), 10.0,
    ),
    "NSGAN": Case(
        "NSGAN", "Generator,Discriminator", "Circle", POINTS, NONSATURATING, perceptron,
        (lambda: Adam(2e-4, 0.5, 0.999), lambda: Adam(2e-4, 0.5, 0.999)), 2,
    ),
    "Minimax": Case(
        "Minimax", "Generator,Discriminator", "Circle", POINTS, MINIMAX, perceptron,
        (lambda: Adam(1e-3, 0.9, 0.999), lambda: Adam(1e-3, 0.9, 0.999)), 2,
    ),
}  # fmt: skip


@pytest.fixture
def precision(name: str) -> Iterator[None]:
    """Double for Adam without a first moment: each step is the whole rate, in a direction that rounding may turn."""
    torch.set_default_dtype(torch.float64 if CASES[name].steepness_weight else torch.float32)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("name", CASES)
def test_the_first_three_iterations_follow_the_formulas(name: str) -> None:
    case = CASES[name]
    live, twin = (session(case.strategy, case.networks, case.dataset, **case.keys) for _ in range(2))
    noise = RandomStream(SEED, "noise", torch.device("cpu"))
    generator = Player(live.networks["generator"], case.generator, case.rules[0]())
    discriminator = Player(live.networks["discriminator"], perceptron, case.rules[1]())
    for iteration, updates in enumerate(case.critic_updates):
        losses: Losses = {}
        for _ in range(updates):
            real, latent = twin.sampler.next_batch().input.double(), noise.normal(BATCH, case.latent).double()
            fake = generator(latent).detach()
            losses["discriminatorLoss"] = case.game.discriminator(discriminator(real), discriminator(fake))
            if case.steepness_weight:
                place = noise.uniform(BATCH).double()[:, None]
                steep = steepness(discriminator.weights, place * real + (1 - place) * fake)
                losses["penalty"] = case.steepness_weight * ((steep - 1) ** 2).sum() / BATCH
                losses["discriminatorLoss"] = losses["discriminatorLoss"] + losses["penalty"]
            discriminator.descend(losses["discriminatorLoss"])
        latent = noise.normal(BATCH, case.latent).double()
        losses["generatorLoss"] = case.game.generator(discriminator(generator(latent)))
        generator.descend(losses["generatorLoss"])
        reported = live.strategy.process_iteration(iteration).values
        for key, value in losses.items():
            assert float(reported[key]) == pytest.approx(float(value.detach()), rel=1e-4, abs=1e-6)
        for role, player in (("generator", generator), ("discriminator", discriminator)):
            compare_ways(live.networks[role], player)
    assert live.chains["discriminator"].updates == sum(case.critic_updates) and live.chains["generator"].updates == 3


def compare_ways(network: nn.Module, player: Player) -> None:
    """How far every weight has come since the start, within what single precision allows and well above it."""
    for found, start, wanted in zip(network.parameters(), player.start, player.weights, strict=True):
        way, error = wanted.detach() - start, found.detach().double() - wanted.detach()
        rounding = 2e-7 * float(wanted.detach().norm())
        assert float(error.norm()) <= 2e-4 * float(way.norm()) + rounding
        assert float(way.norm()) > 50 * rounding or float(way.norm()) == 0.0
