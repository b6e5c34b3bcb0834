"""Judging a conditional generator: does a classifier see the class that was asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import (
    ConfigError,
    Evaluation,
    EvaluationContext,
    LearningStrategy,
    Metric,
    Settings,
    hookimpl,
    setting,
)
from ganglion.strategies.metrics.judge import accuracy_of, open_judge


class AgreementSettings(Settings):
    """Settings of the metric `agreement-v1`."""

    classifier: str | None = setting(None, "tag of the run that judges")
    count: int = setting(10_000, "samples drawn", ge=1)


class Agreement(Metric):
    """Share of samples for which a classifier names the class that was asked for.

    The classifier is another run (`classifier=TAG`) that learned the same classes; its accuracy on the test rows stands
    beside, since it bounds what can be measured. `lowestAgreement`: that of the worst class. Rows of the confusion
    table are the classes asked for, columns the classes named.
    """

    Settings = AgreementSettings

    def applies(self, context: EvaluationContext) -> bool:
        takes_classes = type(context.strategy).requested is not LearningStrategy.requested
        return takes_classes and self.settings.classifier is not None

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        judge = open_judge(context, self.settings.classifier, "agreement-v1", context.spec.shape)
        if judge.classes != context.spec.classes:
            raise ConfigError(
                f"classifier={judge.tag}: it knows the classes {_few(judge.classes)}, "
                f"and the data have {_few(context.spec.classes)}"
            )
        samples, asked = context.labelled(self.settings.count)
        confusion = confusion_of(asked, judge.named(samples), len(judge.classes))
        test = context.unseen()
        accuracy = accuracy_of(judge.rows(context, test), test)
        shares = confusion.diagonal() / confusion.sum(1).clamp_min(1)
        values = {
            "agreement": float(confusion.trace()) / len(asked),
            "lowestAgreement": float(shares[confusion.sum(1) > 0].min()),
            **({} if accuracy is None else {"classifierAccuracy": accuracy}),
            "samples": float(len(asked)),
        }
        table = {
            "columns": ["asked \\ named", *judge.classes],
            "rows": [[name, *row] for name, row in zip(judge.classes, confusion.tolist(), strict=True)],
        }
        return Evaluation("agreement-v1", values, {"confusion": table})


def confusion_of(asked: Tensor, named: Tensor, classes: int) -> Tensor:
    """How often (classes, classes) each class that was asked for was named as each class, int64."""
    return torch.bincount(asked * classes + named, minlength=classes * classes).view(classes, classes)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + ("..." if len(names) > 10 else "") if names else "none"


@hookimpl
def register_metrics(register: Any) -> None:
    """agreement-v1."""
    register("agreement-v1", Agreement)
