"""Pictures of samples beside real windows: two projections and the autocorrelations."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting, stream_seed
from ganglion.strategies.metrics.series.series import autocorrelations
from ganglion.strategies.metrics.series.windows import made_windows, makes_series, real_windows, unit_scale

NAME = "pictures-v1"
REAL, MADE = "#777777", "#0072B2"
MOST_PANELS = 12
PERPLEXITY = 40.0
ITERATIONS = 300  # of t-SNE, as published


class PicturesSettings(Settings):
    """Settings of the metric `pictures-v1`."""

    count: int = setting(1000, "training windows at most, and as many samples, in the projections", ge=10)
    lags: int = setting(64, "largest lag of the autocorrelation; half a window at most", unit="steps", ge=1)


class Pictures(Metric):
    """Pictures of samples beside training windows: `pca.png`, `tsne.png`, `autocorrelation.png`; no figure judges.

    As TimeGAN's authors draw them (Yoon et al. 2019, https://papers.nips.cc/paper/8789, and its code): features are
    mapped onto 0..1 by the training windows, each window becomes the mean over its FEATURES at each step, and up to
    1,000 windows and as many samples are projected onto two dimensions, by the principal components of the training
    windows and by t-SNE of both together (perplexity 40, 300 iterations). The autocorrelations are those of
    `series-v1`, a panel per feature, at most 12.

    What they do not show: single features and how they belong together, of which the mean is taken first, and copies,
    which lie exactly where they should.

    Deviations: t-SNE begins with the principal components, where it began at random then.
    """

    Settings = PicturesSettings

    def applies(self, context: EvaluationContext) -> bool:
        return makes_series(context)

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        train = real_windows(context, context.splits().train, NAME, "training windows", self.settings.count)
        scale = unit_scale(train, NAME)
        real, made = scale(train), scale(made_windows(context, NAME, len(train)))
        rows = (real.double().mean(2), made.double().mean(2))
        lines = (autocorrelations(real, self.settings.lags), autocorrelations(made, self.settings.lags))
        drawn = {
            "pca.png": draw_points("PCA of the training windows", *principal(*rows)),
            "tsne.png": draw_points("t-SNE", *neighbours(*rows, stream_seed(context.seed, NAME, "t-SNE") % 2**32)),
            "autocorrelation.png": draw_lines(*lines, context.spec.features),
        }
        return Evaluation(NAME, {"windows": float(len(real)), "samples": float(len(made))}, pictures=drawn)


def principal(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """The first two principal components of `real` (count, size), and `made` in the same directions."""
    mean = real.mean(0)
    directions = torch.linalg.svd(real - mean, full_matrices=False).Vh[:2].T
    return (real - mean) @ directions, (made - mean) @ directions


def neighbours(real: Tensor, made: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two-dimensional t-SNE of `real` and `made` (count, size) together, from a seed."""
    import inspect

    from sklearn.manifold import TSNE  # late: it takes a while to load

    both = torch.cat([real, made])
    perplexity = min(PERPLEXITY, (len(both) - 1) / 3)
    # scikit-learn 1.5 gave the number of iterations another name
    name = "max_iter" if "max_iter" in inspect.signature(TSNE).parameters else "n_iter"
    projection = TSNE(perplexity=perplexity, random_state=seed, init="pca", **{name: ITERATIONS})
    points = torch.from_numpy(projection.fit_transform(both.numpy()))
    return points[: len(real)], points[len(real) :]


def draw_points(title: str, real: Tensor, made: Tensor) -> bytes:
    """A PNG of two clouds of points (count, 2)."""

    def plot(figure: Any) -> None:
        figure.set_size_inches(5.5, 5)
        axes = figure.add_subplot()
        for points, colour, label in ((real, REAL, "real"), (made, MADE, "samples")):
            axes.scatter(points[:, 0], points[:, 1], s=8, c=colour, alpha=0.5, linewidths=0, label=label)
        axes.set_title(title, fontsize=10)
        axes.legend(frameon=False, fontsize=9)

    return _png(plot)


def draw_lines(real: Tensor, made: Tensor, names: Sequence[str] = ()) -> bytes:
    """A PNG of the autocorrelations (lags, features) of both, a panel per feature, with the features' names."""

    def plot(figure: Any) -> None:
        features = min(real.shape[1], MOST_PANELS)
        columns = min(features, 3)
        lines = -(-features // columns)
        figure.set_size_inches(3.5 * columns, 2.2 * lines + 0.4)
        for feature in range(features):
            axes = figure.add_subplot(lines, columns, feature + 1)
            for values, colour, label in ((real, REAL, "real"), (made, MADE, "samples")):
                axes.plot(range(1, len(values) + 1), values[:, feature].numpy(), color=colour, label=label)
            name = names[feature] if feature < len(names) else ""
            axes.set_title(name if name.isprintable() and name else f"feature {feature}", fontsize=9, parse_math=False)
            axes.axhline(0.0, color="#D0D0D0", linewidth=0.8, zorder=0)
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.supxlabel("lag in steps", fontsize=9)
        axes.legend(frameon=False, fontsize=9)

    return _png(plot)


def _png(plot: Callable[[Any], None]) -> bytes:
    """What `plot` draws on a figure, without pyplot, which keeps every figure, and with matplotlib's own style."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in a script that the font lacks is no reason to say anything
        matplotlib.rcdefaults()
        figure = Figure(dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@hookimpl
def register_metrics(register: Any) -> None:
    """pictures-v1."""
    register(NAME, Pictures)
