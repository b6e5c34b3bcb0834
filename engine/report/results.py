"""Results on the page: evaluation figures with their intervals, and those of several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.errors import ConfigError, suggestion
from ganglion.engine.report.reading import Reading
from ganglion.engine.tables import format_duration, format_number

MANY = 60  # rows of a table in an evaluation's details


class Value(NamedTuple):
    """A figure with the ends of its interval, equal where there is none."""

    value: float
    low: float
    high: float
    text: str


class Row(NamedTuple):
    """One figure of every run, and which runs are better than all others."""

    name: str
    cells: list[str]
    best: tuple[bool, ...]


def figures(evaluation: Mapping[str, Any]) -> dict[str, Value]:
    """The figures of one evaluation; `xLow`, `xHigh` and `xStd` are told with their `x`."""
    values = {str(name): value for name, value in evaluation["values"].items()}
    told = {f"{name}{end}" for name in values for end in ("Low", "High", "Std")}
    return {name: _value(name, values) for name in values if name not in told}


def _value(name: str, values: Mapping[str, Any]) -> Value:
    value, low, high = (_number(values.get(f"{name}{end}")) for end in ("", "Low", "High"))
    if value is None:
        return Value(math.nan, math.nan, math.nan, "not finite")
    text = format_number(value)
    if low is not None and high is not None:
        return Value(value, low, high, f"{text} (95 %: {format_number(low)} to {format_number(high)})")
    deviation = _number(values.get(f"{name}Std"))
    return Value(value, value, value, text if deviation is None else f"{text} ± {format_number(deviation)}")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def origin(evaluation: Mapping[str, Any]) -> str:
    """What the figures are of: the iteration, the seed and the keys of the evaluation."""
    iteration, keys = evaluation.get("iteration"), evaluation.get("keys")
    parts = [f"after {iteration:,} iterations"] if isinstance(iteration, int) else []
    parts += [f"seed={evaluation['seed']}"] if "seed" in evaluation else []
    return ", ".join([*parts, *(f"{key}={value}" for key, value in (keys.items() if isinstance(keys, dict) else ()))])


def final(reading: Reading) -> dict[str, float]:
    """The last value of every figure of the strategy."""
    result = reading.record.get("result")
    found = {name: _number(value) for name, value in result.items()} if isinstance(result, dict) else {}
    return {str(name): value for name, value in found.items() if value is not None}


def side_by_side(readings: Sequence[Reading], directions: Mapping[str, str]) -> list[Row]:
    """Rows of what runs can be compared by; `directions` say of `metric.figure` whether higher or lower is better."""
    rows = [
        _row("iterations", [f"{reading.iteration:,}" for reading in readings]),
        _row("time", [_time(reading) for reading in readings]),
        _row("iterations per second", [_rate(reading) for reading in readings]),
        _row("alarms of health", [_alarms(reading) for reading in readings]),
    ]
    judged = [_judged(reading) for reading in readings]
    for name in dict.fromkeys(name for found in judged for name in found):
        cells = [found.get(name) for found in judged]
        direction = directions.get(name, "") if same_data(readings) else ""
        shown = [cell.text if cell else "" for cell in cells]
        rows.append(Row(name + (f" ({direction} is better)" if direction else ""), shown, _best(cells, direction)))
    return rows


def _row(name: str, cells: list[str]) -> Row:
    return Row(name, cells, (False,) * len(cells))


def _time(reading: Reading) -> str:
    seconds = _number(reading.record.get("seconds")) or reading.history.seconds
    return format_duration(seconds) if seconds is not None else ""


def _rate(reading: Reading) -> str:
    seconds = _number(reading.record.get("seconds")) or reading.history.seconds
    return format_number(reading.iteration / seconds) if seconds else ""


def _alarms(reading: Reading) -> str:
    if not reading.history.readings:
        return "not read"
    return ", ".join(dict.fromkeys(alarm["kind"] for alarm in reading.history.alarms)) or "none"


def _judged(reading: Reading) -> dict[str, Value]:
    return {
        f"{evaluation['metric']}.{name}": value
        for evaluation in reading.evaluations
        for name, value in figures(evaluation).items()
    }


def same_data(readings: Sequence[Reading]) -> bool:
    return len({(reading.named("dataset"), str(reading.record.get("data"))) for reading in readings}) == 1


def _best(cells: Sequence[Value | None], direction: str) -> tuple[bool, ...]:
    """Marks the one cell that is better than every other, by more than their intervals say; nothing where none is."""
    none = (False,) * len(cells)
    if not direction or any(cell is None or math.isnan(cell.value) for cell in cells):
        return none
    sign = 1 if direction == "higher" else -1
    ends = [sorted((sign * cell.low, sign * cell.high)) for cell in cells if cell is not None]
    leader = max(range(len(ends)), key=lambda index: ends[index][0])
    clear = all(ends[leader][0] > high for index, (_, high) in enumerate(ends) if index != leader)
    return tuple(clear and index == leader for index in range(len(cells)))


def directions_of(texts: Sequence[str], readings: Sequence[Reading]) -> dict[str, str]:
    """What `better=` says: `metric.figure:higher` or `:lower`. Raises ConfigError."""
    known = {name for reading in readings for name in _judged(reading)}
    found = {}
    for text in texts:
        name, _, direction = text.rpartition(":")
        if direction not in ("higher", "lower"):
            raise ConfigError(f"better={text}: expected metric.figure:higher or metric.figure:lower")
        if name not in known:
            raise ConfigError(f"better={text}: no run has been judged by '{name}'{suggestion(name, known)}")
        found[name] = direction
    return found
