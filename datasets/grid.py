"""Grid: Gaussians on a square grid, to count the modes that a generator finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.points import Points, PointSet, PointSettings, grid_means, mixture_points, mode_figures
from ganglion.engine.api import hookimpl, setting


class GridSettings(PointSettings):
    """Settings of Grid."""

    side: int = setting(5, "Gaussians along each side", ge=1)
    step: float = setting(2.0, "distance of neighbours, before scaling", gt=0)
    std: float = setting(0.05, "standard deviation of each, before scaling", gt=0)
    scale: float = setting(
        1.0, "all coordinates are divided by this; 2.828 gives about unit variance, and WGAN-GP's grid", gt=0
    )


class Grid(PointSet):
    """2-D points from equally likely round Gaussians on a square grid around 0: by default 25, at {-4,-2,0,2,4}^2.

    Samples are judged by: modes, how many are reached; highQuality, the share of samples within 3 standard deviations
    of a mode (real ones: 0.989); reverseKL, how unevenly they spread over the modes (0: evenly); stdRatio, how wide
    the modes are compared with the true ones (real ones, cut at 3 standard deviations: 0.974).
    """

    Settings = GridSettings

    name = "Grid"

    def means(self) -> Tensor:
        """The Gaussians' means (modes, 2), as scaled."""
        return grid_means(self.settings.side, self.settings.step).div(self.settings.scale)

    def std(self) -> float:
        """The standard deviation of each Gaussian, as scaled."""
        return float(self.settings.std / self.settings.scale)

    def draw(self, count: int, generator: torch.Generator) -> Points:
        return mixture_points(self.means(), self.std(), count, generator)

    def mode_names(self) -> tuple[str, ...]:
        return tuple(f"({x:g},{y:g})" for x, y in grid_means(self.settings.side, self.settings.step).tolist())

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        return mode_figures(samples, self.means(), self.std())


@hookimpl
def register_datasets(register: Any) -> None:
    """Grid."""
    register("Grid", Grid)
