"""A discriminator of points that sees them at several scales.

Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains", 2020,
https://arxiv.org/abs/2006.10739

Deviations: frequencies are spread evenly over a logarithmic scale instead of being drawn at one scale, and each wave is
divided by its frequency, so that all have slopes of the same size: smooth functions are learnt first, as with a plain
perceptron, and sharp ones can be. It lets a game with gradient penalties find narrow modes without shrinking them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganglion.engine.api import NetworkContext, NetworkError, Settings, hookimpl, setting


class FourierSettings(Settings):
    """Settings of FourierDiscriminator."""

    waves: int = setting(48, "waves, each as a sine and a cosine", ge=1)
    highest: float = setting(30.0, "the highest frequency; the lowest is 1", unit="radians per unit of the data", gt=1)
    width: int = setting(128, "units of each of the three hidden layers", ge=1)


class Waves(nn.Module):
    """Rows (batch, size) and, behind them, sines and cosines of random projections: (batch, size + 2 * waves)."""

    frequencies: Tensor
    amplitudes: Tensor

    def __init__(self, size: int, waves: int, highest: float) -> None:
        super().__init__()
        directions = torch.nn.functional.normalize(torch.randn(size, waves), dim=0)
        frequencies = directions * torch.logspace(0.0, math.log10(highest), waves)
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("amplitudes", frequencies.norm(dim=0).reciprocal())

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows.flatten(1)
        phases = rows @ self.frequencies
        return torch.cat((rows, phases.sin() * self.amplitudes, phases.cos() * self.amplitudes), 1)


class FourierDiscriminator:
    """Random Fourier features before a perceptron of three hidden layers with LeakyReLU 0.2; for points."""

    Settings: ClassVar[type[Settings]] = FourierSettings
    roles = ("discriminator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        if context.input.kind != "vector":
            raise NetworkError(f"FourierDiscriminator is for points, not for {context.input.kind} data")
        settings = context.settings if context.settings is not None else FourierSettings()
        layers: list[nn.Module] = [Waves(context.input.size, settings.waves, settings.highest)]
        size = context.input.size + 2 * settings.waves
        for _ in range(3):
            layers += [nn.Linear(size, settings.width), nn.LeakyReLU(0.2)]
            size = settings.width
        return nn.Sequential(*layers, nn.Linear(size, context.output.size))


@hookimpl
def register_networks(register: Any) -> None:
    """FourierDiscriminator."""
    register("FourierDiscriminator", FourierDiscriminator())
