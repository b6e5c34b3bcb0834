"""Pictures of samples: image grids, scatters and series plots by the data's kind, and samples as files."""

from __future__ import annotations

import csv
import io
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ganglion.engine.contracts import DataSpec, Trace
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.files import cause, discard, make_folder
from ganglion.engine.settings import Settings, setting
from ganglion.engine.tables import clean_text
from ganglion.engine.trace import SamplesMade, TraceContext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Levels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

BLUE, ORANGE = "#0072B2", "#D55E00"  # this pair stays apart for every common kind of colour blindness
GREY, REAL = "#B0B0B0", "#777777"  # real data under samples, and beside them
LINES = (("#444444", "-"), (BLUE, "-"), (ORANGE, "--"))
LONGEST_SIDE = 700  # pixels of an image grid, where its samples are small
SEPARATOR = 96  # between images: visible beside black and beside white
MOST_IMAGES = 10_000
MOST_PANELS = 12
MOST_SERIES = 10
DOTS_PER_INCH = 100
EXTENSIONS = (".png", ".npz", ".csv", ".txt")


class PicturesSettings(Settings):
    """What `traces=pictures` takes."""

    picture_real: bool = setting(True, "draw real data in grey under the samples of points and series")


class PicturesTrace(Trace):
    """Writes `samples/<iteration>.png` whenever samples were made."""

    Settings = PicturesSettings

    def __init__(self, settings: PicturesSettings, context: TraceContext) -> None:
        self.settings = settings
        self.directory = context.directory / "samples"

    def receive(self, event: Any) -> None:
        if isinstance(event, SamplesMade):
            real = event.real if self.settings.picture_real else None
            path = self.directory / f"{event.iteration}.png"
            draw(event.samples, event.spec, path, real, title=f"iteration {event.iteration:,}")


def draw(samples: Tensor, spec: DataSpec, path: Path, real: Tensor | None = None, title: str | None = None) -> Path:
    """Write a PNG of samples (count, *spec.shape), by the kind of `spec`; equal samples give equal bytes.

    An image grid shows the samples alone, pixel for pixel: `real` and `title` are for points and series.
    Raises StoreError where `path` cannot be written.
    """
    buffer = io.BytesIO()
    picture(samples, spec, real, title).save(buffer, format="PNG")
    return _write(path, buffer.getvalue())


def picture(samples: Tensor, spec: DataSpec, real: Tensor | None = None, title: str | None = None) -> Image:
    """The picture that `draw` writes."""
    rows = _array(samples, spec)
    if spec.kind == "image":
        return _grid(rows, spec)
    shown = None if real is None else _array(real, spec)
    if spec.kind == "sequence":
        return _plotted(_series, rows, shown, spec, title)
    return _plotted(_histogram if rows.shape[1] == 1 else _scatter, rows, shown, spec, title)


def _array(samples: Tensor, spec: DataSpec) -> Array:
    rows = samples.detach().to("cpu", torch.float64).numpy()
    if rows.shape[1:] != spec.shape or rows.shape[0] == 0:
        raise ConfigError(
            f"samples of shape {tuple(rows.shape)} cannot be drawn as {spec.kind} data of shape {spec.shape}"
        )
    return rows if spec.kind in ("image", "sequence") else rows.reshape(len(rows), -1)


# --- images -------------------------------------------------------------------------------------------------------


