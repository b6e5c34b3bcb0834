"""The GAN whose discriminator judges several samples at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    Port,
    RoleShape,
    Settings,
    hookimpl,
    setting,
)
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.playing import AdversarialSettings


class PackedSettings(AdversarialSettings):
    """Settings of PacGAN."""

    pack: int = setting(2, "samples that the discriminator sees at once; batchSize counts samples", ge=1)


class PacGAN(AdversarialStrategy):
    """The discriminator sees packs of samples, all real or all fake, so that a lack of variety shows.

    Lin et al. 2017, https://arxiv.org/abs/1712.04086, section 2: the samples of a pack are joined along the features of
    vectors and sequences and along the channels of images; all else is as without packs. Non-saturating cross-entropy;
    for 2-D points packs of 2 to 4, Adam 1e-4, beta1 0.8, batch 100; for stacked MNIST Adam 2e-4, beta1 0.5, batch 64,
    `generatorIterations=2`.

    Deviations: a pack is made of consecutive rows of the batch, which the authors draw one by one; the paper's maxout
    discriminator for points and initial weights of deviation 0.02 (`init=normal`) are left to the networks.
    """

    Settings: ClassVar[type[Settings]] = PackedSettings
    preset = {
        "objective": "nonsaturating",
        "method": "ADAM",
        "learningRate": 0.0001,
        "beta1": 0.8,
        "beta2": 0.999,
        "batchSize": 100,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        roles = super().shapes(settings, spec)
        shape = list(spec.shape)
        shape[_axis(spec)] *= settings.pack
        seen = Port(spec.kind, tuple(shape))
        return {**roles, "discriminator": RoleShape(seen, roles["discriminator"].output)}

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._pack: int = context.settings.pack
        self._axis = _axis(context.spec)
        self._seen = self.shapes(context.settings, context.spec)["discriminator"].input.shape

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        rows = super()._batch_size()
        for role, chain in context.processors.items():
            parts = chain.settings.accumulate
            if rows % (self._pack * parts):
                beside = f" and {role}.accumulate={parts}" if parts > 1 else ""
                raise ConfigError(f"pack={self._pack}{beside} must divide batchSize={rows}, which counts samples")

    def real_batch(self) -> Batch:
        """Packs of real rows; what else belongs to single rows is left out."""
        return Batch(self._packed(super().real_batch().input))

    def draw_noise(self, count: int) -> Tensor:
        """Noise (count, pack, generatorDim) for so many packs."""
        self._last_noise = self._draw(count * self._pack, self._noise_stream).unflatten(0, (count, self._pack))
        return self._last_noise

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        """Packs of samples."""
        return self._packed(super().fake(noise.flatten(0, 1), batch))

    def _batch_size(self) -> int:
        """Packs in one update of the generator."""
        return super()._batch_size() // self._pack

    def _packed(self, rows: Tensor) -> Tensor:
        """Rows (batch, *shape) as packs of consecutive ones."""
        return torch.cat(rows.unflatten(0, (-1, self._pack)).unbind(1), dim=1 + self._axis)


def _axis(spec: DataSpec) -> int:
    """The dimension of a sample along which packs are joined: the features of a sequence come last."""
    return len(spec.shape) - 1 if spec.kind == "sequence" else 0


@hookimpl
def register_strategies(register: Any) -> None:
    """PacGAN."""
    register("PacGAN", PacGAN)
