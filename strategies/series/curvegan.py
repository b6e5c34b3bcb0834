"""CurveGAN: daily curves, asked for by how much they rise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from ganglion.engine.api import (
    Batch,
    DataSpec,
    LearningContext,
    Loss,
    NoisePart,
    Port,
    RandomStream,
    RoleShape,
    hookimpl,
    setting,
)
from ganglion.strategies.labels import ConditionalStrategy
from ganglion.strategies.playing import AdversarialSettings
from ganglion.strategies.series.windows import example_rows, need_sequences
from ganglion.strategies.telling import beside

DELTA = "delta"
MOST = 65536  # windows from which the mean and the deviation of the deltas are taken


class CurveSettings(AdversarialSettings):
    """Settings of CurveGAN."""

    condition: Literal["delta", "none"] = setting(
        "delta", "what is asked for: delta, each feature's last value minus its first; none: any curve"
    )
    delta_weight: float = setting(10.0, "multiplies the squared error of the delta", ge=0, lt=math.inf)
    delta_step: Literal["summed", "alternating"] = setting(
        "summed", "the error of the delta is added to the generator's loss, or has an update of its own behind it"
    )
    show_delta: bool = setting(
        False, "the discriminator is shown the delta too, which leads it to check the delta and nothing else"
    )

    def without_effect(self) -> Mapping[str, str]:
        reasons = dict(super().without_effect())
        if self.condition == "none":
            reasons.update(dict.fromkeys(("delta_weight", "delta_step", "show_delta"), "condition=none has no delta"))
        elif not self.delta_weight:
            reasons["delta_step"] = "with deltaWeight=0 the error of the delta counts nowhere"
        return reasons


class CurveGAN(ConditionalStrategy):
    """Curves of a day with a score in every step; the generator is told how much its curve is to rise.

    https://github.com/proceduralia/pytorch-GAN-timeseries: noise of 100 numbers a step and, beside it in every step,
    the wanted delta; non-saturating cross-entropy averaged over the steps; the squared error of the delta, times 10, in
    the generator's loss or as an update of its own; Adam 2e-4, batch 16. Its default pair is an LSTM generator
    (`RecurrentGenerator generator.hidden=256`) with a causal convolutional discriminator (`TCNDiscriminator`).

    Deviations: while learning, deltas are those of further real windows; samples to look at get normal deltas of the
    data's mean and deviation (mean + deviation * N; the source adds the mean before it multiplies).
    """

    Settings = CurveSettings
    lasting = ("_delta_mean", "_delta_deviation")
    preset = {
        "objective": "nonsaturating",
        "method": "ADAM",
        "learningRate": 2e-4,
        "generatorDim": 100,
        "batchSize": 16,
    }

    @classmethod
    def width(cls, settings: Any, spec: DataSpec) -> int:
        return need_sequences(spec, "CurveGAN")[1] if settings.condition == "delta" else 0

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        steps, features = need_sequences(spec, "CurveGAN")
        generator, discriminator = super().shapes(settings, spec).values()
        wider = features + cls.width(settings, spec) if settings.show_delta else features
        return {
            "generator": generator,
            "discriminator": RoleShape(Port(spec.kind, (steps, wider)), discriminator.output),
        }

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        assert context.sampler is not None
        deltas = delta_of(example_rows(context.sampler.dataset, MOST))
        self._delta_mean = deltas.mean(0)
        self._delta_deviation = deltas.std(0, correction=0)
        self._weight: float = context.settings.delta_weight if context.settings.condition == "delta" else 0.0
        self._alternating = context.settings.delta_step == "alternating"

    def reads_real(self) -> bool:
        return self._width() > 0 or super().reads_real()

    def real_batch(self) -> Batch:
        """The next windows and, as a field, their deltas: what is asked for."""
        batch = super().real_batch()
        return replace(batch, fields={**batch.fields, DELTA: delta_of(batch.input)})

    def condition(self, batch: Batch) -> Tensor:
        return batch.fields[DELTA][:, : self._width()]

    def asked(self, noise: Tensor, batch: Batch | None) -> Batch:
        return batch if batch is not None else Batch(noise, None, {DELTA: noise.new_zeros(len(noise), 0)})

    def shown(self, count: int, stream: RandomStream) -> Tensor:
        wanted = stream.normal(count, self._width())
        if not self._width():
            return wanted
        return self._delta_mean.to(wanted) + self._delta_deviation.to(wanted) * wanted

    def condition_parts(self) -> tuple[NoisePart, ...]:
        meaning = "how much each feature is to rise, last value minus first, in the scale of the networks"
        return (NoisePart("delta", self._width(), meaning, "row"),)

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        if not self.context.settings.show_delta:
            return self.judged(samples)
        assert batch is not None
        return self.judged(beside(samples, self.condition(batch).to(samples)))

    def train_generator(self) -> Mapping[str, Tensor]:
        values = super().train_generator()
        if not (self._weight and self._alternating):
            return values
        batch, noise = self.real_batch(), self.draw_noise(self._batch_size())
        loss = self.context.processors["generator"].update(self.delta_loss, noise, batch)
        return {**values, "deltaError": loss.total}

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        game = super().generator_contest(fake, batch)
        if not self._weight or self._alternating:
            return game
        assert batch is not None
        error = self.delta_error(fake, batch)
        return Loss(game.total + error * self._weight, {"generatorScore": game.total, "deltaError": error})

    def delta_loss(self, noise: Tensor, batch: Batch) -> Tensor:
        """The weighted squared error of the delta alone."""
        return self.delta_error(self.fake(noise, batch), batch) * self._weight

    def delta_error(self, fake: Tensor, batch: Batch) -> Tensor:
        """The squared error of the deltas of fakes against those that `batch` asks for."""
        return (delta_of(fake) - self.condition(batch).to(fake)).square().mean()

    def _width(self) -> int:
        return self.width(self.context.settings, self.context.spec)


def delta_of(windows: Tensor) -> Tensor:
    """The last value minus the first, (batch, features), of windows (batch, steps, features)."""
    return windows[:, -1] - windows[:, 0]


@hookimpl
def register_strategies(register: Any) -> None:
    """CurveGAN."""
    register("CurveGAN", CurveGAN)
