"""Judging a classifier: accuracy, confusion, top-N, and figures per class."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import DataError, Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting

ROWS = 500


class ClassificationSettings(Settings):
    """Settings of the metric `classification`."""

    top: int = setting(3, "largest N of the top-N accuracies", ge=1)


class Classification(Metric):
    """Accuracy, the confusion matrix, top-N accuracy and per-class figures on the test part.

    Rows of the matrix are the true classes, columns the predicted ones.
    """

    Settings = ClassificationSettings

    def applies(self, context: EvaluationContext) -> bool:
        return bool(context.spec.classes) and hasattr(context.strategy, "predict")

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        if not self.applies(context):
            raise DataError("metric classification needs a strategy that predicts classes, and data with class labels")
        ranks, confusion, seconds = _predict(context)
        count = len(ranks)
        values = {"accuracy": float((ranks == 0).double().mean()), "rows": float(count)}
        for number in range(2, min(self.settings.top, len(context.spec.classes)) + 1):
            values[f"top{number}"] = float((ranks < number).double().mean())
        values["millisecondsPerRow"] = 1e3 * seconds / count
        names = list(context.spec.classes)
        details = {
            "confusion": {
                "columns": ["true \\ predicted", *names],
                "rows": [[n, *row] for n, row in zip(names, confusion.tolist(), strict=True)],
            },
            "classes": _figure_table(names, confusion, FIGURES[:5]),
            "classes, further figures": _figure_table(names, confusion, FIGURES[5:]),
        }
        return Evaluation("classification", values, details)


FIGURES = (
    "sensitivity", "specificity", "precision", "f1", "mcc",
    "tp", "fp", "fn", "tn", "npv", "fallout", "fdr", "fnr", "accuracy",
)  # fmt: skip


def _figure_table(names: list[str], confusion: Tensor, figures: tuple[str, ...]) -> dict[str, Any]:
    numbers = [class_figures(confusion, index) for index in range(len(names))]
    rows = [[name, *(round(each[figure], 4) for figure in figures)] for name, each in zip(names, numbers, strict=True)]
    return {"columns": ["class", *figures], "rows": rows}


def _predict(context: EvaluationContext) -> tuple[Tensor, Tensor, float]:
    """Per row the rank of the true class, the confusion matrix, and the seconds spent predicting."""
    part = context.unseen()
    classes, ranks, seconds = len(context.spec.classes), [], 0.0
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    with torch.no_grad():
        for rows in torch.arange(len(part)).split(ROWS):
            batch = part.rows(rows).map(lambda tensor: tensor.to(context.device))
            began = time.perf_counter()
            scores = context.strategy.predict(batch.input).cpu()  # type: ignore[attr-defined]
            seconds += time.perf_counter() - began
            assert batch.target is not None
            target = batch.target.cpu()
            # One order for all figures: of equal scores, or none that are numbers, the first class comes first.
            order = scores.argsort(dim=1, descending=True, stable=True)
            ranks.append((order == target[:, None]).int().argmax(1))
            confusion.index_put_((target, order[:, 0]), torch.ones_like(target), accumulate=True)
    return torch.cat(ranks), confusion, seconds


def class_figures(confusion: Tensor, index: int) -> dict[str, float]:
    """One class against the rest; a figure without a denominator is NaN-free: 0."""
    tp = float(confusion[index, index])
    fn, fp = float(confusion[index].sum()) - tp, float(confusion[:, index].sum()) - tp
    tn = float(confusion.sum()) - tp - fn - fp
    product = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    return {
        "tp": tp, "fp": fp, "fn": fn, "tn": tn,
        "sensitivity": _share(tp, tp + fn), "specificity": _share(tn, tn + fp),
        "precision": _share(tp, tp + fp), "npv": _share(tn, tn + fn),
        "fallout": _share(fp, fp + tn), "fdr": _share(fp, fp + tp), "fnr": _share(fn, fn + tp),
        "accuracy": _share(tp + tn, tp + tn + fp + fn), "f1": _share(2 * tp, 2 * tp + fp + fn),
        "mcc": _share(tp * tn - fp * fn, product),
    }  # fmt: skip


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@hookimpl
def register_metrics(register: Any) -> None:
    """classification."""
    register("classification", Classification)
