"""What adapters do to a batch: flips, turns, crops, frames, thresholds, noise, and another scale."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ganglion.engine import geometry
from ganglion.engine.contracts import Adapter, Batch, DataSpec, Range
from ganglion.engine.streams import RandomStream

Span = tuple[int, int]


def unscale(values: Tensor, source: Range | None, wanted: Range | None) -> Tensor:
    """Values mapped linearly from the interval `source` onto `wanted`; as they are where one is unknown."""
    if source is None or wanted is None or source == wanted:
        return values
    factor = (wanted[1] - wanted[0]) / (source[1] - source[0])
    return (values - source[0]) * factor + wanted[0]


class Augmentation(Adapter):
    """A random adapter: it changes training rows only, anew in every batch."""

    random: ClassVar[bool] = True

    def settled(self) -> Adapter | None:
        """What is done to validation and test rows instead; None for nothing."""
        return None

    def apply(self, batch: Batch, stream: RandomStream | None) -> Batch:
        assert stream is not None, "a random adapter needs a stream"
        return self.draw(batch, stream)

    @abstractmethod
    def draw(self, batch: Batch, stream: RandomStream) -> Batch:
        """The batch changed at random."""


def _map_pictures(batch: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with its images changed, and with them targets that are images of the same size."""
    target = batch.target
    if target is not None and target.dim() == 4 and target.shape[-2:] == batch.input.shape[-2:]:
        target = function(target)
    return replace(batch, input=function(batch.input), target=target)


def _resized(spec: DataSpec, height: int, width: int) -> DataSpec:
    target = spec.target_shape
    if target is not None and len(target) == 3 and target[-2:] == spec.shape[-2:]:
        target = (target[0], height, width)
    return replace(spec, shape=(spec.shape[0], height, width), target_shape=target)


@dataclass(frozen=True)
class Flip(Augmentation):
    """Flips each image with the given probability along the dimension (-2: upside down, -1: left to right)."""

    probability: float
    dimension: int

    def draw(self, batch: Batch, stream: RandomStream) -> Batch:
        chosen = (stream.uniform(len(batch)) < self.probability).to(batch.input.device)
        return _map_pictures(batch, lambda images: geometry.flip(images, self.dimension, chosen))


@dataclass(frozen=True)
class Rotate(Augmentation):
    """Turns each image by its own angle from `angles` about `center`; what comes from outside is `fill`."""

    angles: Range
    center: tuple[float, float]
    fill: float

    def draw(self, batch: Batch, stream: RandomStream) -> Batch:
        theta = stream.uniform(len(batch), low=self.angles[0], high=self.angles[1]).to(batch.input)
        return _map_pictures(batch, lambda images: geometry.rotate(images, theta, self.center, self.fill))


@dataclass(frozen=True)
class CropMiddle(Adapter):
    """The (height, width) patch in the middle of the padded image."""

    size: Span
    padding: int
    fill: float

    def spec(self, spec: DataSpec) -> DataSpec:
        return _resized(spec, *self.size)

    def apply(self, batch: Batch, stream: RandomStream | None) -> Batch:
        return _map_pictures(
            batch, lambda images: geometry.cut_middle(geometry.pad(images, self.padding, self.fill), *self.size)
        )


@dataclass(frozen=True)
class Crop(Augmentation):
    """A patch anywhere in the padded image, each corner equally likely; sizes (min, max) are drawn, resized to max."""

    heights: Span
    widths: Span
    padding: int
    fill: float

    def settled(self) -> Adapter:
        return CropMiddle((self.heights[1], self.widths[1]), self.padding, self.fill)

    def spec(self, spec: DataSpec) -> DataSpec:
        return _resized(spec, self.heights[1], self.widths[1])

    def draw(self, batch: Batch, stream: RandomStream) -> Batch:
        height, width = (length + 2 * self.padding for length in batch.input.shape[-2:])
        rows, top = self._place(self.heights, height, batch, stream)
        columns, left = self._place(self.widths, width, batch, stream)
        wanted = (self.heights[1], self.widths[1])

        def cut(images: Tensor) -> Tensor:
            padded = geometry.pad(images, self.padding, self.fill)
            if self.heights[0] == self.heights[1] and self.widths[0] == self.widths[1]:
                return geometry.cut(padded, top, left, *wanted)
            return geometry.cut_resized(padded, top, left, (rows, columns), wanted)

        return _map_pictures(batch, cut)

    @staticmethod
    def _place(sizes: Span, length: int, batch: Batch, stream: RandomStream) -> tuple[Tensor, Tensor]:
        """For each image the size of its patch along one axis and where it starts, both ends included."""
        device, count = batch.input.device, len(batch)
        size = stream.integers(sizes[1] - sizes[0] + 1, count).to(device) + sizes[0]
        room = length - size + 1
        start = (stream.uniform(count).to(device) * room).to(torch.int64).minimum(room - 1)
        return size, start


@dataclass(frozen=True)
class Frame(Adapter):
    """Images resized to cover (height, width), proportions kept, and cut to it in the middle."""

    size: Span

    def spec(self, spec: DataSpec) -> DataSpec:
        return _resized(spec, *self.size)

    def apply(self, batch: Batch, stream: RandomStream | None) -> Batch:
        return _map_pictures(batch, lambda images: geometry.frame(images, *self.size))


@dataclass(frozen=True)
class Binarize(Adapter):
    """Values above the threshold become 1, all others 0."""

    threshold: float

    def spec(self, spec: DataSpec) -> DataSpec:
        return replace(spec, value_range=(0.0, 1.0))

    def apply(self, batch: Batch, stream: RandomStream | None) -> Batch:
        return batch.with_input((batch.input > self.threshold).to(batch.input.dtype))


class Autoencode(Adapter):
    """The target is the input."""

    def spec(self, spec: DataSpec) -> DataSpec:
        return replace(spec, classes=(), target_shape=spec.shape)

    def apply(self, batch: Batch, stream: RandomStream | None) -> Batch:
        return replace(batch, target=batch.input)


@dataclass(frozen=True)
class Corrupt(Augmentation):
    """Adds noise to the input, then sets a share of its values to 0; the target stays as it is."""

    noise: float
    drop: float

    def draw(self, batch: Batch, stream: RandomStream) -> Batch:
        value = batch.input
        if self.noise:
            value = value + self.noise * stream.normal(*value.shape).to(value)
        if self.drop:
            value = value * (stream.uniform(*value.shape) >= self.drop).to(value)
        return batch.with_input(value)


@dataclass(frozen=True)
class Rescale(Adapter):
    """Maps values from one interval onto another; the target too, where it is the input."""

    source: Range
    wanted: Range
    with_target: bool = False

    def spec(self, spec: DataSpec) -> DataSpec:
        return replace(spec, value_range=self.wanted)

    def apply(self, batch: Batch, stream: RandomStream | None) -> Batch:
        target = batch.target
        if self.with_target and target is not None:
            target = unscale(target, self.source, self.wanted)
        return replace(batch, input=unscale(batch.input, self.source, self.wanted), target=target)
