"""Sines: slow sine waves side by side, of random frequency and phase."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.series.made import EXACT, MadeSeries, MadeSettings, uniform
from ganglion.engine.api import hookimpl, setting

MOST = 0.1  # of the frequency in radians per step, and of the phase in radians


class SinesSettings(MadeSettings):
    """Settings of Sines."""

    length: int = setting(24, "steps of a series", unit="steps", ge=1)
    channels: int = setting(5, "independent sine waves of a series", ge=1)


class Sines(MadeSeries):
    """Five independent sine waves, 24 steps: sin(frequency step + phase), both uniform from 0 to 0.1, mapped to 0..1.

    The sine data of TimeGAN (Yoon, Jarrett, van der Schaar 2019, https://papers.nips.cc/paper/8789), by its published
    code. They are pieces of less than half a wave, and no feature tells anything about another.

    Deviations: there are 2,500 more series to test on; the published preparation has none.
    """

    Settings = SinesSettings

    name = "Sines"

    def value_range(self) -> tuple[float, float] | None:
        return (0.0, 1.0)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        shape = (count, 1, self.settings.channels)
        frequency, phase = (uniform(0.0, MOST, shape, generator) for _ in range(2))
        step = torch.arange(self.settings.length, dtype=EXACT)[:, None]
        return ((frequency * step + phase).sin() + 1) / 2


@hookimpl
def register_datasets(register: Any) -> None:
    """Sines."""
    register("Sines", Sines)
