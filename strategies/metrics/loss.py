"""The strategy's own figures on the test part."""

from __future__ import annotations

from typing import Any

import torch

from ganglion.engine.api import (
    Evaluation,
    EvaluationContext,
    LearningStrategy,
    Metric,
    hookimpl,
    mean_figures,
)


class TestLoss(Metric):
    """Means over the rows of the test part of what the strategy says on unseen rows: its loss, for example."""

    def applies(self, context: EvaluationContext) -> bool:
        return type(context.strategy).validate is not LearningStrategy.validate

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        part = context.unseen()
        with torch.no_grad():
            figures = mean_figures(context.strategy, part, context.device)
        return Evaluation("loss", {**figures, "rows": float(len(part))})


@hookimpl
def register_metrics(register: Any) -> None:
    """loss."""
    register("loss", TestLoss)
