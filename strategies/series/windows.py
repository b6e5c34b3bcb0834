"""What strategies for time series share: that the data have steps, and windows of the data kept to start from."""

from __future__ import annotations

import torch
from torch import Tensor

from ganglion.engine.api import ConfigError, Dataset, DataSpec

EXAMPLES = 256


def need_sequences(spec: DataSpec, strategy: str) -> tuple[int, int]:
    """Steps and features of a window. Raises ConfigError for data without steps."""
    if spec.kind != "sequence":
        raise ConfigError(
            f"{strategy} is for time series, and the data are of kind {spec.kind}; choose data such as Sine or Stocks"
        )
    steps, features = spec.shape
    return steps, features


def example_rows(dataset: Dataset, count: int = EXAMPLES) -> Tensor:
    """Evenly spaced windows (at most `count`, steps, features) of a data set, as they are stored."""
    spaced = torch.linspace(0, len(dataset) - 1, min(count, len(dataset)), dtype=torch.float64).round().to(torch.int64)
    return dataset.rows(spaced).input.clone()
