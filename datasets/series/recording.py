"""Makes series of the columns of a table: groups apart, rows in the order of time, labels and covariates beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganglion.datasets.columns import Columns, chosen, labels, numbers
from ganglion.datasets.series.reading import Times, calendar_labels, numbers_or_missing, read_times
from ganglion.datasets.series.record import Record
from ganglion.engine.api import ConfigError, DataError

Order = np.ndarray[Any, np.dtype[np.int64]]


class Meaning(NamedTuple):
    """What the columns are, by name or number; `columns` None means all that are nothing else."""

    columns: tuple[str, ...] | None = None
    time: str | None = None
    calendar: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    group: str | None = None
    missing: bool = False  # whether a value may be
    midnight: bool = False  # whether windows begin there only
    steps: int | None = None  # of the windows that the table holds one after the other


def to_record(table: Columns, meaning: Meaning, owner: str, notify: Callable[[str], None]) -> Record:
    """The series of the table. Raises ConfigError for wrong columns, DataError for wrong contents."""
    inputs, others = _positions(table, meaning, owner)
    order, series, names = _grouped(table, others["group"], meaning.steps)
    times = None if not others["time"] else read_times(table, others["time"][0])
    if times is not None:
        order = _in_time(table, times, order, series, owner, notify)
    read = numbers_or_missing if meaning.missing else numbers
    values = torch.stack([torch.from_numpy(read(table, place)[order]) for place in inputs], dim=1)
    first, along = _calendar(times, order, meaning, owner), {}
    classes: tuple[str, ...] = ()
    target: Tensor | None = None
    for rank, place in enumerate(others["labels"]):
        indices, found = labels(table, place)
        own = torch.from_numpy(indices[order])
        if rank == 0:
            target, classes = own, found
        elif table.names[place] in first:
            raise ConfigError(f"{owner}: '{table.names[place]}' is a calendar label and a column: it can be only one")
        else:
            first[table.names[place]] = own
    if others["covariates"]:
        columns = [torch.from_numpy(numbers(table, place)[order]) for place in others["covariates"]]
        along["covariates"] = torch.stack(columns, dim=1)
    return Record(
        str(table.path),
        values,
        tuple(table.names[place] for place in inputs),
        series,
        along,
        first,
        target,
        classes,
        rate=None if times is None else sampling_rate(times, order, series),
        begins=_midnights(times, order, owner) if meaning.midnight else None,
        only="begins at midnight" if meaning.midnight else "",
        names=names,
    )


def _positions(table: Columns, meaning: Meaning, owner: str) -> tuple[list[int], dict[str, list[int]]]:
    """The columns of values, and the others by what they mean."""
    named: dict[str, Sequence[str]] = {
        "time": [meaning.time] if meaning.time else [],
        "group": [meaning.group] if meaning.group else [],
        "covariates": meaning.covariates,
        "labels": meaning.labels,
    }
    others = {key: chosen(table, names, key) for key, names in named.items()}
    for key in ("time", "group"):
        if len(others[key]) > 1:
            raise ConfigError(f"{owner}: {key} is one column, got {len(others[key])}")
    taken = {place: key for key, places in others.items() for place in places}
    if meaning.columns is None:
        inputs = [place for place in range(len(table.names)) if place not in taken]
    else:
        inputs = chosen(table, meaning.columns, "columns")
    if not inputs:
        raise ConfigError(f"{owner}: columns leaves no value: the file has {', '.join(table.names)}")
    both = next((place for place in inputs if place in taken), None)
    if both is not None:
        raise ConfigError(
            f"{owner}: column '{table.names[both]}' is given as {taken[both]} and as value: it can be only one"
        )
    return inputs, others


def _grouped(table: Columns, group: Sequence[int], steps: int | None) -> tuple[Order, list[range], tuple[str, ...]]:
    """The rows with those of a series together, otherwise in their order; the rows of each series; their names."""
    count = len(table)
    if steps is not None:
        starts = range(0, count, steps)
        return np.arange(count), [range(start, start + steps) for start in starts], ()
    if not group:
        return np.arange(count), [range(count)], ()
    ids, names = labels(table, group[0])
    ends = np.cumsum(np.bincount(ids, minlength=len(names)))
    series = [range(int(end - size), int(end)) for end, size in zip(ends, np.bincount(ids), strict=True)]
    return np.argsort(ids, kind="stable"), series, names


def _in_time(
    table: Columns, times: Times, order: Order, series: Sequence[range], owner: str, notify: Callable[[str], None]
) -> Order:
    """The order with every series from its oldest row on. Raises DataError, naming a row, where times are mixed."""
    steps = [np.diff(times.moments[order[rows.start : rows.stop]]) for rows in series]
    if all((step > 0).all() for step in steps):
        return order
    if all((step < 0).all() for step in steps):
        notify(f"{owner}: {table.path} has its newest row first: its rows are turned round")
        return np.concatenate([order[rows.start : rows.stop][::-1] for rows in series])
    falling = sum(int((step < 0).sum()) for step in steps) > sum(int((step > 0).sum()) for step in steps)
    right = [step < 0 if falling else step > 0 for step in steps]
    place = next(number for number, fits in enumerate(right) if not fits.all())
    wrong = series[place].start + 1 + int(np.argmin(right[place]))
    here, before = int(order[wrong]), int(order[wrong - 1])
    how = "a later" if falling else "an earlier"
    how = "the same time as" if times.moments[here] == times.moments[before] else f"{how} time than"
    raise DataError(
        f"{table.path}: {table.place(here)} has {how} {table.place(before)}: expected the rows of a series in the "
        f"order of time (group=COLUMN keeps several series apart)"
    )


def _calendar(times: Times | None, order: Order, meaning: Meaning, owner: str) -> dict[str, Tensor]:
    if not meaning.calendar:
        return {}
    dates = _dates(times, order, f"{owner}: calendar={','.join(meaning.calendar)}")
    return {kind: torch.from_numpy(calendar_labels(dates, kind).astype(np.int64)) for kind in meaning.calendar}


def _midnights(times: Times | None, order: Order, owner: str) -> Tensor:
    dates = _dates(times, order, f"{owner}: align=day")
    return torch.from_numpy(dates == dates.astype("datetime64[D]"))


def _dates(times: Times | None, order: Order, what: str) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    """The dates of the rows. Raises ConfigError, naming `what` needs them, where there are none."""
    if times is None or times.dates is None:
        came = "none (time=COLUMN names it)" if times is None else "one of numbers"
        raise ConfigError(f"{what} needs a column of dates, got {came}")
    return times.dates[order]


def sampling_rate(times: Times, order: Order, series: Sequence[range]) -> float | None:
    """Rows per second where they are dated and evenly spaced, None otherwise."""
    steps = np.concatenate([np.diff(times.moments[order[rows.start : rows.stop]]) for rows in series])
    if times.dates is None or not len(steps) or (np.abs(steps - steps[0]) > 1e-6 * steps[0]).any():
        return None
    return float(1.0 / steps[0])
