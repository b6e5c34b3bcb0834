"""C-RNN-GAN: events of music, made by a generator that hears what it has played."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal

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
    RoleShape,
    hookimpl,
    setting,
)
from ganglion.strategies.adversarial import AdversarialStrategy, score_of
from ganglion.strategies.features import feature_place, with_features
from ganglion.strategies.playing import AdversarialSettings
from ganglion.strategies.series.windows import need_sequences


class CrnnSettings(AdversarialSettings):
    """Settings of CRNNGAN."""

    matching: bool = setting(
        False, "the generator minimises the distance of the discriminator's hidden states instead of playing"
    )
    pretrain_iterations: int = setting(
        0, "iterations in which the generator alone learns to continue real events", unit="iterations", ge=0
    )
    grow_steps: int = setting(
        4, "steps by which windows grow while pretraining; they begin with so many", unit="steps", ge=1
    )
    grow_every: int | None = setting(
        None, "iterations between two growths; none: a sixth of pretrainIterations", unit="iterations", ge=1
    )
    freeze: float | None = setting(
        0.7, "a player whose loss is below this share of the other's waits; none: nobody waits", gt=0, lt=1
    )
    decision: Literal["mean", "end"] = setting(
        "mean", "the discriminator decides by the mean of its probabilities over the steps, or by the last one"
    )


class CRNNGAN(AdversarialStrategy):
    """A recurrent game on events: length, pitch, loudness and time since the last one.

    Mogren 2016, https://arxiv.org/abs/1611.09904: a free-running generator of two LSTM layers, uniform noise in each
    step; a discriminator that reads in both directions; cross-entropies, or features matched (`matching=true`); before,
    the generator learns to continue real events that it is given (teacher forcing), in windows that grow by 4 events;
    a player whose loss falls below 70 % of the other's waits. Gradient descent at 0.1, half of that for the
    discriminator, gradients cut to norm 5, weight decay 0.1, batch 20. Made for `CRNNGenerator,CRNNDiscriminator`.

    Deviations: the decision is the mean of the steps' logits (there of their probabilities); a player waits by the
    losses of the update at hand, not of the epoch before, and by the mean of the discriminator's two halves, whose sum
    is twice the generator's loss when both are even; matched features are averaged, where the source adds up
    squares over a paired batch; the source's code waits whenever a loss is below 2, by a mistake not repeated here.
    """

    Settings = CrnnSettings
    preset = {
        "objective": "nonsaturating",
        "noise": "unit",
        "method": "SGD",
        "generator.learningRate": 0.1,
        "discriminator.learningRate": 0.05,
        "clipNorm": 5.0,
        "l2": 0.1,
        "batchSize": 20,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        need_sequences(spec, "CRNNGAN")
        return super().shapes(settings, spec)

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
        self._place = feature_place(self._discriminator, "the discriminator") if settings.matching else None
        self._losses = torch.full((2,), math.log(2.0), device=self._generator_device)  # generator's, discriminator's

    def process_iteration(self, i: int) -> LearnProgress:
        if i >= self._pretraining:
            return super().process_iteration(i)
        batch = self.real_batch()
        steps = min(batch.input.shape[1], self.context.settings.grow_steps * (1 + i // self._grow_every))
        noise = self.draw_noise(len(batch))[:, :steps]
        loss = self.context.processors["generator"].update(self.continuing_loss, noise, batch.input[:, :steps])
        return LearnProgress(i, {"continuing": loss.total})

    def continuing_loss(self, noise: Tensor, windows: Tensor) -> Tensor:
        """The squared error of each next event, the real ones before it being given."""
        previous = torch.cat((torch.zeros_like(windows[:, :1]), windows[:, :-1]), 1)
        made: Tensor = self._generator(noise, previous=previous.to(noise))
        return mse_loss(made, windows.to(made))

    def gate(self, player: str) -> Gate | None:
        share: float | None = self.context.settings.freeze
        if share is None:
            return None
        mine = self.roles.index(player)
        scale = 0.5 if player == "discriminator" and self.context.settings.halves == "sum" else 1.0

        def learns(loss: Loss) -> Tensor:
            self._losses[mine] = loss.total * scale
            return self._losses[mine] >= self._losses[1 - mine] * share

        return learns

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        scores = score_of(self._discriminator(samples))
        if scores.dim() < 3:
            return scores
        return scores.mean(1) if self.context.settings.decision == "mean" else scores[:, -1]

    def reads_real(self) -> bool:
        return self._place is not None or super().reads_real()

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        if self._place is None:
            return super().generator_contest(fake, batch)
        assert batch is not None
        made = with_features(self._discriminator, self._place, fake)
        with torch.no_grad():
            real = with_features(self._discriminator, self._place, batch.input)
        return Loss((real.features - made.features).square().mean())


@hookimpl
def register_strategies(register: Any) -> None:
    """CRNNGAN."""
    register("CRNNGAN", CRNNGAN, aliases=("C-RNN-GAN",))
