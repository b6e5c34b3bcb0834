"""InfoGAN: codes that the samples must show, found without labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    Loss,
    NoisePart,
    RandomStream,
    hookimpl,
    one_hot,
    setting,
)
from ganglion.strategies.charges import Drawn, exposed
from ganglion.strategies.labels import ConditionalStrategy, answers_of
from ganglion.strategies.playing import AdversarialSettings

CODES = "codes"
CATEGORIES = 10


class InfoganSettings(AdversarialSettings):
    """Settings of InfoGAN."""

    categories: int | None = setting(
        None, "values of the categorical code; 0: there is none; none: as many as the data have classes, or 10", ge=0
    )
    continuous: int = setting(2, "continuous codes, uniform in [-1, 1)", ge=0)
    information: float = setting(
        1.0,
        "lambda: multiplies the cross-entropy of the categorical code and the Gaussian one of the continuous codes",
        also=("lambda", "informationWeight"),
        ge=0,
        lt=math.inf,
    )


class InfoGAN(ConditionalStrategy):
    """Part of the generator's noise is a code that the discriminator must read off the samples: codes get a meaning.

    Chen et al. 2016, https://arxiv.org/abs/1606.03657, equations 5 and 6: both players minimise, besides their game,
    lambda times minus the lower bound of the mutual information of codes and samples, without its constant. Behind its
    score the discriminator gives logits of the categorical code and the means of the continuous ones, Gaussian with
    variance 1. Lambda 1; Adam 2e-4 for the discriminator and 1e-3 for the generator, beta1 0.5, batch 128; for images
    62 numbers of noise. No labels are used; the codes found need not be the classes.

    Deviations: one lambda for both kinds of code (the paper lowers it for continuous ones where scales differ); the
    generator's loss is the non-saturating one; the code is read by the discriminator's last layer, not by a hidden
    layer of its own.
    """

    Settings = InfoganSettings
    answers = True
    preset = {
        "objective": "nonsaturating",
        "method": "ADAM",
        "learningRate": 2e-4,
        "generator.learningRate": 1e-3,
        "beta1": 0.5,
        "beta2": 0.999,
        "batchSize": 128,
    }

    @classmethod
    def defaults(cls, spec: DataSpec) -> Mapping[str, Any]:
        return {"generatorDim": 62} if spec.kind == "image" else {}

    @classmethod
    def width(cls, settings: Any, spec: DataSpec) -> int:
        width = category_count(settings, spec) + int(settings.continuous)
        if width == 0:
            raise ConfigError("categories=0 continuous=0: InfoGAN without any code is NSGAN; use that, or give a code")
        return width

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._categories = category_count(context.settings, context.spec)

    def train_discriminator(self, batch: Batch) -> Mapping[str, Tensor]:
        codes = self.draw_codes(len(batch), self._noise_stream)
        values = super().train_discriminator(replace(batch, fields={**batch.fields, CODES: codes}))
        assert self._last_noise is not None
        self._last_noise = self.told(self._last_noise, codes)  # what the fakes were made from, for reuseNoise
        return values

    def appraise(self, batch: Batch, stream: RandomStream) -> tuple[Tensor, Tensor] | None:
        codes = self.draw_codes(len(batch), stream)
        return super().appraise(replace(batch, fields={**batch.fields, CODES: codes}), stream)

    def discriminator_loss(self, batch: Batch, fake: Tensor, drawn: Drawn) -> Loss:
        batch, fake = exposed(batch, fake, drawn.charges)
        real_output, fake_output = self.both(batch.input, fake)
        game = self.contest(real_output[..., :1], fake_output[..., :1], batch, fake, drawn)
        lost = self.code_loss(fake_output, batch.fields[CODES])
        return Loss(game.total + lost * self.context.settings.information, {**game.terms, "discriminatorCodes": lost})

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        assert batch is not None
        output = self.judged(fake)
        game = self.played(output[..., :1], batch)
        lost = self.code_loss(output, batch.fields[CODES])
        total = game + lost * self.context.settings.information
        return Loss(total, {"generatorScore": game, "generatorCodes": lost})

    def code_loss(self, output: Tensor, codes: Tensor) -> Tensor:
        """-log Q(code | sample), mean over the batch: cross-entropy, and squares of the continuous codes' errors."""
        codes = codes.to(output)
        category, continuous = codes[:, : self._categories], codes[:, self._categories :]
        answers = answers_of(output)
        logits, means = answers[:, : self._categories], answers[:, self._categories :]
        squares = (continuous - means).square().sum(1).mean() * 0.5
        lost = squares + continuous.shape[1] * 0.5 * math.log(2 * math.pi)
        return lost + cross_entropy(logits, category) if self._categories else lost

    def condition(self, batch: Batch) -> Tensor:
        return batch.fields[CODES]

    def asked(self, noise: Tensor, batch: Batch | None) -> Batch:
        codes = {CODES: self.told_of(noise)}
        return Batch(noise, None, codes) if batch is None else replace(batch, fields={**batch.fields, **codes})

    def draw_noise(self, count: int) -> Tensor:
        self._last_noise = self.told(super().draw_noise(count), self.draw_codes(count, self._noise_stream))
        return self._last_noise

    def draw_codes(self, count: int, stream: RandomStream) -> Tensor:
        """Random codes (count, width): the category one-hot, then the continuous ones."""
        drawn = stream.integers(self._categories, count) if self._categories else None
        return self._codes(count, drawn, stream)

    def shown(self, count: int, stream: RandomStream) -> Tensor:
        """The categories in turn, so that a grid of samples shows them in order."""
        place = torch.arange(count, device=stream.device) % self._categories if self._categories else None
        return self._codes(count, place, stream)

    def condition_parts(self) -> tuple[NoisePart, ...]:
        count = self._categories
        category = NoisePart("category", count, f"the categorical code, 0 to {count - 1}", "class")
        continuous = self.context.settings.continuous
        return (category, NoisePart("codes", continuous, "the continuous codes", "row", "uniform"))

    def _codes(self, count: int, category: Tensor | None, stream: RandomStream) -> Tensor:
        continuous = stream.uniform(count, self.context.settings.continuous, low=-1.0, high=1.0)
        if category is None:
            return continuous
        return torch.cat((one_hot(category, self._categories).to(continuous), continuous), 1)


def category_count(settings: InfoganSettings, spec: DataSpec) -> int:
    """How many values the categorical code has."""
    return settings.categories if settings.categories is not None else len(spec.classes) or CATEGORIES


@hookimpl
def register_strategies(register: Any) -> None:
    """InfoGAN."""
    register("InfoGAN", InfoGAN)
