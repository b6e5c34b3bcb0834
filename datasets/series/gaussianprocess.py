"""GaussianProcess: smooth series whose density is known exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.series.made import EXACT, MadeSeries, MadeSettings
from ganglion.engine.api import hookimpl, setting


class GaussianProcessSettings(MadeSettings):
    """Settings of GaussianProcess."""

    length: int = setting(30, "steps of a series", unit="steps", ge=1)
    gamma: float = setting(0.1, "steps s and t have the covariance variance * exp(-gamma (s - t)^2)", gt=0)
    variance: float = setting(0.2, "variance in every step", gt=0)
    jitter: float = setting(1e-5, "variance of independent noise in every step, which makes the density exist", gt=0)


class GaussianProcess(MadeSeries):
    """Draws from a Gaussian process with mean 0 and a squared exponential covariance, 30 steps of one feature.

    The smooth functions of RGAN (Esteban, Hyland, Raetsch 2017, https://arxiv.org/abs/1706.02633). Samples are judged
    by logDensity, the mean of the exact log-density of a series, in nats; processLogDensity is what that is for the
    process' own, minus its entropy.

    Deviations: independent noise of variance `jitter`, part of the process, is added to the covariance: without it the
    covariance matrix is singular in double precision, and its log-density a matter of rounding.
    """

    Settings = GaussianProcessSettings

    name = "GaussianProcess"

    def covariance(self) -> Tensor:
        """The covariance of all steps (steps, steps)."""
        settings = self.settings
        step = torch.arange(settings.length, dtype=EXACT)
        smooth: Tensor = settings.variance * (-settings.gamma * (step[:, None] - step).square()).exp()
        noise: Tensor = settings.jitter * torch.eye(settings.length, dtype=EXACT)
        return smooth + noise

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, self.settings.length, generator=generator, dtype=EXACT)
        series: Tensor = noise @ torch.linalg.cholesky(self.covariance()).T
        return series.unsqueeze(2)

    def log_density(self, series: Tensor) -> Tensor:
        """Exact log-density (count,) of `series` (count, steps, 1), in nats."""
        factor = torch.linalg.cholesky(self.covariance())
        rows = series.to("cpu", EXACT)[:, :, 0].T
        whitened = torch.linalg.solve_triangular(factor, rows, upper=False)
        constant = len(factor) * math.log(2 * math.pi) / 2 + factor.diagonal().log().sum()
        density: Tensor = -whitened.square().sum(dim=0) / 2 - constant
        return density

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        zero = torch.zeros(1, self.settings.length, 1)
        own = float(self.log_density(zero)) - self.settings.length / 2
        return {"logDensity": float(self.log_density(samples).mean()), "processLogDensity": own}


@hookimpl
def register_datasets(register: Any) -> None:
    """GaussianProcess."""
    register("GaussianProcess", GaussianProcess)
