"""What the made 2-D point sets share: drawing points, judging points against what is known, and the common factory."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import DatasetFactory, DataSpec, Settings, Splits, TensorDataset, setting, stream_seed

HIGH_QUALITY = 3.0  # standard deviations around a mode within which a sample counts as good
ARCS = 36
EXACT = torch.float64  # points are drawn in this precision, so that they are the same in any other


class Points(NamedTuple):
    """Points (count, 2), and the mode (count,) that each comes from, where there are modes."""

    positions: Tensor
    modes: Tensor | None = None


class PointSettings(Settings):
    """Settings of every made point set."""

    size: int = setting(10000, "points to learn from", ge=1)
    test_size: int = setting(2500, "points to test on, drawn separately", ge=1)


class PointSet(DatasetFactory):
    """Points drawn from a known distribution: the same for the same seed, other ones in the test part."""

    Settings: ClassVar[type[Settings]] = PointSettings
    name: ClassVar[str]

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Points:
        """That many points."""

    def mode_names(self) -> tuple[str, ...]:
        """Names of the modes, in the order of their numbers; empty where there are none."""
        return ()

    def load(self) -> Splits:
        return Splits(
            train=self._part("train", self.settings.size),
            test=self._part("test", self.settings.test_size),
        )

    def _part(self, split: str, count: int) -> TensorDataset:
        generator = torch.Generator().manual_seed(stream_seed(self.context.seed, self.name, split))
        points = self.draw(count, generator)
        spec = DataSpec("vector", (2,), classes=self.mode_names(), features=("x", "y"))
        return TensorDataset(spec, points.positions.to(torch.get_default_dtype()), points.modes)


# --- drawing ------------------------------------------------------------------------------------------------------


def circle_points(count: int, radius: float, std: float, generator: torch.Generator) -> Tensor:
    """Points at uniform angles on a circle, with Gaussian noise of `std` in both coordinates."""
    angles = 2 * math.pi * torch.rand(count, generator=generator, dtype=EXACT)
    points = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    return points + std * torch.randn(count, 2, generator=generator, dtype=EXACT) if std else points


def mixture_points(means: Tensor, std: float, count: int, generator: torch.Generator) -> Points:
    """Points from equally likely round Gaussians of the same `std` at `means` (modes, 2)."""
    modes = torch.randint(len(means), (count,), generator=generator)
    noise = torch.randn(count, 2, generator=generator, dtype=EXACT)
    return Points(means.to(EXACT)[modes] + std * noise, modes)


def ring_means(modes: int, radius: float) -> Tensor:
    """Means at equal angles on a circle, the first at angle 0; no angle comes twice."""
    angles = 2 * math.pi * torch.arange(modes, dtype=EXACT) / modes
    return radius * torch.stack([angles.cos(), angles.sin()], dim=1)


def grid_means(side: int, step: float) -> Tensor:
    """Means on a square grid around 0: x changes slowest."""
    axis = step * (torch.arange(side, dtype=EXACT) - (side - 1) / 2)
    return torch.cartesian_prod(axis, axis).reshape(-1, 2)


def roll_curve(position: Tensor) -> Tensor:
    """Points of the Swiss roll's spiral, seen from the side, at `position` in [0, 1]."""
    angle = 1.5 * math.pi * (1 + 2 * position)
    return torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1)


def mixture_log_density(points: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """Exact log-density (count,) of equally likely 2-D Gaussians with `means` (k, 2) and `covariances` (k, 2, 2)."""
    means, covariances = means.to(EXACT), covariances.to(EXACT)
    apart = points.to("cpu", EXACT)[:, None, :] - means
    factors = torch.linalg.cholesky(covariances)
    whitened = torch.linalg.solve_triangular(factors, apart.permute(1, 2, 0), upper=False)
    logarithms = -0.5 * whitened.square().sum(1) - factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None]
    return torch.logsumexp(logarithms, dim=0) - math.log(2 * math.pi * len(means))


# --- judging ------------------------------------------------------------------------------------------------------


def distances(points: Tensor, others: Tensor) -> Tensor:
    """Distances (count, count of others), by differences: the faster way by products loses digits."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


def circle_figures(samples: Tensor, radius: float) -> Mapping[str, float]:
    """How well samples lie on a circle, and whether they cover it.

    withinTenth: share of samples within a tenth of the radius of the circle. arcsHit: how many of 36 arcs of 10
    degrees have at least one such sample. radiusMean, radiusStd: of all samples, by their distance from the middle.
    """
    samples = samples.to("cpu", EXACT)
    distance = samples.norm(dim=1)
    near = (distance - radius).abs() <= 0.1 * radius
    turns = torch.atan2(samples[near, 1], samples[near, 0]) / (2 * math.pi) % 1.0
    arcs = (turns * ARCS).floor().clamp(max=ARCS - 1)
    return {
        "withinTenth": float(near.to(EXACT).mean()),
        "arcsHit": float(len(torch.unique(arcs))),
        "radiusMean": float(distance.mean()),
        "radiusStd": float(distance.std(correction=0)),
    }


def mode_figures(samples: Tensor, means: Tensor, std: float) -> Mapping[str, float]:
    """How many modes of equal round Gaussians samples reach, how well, how evenly, and how wide (VEEGAN's protocol).

    highQuality: share of samples within 3 `std` of the nearest mean (real ones: 0.989). modes: how many means have at
    least one such sample. reverseKL: of the histogram p of these samples over all K modes from the uniform one,
    ln K - H(p); ln K where there is no such sample. stdRatio: pooled standard deviation of these samples about the
    mean of those of their mode, the square root of sum |x - mean|^2 / (2 (samples - modes)), divided by `std`; 0
    where no mode has two. Cutting at 3 `std` makes it 0.974 for real points.
    """
    samples, means = samples.to("cpu", EXACT), means.to(EXACT)
    distance, nearest = distances(samples, means).min(dim=1)
    good = distance <= HIGH_QUALITY * std
    counts = nearest[good].bincount(minlength=len(means)).to(EXACT)
    captured = int((counts > 0).sum())
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * share.log()).sum()
    return {
        "modes": float(captured),
        "highQuality": float(good.to(EXACT).mean()),
        "reverseKL": max(0.0, math.log(len(means)) - float(entropy)),
        "stdRatio": _pooled_std(samples[good], nearest[good], counts) / std,
    }


def _pooled_std(samples: Tensor, modes: Tensor, counts: Tensor) -> float:
    freedom = 2 * (counts.sum() - (counts > 0).sum())
    if freedom <= 0:
        return 0.0
    sums = torch.zeros(len(counts), 2, dtype=EXACT).index_add_(0, modes, samples)
    centers = sums / counts.clamp(min=1)[:, None]
    return float(((samples - centers[modes]).square().sum() / freedom).sqrt())


def moment_figures(samples: Tensor, mean: Tensor, covariance: Tensor) -> Mapping[str, float]:
    """meanError: distance of the samples' mean from the true one. covarianceError: Frobenius norm of the difference."""
    samples = samples.to("cpu", EXACT)
    apart = samples - samples.mean(dim=0)
    found = apart.T @ apart / len(samples)
    return {
        "meanError": float((samples.mean(dim=0) - mean.to(EXACT)).norm()),
        "covarianceError": float((found - covariance.to(EXACT)).norm()),
    }
