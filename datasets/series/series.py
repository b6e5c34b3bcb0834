"""Series: windows of any series in a CSV, NPZ or Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ganglion.datasets.series.cutting import Cutting, SeriesSettings
from ganglion.datasets.series.preparing import Missing, SeriesFactory
from ganglion.datasets.series.reading import find_file, read_table, read_windows
from ganglion.datasets.series.record import Record, padded
from ganglion.datasets.series.recording import Meaning, to_record
from ganglion.datasets.series.windows import TAKEN, Normalise
from ganglion.engine.api import ConfigError, DataError, hookimpl, setting

CALENDAR: Mapping[str, tuple[str, ...]] = {
    "month": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "hour": tuple(str(hour) for hour in range(24)),
    "day": tuple(str(day) for day in range(1, 32)),
}  # fmt: skip


class SeriesTableSettings(SeriesSettings):
    """Settings of Series."""

    path: str = setting("", "the file (.csv, .tsv, .txt, .zip, .npz, .parquet), as it is or below a data folder")
    columns: tuple[str, ...] | None = setting(None, "columns of values by name or number from 0; none: all others")
    time: str | None = setting(None, "column of dates (ISO 8601) or numbers that grow from row to row")
    calendar: tuple[Literal["month", "weekday", "hour", "day"], ...] = setting(
        (), "whole-number fields of a window's first date, from 0: month, weekday (Monday is 0), hour, day of the month"
    )
    covariates: tuple[str, ...] = setting((), "columns that are known beside the values: the field covariates")
    labels: tuple[str, ...] = setting((), "columns of classes: the first is the target, others are fields by name")
    target: Literal["month", "weekday", "hour", "day"] | None = setting(
        None, "the calendar label that is the class, where no column of labels is; it is no field then"
    )
    group: str | None = setting(None, "column that says to which of several series a row belongs")
    missing: Literal["refuse", "fill", "mask"] = setting(
        "refuse", "missing values are an error, are the value before, or are 0 with a field mask that is 1 where seen"
    )
    short: Literal["refuse", "pad"] = setting(
        "refuse", "series shorter than a window are an error, or are filled up with rows that the field mask calls 0"
    )
    split: Literal["time", "series"] = setting(
        "time", "the later part of every series is held out, or series drawn at random, of each class alike"
    )
    normalise: Literal["none", "window", "range"] = setting(
        "none",
        "window: each has mean 0 and deviation 1; range: each lies within 0..1; what was taken away is given as the "
        "fields mean and deviation, or low and extent",
    )
    align: Literal["none", "day"] = setting("none", "day: windows begin at midnight, whatever the stride")
    separator: str = setting("auto", "between cells of a CSV file: auto, tab, or one character")
    header: bool | None = setting(None, "whether the first row of a CSV file holds names; none: it is guessed")

    def without_effect(self) -> Mapping[str, str]:
        reasons = dict(super().without_effect())
        if self.protocol == "timegan":
            reasons["split"] = "it has no effect, protocol=timegan holds nothing out"
        if self.split == "series":
            reasons.setdefault("stretches", "it has no effect with split=series")
        if self.align == "day":
            reasons["stride"] = "it has no effect with align=day"
        return reasons


class Series(SeriesFactory):
    """Windows of the series in a file: a row is a step, or one 3-D array in an NPZ file holds windows as they are.

    Fields of a batch: `covariates` (batch, steps, columns), `mask` (batch, steps, features), `mean` and `deviation`, or
    `low` and `extent` (batch, features), and whole numbers (batch,) by the names of calendar labels and further label
    columns. Windows
    never reach over two groups, and those in which a label changes are left out. Of windows as they are the last ones
    are held out, or with split=series ones drawn at random; gap then counts windows and is 0 unless it is given.

    A day a window, as a smart grid's load is learnt: length=96 align=day normalise=range calendar=month,weekday
    target=month (`learn --job smart-grid`).
    """

    Settings = SeriesTableSettings

    name = "Series"

    def __init__(self, settings: Any, context: Any) -> None:
        super().__init__(settings, context)
        self._steps: int | None = None  # of the windows that the file holds
        if settings.short == "pad" and settings.split == "time":
            raise ConfigError("Series: short=pad needs split=series: a series shorter than a window is not cut by time")

    def missing(self) -> Missing:
        return cast("Missing", self.settings.missing)

    def normalise(self) -> Normalise:
        return cast("Normalise", self.settings.normalise)

    def cutting(self) -> Cutting:
        cutting, settings = super().cutting(), self.settings
        if settings.split == "series":
            cutting = cutting._replace(by="drawn")
        if settings.align == "day":
            cutting = cutting._replace(stride=1)
        if self._steps is None or cutting.published:
            return cutting
        by: Any = "last" if cutting.by == "time" else cutting.by
        return cutting._replace(length=self._steps, stride=1, by=by, gap=settings.gap or 0)

    def read(self) -> Record:
        settings = self.settings
        path = find_file(self.name, settings.path, self.context)
        held = read_windows(path)
        table = held[0] if held else read_table(path, settings.separator, settings.header)
        self._steps = held[1] if held else None
        self._check_windows(path)
        meaning = Meaning(
            settings.columns,
            settings.time,
            settings.calendar,
            settings.covariates,
            settings.labels,
            settings.group,
            settings.missing != "refuse",
            settings.align == "day",
            self._steps,
        )
        record = to_record(table, meaning, self.name, self.context.notify)
        return self._with_target(self._one_label(self._long_enough(record)))

    def _check_windows(self, path: Path) -> None:
        """Raises where settings for rows meet a file of windows."""
        if self._steps is None:
            return
        settings = self.settings
        for key in ("time", "group"):
            if getattr(settings, key) is not None:
                raise ConfigError(f"Series: {key}={getattr(settings, key)} is for files of rows, {path} holds windows")
        if settings.protocol == "timegan":
            raise ConfigError(f"Series: protocol=timegan cuts windows from a series, and {path} holds windows")
        if settings.length not in (None, self._steps):
            raise DataError(f"{path}: its windows have {self._steps} steps, got length={settings.length}")

    def _long_enough(self, record: Record) -> Record:
        """The record with no series shorter than a window, where there are several."""
        length = self.cutting().length
        short = [place for place, rows in enumerate(record.series) if len(rows) < length]
        if short and self.settings.short == "pad":
            return padded(record, length)
        if short and record.names:
            name, rows = record.names[short[0]], len(record.series[short[0]])
            raise DataError(
                f"{record.where}: series '{name}' has {rows} rows, fewer than the {length} of a window: "
                f"choose a smaller length, or short=pad split=series"
            )
        return record

    def _one_label(self, record: Record) -> Record:
        """Windows may begin only where no label changes before they end."""
        if record.labels is None:
            return record
        others = [value for name, value in record.first.items() if name not in self.settings.calendar]
        changed = torch.zeros(len(record.values), dtype=torch.int64)
        for value in (record.labels, *others):
            changed[1:] |= (value[1:] != value[:-1]).to(torch.int64)
        changes, last = changed.cumsum(0), self.cutting().length - 1
        same = torch.zeros(len(changes), dtype=torch.bool)
        same[: max(0, len(changes) - last)] = changes[last:] == changes[: max(0, len(changes) - last)]
        before = torch.ones_like(same) if record.begins is None else record.begins.clone()
        for rows in record.series:
            before[max(rows.start, rows.stop - last) : rows.stop] = False
        left_out = int((before & ~same).sum())
        if left_out:
            self.context.notify(f"Series: no window begins at {left_out} rows, as a label would change in it")
        only = " and ".join(part for part in (record.only, "keeps its label") if part)
        return replace(record, begins=before & same, only=only)

    def _with_target(self, record: Record) -> Record:
        """The record with one of the calendar labels as its class."""
        kind = self.settings.target
        if kind is None:
            return record
        if record.labels is not None:
            raise ConfigError(f"Series: target={kind} and labels={','.join(self.settings.labels)}: give one of them")
        if kind not in self.settings.calendar:
            raise ConfigError(f"Series: target={kind} is not among calendar={','.join(self.settings.calendar)}")
        first = {name: value for name, value in record.first.items() if name != kind}
        return replace(record, first=first, labels=record.first[kind], classes=CALENDAR[kind])

    def unscale(self, samples: Tensor, shift: Tensor | None = None, factor: Tensor | None = None) -> Tensor:
        """Samples (count, steps, features) in the units of the file; of normalised ones with both of their fields."""
        normalise = self.normalise()
        if normalise != "none":
            if shift is None or factor is None:
                needed = " and ".join(TAKEN[normalise])
                raise ConfigError(f"Series: with normalise={normalise}, samples have units only with {needed} given")
            samples = samples * factor[:, None] + shift[:, None]
        return super().unscale(samples)


@hookimpl
def register_datasets(register: Any) -> None:
    """Series."""
    register("Series", Series)
