"""Scales of columns, fitted on some rows and inverted exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import ConfigError, DataError

EXACT = torch.float64
Range = tuple[float, float]


class Scaler(NamedTuple):
    """A scale per column: `forward` gives (values - shift) / factor, `inverse` undoes it."""

    shift: Tensor
    factor: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """Values as they are learnt."""
        return (values - self.shift.to(values)) / self.factor.to(values)

    def inverse(self, values: Tensor) -> Tensor:
        """Values as they stand in the file."""
        return values * self.factor.to(values) + self.shift.to(values)


def fit_scaler(kind: str, values: Tensor) -> Scaler:
    """The scaler of that kind fitted on `values` (rows, columns); a column that never changes is only shifted.

    standard: mean 0 and deviation 1. minmax: from 0 to 1. symmetric: from -1 to 1. none: as they are.
    """
    columns = values.shape[1]
    shift, factor = torch.zeros(columns, dtype=EXACT), torch.ones(columns, dtype=EXACT)
    if kind == "standard":
        shift, factor = values.mean(dim=0), values.std(dim=0, correction=0)
    elif kind == "minmax":
        shift = values.amin(dim=0)
        factor = values.amax(dim=0) - shift
    elif kind == "symmetric":
        low, high = values.amin(dim=0), values.amax(dim=0)
        shift = low / 2 + high / 2
        factor = torch.maximum(high - shift, shift - low)  # the larger half: rounding never leads out of -1 to 1
    return Scaler(shift, torch.where(factor > 0, factor, torch.ones_like(factor)))


def known_range(where: str, given: Sequence[float] | None) -> Range | None:
    """The interval that a setting names. Raises ConfigError for anything but LOW,HIGH."""
    if given is None:
        return None
    if len(given) != 2 or not -math.inf < given[0] < given[1] < math.inf:
        shown = ",".join(f"{value:g}" for value in given)
        raise ConfigError(f"{where}={shown}: expected LOW,HIGH, two finite numbers, LOW below HIGH")
    return given[0], given[1]


def fit_known(kind: str, values: Tensor, known: Range | None) -> Scaler:
    """As `fit_scaler`, but where the range of all columns is known, that is what minmax maps onto 0 to 1."""
    if known is None or kind != "minmax":
        return fit_scaler(kind, values)
    columns = values.shape[1]
    return Scaler(
        torch.full((columns,), known[0], dtype=EXACT), torch.full((columns,), known[1] - known[0], dtype=EXACT)
    )


def check_range(where: str, values: Tensor, known: Range | None, features: Sequence[str]) -> None:
    """Raises DataError, naming the column, where values (rows, columns) lie outside the range that is known."""
    if known is None:
        return
    outside = (values < known[0]) | (values > known[1])
    if bool(outside.any()):
        row, column = outside.nonzero()[0].tolist()
        raise DataError(
            f"{where}: column '{features[column]}' holds {float(values[row, column]):g}, outside "
            f"valueRange={known[0]:g},{known[1]:g}"
        )


def check_scaled(where: str, scaled: Tensor, scaler: Scaler, features: Sequence[str]) -> None:
    """Raises DataError, naming the column: finite numbers may be too large to be scaled, or for the precision."""
    finite = scaled.isfinite().all(dim=0) & scaler.factor.isfinite()
    if not bool(finite.all()):
        name = features[int((~finite).nonzero()[0])]
        raise DataError(f"{where}: column '{name}' holds numbers too large for {scaled.dtype} or too far apart")
