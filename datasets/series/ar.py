"""AR: autoregressive series of order 1 with correlated channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.series.made import EXACT, MadeSeries, MadeSettings
from ganglion.engine.api import hookimpl, setting

TINY = 1e-300


class ARSettings(MadeSettings):
    """Settings of AR."""

    length: int = setting(24, "steps of a series", unit="steps", ge=2)
    channels: int = setting(5, "features of a series", ge=1)
    phi: float = setting(0.8, "share of a value that goes into the next one", gt=-1, lt=1)
    correlation: float = setting(0.8, "correlation of any two channels in the same step", ge=0, lt=1)


class AR(MadeSeries):
    """x(t) = phi x(t-1) + e(t) with Gaussian e, correlated between channels; each value has mean 0 and variance 1.

    The autoregressive data of TimeGAN (Yoon, Jarrett, van der Schaar 2019, https://papers.nips.cc/paper/8789, section
    5.1). Samples are judged by lag1, their autocorrelation from one step to the next, and correlation, that between
    channels, both over all samples together, and beside them the exact lag1Exact and correlationExact.

    Deviations: e(t) is scaled so that the variance is 1 whatever phi is, and series begin in the stationary state.
    """

    Settings = ARSettings

    name = "AR"

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        settings = self.settings
        noise = torch.randn(count, settings.length, settings.channels, generator=generator, dtype=EXACT)
        mixed = noise @ torch.linalg.cholesky(self.covariance()).T
        steps, rest = [mixed[:, 0]], math.sqrt(1 - settings.phi**2)
        for step in range(1, settings.length):
            steps.append(settings.phi * steps[-1] + rest * mixed[:, step])
        return torch.stack(steps, dim=1)

    def covariance(self) -> Tensor:
        """The covariance of the channels (channels, channels) in one step."""
        correlation, channels = self.settings.correlation, self.settings.channels
        covariance: Tensor = correlation + (1 - correlation) * torch.eye(channels, dtype=EXACT)
        return covariance

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        samples = samples.to("cpu", EXACT)
        apart = samples - samples.mean(dim=(0, 1))
        figures = {"lag1": _correlation(apart[:, :-1], apart[:, 1:]), "lag1Exact": self.settings.phi}
        if samples.shape[2] > 1:
            one, other = torch.triu_indices(samples.shape[2], samples.shape[2], 1)
            figures["correlation"] = _correlation(apart[:, :, one], apart[:, :, other])
            figures["correlationExact"] = self.settings.correlation
        return figures


def _correlation(one: Tensor, other: Tensor) -> float:
    """The mean over the last dimension of the correlations of centred values; 0 where one never changes."""
    product = (one * other).sum(dim=(0, 1))
    scale = (one.square().sum(dim=(0, 1)) * other.square().sum(dim=(0, 1))).sqrt()
    return float((product / scale.clamp(min=TINY)).mean())


@hookimpl
def register_datasets(register: Any) -> None:
    """AR."""
    register("AR", AR)
