"""From series as they were read to parts with windows: split, then scaled by the training rows, then cut."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ganglion.datasets.scaling import Scaler, check_scaled, fit_scaler
from ganglion.datasets.series.cutting import Cutting, parts_of, starts_of
from ganglion.datasets.series.record import Record, turned_round
from ganglion.datasets.series.windows import Normalise, Rows, Windows
from ganglion.engine.api import DataContext, DataError, DatasetFactory, DataSpec, Splits

Missing = Literal["refuse", "fill", "mask"]
Notify = Callable[[str], None]
RANGES = {"minmax": (0.0, 1.0), "symmetric": (-1.0, 1.0)}


class Treatment(NamedTuple):
    """What is done to values: their scale, what missing ones become, how windows are normalised."""

    scale: str
    missing: Missing = "refuse"
    normalise: Normalise = "none"


class SeriesFactory(DatasetFactory):
    """A data set of windows cut from series that `read` gives; `name` is what it is called in messages."""

    name: ClassVar[str]
    usual_length: ClassVar[int] = 24

    def __init__(self, settings: Any, context: DataContext) -> None:
        super().__init__(settings, context)
        self.scaler: Scaler | None = None  # known once the data have been loaded

    @abstractmethod
    def read(self) -> Record:
        """The series. Raises DataError where they cannot be read."""

    def cutting(self) -> Cutting:
        """How the series are cut, by the settings of SeriesSettings."""
        settings = self.settings
        length = settings.length or self.usual_length
        if settings.protocol == "timegan":
            return Cutting(length, published=True, seed=self.context.seed)
        gap = length if settings.gap is None else settings.gap
        return Cutting(
            length,
            settings.test_share,
            settings.validation_share,
            settings.stride,
            gap,
            seed=self.context.seed,
            stretches=settings.stretches,
        )

    def missing(self) -> Missing:
        """What is done about missing values."""
        return "refuse"

    def normalise(self) -> Normalise:
        """Whether every window is brought to a scale of its own, and which."""
        return "none"

    def load(self) -> Splits:
        record = self.read()
        cutting = self.cutting()
        scale = "minmax" if cutting.published else self.settings.scale
        if cutting.published:
            self.context.notify(
                f"{self.name}: protocol=timegan is the published preparation, for comparison only: scaled by the whole "
                f"series, overlapping windows in random order, nothing held out"
            )
            record = turned_round(record) if self.settings.reverse else record
        treatment = Treatment(scale, self.missing(), self.normalise())
        splits, self.scaler = prepare(record, cutting, treatment, self.name, self.context.notify)
        return splits

    def unscale(self, samples: Tensor) -> Tensor:
        """Samples (count, steps, features) in the units of the file, once it has been loaded."""
        assert self.scaler is not None, "load comes first"
        return self.scaler.inverse(samples)


def prepare(record: Record, cutting: Cutting, treatment: Treatment, name: str, notify: Notify) -> tuple[Splits, Scaler]:
    """The parts, and the scaler, which is fitted on the training rows alone."""
    classes = None if record.labels is None else record.labels[[rows.start for rows in record.series]]
    parts = parts_of(record.series, cutting, classes)
    starts = {part: starts_of(ranges, cutting, record.begins) for part, ranges in parts.items()}
    check_starts(record, cutting, starts)
    learnt = torch.cat([torch.arange(rows.start, rows.stop) for rows in parts["train"]])
    scale, missing, normalise = treatment
    scaler = fit_observed(scale, record, learnt)
    source = Rows(
        _scaled(record, scaler, missing, learnt).to(torch.get_default_dtype()),
        _along(record, scale, learnt, missing),
        {key: _typed(value) for key, value in record.first.items()},
        record.labels,
    )
    used = covered(torch.cat(list(starts.values())), cutting.length, len(source.values))
    spec = DataSpec(
        "sequence",
        (cutting.length, len(record.features)),
        value_range=_value_range(scale, normalise, source.values[used], name, notify),
        classes=record.classes,
        features=record.features,
        sampling_rate=record.rate,
    )
    made = {part: Windows(spec, source, begin, normalise) for part, begin in starts.items() if len(begin)}
    return Splits(made["train"], made.get("validation"), made.get("test")), scaler


def check_starts(record: Record, cutting: Cutting, starts: Mapping[str, Tensor]) -> None:
    """Raises DataError, in one sentence, where a part that is asked for has no window."""
    longest, least = max(len(rows) for rows in record.series), cutting.length + cutting.published
    each = "the series has" if len(record.series) == 1 else f"the longest of {len(record.series)} series has"
    only = f" that {record.only}" if record.only else ""
    if longest < least:
        raise DataError(
            f"{record.where}: {each} {longest} rows, and windows of length={cutting.length} need {least}: "
            f"choose a smaller length"
        )
    of = f"{len(record.series)} series" if cutting.by != "time" else f"{longest} rows"
    of = f"{of} in stretches={cutting.stretches}" if cutting.stretches > 1 else of
    shares = {"test": cutting.test_share, "validation": cutting.validation_share}
    for part, share in shares.items():
        if share and not len(starts[part]):
            raise DataError(
                f"{record.where}: {part}Share={share:g} of {of} leaves no window of {cutting.length} "
                f"steps{only} in the {part} part: choose a larger share, {part}Share=0 or a smaller length"
            )
    if not len(starts["train"]):
        raise DataError(
            f"{record.where}: testShare={cutting.test_share:g}, validationShare={cutting.validation_share:g} and "
            f"gap={cutting.gap} leave no window of {cutting.length} steps{only} to learn from among {of}: "
            f"choose smaller ones, or a smaller length"
        )


def fit_observed(scale: str, record: Record, learnt: Tensor) -> Scaler:
    """The scaler of the values that are there in the rows `learnt`. Raises DataError for a column without any."""
    fitted = []
    for place, column in enumerate(record.values[learnt].T):
        observed = column[~column.isnan()]
        if not len(observed):
            raise DataError(
                f"{record.where}: column '{record.features[place]}' holds no value in the rows that are learnt from: "
                f"leave it out with columns="
            )
        fitted.append(fit_scaler(scale, observed[:, None]))
    return Scaler(torch.cat([one.shift for one in fitted]), torch.cat([one.factor for one in fitted]))


def _scaled(record: Record, scaler: Scaler, missing: Missing, learnt: Tensor) -> Tensor:
    """Scaled values: missing ones are 0, or (fill) the last one before, or the training rows' mean before the first."""
    values = scaler.forward(record.values)
    holes = values.isnan()
    if missing == "fill":
        means = values[learnt].nanmean(dim=0)
        for rows in record.series:
            values[rows.start : rows.stop] = _filled(values[rows.start : rows.stop], means)
    values = values.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
    if record.padded is not None:
        values[record.padded] = 0.0
    present = torch.where(holes, torch.zeros_like(values), values)
    check_scaled(record.where, present.to(torch.get_default_dtype()), scaler, record.features)
    return values


