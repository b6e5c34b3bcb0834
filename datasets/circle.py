"""Circle: points on a circle, to see whether a generator finds it and covers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.points import Points, PointSet, PointSettings, circle_figures, circle_points
from ganglion.engine.api import hookimpl, setting


class CircleSettings(PointSettings):
    """Settings of Circle."""

    radius: float = setting(1.0, "radius of the circle", gt=0)
    std: float = setting(0.0, "standard deviation of Gaussian noise in both coordinates", ge=0)


class Circle(PointSet):
    """2-D points at uniform angles on a circle around 0.

    Samples are judged by: withinTenth, the share within a tenth of the radius of the circle; arcsHit, how many of 36
    arcs of 10 degrees hold such a sample; radiusMean and radiusStd.
    """

    Settings = CircleSettings

    name = "Circle"

    def draw(self, count: int, generator: torch.Generator) -> Points:
        return Points(circle_points(count, self.settings.radius, self.settings.std, generator))

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        return circle_figures(samples, self.settings.radius)


@hookimpl
def register_datasets(register: Any) -> None:
    """Circle."""
    register("Circle", Circle)
