"""What is made of the rows of a shard: which columns are input and target, their shape, their scale, their classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganglion.datasets.columns import Columns, input_and_target, row_number
from ganglion.datasets.filerows import as_tensor
from ganglion.datasets.npyfile import Values
from ganglion.datasets.scaling import EXACT, Range, Scaler
from ganglion.datasets.shardformats import Layout
from ganglion.engine.api import Batch, ConfigError, DataError, DataSpec

KINDS: Mapping[int, Literal["vector", "sequence", "image"]] = {1: "vector", 2: "sequence", 3: "image"}
BYTE = 255.0


class Column(NamedTuple):
    """A column of a shard: a field, or one place of a field."""

    name: str
    field: str
    place: int | None
    shape: tuple[int, ...]


class Raw(NamedTuple):
    """Input (rows, *shape) and target (rows, columns) as they stand in a shard, and where the first row stands."""

    input: Values
    target: Values | None
    where: str
    first: int


class Choice(NamedTuple):
    """The columns that are input and target."""

    inputs: tuple[Column, ...]
    targets: tuple[Column, ...]
    whole: bool  # the inputs are all places of one field, or one array

    def fields(self) -> list[str]:
        """What must be read."""
        return list(dict.fromkeys(column.field for column in (*self.inputs, *self.targets)))

    def raw(self, arrays: Mapping[str, Values], where: str, first: int) -> Raw:
        """The rows of the fields that were read."""
        input = arrays[self.inputs[0].field] if self.whole else _stacked(self.inputs, arrays)
        return Raw(input, _stacked(self.targets, arrays) if self.targets else None, where, first)


def _stacked(columns: Sequence[Column], arrays: Mapping[str, Values]) -> Values:
    found = [arrays[each.field] if each.place is None else arrays[each.field][:, each.place] for each in columns]
    return found[0][:, None] if len(found) == 1 else np.stack(found, axis=1)


def choose(name: str, layout: Layout, settings: Any, labels: str | None) -> Choice:
    """The columns that the settings name. `labels` is the field of separate files. Raises ConfigError."""
    columns: list[Column] = []
    for field in layout.fields:
        if len(field.shape) == 1:
            prefix = "" if field.name == "values" else f"{field.name}."
            columns += [Column(f"{prefix}{place}", field.name, place, ()) for place in range(field.shape[0])]
        else:
            columns.append(Column(field.name, field.name, None, field.shape))
    table = Columns(Path(name), tuple(column.name for column in columns), (), row_number)
    target = settings.target if labels is None else (labels,)
    classification = settings.classification if labels is None else False
    inputs, targets = input_and_target(table, settings.columns, target, classification)
    chosen, aims = tuple(columns[place] for place in inputs), tuple(columns[place] for place in targets)
    arrays = [column.name for column in chosen if column.shape]
    if (arrays and len(chosen) > 1) or any(column.shape for column in aims):
        wrong = arrays[0] if arrays else next(column.name for column in aims if column.shape)
        raise ConfigError(
            f"{name}: '{wrong}' is an array with dimensions of its own: name it alone with columns=NAME, and a target "
            "that is a column"
        )
    field = next(each for each in layout.fields if each.name == chosen[0].field)
    places = [column.place for column in chosen if column.field == field.name]
    whole = bool(arrays) or (places == list(range(len(chosen))) and field.shape == (len(chosen),))
    return Choice(chosen, aims, whole)


class Form(NamedTuple):
    """How rows are read. `bytes`: the input stays in memory as bytes, and is divided by 255 when a batch is made."""

    spec: DataSpec
    choice: Choice
    scaler: Scaler | None  # None: values as they are
    within: Range | None  # all values are known to lie there
    classes: Values | None  # sorted; None: targets are numbers
    bytes: bool

    def decoded(self, raw: Raw) -> Batch:
        """Rows as they are held in memory. Raises DataError, naming shard, row and column, for what is no number."""
        target = None if raw.target is None else self._target(raw, raw.target)
        if self.bytes:
            if raw.input.dtype != np.uint8:
                raise DataError(f"{raw.where}: holds {raw.input.dtype}, expected bytes (uint8) as in the first shard")
            return Batch(torch.from_numpy(_writable(raw.input)).view(-1, *self.spec.shape), target)
        read, wanted = self._numbers(raw, raw.input, "input"), torch.get_default_dtype()
        if self.within is not None:
            low, high = self.within
            self._refuse(raw, read, (read < low) | (read > high), f"outside valueRange={low:g},{high:g}")
        scaled = (read if self.scaler is None else self.scaler.forward(self.columnwise(read.to(EXACT)))).to(wanted)
        scaled = scaled.reshape(-1, *self.spec.shape)
        if not math.isfinite(float(scaled.sum())):
            self._refuse(raw, read, ~scaled.isfinite().reshape(read.shape), f"too large for {wanted}")
        return Batch(scaled, target)

    def columnwise(self, values: Tensor) -> Tensor:
        """Values with what has a scale of its own as the last dimension: columns, features, all of an image."""
        return values.reshape(-1, 1) if len(self.spec.shape) == 3 else values.reshape(-1, self.spec.shape[-1])

    def finished(self, batch: Batch) -> Batch:
        """Rows as a batch wants them, from rows as they are held."""
        return batch.with_input(batch.input.to(torch.get_default_dtype()).mul_(1 / BYTE)) if self.bytes else batch

    def _numbers(self, raw: Raw, values: Values, what: str) -> Tensor:
        if values.dtype.kind not in "fiub":
            raise DataError(f"{raw.where}: the {what} holds {str(values.dtype)[:60]}, expected numbers")
        read = as_tensor(_writable(values))
        if read.is_floating_point():
            self._refuse(raw, read, ~read.isfinite(), "expected a finite number", what)
        return read

    def _target(self, raw: Raw, values: Values) -> Tensor:
        if self.classes is None:
            return self._numbers(raw, values, "target").to(torch.get_default_dtype())
        column = class_values(values[:, 0], raw.where)
        if column.dtype.kind != self.classes.dtype.kind:
            raise DataError(f"{raw.where}: the classes are {column.dtype}, {self.classes.dtype} in the first shards")
        found = np.searchsorted(self.classes, column).clip(max=len(self.classes) - 1)
        wrong = self.classes[found] != column
        if bool(wrong.any()):
            row = int(wrong.argmax())
            raise DataError(
                f"{raw.where}: row {raw.first + row}: the class '{str(column[row])[:60]}' is none of the "
                f"{len(self.classes)} of the shards that were looked at; classes= names all"
            )
        return torch.from_numpy(found.astype(np.int64))

    def _refuse(self, raw: Raw, values: Tensor, wrong: Tensor, reason: str, what: str = "input") -> None:
        if not bool(wrong.any()):
            return
        row, *place = wrong.nonzero()[0].tolist()
        columns = self.choice.targets if what == "target" else self.choice.inputs
        column = columns[place[0]].name if len(place) == 1 and place[0] < len(columns) else ",".join(map(str, place))
        value = values[(row, *place)].item()
        raise DataError(f"{raw.where}: row {raw.first + row}, column '{column}' is {value:g}, {reason}")


def _writable(values: Values) -> Values:
    """torch warns of others."""
    return values if values.flags.writeable else values.copy()


def class_values(column: Values, where: str) -> Values:
    """Classes as numbers (float64) or text, which can be sorted. Raises DataError for others."""
    if column.dtype.kind in "fiub":
        numbers = column.astype(np.float64)
        if not bool(np.isfinite(numbers).all()):
            raise DataError(f"{where}: row {int((~np.isfinite(numbers)).argmax())}: the class is no finite number")
        return numbers
    if column.dtype.kind == "U" or all(isinstance(value, str) for value in column.tolist()):
        return np.array([str(value) for value in column], dtype=np.str_)
    raise DataError(f"{where}: the classes are {column.dtype}, expected names or numbers")


def given_classes(names: Sequence[str]) -> Values:
    """The classes that the setting names: numbers where all are."""
    try:
        return np.unique(np.array([float(name) for name in names]))
    except ValueError:
        return np.unique(np.array(names, dtype=np.str_))


def class_names(classes: Values) -> tuple[str, ...]:
    """As other tables name them."""
    return tuple(str(value) if classes.dtype.kind == "U" else f"{float(value):g}" for value in classes)


def spec_of(name: str, layout: Layout, choice: Choice, shape: Sequence[int] | None) -> DataSpec:
    """What a row is: the shape given, or the array's own. Raises ConfigError where they do not fit."""
    own = choice.inputs[0].shape or (len(choice.inputs),)
    wanted = tuple(shape) if shape is not None else own
    if math.prod(wanted) != math.prod(own) or len(wanted) not in KINDS or min(wanted) < 1:
        raise ConfigError(
            f"Shards: {'shape' if shape is not None else name}={','.join(map(str, wanted))}: expected 1 (values), "
            f"2 (steps, features) or 3 (channels, height, width) whose product is the {math.prod(own)} values of a row"
        )
    features: tuple[str, ...] = ()
    if len(wanted) == 1 and not choice.inputs[0].shape:
        features = tuple(column.name for column in choice.inputs)
    elif len(wanted) < 3:
        features = tuple(str(place) for place in range(wanted[-1]))
    return DataSpec(KINDS[len(wanted)], wanted, features=features)
