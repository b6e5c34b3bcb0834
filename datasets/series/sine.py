"""Sine: single sine waves of random frequency, amplitude and phase."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.series.made import EXACT, MadeSeries, MadeSettings, uniform
from ganglion.engine.api import ConfigError, DataContext, hookimpl, setting


class SineSettings(MadeSettings):
    """Settings of Sine."""

    size: int = setting(14000, "series to learn from", ge=1)
    length: int = setting(30, "steps of a series", unit="steps", ge=1)
    frequency: tuple[float, ...] = setting((1.0, 5.0), "cycles in a series: F, or uniform from MIN,MAX")
    period: tuple[float, ...] | None = setting(
        None, "steps of a cycle, P, or uniform from MIN,MAX, in place of frequency", unit="steps"
    )
    amplitude: tuple[float, ...] = setting((0.1, 0.9), "amplitude: A, or uniform from MIN,MAX")
    phase: tuple[float, ...] = setting(
        (-math.pi, math.pi), "phase at the first step: P, or uniform from MIN,MAX", unit="radians"
    )
    jitter: float = setting(0.0, "standard deviation of Gaussian noise in every step", ge=0)
    classes: int | None = setting(
        None, "so many equal parts of the interval of frequency (or period) are the classes; none: no classes", ge=2
    )

    def without_effect(self) -> Mapping[str, str]:
        return {} if self.period is None else {"frequency": "period says how long a cycle is; give one of them"}


class Sine(MadeSeries):
    """Sine waves, 30 steps of one feature: 1 to 5 cycles, amplitude 0.1 to 0.9, any phase, each drawn uniformly.

    With `classes` each series has the part of the interval that its frequency is from as its class.

    The sine data of RGAN (Esteban, Hyland, Raetsch 2017, https://arxiv.org/abs/1706.02633), to learn to make and, with
    a single frequency, to learn to forecast.

    Deviations: the series to test on are drawn beside the 14,000, not taken from them.
    """

    Settings = SineSettings

    name = "Sine"

    def __init__(self, settings: Any, context: DataContext) -> None:
        super().__init__(settings, context)
        for key in (self._cycle(), "amplitude", "phase"):
            self._interval(key)
        low, high = self._interval(self._cycle())
        if settings.period is not None and low <= 0:
            raise ConfigError(f"Sine: period={low:g}: expected steps above 0")
        if settings.classes and low == high:
            raise ConfigError(f"Sine: classes={settings.classes} needs an interval, as in {self._cycle()}=1,5")

    def _cycle(self) -> str:
        return "frequency" if self.settings.period is None else "period"

    def _interval(self, key: str) -> tuple[float, float]:
        given = getattr(self.settings, key)
        if len(given) not in (1, 2) or given[0] > given[-1]:
            raise ConfigError(
                f"Sine: {key}={','.join(f'{number:g}' for number in given)}: expected one number or MIN,MAX"
            )
        return given[0], given[-1]

    def value_range(self) -> tuple[float, float] | None:
        most = max(1.0, *map(abs, self._interval("amplitude")))
        return None if self.settings.jitter else (-most, most)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        cycle, amplitude, phase = (
            uniform(*self._interval(key), (count, 1), generator) for key in (self._cycle(), "amplitude", "phase")
        )
        time = torch.arange(self.settings.length, dtype=EXACT)
        turns = time / cycle if self.settings.period is not None else cycle * (time / self.settings.length)
        series: Tensor = amplitude * (2 * math.pi * turns + phase).sin()
        if self.settings.jitter:
            series = series + self.settings.jitter * torch.randn(series.shape, generator=generator, dtype=EXACT)
        self._drawn = cycle.flatten()
        return series.unsqueeze(2)

    def labels(self) -> tuple[Tensor | None, tuple[str, ...]]:
        count: int | None = self.settings.classes
        if count is None:
            return None, ()
        low, high = self._interval(self._cycle())
        step = (high - low) / count
        names = tuple(f"{low + place * step:g}-{low + (place + 1) * step:g}" for place in range(count))
        return ((self._drawn - low) / step).long().clamp(0, count - 1), names


@hookimpl
def register_datasets(register: Any) -> None:
    """Sine."""
    register("Sine", Sine)
