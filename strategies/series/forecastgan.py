"""ForecastGAN: a window's past goes in, its future comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    Loss,
    Port,
    RandomStream,
    RoleShape,
    hookimpl,
    setting,
)
from ganglion.strategies.adversarial import DEFAULT_LATENT, AdversarialStrategy
from ganglion.strategies.playing import AdversarialSettings
from ganglion.strategies.series.windows import example_rows, need_sequences


class ForecastSettings(AdversarialSettings):
    """Settings of ForecastGAN."""

    history: int = setting(42, "steps of a window that are known; the others are forecast", unit="steps", ge=1)
    adversarial_weight: float = setting(
        1.0, "multiplies the generator's objective; 0: it learns from supervisedWeight alone", ge=0, lt=math.inf
    )
    supervised_weight: float = setting(
        0.0, "multiplies the squared error of the forecast in the generator's loss", ge=0, lt=math.inf
    )


class ForecastGAN(AdversarialStrategy):
    """The generator continues a history; the discriminator judges history and future together.

    The sine example of this strategy's users: 42 known points, the next 10 generated, LSTM pair, the non-saturating
    loss (Koochali et al. 2019, https://arxiv.org/abs/1903.12549, plays the same game). In every step of the history
    the generator is given its values and, beside them, noise; it gives all future steps at once. The data's windows are
    history and future: `Sine length=52`. `supervisedWeight` adds the squared error to the generator's loss, and with
    `adversarialWeight=0` it is all there is: the same network trained as a plain forecaster. `ganglion forecast TAG`
    goes on from its own forecasts.

    Deviations: Adam 1e-3, betas 0.5 and 0.999, batch 64, 4 numbers of noise a step.
    """

    Settings = ForecastSettings
    lasting = ("_examples",)
    preset = {
        "objective": "nonsaturating",
        "method": "ADAM",
        "learningRate": 1e-3,
        "beta1": 0.5,
        "beta2": 0.999,
        "generatorDim": 4,
        "batchSize": 64,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        steps, features = need_sequences(spec, "ForecastGAN")
        known = settings.history
        if known >= steps:
            raise ConfigError(
                f"history={known}: windows of {steps} steps leave no future; set the data's length to more, or a "
                "shorter history"
            )
        latent = settings.generator_dim or DEFAULT_LATENT["sequence"]
        future = Port("sequence", (steps - known, features))
        judged = super().shapes(settings, spec)["discriminator"]
        return {
            "generator": RoleShape(Port("noise", (known, features + latent)), future),
            "discriminator": judged,
        }

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._known: int = context.settings.history
        self._latent = (self._known, self._latent[-1] - context.spec.shape[1])

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        assert context.sampler is not None
        self._examples = example_rows(context.sampler.dataset)
        self._supervised: float = context.settings.supervised_weight
        self._played: float = context.settings.adversarial_weight
        if not self._supervised and not self._played:
            raise ConfigError("adversarialWeight=0 supervisedWeight=0 leave the generator nothing to minimise")

    def reads_real(self) -> bool:
        return True

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        assert batch is not None
        return self.continued(noise, batch.input[:, : self._known])

    def continued(self, noise: Tensor, history: Tensor) -> Tensor:
        """Histories (batch, history, features) and, behind them, the futures made from `noise`."""
        given = torch.cat((history.to(noise), noise), 2).to(self._generator_device)
        future: Tensor = self._generator(given)
        return torch.cat((history.to(future), future), 1).to(history.device)

    def train_discriminator(self, batch: Batch) -> Mapping[str, Tensor]:
        return super().train_discriminator(batch) if self._played else {}

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        assert batch is not None
        total, terms = fake.new_zeros(()), dict[str, Tensor]()
        if self._played:
            terms["generatorScore"] = self.played(self.scores(fake, batch), batch)
            total = total + terms["generatorScore"] * self._played
        if self._supervised:
            future = batch.input[:, self._known :].to(fake)
            terms["forecastError"] = (fake[:, self._known :] - future).square().mean()
            total = total + terms["forecastError"] * self._supervised
        return Loss(total, terms)

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        stream = self.random("validation", "generator")
        made = self.fake(self._draw(len(batch), stream), batch)
        error = (made - batch.input)[:, self._known :].abs().flatten(1).mean(1)
        return {"loss": error}

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        chosen = stream.integers(len(self._examples), count)
        histories = self._examples[chosen.to(self._examples.device), : self._known]
        drawn = self._draw(count, stream)
        return torch.cat((histories.to(drawn), drawn), 2)

    def generate(self, noise: Tensor) -> Tensor:
        features = self.context.spec.shape[1]
        return self.continued(noise[..., features:], noise[..., :features])

    def history_steps(self) -> int:
        return self._known

    def forecast(self, history: Tensor, stream: RandomStream) -> Tensor:
        made = self.continued(self._draw(len(history), stream), history)
        return made[:, self._known :]


@hookimpl
def register_strategies(register: Any) -> None:
    """ForecastGAN."""
    register("ForecastGAN", ForecastGAN)
