"""Ring: Gaussians on a circle, to count the modes that a generator finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.points import Points, PointSet, PointSettings, mixture_points, mode_figures, ring_means
from ganglion.engine.api import hookimpl, setting


class RingSettings(PointSettings):
    """Settings of Ring."""

    modes: int = setting(8, "number of Gaussians", ge=1)
    radius: float = setting(1.0, "radius of the circle on which they stand, before scaling", gt=0)
    std: float = setting(0.01, "standard deviation of each, before scaling", gt=0)
    scale: float = setting(
        1.0, "all coordinates are divided by this; radius=2 std=0.02 scale=1.414 is WGAN-GP's ring", gt=0
    )


class Ring(PointSet):
    """2-D points from equally likely round Gaussians at equal angles on a circle around 0.

    Samples are judged by: modes, how many are reached; highQuality, the share of samples within 3 standard deviations
    of a mode (real ones: 0.989); reverseKL, how unevenly they spread over the modes (0: evenly); stdRatio, how wide
    the modes are compared with the true ones (real ones, cut at 3 standard deviations: 0.974).
    """

    Settings = RingSettings

    name = "Ring"

    def means(self) -> Tensor:
        """The Gaussians' means (modes, 2), as scaled."""
        return ring_means(self.settings.modes, self.settings.radius).div(self.settings.scale)

    def std(self) -> float:
        """The standard deviation of each Gaussian, as scaled."""
        return float(self.settings.std / self.settings.scale)

    def draw(self, count: int, generator: torch.Generator) -> Points:
        return mixture_points(self.means(), self.std(), count, generator)

    def mode_names(self) -> tuple[str, ...]:
        return tuple(f"{360 * mode / self.settings.modes:.4g} degrees" for mode in range(self.settings.modes))

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        return mode_figures(samples, self.means(), self.std())


@hookimpl
def register_datasets(register: Any) -> None:
    """Ring."""
    register("Ring", Ring)
