"""Data in memory: the tensors behind a data set, views of it, its digest, and the check that all is finite."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ganglion.engine.contracts import Batch, Dataset, DataSpec, Range
from ganglion.engine.errors import DataError
from ganglion.engine.processes import this_process, told_by_all

VALUES_AT_ONCE = 1 << 26
CHECKED_ROWS = 1024  # of data that are not in memory, where they have more than VALUES_AT_ONCE values


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """One row per label, (count, classes) float: 1 at the label's place. torch's own reads its argument on the host."""
    rows = torch.zeros(len(labels), classes, device=labels.device)
    return rows.scatter_(1, labels.long()[:, None], 1.0)


class TensorDataset(Dataset):
    """Rows held as tensors. `input` may be uint8: it is stored as it is, and read as float `input * scale + shift`.

    `target` is int64 class indices (rows,) or numbers (rows, *target_shape); `fields` are further tensors by name.
    """

    def __init__(
        self,
        spec: DataSpec,
        input: Tensor,
        target: Tensor | None = None,
        fields: Mapping[str, Tensor] | None = None,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        self.spec = spec
        self.input = input
        self.target = target
        self.fields = dict(fields or {})
        self.scale = scale
        self.shift = shift

    def __len__(self) -> int:
        return self.input.shape[0]

    def rows(self, indices: Tensor) -> Batch:
        if self.input.device.type == "cuda" and indices.device.type == "cpu":
            indices = indices.pin_memory()  # so that the copy does not wait
        indices = indices.to(self.input.device, non_blocking=True)
        rows = self.input.index_select(0, indices)
        if rows.dtype == torch.uint8:
            rows = rows.to(torch.get_default_dtype())
        if self.scale != 1.0:
            rows = rows.mul_(self.scale)
        if self.shift != 0.0:
            rows = rows.add_(self.shift)
        target = None if self.target is None else self.target.index_select(0, indices)
        return Batch(rows, target, {name: value.index_select(0, indices) for name, value in self.fields.items()})

    def targets(self) -> Tensor | None:
        return self.target

    def to(self, device: torch.device) -> TensorDataset:
        target = None if self.target is None else self.target.to(device)
        fields = {name: value.to(device) for name, value in self.fields.items()}
        return TensorDataset(self.spec, self.input.to(device), target, fields, self.scale, self.shift)

    def scaled(self, wanted: Range) -> TensorDataset:
        """The same rows with their values mapped from `spec.value_range` onto `wanted`."""
        assert self.spec.value_range is not None
        low, high = self.spec.value_range
        factor = (wanted[1] - wanted[0]) / (high - low)
        shift = (self.shift - low) * factor + wanted[0]
        spec = replace(self.spec, value_range=wanted)
        return TensorDataset(spec, self.input, self.target, self.fields, self.scale * factor, shift)


class Subset(Dataset):
    """The rows of `source` at `indices`, without a copy."""

    def __init__(self, source: Dataset, indices: Tensor) -> None:
        self.source = source
        self.indices = indices
        self.spec = source.spec
        self.resident, self.batches_at_once = source.resident, source.batches_at_once

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, indices: Tensor) -> Batch:
        return self.source.rows(self.indices[indices.to(self.indices.device)])

    def targets(self) -> Tensor | None:
        targets = self.source.targets()
        return None if targets is None else targets[self.indices.to(targets.device)]

    def to(self, device: torch.device) -> Subset:
        return Subset(self.source.to(device), self.indices.to(device))


def take(dataset: Dataset, rows: Tensor) -> Dataset:
    """The given rows of `dataset`, without a copy: a view where they are consecutive rows of tensors, else a Subset."""
    count = len(rows)
    consecutive = count > 0 and int(rows[-1] - rows[0]) == count - 1 and bool((rows.diff() == 1).all())
    if consecutive and count == len(dataset):
        return dataset
    if (streamed := dataset.streamed()) is not None:
        return streamed.taken(rows)
    if not consecutive or not isinstance(dataset, TensorDataset):
        return Subset(dataset, rows)
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    target = None if dataset.target is None else dataset.target[part]
    fields = {name: value[part] for name, value in dataset.fields.items()}
    return TensorDataset(dataset.spec, dataset.input[part], target, fields, dataset.scale, dataset.shift)


def data_digest(dataset: Dataset, samples: int = 256) -> str:
    """A sha256 of the number of rows, their form, and evenly spaced rows, first and last included: always cheap."""
    count = len(dataset)
    digest = hashlib.sha256(repr((count, dataset.spec)).encode())
    if (streamed := dataset.streamed()) is not None:
        digest.update(streamed.digest().encode())
    elif count:
        batch = dataset.rows(_spaced(count, samples))
        named = {"input": batch.input, "target": batch.target, **batch.fields}
        for name, value in named.items():
            if value is not None:
                digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def refuse_unlike_data(dataset: Dataset, name: str) -> None:
    """Processes that share a job go through the same rows: each has found them itself, and one may have found others.

    Every process must call it. Raises DataError in all of them where the streamed data of one are not those of the
    first: where files lie and when they were written may differ, as each machine may have copies of its own.
    """
    if this_process().count == 1:
        return
    layout = getattr(dataset.streamed(), "order_digest", str)  # how the rows are divided, where the data set says it
    found = told_by_all(repr((len(dataset), layout())).encode())
    other = next((rank for rank, told in enumerate(found) if told != found[0]), None)
    if other is not None:
        raise DataError(
            f"{name}: process {other + 1} of {len(found)} has found other data than the first one: its files are not "
            "the same, or could not all be read when it began; all processes must see the same files"
        )


def _spaced(count: int, samples: int) -> Tensor:
    """At most so many of `count` rows, evenly spaced, the first and the last among them."""
    return torch.linspace(0, count - 1, min(count, samples), dtype=torch.float64).round().to(torch.int64)


def check_finite(dataset: Dataset, name: str, rows_at_once: int = 65536) -> None:
    """Raises DataError, naming row and column, for the first NaN or infinity among the numbers of `dataset`.

    Large data that are not in memory would take as long to read as an epoch: of them some rows are checked.
    """
    dataset = dataset.sample()
    if isinstance(dataset, TensorDataset) and not dataset.input.is_floating_point():
        dataset = TensorDataset(dataset.spec, dataset.input[:, :0], dataset.target, dataset.fields)  # no bytes to check
    for rows in _checked_rows(dataset, rows_at_once):
        batch = dataset.rows(rows)
        for label, value in {"input": batch.input, "target": batch.target, **batch.fields}.items():
            _check_part(name, label, value, rows, dataset)


def _checked_rows(dataset: Dataset, rows_at_once: int) -> Iterator[Tensor]:
    count, values = len(dataset), max(1, math.prod(dataset.spec.shape))
    at_once = max(1, min(rows_at_once, VALUES_AT_ONCE // values))
    if not dataset.resident and count * values > VALUES_AT_ONCE:
        yield from _spaced(count, min(CHECKED_ROWS, max(2, VALUES_AT_ONCE // values))).split(at_once)
        return
    for start in range(0, count, at_once):
        yield torch.arange(start, min(start + at_once, count))


def _check_part(name: str, label: str, value: Tensor | None, rows: Tensor, dataset: Dataset) -> None:
    if value is None or not value.is_floating_point() or bool(value.isfinite().all()):
        return
    row, *place = (~value.isfinite()).nonzero()[0].tolist()
    column = ",".join(str(index) for index in place)
    features = dataset.spec.features
    if label == "input" and len(place) == 1 and len(features) == value.shape[1]:
        column = f"'{features[place[0]]}'"
    where = f"{label} row {int(rows[row])}" + (f", column {column}," if column else "")
    raise DataError(f"{name}: {where} is {value[(row, *place)].item()}, but every value must be a finite number")