def _grid(rows: Array, spec: DataSpec) -> Image:
    from PIL import Image

    if len(rows) > MOST_IMAGES:
        raise ConfigError(f"{len(rows)} images do not fit into one picture: at most {MOST_IMAGES}, or a .npz file")
    channels, height, width = spec.shape
    levels = _levels(rows, spec)[:, : 3 if channels >= 3 else 1].transpose(0, 2, 3, 1)
    if 4 <= min(height, width) < 16:  # little pictures fill their frame: without a margin they run into each other
        levels = np.pad(levels, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = height + 2, width + 2
    columns = math.ceil(math.sqrt(len(rows) * height / width))
    lines = math.ceil(len(rows) / columns)
    scale = max(1, LONGEST_SIDE // max(columns * width, lines * height))
    high, wide = height * scale + 1, width * scale + 1
    canvas = np.full((lines * high + 1, columns * wide + 1, levels.shape[3]), SEPARATOR, dtype=np.uint8)
    for index, image in enumerate(levels):
        top, left = index // columns * high + 1, index % columns * wide + 1
        canvas[top : top + high - 1, left : left + wide - 1] = image.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(canvas if canvas.shape[2] == 3 else canvas[:, :, 0])


def _levels(rows: Array, spec: DataSpec) -> Levels:
    """Grey or colour levels 0..255 from `spec.value_range`, or from the range of the samples where it has none."""
    finite = rows[np.isfinite(rows)]
    low, high = spec.value_range or ((finite.min(), finite.max()) if finite.size else (0.0, 1.0))
    shares = (np.nan_to_num(rows, nan=low) - low) / ((high - low) or 1.0)
    levels: Levels = np.rint(shares.clip(0.0, 1.0) * 255).astype(np.uint8)
    return levels


# --- points and series --------------------------------------------------------------------------------------------


def _plotted(
    plot: Callable[[Figure, Array, Array | None, DataSpec], None],
    rows: Array,
    real: Array | None,
    spec: DataSpec,
    title: str | None,
) -> Image:
    """A plot of samples as a picture."""
    lost = len(rows) - len(_finite(rows))
    heading = [title] if title else []
    heading += [f"{lost} of {len(rows)} samples are not finite"] if lost else []
    shown = None if real is None else _finite(real)
    return _rendered(lambda figure: plot(figure, _finite(rows), shown, spec), ", ".join(heading))


def _rendered(plot: Callable[[Figure], None], heading: str) -> Image:
    """A figure as a picture. No pyplot: it keeps every figure alive, and opens windows."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from PIL import Image

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in a script that the font lacks is no reason to say anything
        matplotlib.rcdefaults()  # equal pictures whatever the user's own matplotlib file says
        figure = Figure(dpi=DOTS_PER_INCH, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        canvas: Any = FigureCanvasAgg(figure)
        plot(figure)
        if heading:
            figure.suptitle(clean_text(heading), fontsize=11, parse_math=False)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


class Line(NamedTuple):
    """A line of a panel: its name, the step at which it begins, its values."""

    name: str
    start: int
    values: Sequence[float]


def draw_lines(panels: Sequence[Sequence[Line]], path: Path, title: str) -> Path:
    """Write a PNG of panels below each other, lines of the same place in the same colour, named once.

    Raises StoreError where `path` cannot be written.
    """

    def plot(figure: Figure) -> None:
        figure.set_size_inches(8, 2.2 * len(panels) + 0.6)
        for number, lines in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, number + 1)
            for line, (colour, style) in zip(lines, LINES, strict=False):
                steps = range(line.start, line.start + len(line.values))
                axes.plot(steps, line.values, color=colour, linestyle=style, linewidth=1.3, label=line.name)
            axes.tick_params(labelsize=8)
            if number == 0:
                axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False, ncols=len(lines))
        axes.set_xlabel("step", fontsize=9)

    buffer = io.BytesIO()
    _rendered(plot, title).save(buffer, format="PNG")
    return _write(path, buffer.getvalue())


def _finite(rows: Array) -> Array:
    return rows[np.isfinite(rows).reshape(len(rows), -1).all(axis=1)]


def _histogram(figure: Figure, rows: Array, real: Array | None, spec: DataSpec) -> None:
    figure.set_size_inches(6, 4)
    axes = figure.add_subplot()
    bins = np.linspace(*_limits(rows, real, spec), 61).tolist()
    if real is not None:
        axes.hist(real[:, 0], bins=bins, density=True, color=GREY, label="real")
    axes.hist(rows[:, 0], bins=bins, density=True, histtype="step", color=BLUE, linewidth=1.5, label="samples")
    axes.set_xlabel(_feature(spec, 0), parse_math=False)
    axes.set_ylabel("density")
    _legend(figure, real)


def _scatter(figure: Figure, rows: Array, real: Array | None, spec: DataSpec) -> None:
    pairs = list(combinations(range(min(rows.shape[1], 4)), 2))
    columns = min(3, len(pairs))
    lines = math.ceil(len(pairs) / columns)
    side = 6.0 if len(pairs) == 1 else 3.2
    figure.set_size_inches(columns * side, lines * side + 0.3)
    size = float(np.clip(3000 / max(1, len(rows)), 2, 14))
    for number, (first, second) in enumerate(pairs):
        axes = figure.add_subplot(lines, columns, number + 1)
        for values, colour, order in ((real, GREY, 1), (rows, BLUE, 2)):
            if values is not None:
                axes.scatter(values[:, first], values[:, second], s=size, c=colour, linewidths=0, zorder=order)
        _frame(axes, rows[:, [first, second]], None if real is None else real[:, [first, second]], spec)
        axes.set_xlabel(_feature(spec, first), parse_math=False)
        axes.set_ylabel(_feature(spec, second), parse_math=False)
        if len(pairs) == 1:
            axes.set_aspect("equal", adjustable="box")
    _legend(figure, real)


def _frame(axes: Axes, rows: Array, real: Array | None, spec: DataSpec) -> None:
    """The limits of the real data, so that pictures of a run compare; and how many samples lie outside."""
    horizontal = _limits(rows[:, :1], None if real is None else real[:, :1], spec)
    vertical = _limits(rows[:, 1:], None if real is None else real[:, 1:], spec)
    axes.set_xlim(*horizontal)
    axes.set_ylim(*vertical)
    low, high = np.array([horizontal[0], vertical[0]]), np.array([horizontal[1], vertical[1]])
    outside = int(((rows < low) | (rows > high)).any(axis=1).sum())
    if outside:
        text = f"{outside} of {len(rows)} outside"
        axes.text(0.98, 0.98, text, transform=axes.transAxes, ha="right", va="top", color=ORANGE, fontsize=9)


def _limits(rows: Array, real: Array | None, spec: DataSpec) -> tuple[float, float]:
    """Where the axis begins and ends: around the real data, else the data's range, else the samples."""
    if real is not None and real.size:
        low, high, margin = float(real.min()), float(real.max()), 0.25
    elif spec.value_range is not None:
        (low, high), margin = spec.value_range, 0.05
    elif rows.size:
        low, high, margin = float(rows.min()), float(rows.max()), 0.05
    else:
        return -1.0, 1.0
    extra = (high - low) * margin or 1.0
    return low - extra, high + extra


class Panel(NamedTuple):
    """One small plot: its heading, the colour of its series (count, steps), and the limits of the vertical axis."""

    heading: str
    colour: str
    series: Array
    limits: tuple[float, float]


def _series(figure: Figure, rows: Array, real: Array | None, spec: DataSpec) -> None:
    overlaid = spec.shape[1] > 1
    panels = _feature_panels(rows, real, spec) if overlaid else _sample_panels(rows, real, spec)
    columns = 2 if overlaid and real is not None else max(1, min(3, len(panels)))
    lines = math.ceil(len(panels) / columns)
    times = np.arange(spec.shape[0]) / (spec.sampling_rate or 1.0)
    figure.set_size_inches(max(6.0, columns * 3.0), max(3.5, lines * 1.8 + 0.6))
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(lines, columns, number + 1)
        for series in panel.series:
            axes.plot(times, series, color=panel.colour, linewidth=1.0, alpha=0.7 if overlaid else 1.0)
        axes.set_ylim(*panel.limits)
        axes.tick_params(labelsize=8)
        if panel.heading:
            axes.set_title(panel.heading, fontsize=9, parse_math=False)
        if number >= len(panels) - columns:
            axes.set_xlabel("seconds" if spec.sampling_rate else "step", fontsize=9)
    _legend(figure, real)


def _sample_panels(rows: Array, real: Array | None, spec: DataSpec) -> list[Panel]:
    """One feature: a panel per sample, and a row of real ones below; never one over the other, they are no pairs."""
    limits = _limits(rows, real, spec)
    chosen = [(BLUE, series) for series in rows[: MOST_PANELS if real is None else MOST_PANELS - 3]]
    chosen += [] if real is None else [(REAL, series) for series in real[:3]]
    return [Panel("", colour, series[None, :, 0], limits) for colour, series in chosen]


def _feature_panels(rows: Array, real: Array | None, spec: DataSpec) -> list[Panel]:
    """Several features: a panel per feature with samples over each other, and beside it one with real ones."""
    panels = []
    for index in range(min(spec.shape[1], MOST_PANELS if real is None else MOST_PANELS // 2)):
        limits = _limits(rows[:, :, index], None if real is None else real[:, :, index], spec)
        panels.append(Panel(_feature(spec, index), BLUE, rows[:MOST_SERIES, :, index], limits))
        if real is not None:
            panels.append(Panel(f"{_feature(spec, index)}, real", REAL, real[:MOST_SERIES, :, index], limits))
    return panels


def _legend(figure: Figure, real: Array | None) -> None:
    """What the colours mean; needed only where there are two."""
    if real is not None:
        from matplotlib.patches import Patch

        handles = [Patch(color=BLUE, label="samples"), Patch(color=GREY, label="real")]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _feature(spec: DataSpec, index: int) -> str:
    return clean_text(spec.features[index]) if index < len(spec.features) else f"feature {index}"


# --- samples as files ---------------------------------------------------------------------------------------------


def save_samples(samples: Tensor, spec: DataSpec, path: Path) -> Path:
    """Write samples as a picture (.png), an array `input` (.npz) or a table (.csv: one row per sample, or per step).

    Those of text as text (.txt), too. Raises ConfigError for another extension, StoreError where `path` cannot be
    written.
    """
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise ConfigError(f"out={path}: the extension says what to write: it must be one of {', '.join(EXTENSIONS)}")
    if extension == ".png":
        return draw(samples, spec, path)
    if extension == ".txt":
        if not spec.text:
            raise ConfigError(f"out={path}: the samples are no text; write .png, .npz or .csv")
        return _write(path, joined(spec.texts(samples)).encode(errors="replace"))
    array = samples.detach().cpu()
    if extension == ".csv":
        return _write(path, _table(array.to(torch.float64).numpy(), spec).encode())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, input=(array.float() if array.dtype == torch.bfloat16 else array).numpy())
    return _write(path, buffer.getvalue())


def joined(texts: Sequence[str]) -> str:
    """A text in each line, or, where one has several lines itself, with a line of dashes between them."""
    between = f"\n{'-' * 20}\n" if any("\n" in text for text in texts) else "\n"
    return between.join(texts) + "\n"


def _table(rows: Array, spec: DataSpec) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [clean_text(name) for name in spec.features]
    if spec.kind == "sequence":
        features = names or [f"feature{index}" for index in range(spec.shape[1])]
        writer.writerow(["sample", "step", *features])
        for sample, series in enumerate(rows):
            writer.writerows([sample, step, *_numbers(values)] for step, values in enumerate(series))
        return buffer.getvalue()
    flat = rows.reshape(len(rows), -1)
    word = "pixel" if spec.kind == "image" else "feature"
    writer.writerow(names if len(names) == flat.shape[1] else [f"{word}{index}" for index in range(flat.shape[1])])
    writer.writerows(_numbers(row) for row in flat)
    return buffer.getvalue()


def _numbers(values: Array) -> Iterator[str]:
    return (f"{value:.9g}" for value in values)  # nine digits give back every float32 exactly


def _write(path: Path, content: bytes) -> Path:
    """Write beside, then rename: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        make_folder(path.parent)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        discard(temporary)
        reason = cause(error) if isinstance(error, OSError) else str(error)
        raise StoreError(f"{path}: cannot be written ({reason})") from None
    return path
