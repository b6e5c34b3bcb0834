"""The few samples that a picture on a terminal is drawn from, as numbers between 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganglion.engine.contracts import DataSpec
from ganglion.engine.trace import SamplesMade

MOST = {"vector": 1000, "image": 24, "sequence": 8}  # rows that are kept, by kind
MARGIN = 0.1  # of the data's range, shown around it


@dataclass(frozen=True)
class Kept:
    """Samples and real rows (count, *shape), scaled so that what is to be seen lies in 0..1; text as it reads."""

    iteration: int
    spec: DataSpec
    samples: Tensor
    real: Tensor | None
    texts: tuple[str, ...] = ()


def keep(event: SamplesMade) -> Kept:
    """What of an event is worth keeping: a few rows of their own, so that the rest is freed."""
    spec = event.spec
    samples = event.samples[: MOST[spec.kind]].detach().to("cpu", torch.float32)
    if spec.text:
        return Kept(event.iteration, spec, torch.empty(0), None, tuple(spec.texts(samples)))
    real = None if event.real is None else _spread_out(event.real, len(samples)).to("cpu", torch.float32)
    low, high = _limits(samples, real, spec)
    shown = None if real is None else (real - low) / (high - low)
    return Kept(event.iteration, spec, (samples - low) / (high - low), shown)


def _spread_out(rows: Tensor, count: int) -> Tensor:
    """Rows from end to end: they may be sorted."""
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]


def _limits(samples: Tensor, real: Tensor | None, spec: DataSpec) -> tuple[Tensor, Tensor]:
    """What becomes 0 and 1: for images the data's whole range, otherwise that of each feature with a margin."""
    if spec.kind == "image":
        low, high = spec.value_range or _range(samples if real is None else real, None)
        low, high = torch.as_tensor(low), torch.as_tensor(high)
    else:
        shown = samples if real is None else real
        low, high = _range(shown.reshape(-1, shown.shape[-1]), 0)
        extra = MARGIN * (high - low)
        low, high = low - extra, high + extra
    return low, torch.where(high > low, high, low + 1.0)


def _range(rows: Tensor, dimension: int | None) -> tuple[Tensor, Tensor]:
    finite = rows[torch.isfinite(rows).reshape(len(rows), -1).all(1)]
    if not len(finite):
        return torch.tensor(0.0), torch.tensor(1.0)
    return (finite.min(), finite.max()) if dimension is None else (finite.amin(dimension), finite.amax(dimension))
