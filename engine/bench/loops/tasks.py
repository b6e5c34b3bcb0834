"""Which loops there are: per task the networks, the loops, and what their data look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ganglion.engine.bench.loops import batches, circle, dianne, images, rgan, wgangp

Players = tuple[nn.Module, nn.Module]


class Loop(Protocol):
    """Carries out so many iterations; the losses (discriminator, generator) of one in `every`."""

    def __call__(self, iterations: int, every: int = ...) -> list[tuple[float, float]]: ...


class Written(NamedTuple):
    """One task by hand. `rows` is the shape of all its data, the number of rows first."""

    networks: Callable[[], Players]
    careful: Callable[[nn.Module, nn.Module, Iterator[Tensor], int], Loop]
    tutorial: Callable[[nn.Module, nn.Module, Iterator[Tensor], int], Loop]
    rows: tuple[int, ...]
    batch_size: int


def _images(batch_size: int) -> Written:
    return Written(images.perceptrons, images.careful, images.tutorial, (60_000, 784), batch_size)


def _series(steps: int) -> Written:
    return Written(rgan.networks, rgan.careful, rgan.tutorial, (14_000, steps, 1), 28)


WRITTEN: Mapping[str, Written] = {
    "circle": Written(circle.networks, circle.careful, circle.tutorial, (10_000, 2), 64),
    "dianne": Written(dianne.networks, dianne.careful, dianne.tutorial, (60_000, 784), 16),
    "mnist-16": _images(16),
    "mnist-64": _images(64),
    "mnist-256": _images(256),
    "dcgan-28": Written(images.convolutions, images.careful, images.tutorial, (60_000, 1, 28, 28), 64),
    "wgan-gp": Written(wgangp.networks, wgangp.careful, wgangp.tutorial, (60_000, 784), 64),
    "rgan-24": _series(24),
    "rgan-96": _series(96),
}
STYLES = ("loader", "gather", "tutorial")


def write_loop(task: Written, style: str, rows: Tensor, device: str = "cpu") -> Loop:
    """A fresh loop: careful with a DataLoader, careful with one gather per batch, or the tutorials' (DataLoader)."""
    generator, discriminator = (network.to(device) for network in task.networks())
    source = batches.gathered if style == "gather" else batches.loaded
    stream = source(rows, task.batch_size, device)
    make = task.tutorial if style == "tutorial" else task.careful
    return make(generator, discriminator, stream, task.batch_size)
