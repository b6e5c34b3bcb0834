"""SwissRoll: a spiral in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.points import EXACT, HIGH_QUALITY, Points, PointSet, PointSettings, distances, roll_curve
from ganglion.engine.api import hookimpl, setting

CURVE_POINTS = 2001


class SwissRollSettings(PointSettings):
    """Settings of SwissRoll."""

    std: float = setting(0.25, "standard deviation of the noise, before scaling", gt=0)
    scale: float = setting(7.5, "all coordinates are divided by this", gt=0)


class SwissRoll(PointSet):
    """2-D points around a spiral: scikit-learn's Swiss roll seen from the side, divided by 7.5.

    Samples are judged by onRoll, the share within 3 standard deviations of the noise of the spiral (real ones: 0.997).
    """

    Settings = SwissRollSettings

    name = "SwissRoll"

    def draw(self, count: int, generator: torch.Generator) -> Points:
        position = torch.rand(count, generator=generator, dtype=EXACT)
        noise = torch.randn(count, 2, generator=generator, dtype=EXACT)
        return Points((roll_curve(position) + self.settings.std * noise) / self.settings.scale)

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        curve = roll_curve(torch.linspace(0, 1, CURVE_POINTS, dtype=EXACT))
        parts = (samples.to("cpu", EXACT) * self.settings.scale).split(
            4096
        )  # by parts: the distances to the curve are many
        near = sum(int((distances(part, curve).amin(1) <= HIGH_QUALITY * self.settings.std).sum()) for part in parts)
        return {"onRoll": near / len(samples)}


@hookimpl
def register_datasets(register: Any) -> None:
    """SwissRoll."""
    register("SwissRoll", SwissRoll)
