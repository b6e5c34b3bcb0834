"""Windows of long series, gathered from the series by the row that each begins with: none is ever stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ganglion.engine.api import Batch, Dataset, DataSpec

Normalise = Literal["none", "window", "range"]
TAKEN: Mapping[Normalise, tuple[str, str]] = {"window": ("mean", "deviation"), "range": ("low", "extent")}


@dataclass(frozen=True)
class Rows:
    """What all parts of a data set gather from, one row per step of the series.

    `values` is (rows, features). `along` are fields that go with every step, (rows, ...). `first` are fields of a
    window, (rows, ...), and `target` is its class, (rows,): those of the row that it begins with.
    """

    values: Tensor
    along: Mapping[str, Tensor] = field(default_factory=dict)
    first: Mapping[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Rows:
        """The rows with `function` applied to every tensor."""
        return Rows(
            function(self.values),
            {name: function(value) for name, value in self.along.items()},
            {name: function(value) for name, value in self.first.items()},
            None if self.target is None else function(self.target),
        )


class Windows(Dataset):
    """Windows (steps, features) of `source` that begin at the rows `starts` (windows,).

    A batch has the fields `along` as (batch, steps, ...) and `first` as (batch, ...). With normalise=window the mean is
    subtracted from every window and feature, which is then divided by its deviation (by 1 where it is 0); with
    normalise=range it is its least value, and its extent. What was taken away is given as the fields `mean` and
    `deviation`, or `low` and `extent`, (batch, features). Steps that the field `mask` calls missing do not count, and
    stay 0.
    """

    def __init__(self, spec: DataSpec, source: Rows, starts: Tensor, normalise: Normalise = "none") -> None:
        self.spec = spec
        self.source = source
        self.starts = starts
        self.normalise = normalise
        self.steps = torch.arange(spec.shape[0], device=starts.device)

    def __len__(self) -> int:
        return len(self.starts)

    def rows(self, indices: Tensor) -> Batch:
        if self.starts.device.type == "cuda" and indices.device.type == "cpu":
            indices = indices.pin_memory()  # so that the copy does not wait
        starts = self.starts.index_select(0, indices.to(self.starts.device, non_blocking=True))
        places = starts[:, None] + self.steps
        fields = {name: value[places] for name, value in self.source.along.items()}
        fields |= {name: value.index_select(0, starts) for name, value in self.source.first.items()}
        target = None if self.source.target is None else self.source.target.index_select(0, starts)
        batch = Batch(self.source.values[places], target, fields)
        if self.normalise == "none":
            return batch
        return normalised(batch) if self.normalise == "window" else ranged(batch)

    def targets(self) -> Tensor | None:
        return None if self.source.target is None else self.source.target.index_select(0, self.starts)

    def to(self, device: torch.device) -> Windows:
        return Windows(
            self.spec, self.source.map(lambda value: value.to(device)), self.starts.to(device), self.normalise
        )


def normalised(batch: Batch) -> Batch:
    """Every window with mean 0 and deviation 1 in every feature, and the fields `mean` and `deviation`."""
    mask = batch.fields.get("mask")
    seen = torch.ones_like(batch.input) if mask is None else mask
    count = seen.sum(dim=1).clamp(min=1)
    mean = (batch.input * seen).sum(dim=1) / count
    apart = (batch.input - mean[:, None]) * seen
    deviation = (apart.square().sum(dim=1) / count).sqrt()
    # of a constant window rounding leaves a trace, which must not be blown up to deviation 1
    flat = deviation <= 1e-6 * mean.abs()
    divisor = torch.where(flat, torch.ones_like(deviation), deviation)
    deviation = torch.where(flat, torch.zeros_like(deviation), deviation)
    apart = torch.where(flat[:, None], torch.zeros_like(apart), apart / divisor[:, None])
    return replace(batch, input=apart, fields={**batch.fields, "mean": mean, "deviation": deviation})


def ranged(batch: Batch) -> Batch:
    """Every window within 0..1 in every feature, a constant one at 0, and the fields `low` and `extent`."""
    mask = batch.fields.get("mask")
    seen = torch.ones_like(batch.input, dtype=torch.bool) if mask is None else mask.expand_as(batch.input) > 0
    low = batch.input.masked_fill(~seen, torch.inf).amin(dim=1)
    high = batch.input.masked_fill(~seen, -torch.inf).amax(dim=1)
    any_seen = seen.any(dim=1)
    low, high = (torch.where(any_seen, bound, torch.zeros_like(bound)) for bound in (low, high))
    extent = high - low
    divisor = torch.where(extent > 0, extent, torch.ones_like(extent))
    within = torch.where(seen, (batch.input - low[:, None]) / divisor[:, None], torch.zeros_like(batch.input))
    return replace(batch, input=within, fields={**batch.fields, "low": low, "extent": extent})
