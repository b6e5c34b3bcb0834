"""Validation: the strategy's figures, or a metric's, on rows that are not learnt from."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from ganglion.engine.contracts import Dataset
from ganglion.engine.errors import ConfigError
from ganglion.engine.session import Session

ROWS = 500


def validate(session: Session) -> dict[str, float]:
    """Means of the strategy's per-sample figures over the validation rows, each row counted once."""
    assert session.data.validation is not None
    with session.judging():
        return mean_figures(session, session.data.validation)


def mean_figures(session: Session, dataset: Dataset) -> dict[str, float]:
    """Means over all rows of `dataset`; the last batch may be smaller. The caller has set the mode."""
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    device = session.sampler.device
    for rows in torch.arange(len(dataset)).split(ROWS):
        batch = dataset.rows(rows).map(lambda tensor: tensor.to(device))
        for name, figures in session.strategy.validate(batch).items():
            sums[name] = sums[name] + figures.double().sum().cpu()
    return {name: float(total) / len(dataset) for name, total in sums.items()}


def check_validation(session: Session) -> None:
    """Raise ConfigError where validation is asked for and the strategy has nothing to say on unseen rows."""
    data = session.data.validation
    if data is None:
        return
    with session.judging():
        figures = session.strategy.validate(
            data.rows(torch.arange(2)).map(lambda tensor: tensor.to(session.sampler.device))
        )
    if "loss" not in figures:
        raise ConfigError(
            f"validationSet: strategy {session.plan.strategy.name} has no loss on unseen rows; "
            "leave validationSet out, and judge samples with 'ganglion evaluate'"
        )
