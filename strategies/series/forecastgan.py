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
    NoisePart,
    Port,
    RandomStream,
    RoleShape,
    hookimpl,
    setting,
)
from ganglion.strategies.adversarial import DEFAULT_LATENT, AdversarialStrategy
from ganglion.strategies.playing import AdversarialSettings
from ganglion.strategies.series.windows import drawn_examples, evaluated, example_rows, need_sequences


class ForecastSettings(AdversarialSettings):
    """Settings of ForecastGAN."""

    history: int = setting(42, "steps of a window that are known; the others are forecast", unit="steps", ge=1)
    adversarial_weight: float = setting(
        1.0, "multiplies the generator's objective; 0: it learns from supervisedWeight alone", ge=0, lt=math.inf
    )
    supervised_weight: float = setting(
        0.0, "multiplies the squared error of the forecast in the generator's loss", ge=0, lt=math.inf
    )

    def without_effect(self) -> Mapping[str, str]:
        reasons = {**super().without_effect(), "noise_form": "this strategy's noise stands beside every known step"}
        if not self.adversarial_weight:
            reasons["penalty"] = "with adversarialWeight=0 the discriminator does not learn"
        return reasons


class ForecastGAN(AdversarialStrategy):
    """The generator continues a history; the discriminator judges history and future together.

    The sine example of this strategy's users: 42 known points, the next 10 generated, LSTM pair, the non-saturating
    loss (Koochali et al. 2019, https://arxiv.org/abs/1903.12549, plays the same game). In every step of the history
    the generator is given its values and, beside them, noise; it gives all future steps at once. The data's windows are
    history and future: `Sine length=52`. `supervisedWeight` adds the squared error to the generator's loss, and with
    `adversarialWeight=0` it is all there is: the same network trained as a plain forecaster. `ganglion forecast TAG`
    goes on from its own forecasts.

    Samples to look at are known histories of training windows with a future behind them.

    Deviations: Adam 1e-3, betas 0.5 and 0.999, batch 64, 4 numbers of noise a step.
    """

    Settings = ForecastSettings
    lasting = ("_examples",)
    retells = True
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
        if not self._sees_the_end():
            raise ConfigError(
                "the generator makes the first future step from the beginning of the history alone: it goes step by "
                "step; use generator.head=window, or another history"
            )
        self._supervised: float = context.settings.supervised_weight
        self._played: float = context.settings.adversarial_weight
        if not self._supervised and not self._played:
            raise ConfigError("adversarialWeight=0 supervisedWeight=0 leave the generator nothing to minimise")

    def _sees_the_end(self) -> bool:
        """Whether the first future step changes with the last known one."""
        ports = self.shapes(self.context.settings, self.context.spec)
        given = torch.zeros(1, *ports["generator"].input.shape, device=self._generator_device)
        changed = given.clone()
        changed[:, -1] = 1.0
        first, second = evaluated(self._generator, given), evaluated(self._generator, changed)
        return not torch.equal(first[:, 0], second[:, 0])

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

    def generator_loss(self, noise: Tensor, batch: Batch | None, blur: Tensor | None = None) -> Loss:
        assert batch is not None
        fake = self.fake(noise, batch)
        total, terms = fake.new_zeros(()), dict[str, Tensor]()
        if self._played:
            terms["generatorScore"] = self.played(self.scores(fake if blur is None else fake + blur, batch), batch)
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
        windows, _ = drawn_examples(self._examples, count, stream)
        drawn = self._draw(count, stream)
        return torch.cat((windows[:, : self._known].to(drawn), drawn), 2)

    def noise_parts(self) -> tuple[NoisePart, ...]:
        history = NoisePart("history", self.context.spec.shape[1], "the known steps", rows=True)
        return (history, *super().noise_parts())

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
