"""RTSGAN: an autoencoder of windows, and a game in the space of its codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganglion.engine.api import (
    Batch,
    DataSpec,
    LearningContext,
    LearnProgress,
    Port,
    RandomStream,
    RoleShape,
    equal_parts,
    hookimpl,
    setting,
    update_together,
)
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.masking import mask_of, shown, squared_error
from ganglion.strategies.playing import AdversarialSettings
from ganglion.strategies.series.windows import PaddedStrategy, evaluated, need_sequences, postponed


class RtsganSettings(AdversarialSettings):
    """Settings of RTSGAN."""

    code_dim: int = setting(96, "numbers of a window's code", unit="numbers", ge=1)
    pretrain_iterations: int = setting(
        10000,
        "iterations in which the autoencoder learns; the game takes all that follow: initIterations and schedule count "
        "from there, falling learning rates and instanceNoise from the very start",
        unit="iterations",
        ge=0,
    )
    pretrain_batch: int | None = setting(
        128, "windows in one update of the autoencoder; none: batchSize", unit="windows", ge=1
    )
    finetune: bool = setting(False, "the autoencoder learns on beside the game")

    def without_effect(self) -> Mapping[str, str]:
        reason = "a window's code is one vector, made of one vector of noise and scored as a whole"
        return {**super().without_effect(), **dict.fromkeys(("noise_form", "score_form"), reason)}


class RTSGAN(PaddedStrategy, AdversarialStrategy):
    """First an autoencoder learns to code whole windows, then a Wasserstein game learns to make codes.

    Pei et al. 2021, https://arxiv.org/abs/2112.12378: the autoencoder by its squared error with Adam 1e-3 and batches
    of 128, then WGAN-GP on the codes, which stay as they are: RMSprop 1e-4 (alpha 0.99), 5 critic updates per
    iteration, penalty of weight 10, batch 512, 15,000 iterations. Noise is as long as a code, 96. Roles are generator,
    discriminator, encoder and decoder: `MLP,MLP,Recurrent,Recurrent`, or `learn --job rtsgan`.

    Where the data have a field `mask`, what it calls 0 counts in no error, a code is that of a window's own steps (of
    an encoder that takes `lengths`, as `Recurrent` does), and samples are as long as training windows.

    Deviations: a code is what the encoder network gives, not a pooled summary with all layers' states; the decoder is
    given the code in every step and not the last value, so that there is nothing to force in learning; the generator
    is a perceptron, in the source a residual one; 10,000 iterations for the autoencoder, where the source counts 1,000
    epochs; neither missing values nor lengths are part of the code: lengths are drawn from those of the data.
    """

    Settings = RtsganSettings
    roles: ClassVar[tuple[str, ...]] = ("generator", "discriminator", "encoder", "decoder")
    data_role: ClassVar[str | None] = "encoder"
    preset = {
        "objective": "wasserstein",
        "penalty": "GP",
        "GP.weight": 10.0,
        "discriminatorIterations": 5,
        "generator.method": "RMSPROP",
        "generator.learningRate": 1e-4,
        "generator.alpha": 0.99,
        "discriminator.method": "RMSPROP",
        "discriminator.learningRate": 1e-4,
        "discriminator.alpha": 0.99,
        "encoder.method": "ADAM",
        "encoder.learningRate": 1e-3,
        "decoder.method": "ADAM",
        "decoder.learningRate": 1e-3,
        "batchSize": 512,
        "iterations": 25000,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        need_sequences(spec, "RTSGAN")
        data, code = Port(spec.kind, spec.shape), Port("vector", (settings.code_dim,))
        noise = Port("noise", (settings.generator_dim or settings.code_dim,))
        return {
            "generator": RoleShape(noise, code),
            "discriminator": RoleShape(code, Port("score", (1,))),
            "encoder": RoleShape(data, code),
            "decoder": RoleShape(Port("noise", code.shape), data),
        }

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._seen = (context.settings.code_dim,)
        self._encoder, self._decoder = context.networks["encoder"], context.networks["decoder"]
        self._decoder_device = context.devices["decoder"]

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        self._pair = [context.processors[role] for role in ("encoder", "decoder")]
        equal_parts(self._pair)
        self._schedule = postponed(self._schedule, context.settings.pretrain_iterations)

    def process_iteration(self, i: int) -> LearnProgress:
        settings = self.context.settings
        if i < settings.pretrain_iterations:
            return LearnProgress(i, self.train_autoencoder())
        progress = super().process_iteration(i)
        return LearnProgress(i, {**progress.values, **self.train_autoencoder()}) if settings.finetune else progress

    def train_autoencoder(self) -> Mapping[str, Tensor]:
        """One update of encoder and decoder."""
        assert self.context.sampler is not None
        batch = self.context.sampler.next_batch(self.context.settings.pretrain_batch)
        loss = update_together(self._pair, self.reconstruction_loss, batch.input, mask_of(batch))
        return {"reconstruction": loss.total}

    def reconstruction_loss(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """The mean squared error of windows (batch, steps, features) that went through encoder and decoder."""
        codes: Tensor = self._encoder(*shown(self._encoder, windows, mask))
        return squared_error(self.decoded(codes).to(windows.device), windows, mask)

    def decoded(self, codes: Tensor) -> Tensor:
        """Windows of codes (batch, codeDim)."""
        windows: Tensor = self._decoder(codes.to(self._decoder_device))
        return windows

    def real_batch(self) -> Batch:
        """Codes of the next real windows, as the encoder gives them when it does not learn; see `finetune`."""
        batch = super().real_batch()
        given = shown(self._encoder, batch.input, mask_of(batch))
        if not self.context.settings.finetune:
            return Batch(evaluated(self._encoder, *given).to(self._discriminator_device))
        with torch.no_grad():
            codes: Tensor = self._encoder(*given)
        return Batch(codes.to(self._discriminator_device))

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return self.with_lengths(self._draw(count, stream), stream)

    def generate(self, noise: Tensor) -> Tensor:
        return self.cut(self.decoded(super().generate(self.without_lengths(noise))), noise)


@hookimpl
def register_strategies(register: Any) -> None:
    """RTSGAN."""
    register("RTSGAN", RTSGAN)
