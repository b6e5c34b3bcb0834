"""A plugin for benchmarks alone: images of random bytes, as large as MNIST, and networks of a single layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ganglion.engine.contracts import DatasetFactory, DataSpec, NetworkContext, Splits
from ganglion.engine.data import TensorDataset
from ganglion.engine.hookspecs import hookimpl
from ganglion.engine.settings import Settings, setting


class BenchImagesSettings(Settings):
    """Settings of BenchImages."""

    size: int = setting(60_000, "images to learn from", ge=1)


class BenchImages(DatasetFactory):
    """Images of 28 x 28 random bytes in ten classes, held in memory as MNIST is: what learning costs is the same."""

    Settings = BenchImagesSettings

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(self.context.seed)
        rows: int = self.settings.size
        images = torch.randint(256, (rows, 1, 28, 28), dtype=torch.uint8, generator=generator)
        classes = torch.randint(10, (rows,), generator=generator)
        spec = DataSpec("image", (1, 28, 28), value_range=(0.0, 1.0), classes=tuple("0123456789"))
        return Splits(train=TensorDataset(spec, images, classes, scale=1 / 255))


def one_layer(context: NetworkContext) -> nn.Module:
    """A network of one linear layer, so small that only the cost per call is left."""
    return nn.Sequential(nn.Linear(context.input.size, context.output.size))


@hookimpl
def register_datasets(register: Any) -> None:
    """BenchImages."""
    register("BenchImages", BenchImages)


@hookimpl
def register_networks(register: Any) -> None:
    """BenchLayer."""
    register("BenchLayer", one_layer)