def _filled(values: Tensor, means: Tensor) -> Tensor:
    """The last value before each missing one, (rows, features), and `means` (features,) before the first."""
    places = torch.arange(1, len(values) + 1)[:, None].expand_as(values)
    last = torch.where(values.isnan(), torch.zeros_like(places), places).cummax(dim=0).values
    return torch.cat([means[None], values]).gather(0, last)


def _along(record: Record, scale: str, learnt: Tensor, missing: Missing) -> dict[str, Tensor]:
    """Fields of every step: covariates in the scale of the training rows, and the mask where it is needed."""
    along = {}
    for name, value in record.along.items():
        scaler = fit_scaler(scale, value[learnt])
        scaled = scaler.forward(value).to(torch.get_default_dtype())
        check_scaled(record.where, scaled, scaler, [f"{name} {place}" for place in range(value.shape[1])])
        along[name] = scaled
    seen = ~record.values.isnan() if missing == "mask" else torch.ones_like(record.values, dtype=torch.bool)
    if record.padded is not None:
        seen = seen & ~record.padded[:, None]
    if missing == "mask" or record.padded is not None:
        along["mask"] = seen.to(torch.get_default_dtype())
    return along


def _typed(value: Tensor) -> Tensor:
    return value.to(torch.get_default_dtype()) if value.is_floating_point() else value


def covered(starts: Tensor, length: int, rows: int) -> Tensor:
    """Which rows (rows,) lie in a window."""
    edges = torch.zeros(rows + 1, dtype=torch.int64)
    edges.index_add_(0, starts, torch.ones_like(starts))
    edges.index_add_(0, starts + length, -torch.ones_like(starts))
    return edges.cumsum(0)[:rows] > 0


def _value_range(
    scale: str, normalise: Normalise, values: Tensor, name: str, notify: Notify
) -> tuple[float, float] | None:
    """The interval that the scale gives the training rows; says so where others leave it."""
    if normalise != "none":
        return (0.0, 1.0) if normalise == "range" else None
    if scale not in RANGES:
        return None
    low, high = RANGES[scale]
    outside = int(((values < low) | (values > high)).sum())
    if outside:
        notify(
            f"{name}: {outside} values of rows that are not learnt from lie outside of {low:g}..{high:g}, to which "
            f"scale={scale} maps the training rows"
        )
    return RANGES[scale]
