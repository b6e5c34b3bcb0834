"""Judging images by neighbours: quality and coverage among classifier features, and copies among pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import (
    DataError,
    Dataset,
    Evaluation,
    EvaluationContext,
    Metric,
    Settings,
    hookimpl,
    setting,
    stream_seed,
)
from ganglion.strategies.metrics.judge import accuracy_of, drawn_rows, open_judge, own_rows

BLOCK = 5000  # training images compared at once
NEAR = 0.01  # a sample nearer to a training image than this share of the test images is a copy


class CoverageSettings(Settings):
    """Settings of the metric `coverage-v1`."""

    classifier: str | None = setting(None, "tag of the run that judges")
    count: int = setting(
        5000, "samples drawn, training images and test images; fewer where the data have fewer", ge=10, le=10_000
    )
    neighbours: int = setting(3, "for precision and recall: a ball reaches to the k-th nearest neighbour", ge=1, le=9)
    wide_neighbours: int = setting(5, "for density and coverage: the same", ge=1, le=9)
    copy_count: int = setting(1000, "samples and test images that are compared with all training images", ge=1)


class Coverage(Metric):
    """Precision and recall, density and coverage of classifier features, and whether samples are copies.

    The classifier is another run (`classifier=TAG`). Around every training image lies a ball that reaches to its k-th
    nearest neighbour in feature space. `precision`: share of samples in any ball; `recall`: share of training images in
    any ball around samples (Kynkaanniemi et al. 2019, https://arxiv.org/abs/1904.06991, k = 3); `density`: mean number
    of balls around a sample over k; `coverage`: share of training images with a sample in their ball (Naeem et al.
    2020, https://arxiv.org/abs/2002.09797, k = 5). `precisionReal` and so on: test images in the place of samples.
    `nearestRatio`: median pixel distance of samples to their nearest training image over that of test images, far below
    1 for a generator that has learnt images by heart; `copies`: share of samples that are nearer than 99 % of the test
    images (0.01 for real images).
    """

    Settings = CoverageSettings

    def applies(self, context: EvaluationContext) -> bool:
        return context.strategy.generates() and context.spec.kind == "image" and self.settings.classifier is not None

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        judge = open_judge(context, self.settings.classifier, "coverage-v1", context.spec.shape)
        train, test = context.splits().train, context.unseen()
        count = min(self.settings.count, len(train), len(test))
        rows = {
            name: drawn_rows(count, len(part), stream_seed(context.seed, "coverage-v1", name))
            for name, part in (("train", train), ("test", test))
        }
        samples = context.samples(count)
        reference = judge.rows(context, train, rows["train"]).features
        unseen = judge.rows(context, test, rows["test"])
        neighbours = (self.settings.neighbours, self.settings.wide_neighbours)
        real = manifold_figures(reference, unseen.features, *neighbours)
        accuracy = accuracy_of(unseen, test, rows["test"])
        values = {
            **manifold_figures(reference, judge(samples).features, *neighbours),
            **{f"{name}Real": value for name, value in real.items()},
            **self._copies(context, samples, own_rows(context, test, rows["test"][: self.settings.copy_count])),
            **({} if accuracy is None else {"classifierAccuracy": accuracy}),
            "samples": float(count),
        }
        return Evaluation("coverage-v1", values)

    def _copies(self, context: EvaluationContext, samples: Tensor, unseen: Tensor) -> Mapping[str, float]:
        made = samples[: self.settings.copy_count]
        found = nearest_distances(torch.cat([made, unseen]), context, context.splits().train)
        return copy_figures(found[: len(made)], found[len(made) :])


class Balls(NamedTuple):
    """Points (count, features), and the radius (count,) around each that reaches to its k-th nearest neighbour."""

    centers: Tensor
    radii: Tensor


def balls(points: Tensor, neighbours: int) -> Balls:
    """A ball around each point, up to its k-th nearest neighbour among the others. Raises DataError for too few."""
    if len(points) <= neighbours:
        raise DataError(f"metric coverage-v1 needs more than {neighbours} rows, and there are {len(points)}")
    apart = torch.cdist(points, points).fill_diagonal_(torch.inf)
    nearest = apart.topk(neighbours, dim=1, largest=False).values
    return Balls(points, nearest[:, -1])


def manifold_figures(real: Tensor, made: Tensor, neighbours: int, wide_neighbours: int) -> dict[str, float]:
    """Precision, recall, density and coverage of features `made` (count, size) against `real` (count, size)."""
    apart = torch.cdist(real, made)
    in_real = apart <= balls(real, neighbours).radii[:, None]
    in_made = apart <= balls(made, neighbours).radii[None, :]
    in_wide = apart <= balls(real, wide_neighbours).radii[:, None]
    return {
        "precision": float(in_real.any(0).double().mean()),
        "recall": float(in_made.any(1).double().mean()),
        "density": float(in_wide.sum()) / (wide_neighbours * len(made)),
        "coverage": float(in_wide.any(1).double().mean()),
    }


def nearest_distances(images: Tensor, context: EvaluationContext, train: Dataset) -> Tensor:
    """Distance (count,) of each image to the nearest of all rows of a part, in the data's own scale."""
    flat, nearest = images.flatten(1), torch.full((len(images),), torch.inf)
    for rows in torch.arange(len(train)).split(BLOCK):
        apart = torch.cdist(flat, own_rows(context, train, rows).flatten(1))
        nearest = torch.minimum(nearest, apart.amin(1))
    return nearest


def copy_figures(made: Tensor, unseen: Tensor) -> dict[str, float]:
    """How near samples (count,) lie to training images, measured by how near unseen real images (count,) do."""
    near = unseen.double().quantile(NEAR)
    return {
        "nearestRatio": float(made.median() / unseen.median()),
        "copies": float((made.double() < near).double().mean()),
    }


@hookimpl
def register_metrics(register: Any) -> None:
    """coverage-v1."""
    register("coverage-v1", Coverage)
