"""The picture of a sweep: the figure trial by trial, and beside every key that was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganglion.engine.comparepictures import draw_panels
from ganglion.engine.pictures import BLUE, ORANGE
from ganglion.engine.sweeps.ranges import Range
from ganglion.engine.sweeps.study import Trial
from ganglion.engine.sweeps.table import Summary
from ganglion.engine.tables import clean_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 24
SIZE = (4.2, 3.2)


def draw_sweep(summary: Summary, ranges: Sequence[Range], path: Path) -> bool:
    """Write the picture; False where no trial has finished. Raises StoreError."""
    done = [each for each in summary.trials if each.state == "finished"]
    if done:
        panels: list[tuple[Any, Any]] = [(_history, (summary, done))]
        panels += [(_slice, (summary, done, each)) for each in ranges[: MOST_PANELS - 1]]
        draw_panels(panels, path, SIZE)
    return bool(done)


def _history(axes: Axes, what: tuple[Summary, Sequence[Trial]]) -> None:
    """Every finished trial, and the best so far; below them where trials were pruned or failed."""
    summary, done = what
    better = min if summary.better == "lower" else max
    values, best = _values(done), list[float]()
    for value in values:
        best.append(better([*best[-1:], value]))
    axes.plot([each.number for each in done], values, "o", color=BLUE, markersize=4)
    axes.step([each.number for each in done], best, where="post", color=ORANGE, linewidth=2)
    rug = [each.number for each in summary.trials if each.state in ("pruned", "failed")]
    axes.plot(rug, [0.02] * len(rug), "|", color="gray", markersize=8, transform=axes.get_xaxis_transform())
    axes.set_title(f"{clean_text(summary.figure)} ({summary.better} is better)", fontsize=9, parse_math=False)
    axes.set_xlabel("trial (gray: pruned or failed)", fontsize=8)
    axes.tick_params(labelsize=8)


def _slice(axes: Axes, what: tuple[Summary, Sequence[Trial], Range]) -> None:
    """The figure over one key, the best trial marked."""
    summary, done, own = what
    having = [each for each in done if own.key in each.drawn]
    if own.kind == "choice":
        places: list[Any] = [own.choices.index(str(each.drawn[own.key])) for each in having]
        axes.set_xticks(range(len(own.choices)), [clean_text(each) for each in own.choices], parse_math=False)
        axes.set_xlim(-0.5, len(own.choices) - 0.5)
    else:
        places = [each.drawn[own.key] for each in having]
        axes.set_xscale("log" if own.kind == "log" else "linear")
    axes.plot(places, _values(having), "o", color=BLUE, markersize=4, alpha=0.7)
    best = [(place, each) for place, each in zip(places, having, strict=True) if each is summary.best]
    axes.plot([place for place, _ in best], _values([each for _, each in best]), "o", color=ORANGE, markersize=7)
    axes.set_title(clean_text(own.key), fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)


def _values(trials: Sequence[Trial]) -> list[float]:
    return [each.value for each in trials if each.value is not None]
