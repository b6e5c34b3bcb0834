"""Pictures that compare samples with real windows: projections and autocorrelations."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import StoreError
from ganglion.strategies.metrics.series.series import autocorrelations
from ganglion.strategies.metrics.series.windows import checked

REAL, MADE = "#777777", "#0072B2"
MOST_POINTS = 1000
PERPLEXITY = 40.0


def draw_projections(real: Tensor, made: Tensor, path: Path, seed: int = 0) -> Path:
    """Write a PNG of PCA and t-SNE of real windows and samples (count, steps, features), at most 1,000 of each.

    As TimeGAN's code does, each window becomes the mean over its FEATURES at each step; PCA is fitted on real windows
    only, t-SNE (perplexity 40) on both. The picture sees neither single features nor their relations. Raises DataError
    for windows that are not finite, StoreError where `path` cannot be written.

    Deviations: t-SNE runs scikit-learn's usual number of iterations, where the published code has 300.
    """
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = (
        checked(windows, "pictures", what, 3)[torch.randperm(len(windows), generator=generator)[:MOST_POINTS]]
        for windows, what in ((real, "real windows"), (made, "samples"))
    )
    series = (ours.double().mean(2), theirs.double().mean(2))
    panels = (("PCA of real windows", principal(*series)), ("t-SNE", neighbours(*series, seed)))

    def plot(figure: Any) -> None:
        figure.set_size_inches(10, 4.5)
        for number, (title, points) in enumerate(panels):
            axes = figure.add_subplot(1, 2, number + 1)
            for values, colour, label in zip(points, (REAL, MADE), ("real", "samples"), strict=True):
                axes.scatter(values[:, 0], values[:, 1], s=8, c=colour, alpha=0.5, linewidths=0, label=label)
            axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=9)

    return _write(plot, path)


def draw_autocorrelations(real: Tensor, made: Tensor, path: Path, lags: int = 64) -> Path:
    """Write a PNG with the autocorrelations inside windows (count, steps, features), a panel per feature, at most 12.

    Raises DataError for windows that are not finite, StoreError where `path` cannot be written.
    """
    both = [
        autocorrelations(checked(windows, "pictures", what, 1), lags)
        for windows, what in ((real, "real windows"), (made, "samples"))
    ]

    def plot(figure: Any) -> None:
        features = min(both[0].shape[1], 12)
        columns = min(features, 3)
        lines = -(-features // columns)
        figure.set_size_inches(3.5 * columns, 2.2 * lines + 0.4)
        for feature in range(features):
            axes = figure.add_subplot(lines, columns, feature + 1)
            for values, colour, label in zip(both, (REAL, MADE), ("real", "samples"), strict=True):
                axes.plot(range(1, len(values) + 1), values[:, feature].numpy(), color=colour, label=label)
            axes.set_title(f"feature {feature}", fontsize=9)
            axes.axhline(0.0, color="#D0D0D0", linewidth=0.8, zorder=0)
        axes.legend(frameon=False, fontsize=9)

    return _write(plot, path)


def principal(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """The first two principal components of `real` (count, size), and `made` in the same directions."""
    mean = real.mean(0)
    directions = torch.linalg.svd(real - mean, full_matrices=False).Vh[:2].T
    return (real - mean) @ directions, (made - mean) @ directions


def neighbours(real: Tensor, made: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two-dimensional t-SNE of `real` and `made` (count, size) together, from a seed."""
    from sklearn.manifold import TSNE  # late: it takes a while to load

    both = torch.cat([real, made])
    perplexity = min(PERPLEXITY, (len(both) - 1) / 3)
    points = torch.from_numpy(TSNE(perplexity=perplexity, random_state=seed).fit_transform(both.numpy()))
    return points[: len(real)], points[len(real) :]


def _write(plot: Any, path: Path) -> Path:
    """Draw without pyplot, which keeps every figure, with matplotlib's own style; write beside, then rename."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from None
    return path
