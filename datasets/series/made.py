"""What the made series share: how many, how long, and the same ones for the same seed."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from ganglion.engine.api import DatasetFactory, DataSpec, Settings, Splits, TensorDataset, setting, stream_seed

EXACT = torch.float64  # series are drawn in this precision, so that they are the same in any other


class MadeSettings(Settings):
    """Settings of every made set of series."""

    size: int = setting(10000, "series to learn from", ge=1)
    test_size: int = setting(2500, "series to test on, drawn separately", ge=1)


class MadeSeries(DatasetFactory):
    """Independent series drawn from a known distribution: the same for the same seed, other ones in the test part."""

    Settings: ClassVar[type[Settings]] = MadeSettings
    name: ClassVar[str]

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """That many series (count, steps, features), float64."""

    def value_range(self) -> tuple[float, float] | None:
        """The interval that no value leaves; None where there is none."""
        return None

    def features(self) -> tuple[str, ...]:
        """The names of the features, where they have some."""
        return ()

    def labels(self) -> tuple[Tensor | None, tuple[str, ...]]:
        """The classes (count,) of the series that were drawn last, and their names, where there are some."""
        return None, ()

    def load(self) -> Splits:
        return Splits(
            train=self._part("train", self.settings.size),
            test=self._part("test", self.settings.test_size),
        )

    def _part(self, split: str, count: int) -> TensorDataset:
        generator = torch.Generator().manual_seed(stream_seed(self.context.seed, self.name, split))
        series = self.draw(count, generator)
        target, classes = self.labels()
        shape = tuple(series.shape[1:])
        spec = DataSpec("sequence", shape, self.value_range(), classes=classes, features=self.features())
        return TensorDataset(spec, series.to(torch.get_default_dtype()), target)


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers of `shape` between both; `low` where they are equal."""
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=EXACT)
