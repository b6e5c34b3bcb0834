"""Pictures of a comparison: every figure with its seeds, medians and intervals, and samples of every entry."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.engine.comparerecord import Record, task_name
from ganglion.engine.comparetable import Figure
from ganglion.engine.errors import EngineError
from ganglion.engine.evaluation import evaluation_context
from ganglion.engine.files import write_atomic
from ganglion.engine.manyruns import RUNS
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.pictures import BLUE, ORANGE, picture
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.tables import clean_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
MOST_PANELS = 24
POINTS, IMAGES = 500, 36
DOTS_PER_INCH = 100


def draw_figures(figures: Sequence[Figure], path: Path) -> bool:
    """Write a picture of the figures, one panel each; False where there is nothing to draw. Raises StoreError."""
    shown = [figure for figure in figures if any(row.values for row in figure.rows)][:MOST_PANELS]
    if shown:
        height = 0.9 + 0.45 * max(len(each.rows) for each in shown)
        draw_panels([(_panel, figure) for figure in shown], path, (4.2, height))
    return bool(shown)


def _panel(axes: Axes, figure: Figure) -> None:
    """Entries from top to bottom: a point per seed, the median, its interval."""
    for place, row in enumerate(figure.rows):
        values = list(row.values.values())
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(len(values))
        axes.plot(values, place + spread, "o", color=BLUE, markersize=3, alpha=0.7)
        if row.median is not None and row.interval is not None:
            axes.plot([row.interval.low, row.interval.high], [place, place], color=ORANGE, linewidth=2)
            axes.plot([row.median], [place], "|", color=ORANGE, markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(figure.rows)), [clean_text(row.entry) for row in figure.rows], parse_math=False)
    axes.set_ylim(len(figure.rows) - 0.5, -0.5)
    better = f" ({figure.better} is better)" if figure.better else ""
    axes.set_title(clean_text(figure.name + better), fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.locator_params(axis="x", nbins=4)  # five ticks at most: numbers do not run into each other


def draw_entries(registry: Registry, record: Record, path: Path) -> list[str]:
    """Write a picture with samples of every entry's run of the first seed; sentences on those that have none."""
    seed, said = record.comparison.seeds[0], []
    images: dict[str, Any] = {}
    for entry in record.comparison.entries:
        if record.of(entry, seed)["status"] == "finished":
            try:
                images[entry.label] = _samples(registry, record, task_name(entry, seed))
            except EngineError as error:
                said.append(f"no picture of {entry.label}: {error}")
    if images:
        draw_panels([(_image, item) for item in images.items()], path, (3.6, 4.3))
    return said


def _samples(registry: Registry, record: Record, tag: str) -> Any:
    run = Repository(record.comparison.directory / RUNS).find(tag)
    opened = open_run(registry, run)
    spec = replace(opened.spec, value_range=opened.data_range)
    vectors = spec.kind == "vector"
    samples = draw_samples(opened, POINTS if vectors else IMAGES, 0)
    real = None
    if vectors:
        context = evaluation_context(registry, opened, 0, {}, lambda sentence: None)
        train = context.splits().train
        real = context.own_scale(train.rows(slice_of(len(train), POINTS)).input.float().cpu())
    return np.asarray(picture(samples, spec, real))


def slice_of(count: int, most: int) -> Any:
    """Indices of at most `most` of `count` rows, from end to end: rows may be sorted."""
    import torch

    return torch.linspace(0, count - 1, min(most, count)).long().clamp_(max=count - 1)  # float32 may round it up


def _image(axes: Axes, item: tuple[str, Any]) -> None:
    label, image = item
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_title(clean_text(label), fontsize=10, parse_math=False)
    axes.set_axis_off()


def draw_panels(panels: Sequence[tuple[Any, Any]], path: Path, size: tuple[float, float]) -> None:
    """Panels in rows of three. No pyplot: it keeps every figure alive, and opens windows."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in a script that the font lacks is no reason to say anything
        matplotlib.rcdefaults()
        columns = min(COLUMNS, len(panels))
        lines = math.ceil(len(panels) / columns)
        padding = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.15)
        canvas = Canvas(dpi=DOTS_PER_INCH, figsize=(columns * size[0], lines * size[1]), layout=padding)
        FigureCanvasAgg(canvas)
        for number, (draw, what) in enumerate(panels):
            draw(canvas.add_subplot(lines, columns, number + 1), what)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


__all__ = ["draw_entries", "draw_figures", "draw_panels"]
