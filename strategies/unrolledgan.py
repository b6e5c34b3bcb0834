"""The GAN whose generator looks some updates of the discriminator ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from ganglion.engine.api import Batch, ConfigError, LearningContext, Loss, Settings, hookimpl, setting
from ganglion.strategies.adversarial import AdversarialStrategy, batch_coupled, score_of, shown_rows
from ganglion.strategies.charges import Drawn
from ganglion.strategies.playing import AdversarialSettings

ADAM = ("average", "square", "step")  # what ADAM remembers per parameter
ROOT = 1e-30  # added under the square root, whose gradient is not a number at 0 otherwise
Weights = Mapping[str, Tensor]


class UnrolledSettings(AdversarialSettings):
    """Settings of UnrolledGAN."""

    unroll: int = setting(5, "updates of the discriminator that the generator looks ahead", unit="updates", ge=0)
    unroll_method: Literal["adam", "sgd"] = setting(
        "adam", "how it is updated there; adam: as its own Adam would go on; sgd: plain gradient steps"
    )
    unroll_rate: float | None = setting(
        None, "learning rate of these updates; none: the discriminator's", gt=0, lt=math.inf
    )
    saturating: bool = setting(
        True, "the generator minimises minus the discriminator's loss; false: its half of the objective"
    )

    def without_effect(self) -> Mapping[str, str]:
        ahead = {} if self.unroll else dict.fromkeys(("unroll_method", "unroll_rate"), "it has no effect with unroll=0")
        return {**super().without_effect(), **ahead}


class UnrolledGAN(AdversarialStrategy):
    """The generator's gradient passes through the next `unroll` updates of the discriminator, which are then undone.

    Metz et al. 2016, https://arxiv.org/abs/1611.02163, equations 7 to 9: the generator minimises minus the loss that
    the discriminator would have after these updates; the discriminator itself takes one usual step. Values of the
    authors' 2-D demonstration: 5 updates that go on from the discriminator's Adam, all on the rows and the noise of the
    generator's update; Adam 1e-4 for the discriminator and 1e-3 for the generator, beta1 0.5, batch 512, 256 numbers of
    noise, orthogonal weights of gain 1.4.

    Deviations: penalties, label noise and the links of the discriminator's chain (such as `clamp`) are part of its own
    update, not of those looked ahead.
    """

    Settings: ClassVar[type[Settings]] = UnrolledSettings
    whole_batch = True  # the updates looked ahead belong to the whole batch
    preset = {
        "objective": "minimax",
        "method": "ADAM",
        "generator.learningRate": 0.001,
        "discriminator.learningRate": 0.0001,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 512,
        "generatorDim": 256,
        "init": "orthogonal",
        "initGain": 1.4,
    }

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        self._chain = context.processors["discriminator"]
        if not context.settings.unroll:
            return
        if batch_coupled(self._discriminator):
            raise ConfigError(
                "unroll: the discriminator has batch statistics, which updates that are undone would change; "
                "name a discriminator without BatchNorm, or unroll=0"
            )
        if context.settings.unroll_method == "adam" and (
            set(self._chain.method.state_dict()) != set(ADAM) or getattr(self._chain.method.settings, "weight_decay", 0)
        ):
            raise ConfigError(
                f"unrollMethod=adam goes on from the discriminator's Adam, and its method is "
                f"{self._chain.settings.method}; use unrollMethod=sgd"
            )

    def reads_real(self) -> bool:
        return True

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        """The loss at the weights that the discriminator would have, which depend on `fake` too."""
        assert batch is not None and self._objective is not None
        batch = batch.with_input(shown_rows(batch))
        real_scores, fake_scores = self._scores_at(self._ahead(batch, fake), batch, fake)
        if not self.context.settings.saturating:
            return Loss(self._objective.generator(real_scores, fake_scores))
        return Loss(-self.contest(real_scores, fake_scores, batch, fake, Drawn()).total)

    def _scores_at(self, weights: Weights, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Real and fake scores of the discriminator with other weights."""

        def scores(rows: Tensor) -> Tensor:
            return score_of(functional_call(self._discriminator, dict(weights), (rows,)))

        return self.pair(scores, batch.input, fake)

    def _ahead(self, batch: Batch, fake: Tensor) -> Weights:
        """The discriminator's weights after `unroll` updates, as differentiable functions of `fake`."""
        settings = self.context.settings
        learning = {id(parameter) for parameter in self._chain.parameters}
        own = {name: each for name, each in self._discriminator.named_parameters() if id(each) in learning}
        weights: dict[str, Tensor] = dict(own)
        rate = self._chain.learning_rate if settings.unroll_rate is None else settings.unroll_rate
        moments = _Moments(self._chain.method) if settings.unroll and settings.unroll_method == "adam" else None
        for _ in range(settings.unroll if own else 0):
            loss = self.contest(*self._scores_at(weights, batch, fake), batch, fake, Drawn()).total
            found = torch.autograd.grad(loss, list(weights.values()), create_graph=True, materialize_grads=True)
            steps = dict(zip(weights, found, strict=True))
            if moments is not None:
                steps = moments.directions(steps)
            weights = {name: weight - rate * steps[name] for name, weight in weights.items()}
        return weights


class _Moments:
    """Adam's averages, going on from those of a method, as differentiable functions of the gradients."""

    def __init__(self, method: Any) -> None:
        self._settings = method.settings
        state = method.state_dict()
        self._averages, self._squares, self._steps = ({**state[slot]} for slot in ADAM)

    def directions(self, gradients: Weights) -> dict[str, Tensor]:
        """What the weights are moved by, before the learning rate."""
        return {name: self._direction(name, gradient) for name, gradient in gradients.items()}

    def _direction(self, name: str, gradient: Tensor) -> Tensor:
        beta1, beta2 = self._settings.beta1, self._settings.beta2
        step = self._steps[name] = self._steps[name] + 1
        average = self._averages[name] = self._averages[name] * beta1 + gradient * (1 - beta1)
        square = self._squares[name] = self._squares[name] * beta2 + gradient.square() * (1 - beta2)
        root = (square / (1 - beta2**step) + ROOT).sqrt()
        direction: Tensor = (average / (1 - beta1**step)) / (root + self._settings.epsilon)
        return direction


@hookimpl
def register_strategies(register: Any) -> None:
    """UnrolledGAN."""
    register("UnrolledGAN", UnrolledGAN)
