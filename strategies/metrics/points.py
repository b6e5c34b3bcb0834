"""Judging samples by the distribution that the data were made from."""

from __future__ import annotations

from typing import Any

from ganglion.engine.api import DatasetFactory, Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting


class PointsSettings(Settings):
    """Settings of the metric `points-v1`."""

    count: int = setting(2500, "samples drawn", ge=1)


class Points(Metric):
    """Figures that follow from the known distribution of made data: distance to the circle, modes found, and the like.

    Each data set declares its own ('ganglion show dataset Ring'); the protocol's sample size is 2,500.
    """

    Settings = PointsSettings

    def applies(self, context: EvaluationContext) -> bool:
        return context.strategy.generates() and type(context.factory()).assess is not DatasetFactory.assess

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        values = context.factory().assess(context.samples(self.settings.count))
        return Evaluation("points-v1", {**values, "samples": float(self.settings.count)})


@hookimpl
def register_metrics(register: Any) -> None:
    """points-v1."""
    register("points-v1", Points)
