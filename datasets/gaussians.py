"""Gaussians: one or a few 2-D Gaussians whose density is known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.points import EXACT, Points, PointSet, PointSettings, mixture_log_density, moment_figures
from ganglion.engine.api import ConfigError, DataContext, hookimpl, setting


class GaussiansSettings(PointSettings):
    """Settings of Gaussians."""

    mean: tuple[float, ...] = setting((0.0, 0.0), "means: X,Y for each Gaussian, one after the other")
    covariance: tuple[float, ...] = setting(
        (1.0, 0.6, 1.0), "covariances: XX,XY,YY for each Gaussian, or once for all of them"
    )


class Gaussians(PointSet):
    """2-D points from equally likely Gaussians with given means and covariances.

    Samples are judged by: meanError and covarianceError, the distances of their mean and covariance from the true ones;
    logDensity, the mean of the exact log-density at the samples.
    """

    Settings = GaussiansSettings

    name = "Gaussians"

    def __init__(self, settings: Any, context: DataContext) -> None:
        super().__init__(settings, context)
        if not settings.mean or len(settings.mean) % 2:
            raise ConfigError(f"Gaussians: mean has {len(settings.mean)} numbers, expected X,Y for each Gaussian")
        self.means = torch.tensor(settings.mean, dtype=EXACT).view(-1, 2)
        self.covariances = self._covariances()

    def _covariances(self) -> Tensor:
        given, count = self.settings.covariance, len(self.means)
        if len(given) not in (3, 3 * count):
            raise ConfigError(
                f"Gaussians: covariance has {len(given)} numbers, expected XX,XY,YY once or for each of {count}"
            )
        triples = torch.tensor(given, dtype=EXACT).view(-1, 3).expand(count, 3)
        matrices = triples[:, [0, 1, 1, 2]].view(-1, 2, 2)
        if bool((matrices[:, 0, 0] <= 0).any()) or bool((torch.linalg.det(matrices) <= 0).any()):
            numbers = ",".join(f"{number:g}" for number in given)
            raise ConfigError(f"Gaussians: covariance={numbers}: expected XX > 0 and XX * YY > XY * XY")
        return matrices

    def draw(self, count: int, generator: torch.Generator) -> Points:
        modes = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, 2, 1, generator=generator, dtype=EXACT)
        positions = self.means[modes] + (torch.linalg.cholesky(self.covariances)[modes] @ noise).squeeze(2)
        return Points(positions, modes if self.mode_names() else None)

    def mode_names(self) -> tuple[str, ...]:
        return tuple(f"({x:g},{y:g})" for x, y in self.means.tolist()) if len(self.means) > 1 else ()

    def log_density(self, points: Tensor) -> Tensor:
        """Exact log-density (count,) at `points` (count, 2)."""
        return mixture_log_density(points, self.means, self.covariances)

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        mean = self.means.mean(dim=0)
        apart = self.means - mean
        covariance = self.covariances.mean(dim=0) + apart.T @ apart / len(self.means)
        density = {"logDensity": float(self.log_density(samples).mean())}
        return {**moment_figures(samples, mean, covariance), **density}


@hookimpl
def register_datasets(register: Any) -> None:
    """Gaussians."""
    register("Gaussians", Gaussians)
