"""Loads an .npy file for Table: what its rows are, their parts and scale, and whether they are held in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganglion.datasets.columns import Columns, input_and_target, row_number
from ganglion.datasets.filerows import FileRows, Form, Part, as_tensor, bytes_held, check_numbers, divide, hold
from ganglion.datasets.npyfile import RowFile, Values
from ganglion.datasets.scaling import EXACT, Range, Scaler, fit_known
from ganglion.engine.api import ConfigError, DataContext, DataError, Dataset, DataSpec, Splits, stream_seed

MOST = 1 << 30  # bytes that are held in memory unless more is asked for
SAMPLE = 1 << 22  # values that a scale is fitted on: all, or those of RUNS runs of rows from end to end
RUNS = 256
KINDS: Mapping[int, Literal["vector", "sequence", "image"]] = {1: "vector", 2: "sequence", 3: "image"}


class Loaded(NamedTuple):
    """The parts, and the scale that they have."""

    splits: Splits
    scaler: Scaler


def load_array(path: Path, settings: Any, context: DataContext, known: Range | None) -> Loaded:
    """The rows of the file as the settings of Table ask. Raises InputError."""
    file = RowFile(path)
    inputs, targets = _columns(file, settings)
    train, test = divide(
        file.layout.rows, settings.test_share, settings.shuffle, stream_seed(context.seed, "Table", "split")
    )
    held = _held(file, settings.memory)
    sample = train.rows(_spread(train.total, max(1, SAMPLE // file.layout.values)))
    values = file.read(sample.numpy())
    scaler = _fitted(file, settings.scale, sample, values, inputs, known)
    classes = _classes(file, targets[0], sample, values, held) if settings.classification else None
    form = Form(inputs, targets, None if settings.scale == "none" else scaler, known, classes)
    spec = _spec(file, form, settings.scale)
    for sentence in _notices(file, held, settings.scale, known, len(sample), train.total):
        context.notify(f"Table: {path.name}: {sentence}")

    def dataset(part: Part) -> Dataset:
        rows = FileRows(spec, file, part, form)
        return hold(rows) if held else rows

    return Loaded(Splits(train=dataset(train), test=dataset(test) if test.total else None), scaler)


def _columns(file: RowFile, settings: Any) -> tuple[Sequence[int] | None, Sequence[int]]:
    """Input columns (None: whole rows) and target columns."""
    shape = file.layout.shape
    if len(shape) == 1:
        names = tuple(str(column) for column in range(shape[0]))
        table = Columns(file.path, names, (), row_number)
        inputs, targets = input_and_target(table, settings.columns, settings.target, settings.classification)
        return (None if inputs == list(range(shape[0])) else inputs), targets
    if settings.columns is not None or settings.target or settings.classification:
        raise ConfigError(
            f"{file.path}: columns, target and classification are for arrays of 2 dimensions, and this one has "
            f"{len(shape) + 1}"
        )
    return None, ()


def _held(file: RowFile, memory: str) -> bool:
    """Whether all rows are held in memory. Raises DataError where that is asked for and cannot be."""
    size, machine = bytes_held(file.layout.rows, file.layout.values), _machine_memory()
    if memory == "resident" and size > machine:
        raise DataError(
            f"{file.path}: its values take {_readable(size)}, and this machine has {_readable(machine)}: memory=file "
            "reads rows as they are needed"
        )
    return memory == "resident" or (memory == "auto" and size <= min(MOST, machine // 4))


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _spread(count: int, most: int) -> Tensor:
    """Positions 0..count, or of at most `most` of them: runs of neighbours, which are read in one call each."""
    if count <= most:
        return torch.arange(count)
    runs = min(RUNS, most)
    length = most // runs
    starts = torch.linspace(0, count - length, runs, dtype=torch.float64).long().clamp_(max=count - length)
    return (starts[:, None] + torch.arange(length)).flatten()


def _fitted(
    file: RowFile, kind: str, rows: Tensor, values: Values, inputs: Sequence[int] | None, known: Range | None
) -> Scaler:
    """The scale of the sampled rows: one per column, one per feature of windows, one for all values of images."""
    read = as_tensor(values if inputs is None else values[:, list(inputs)])
    check_numbers(file, inputs, rows, read)
    shape = file.layout.shape
    scaler = fit_known(kind, read.to(EXACT).reshape(-1, 1 if len(shape) == 3 else read.shape[-1]), known)
    if not bool(scaler.factor.isfinite().all()):
        raise DataError(f"{file.path}: the array holds numbers too large or too far apart for scale={kind}")
    return scaler


def _classes(file: RowFile, target: int, sample: Tensor, values: Values, held: bool) -> Values:
    """All classes of the sampled rows, or of all rows where they are held in memory anyway; sorted."""
    found = _distinct(file, target, sample, values)
    if held and len(sample) < file.layout.rows:
        for rows in torch.arange(file.layout.rows).split(max(1, SAMPLE // file.layout.values)):
            found = np.union1d(found, _distinct(file, target, rows, file.read(rows.numpy())))
    return found


def _distinct(file: RowFile, target: int, rows: Tensor, values: Values) -> Values:
    labels = as_tensor(values[:, [target]])
    check_numbers(file, (target,), rows, labels)
    return np.unique(labels.to(EXACT).numpy())


def _spec(file: RowFile, form: Form, scale: str) -> DataSpec:
    shape = file.layout.shape
    if len(shape) == 1:
        shape = shape if form.inputs is None else (len(form.inputs),)
    columns = range(shape[-1]) if form.inputs is None else form.inputs
    return DataSpec(
        KINDS[len(shape)],
        shape,
        value_range=(0.0, 1.0) if scale == "minmax" else form.within,
        classes=() if form.classes is None else tuple(map(_name, form.classes.tolist())),
        target_shape=(len(form.targets),) if form.targets and form.classes is None else None,
        features=() if len(shape) == 3 else tuple(str(column) for column in columns),
    )


def _notices(file: RowFile, held: bool, scale: str, known: Range | None, sampled: int, count: int) -> list[str]:
    size = _readable(file.layout.rows * file.layout.row_bytes)
    notices = [] if held else [f"{size} stay in the file: each row is read, and checked, when it is needed"]
    if sampled < count and scale != "none" and not (scale == "minmax" and known):
        beyond = (
            ", so others may lie outside 0 to 1; valueRange=LOW,HIGH says where all are" if scale == "minmax" else ""
        )
        notices.append(f"the scale is that of {sampled:,} of the {count:,} training rows{beyond}")
    return notices


def _name(value: float) -> str:
    """A class as other tables name it, all digits where it takes them to tell it from others."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _readable(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{math.ceil(size / 1e6):,} MB"
