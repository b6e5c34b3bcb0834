"""C-RNN-GAN: events of music, made by a generator that hears what it has played."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    Gate,
    LearningContext,
    LearnProgress,
    Loss,
    hookimpl,
    setting,
)
from ganglion.strategies.adversarial import AdversarialStrategy, shown_rows
from ganglion.strategies.features import feature_place, with_features
from ganglion.strategies.objectives import Labelled, NonSaturating
from ganglion.strategies.playing import AdversarialSettings
from ganglion.strategies.series.windows import SequenceStrategy, postponed

FREEZE = 0.7


class CrnnSettings(AdversarialSettings):
    """Settings of CRNNGAN."""

    matching: bool = setting(
        False, "the generator minimises the distance of the discriminator's hidden states instead of playing"
    )
    pretrain_iterations: int = setting(
        0,
        "iterations in which the generator alone learns to continue real events; initIterations and schedule count "
        "from their end, falling learning rates and instanceNoise from the very start",
        unit="iterations",
        ge=0,
    )
    grow_steps: int = setting(
        4, "steps by which windows grow while pretraining; they begin with so many", unit="steps", ge=1
    )
    grow_every: int | None = setting(
        None, "iterations between two growths; none: a sixth of pretrainIterations", unit="iterations", ge=1
    )
    freeze: float | None = setting(
        FREEZE,
        "a player whose cross-entropy is below this share of the other's waits; none: nobody waits",
        gt=0,
        lt=1,
    )

    def without_effect(self) -> Mapping[str, str]:
        reasons = dict(super().without_effect())
        if not self.pretrain_iterations:
            reasons.update(dict.fromkeys(("grow_steps", "grow_every"), "windows grow only during pretrainIterations"))
        return reasons


class CRNNGAN(SequenceStrategy, AdversarialStrategy):
    """A recurrent game on events: length, pitch, loudness and time since the last one.

    Mogren 2016, https://arxiv.org/abs/1611.09904: a free-running generator of two LSTM layers, uniform noise in each
    step; a discriminator that reads in both directions; cross-entropies, or features matched (`matching=true`); before,
    the generator learns to continue real events that it is given (teacher forcing), in windows that grow by 4 events;
    a player whose loss falls below 70 % of the other's waits. Gradient descent at 0.1, half of that for the
    discriminator, gradients cut to norm 5, weight decay 0.1, batch 20. Made for `CRNNGenerator,CRNNDiscriminator`.

    Deviations: a player waits by the losses of the update at hand, not of the epoch before, and by the mean of the
    discriminator's two halves, whose sum is twice the generator's loss when both are even; nobody waits where the
    losses are not both cross-entropies, so with `matching` and other objectives; matched features are averaged, where
    the source adds up squares over a paired batch; the gradient is cut before the weight decay is added (`l2`), in the
    source with it; pretraining is off by default, where the source has 6 epochs; the source's code waits whenever a
    loss is below 2, by a mistake not repeated here.
    """

    Settings = CrnnSettings
    preset = {
        "objective": "nonsaturating",
        "noise": "unit",
        "scoreForm": "window",
        "method": "SGD",
        "generator.learningRate": 0.1,
        "discriminator.learningRate": 0.05,
        "clipNorm": 5.0,
        "l2": 0.1,
        "batchSize": 20,
    }

    @classmethod
    def defaults(cls, spec: DataSpec) -> Mapping[str, Any]:
        return {"generatorDim": spec.shape[-1]} if spec.kind == "sequence" else {}

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        settings = context.settings
        self._pretraining: int = settings.pretrain_iterations
        self._grow_every: int = settings.grow_every or max(1, self._pretraining // 6)
        if self._pretraining and "previous" not in inspect.signature(self._generator.forward).parameters:
            raise ConfigError(
                "pretrainIterations: the generator cannot be given real events, it takes no `previous`; use "
                "CRNNGenerator, or Recurrent with generator.freeRunning=true"
            )
        self._schedule = postponed(self._schedule, self._pretraining)
        self._place = feature_place(self._discriminator, "the discriminator") if settings.matching else None
        self._share: float | None = self._agreed_share(context)
        self._losses = torch.full((2,), math.log(2.0), device=self._generator_device)  # generator's, discriminator's

    def _agreed_share(self, context: LearningContext) -> float | None:
        """`freeze`, or None where losses cannot be compared. Raises ConfigError where it was asked for all the same."""
        settings = context.settings
        if settings.freeze is None or (self._place is None and isinstance(self._objective, NonSaturating | Labelled)):
            share: float | None = settings.freeze
            return share
        reason = (
            f"with {'matching=true' if settings.matching else f'objective={settings.objective}'} the players' losses "
            "have different scales"
        )
        if settings.freeze != FREEZE:
            raise ConfigError(f"freeze={settings.freeze:g}: {reason}, so that no player can wait for the other")
        context.notify(f"{reason}, so no player waits for the other; freeze=none says so")
        return None

    def process_iteration(self, i: int) -> LearnProgress:
        if i >= self._pretraining:
            return super().process_iteration(i)
        batch = self.real_batch()
        steps = min(batch.input.shape[1], self.context.settings.grow_steps * (1 + i // self._grow_every))
        noise = self.draw_noise(len(batch))
        noise = noise[:, :steps] if noise.dim() == 3 else noise  # one vector stands in all steps, however many
        loss = self.context.processors["generator"].update(self.continuing_loss, noise, batch.input[:, :steps])
        return LearnProgress(i, {"continuing": loss.total})

    def continuing_loss(self, noise: Tensor, windows: Tensor) -> Tensor:
        """The squared error of each next event, the real ones before it being given."""
        previous = torch.cat((torch.zeros_like(windows[:, :1]), windows[:, :-1]), 1)
        made: Tensor = self._generator(noise, previous=previous.to(noise))
        return mse_loss(made, windows.to(made))

    def gate(self, player: str) -> Gate | None:
        share = self._share
        if share is None:
            return None
        mine = self.roles.index(player)

        def learns(loss: Loss) -> Tensor:
            self._losses[mine] = cross_entropy_of(loss)
            return self._losses[mine] >= self._losses[1 - mine] * share

        return learns

    def reads_real(self) -> bool:
        return self._place is not None or super().reads_real()

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        if self._place is None:
            return super().generator_contest(fake, batch)
        assert batch is not None
        made = with_features(self._discriminator, self._place, fake)
        with torch.no_grad():
            real = with_features(self._discriminator, self._place, shown_rows(batch))
        return Loss((real.features - made.features).square().mean())


def cross_entropy_of(loss: Loss) -> Tensor:
    """The mean of the discriminator's halves, without penalties; a generator's loss is one already."""
    halves = [loss.terms[name] for name in ("discriminatorReal", "discriminatorFake") if name in loss.terms]
    return torch.stack(halves).mean() if halves else loss.total


@hookimpl
def register_strategies(register: Any) -> None:
    """CRNNGAN."""
    register("CRNNGAN", CRNNGAN, aliases=("C-RNN-GAN",))
