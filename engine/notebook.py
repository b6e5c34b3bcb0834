"""What a run shows of itself in a notebook: one block of HTML that needs nothing else, neither files nor scripts."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganglion.engine.errors import EngineError
from ganglion.engine.pages.series import thinned
from ganglion.engine.tables import clean_text, format_duration, format_number

if TYPE_CHECKING:
    from ganglion.engine.learnt import Learnt

WIDTH, HEIGHT = 160, 28  # of a curve, in pixels
POINTS = 120  # of a curve
FIGURES = 12  # curves that are shown
LARGEST = 2**20  # bytes of a picture that is put into the block
BLUE, ORANGE = "#3B8FD0", "#D55E00"  # to be told from a white page as from a black one
NOT_SHOWN = ("iteration", "seconds", "iterationsPerSecond")
# Colours of the notebook around it: the block is as readable on a dark page as on a light one.
STYLE = (
    "font:13px/1.5 system-ui,sans-serif;border:1px solid #8888;border-radius:6px;padding:10px 14px;"
    "display:inline-block;max-width:100%;box-sizing:border-box;color:inherit;background:transparent"
)
CELL = "padding:1px 14px 1px 0;text-align:left;border:0;background:transparent;white-space:nowrap"


def run_block(run: Learnt) -> str:
    """How the run ended, its figures as curves, its newest picture, what to type next."""
    try:
        parts = [_heading(run), *_alarms(run), _figures(run), _picture(run.pictures), _hints(run)]
        return f'<div style="{STYLE}">{"".join(parts)}</div>'
    except (EngineError, OSError) as error:  # it may be damaged, or gone; that is no reason for a traceback
        return f'<div style="{STYLE}">{escaped(f"{run.tag}: {error}")}</div>'


def escaped(text: object) -> str:
    """Text that is text in HTML, wherever it comes from."""
    return html.escape(clean_text(text))


def _heading(run: Learnt) -> str:
    outcome, record = run.outcome, run.record
    what = f"{record.get('strategy', '')} on {record.get('dataset', '')}"
    reason = f" ({outcome.reason})" if outcome.reason else ""
    ended = f"{run.status} at iteration {outcome.iteration:,} after {format_duration(outcome.seconds)}{reason}"
    return f"<div><strong>{escaped(run.tag)}</strong> &nbsp;{escaped(what)}</div><div>{escaped(ended)}</div>"


def _alarms(run: Learnt) -> Iterable[str]:
    for alarm in run.alarms:
        if not alarm.over:
            yield f'<div><strong style="color:{ORANGE}">!</strong> {escaped(alarm.sentence)}</div>'


def _figures(run: Learnt) -> str:
    trace = run.trace
    names = [name for name in trace if name not in NOT_SHOWN]
    rows = [_row(name, trace["iteration"].tolist(), trace[name].tolist()) for name in names[:FIGURES]]
    more = f"<div>and {len(names) - FIGURES} more in run.trace</div>" if len(names) > FIGURES else ""
    return (
        f'<table style="font:inherit;color:inherit;border-collapse:collapse;margin:6px 0">{"".join(rows)}</table>{more}'
        if rows
        else ""
    )


def _row(name: str, iterations: Sequence[int], values: Sequence[float]) -> str:
    last = format_number(values[-1])
    number = f'<td style="{CELL};text-align:right;font-variant-numeric:tabular-nums">{last}</td>'
    return f'<tr style="background:transparent"><td style="{CELL}">{escaped(name)}</td>{number}' + (
        f'<td style="{CELL}">{curve(iterations, values, name)}</td></tr>'
    )


def curve(x: Sequence[float], y: Sequence[float], name: str) -> str:
    """A small line of `y` over `x`, with gaps where a value is not finite; empty where there is nothing to draw."""
    finite = [value for value in y if math.isfinite(value)]
    if len(finite) < 2 or x[-1] <= x[0]:
        return ""
    low, high = min(finite), max(finite)
    pieces: list[list[str]] = [[]]
    for place in thinned(x, y, POINTS):
        if math.isfinite(y[place]):
            pieces[-1].append(_point((x[place] - x[0]) / (x[-1] - x[0]), _share(y[place], low, high)))
        elif pieces[-1]:
            pieces.append([])
    lines = "".join(f'<polyline points="{" ".join(piece)}"/>' for piece in pieces if piece)
    label = escaped(f"{name} from {format_number(low)} to {format_number(high)}")
    return (
        f'<svg role="img" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" fill="none" '
        f'stroke="{BLUE}" stroke-width="1.5"><title>{label}</title>{lines}</svg>'
    )


def _share(value: float, low: float, high: float) -> float:
    half = high / 2 - low / 2  # in this order nothing overflows
    return (value / 2 - low / 2) / half if half > 0 else 0.5


def _point(across: float, up: float) -> str:
    return f"{1 + across * (WIDTH - 2):.1f},{HEIGHT - 2 - up * (HEIGHT - 4):.1f}"


def _picture(pictures: Sequence[Path]) -> str:
    if not pictures or pictures[-1].stat().st_size > LARGEST:
        return ""
    newest = pictures[-1]
    data = base64.b64encode(newest.read_bytes()).decode("ascii")
    label = escaped(f"samples after {int(newest.stem):,} iterations")
    return (
        f'<figure style="margin:6px 0"><img alt="{label}" style="max-width:min(100%,360px);height:auto" '
        f'src="data:image/png;base64,{data}"><figcaption>{label}</figcaption></figure>'
    )


def _hints(run: Any) -> str:
    longer = max(1000, 2 * run.outcome.iteration)
    calls = ["run.sample(64)", "run.evaluate()", "run.trace.frame()", f"run.resume(iterations={longer})"]
    codes = " &nbsp; ".join(f"<code>{call}</code>" for call in calls)
    return f'<div style="opacity:.8">{codes}</div>'
