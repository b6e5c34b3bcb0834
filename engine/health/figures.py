"""The figures of a run's health, as 0-d tensors: how samples compare with real rows, and scores with each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.engine.contracts import DataSpec

NEIGHBOUR = 5  # coverage asks for a sample as near as this real neighbour
ALIKE = 0.25  # samples nearer than this share of what is usual between real neighbours are near-duplicates
MARGIN = 0.5  # how far values may leave a feature's range, as a share of its width
NARROW = 0.05  # features that are narrower than this share of the widest are judged as if they were as wide
FEW = 64  # dimensions up to which distances are taken from differences: products would lose small ones
SMALLEST = 1e-12

Figures = Mapping[str, Tensor]


class Reference(NamedTuple):
    """Real rows (count, dimensions) and what samples are compared with; None where rows are equal to each other."""

    rows: Tensor
    center: Tensor
    distance: Tensor
    alike: Tensor
    radii: Tensor
    low: Tensor
    high: Tensor
    margin: Tensor
    deviation: Tensor


def reference_of(real: Tensor, spec: DataSpec) -> Reference:
    """What is kept of real rows (count, *shape)."""
    flat = real.flatten(1)
    center = flat.mean(0)
    between = distances(flat - center, flat - center).fill_diagonal_(torch.inf)
    nearest = between.topk(min(NEIGHBOUR, len(flat) - 1), largest=False).values
    values = by_feature(real, spec)
    low, high = values.amin(0), values.amax(0)
    width = (high - low).clamp_min(NARROW * (high - low).max())
    return Reference(
        flat - center, center, mean_of(between), ALIKE * nearest[:, 0].median(), nearest[:, -1], low, high,
        MARGIN * width, values.std(0),
    )  # fmt: skip


def distances(rows: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances (rows, others)."""
    exact = rows.shape[1] <= FEW
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist_if_necessary"
    return torch.cdist(rows, others, compute_mode=mode)


def mean_of(between: Tensor) -> Tensor:
    """The mean distance of a table whose diagonal is infinite."""
    count = len(between)
    return between.masked_fill(torch.eye(count, dtype=torch.bool, device=between.device), 0.0).sum() / (
        count * (count - 1)
    )


def by_feature(rows: Tensor, spec: DataSpec) -> Tensor:
    """All values of rows (count, *shape), one column per feature: channels of an image, features of a step."""
    if spec.kind == "image":
        rows = rows.movedim(1, -1)
    return rows.flatten(0, -2)


def diversity(samples: Tensor, reference: Reference) -> Figures:
    """How far samples (count, *shape) are apart, and how many real rows have one near them, against real rows.

    `pairwiseDistance` is a share of the real rows' mean distance, `nearDuplicates` the share of samples that are alike,
    `coverage` that of real rows with a sample as near as their fifth neighbour, `closeness` that of samples which are
    as near as that to some real row.
    """
    flat = samples.flatten(1) - reference.center
    between = distances(flat, flat).fill_diagonal_(torch.inf)
    across = distances(reference.rows, flat)
    near = across <= reference.radii.unsqueeze(1)
    return {
        "pairwiseDistance": mean_of(between) / reference.distance.clamp_min(SMALLEST),
        "nearDuplicates": (between.amin(1) < reference.alike).float().mean(),
        "coverage": near.any(1).float().mean(),
        "closeness": near.any(0).float().mean(),
    }


def ranges(samples: Tensor, reference: Reference, spec: DataSpec) -> Figures:
    """`outOfRange` is the share of values far outside their feature's range; widths are deviations over the data's."""
    values = by_feature(samples, spec)
    outside = (values < reference.low - reference.margin) | (values > reference.high + reference.margin)
    varies = reference.deviation > NARROW * reference.deviation.max()
    widths = values.std(0) / reference.deviation.clamp_min(SMALLEST)
    return {
        "outOfRange": outside.float().mean(),
        "narrowestFeature": widths.masked_fill(~varies, torch.inf).amin(),
        "widestFeature": widths.masked_fill(~varies, 0.0).amax(),
    }


def contest(real: Tensor, fake: Tensor) -> Figures:
    """How well scores tell real rows from samples, the mean over the steps of a sequence being a row's score.

    A row is taken for real where its score is above the middle of both mean scores: so any objective's scores will do.
    """
    real, fake = (scores.float().reshape(len(scores), -1).mean(1) for scores in (real, fake))
    middle = (real.mean() + fake.mean()) / 2
    return {
        "accuracyReal": (real > middle).float().mean(),
        "accuracyFake": (fake < middle).float().mean(),
        "scoreMargin": real.mean() - fake.mean(),
    }
