"""Validation: the strategy's figures, or a metric's, on rows that are not learnt from."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from ganglion.engine.contracts import Dataset, LearningStrategy
from ganglion.engine.errors import ConfigError
from ganglion.engine.session import Session

ROWS = 500


def validate(session: Session) -> dict[str, float]:
    """Means of the strategy's per-sample figures over the validation rows, each row counted once."""
    assert session.data.validation is not None
    with session.judging():
        return mean_figures(session.strategy, session.data.validation, session.sampler.device)


def mean_figures(strategy: LearningStrategy, dataset: Dataset, device: torch.device) -> dict[str, float]:
    """Means over all rows of what `strategy.validate` says; the last batch may be smaller. The caller sets the mode."""
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    for rows in torch.arange(len(dataset)).split(ROWS):
        batch = dataset.rows(rows).map(lambda tensor: tensor.to(device))
        for name, figures in strategy.validate(batch).items():
            sums[name] = sums[name] + figures.double().sum().cpu()
    return {name: float(total) / len(dataset) for name, total in sums.items()}


def can_validate(session: Session) -> bool:
    """Whether there are validation rows and a loss on them. Raises ConfigError where rows were named in vain."""
    data = session.data.validation
    if data is None:
        return False
    rows = torch.arange(min(2, len(data)))
    with session.judging():
        figures = session.strategy.validate(data.rows(rows).map(lambda tensor: tensor.to(session.sampler.device)))
    if "loss" not in figures and session.plan.adapters.validation_set is not None:
        raise ConfigError(
            f"validationSet: strategy {session.plan.strategy.name} has no loss on unseen rows; leave validationSet "
            "out, and judge samples with 'ganglion evaluate'"
        )
    return "loss" in figures
