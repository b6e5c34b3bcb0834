"""Rows of an .npy file as a data set: read, scaled and checked when they are asked for, or all held in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganglion.datasets.npyfile import RowFile, Values
from ganglion.datasets.scaling import EXACT, Range, Scaler
from ganglion.datasets.shares import held_out
from ganglion.engine.api import Batch, DataError, Dataset, DataSpec, TensorDataset

NATIVE = "efdbBhilq?"  # NumPy's letters for the types that torch has too
PIECES = 1 << 20  # a part is a list of at most so many pieces
BLOCK = 1 << 22  # values read at once where all rows are


class Part(NamedTuple):
    """Some rows of a file, in equal pieces of consecutive ones, of which the last may be shorter."""

    first: Tensor  # the row that each piece begins with
    length: int
    total: int

    def rows(self, positions: Tensor) -> Tensor:
        """The rows of the file that stand at positions of this part. Raises IndexError for one beyond it."""
        if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < self.total:
            raise IndexError(f"expected positions from 0 to {self.total - 1}")
        piece = positions.div(self.length, rounding_mode="floor")
        return self.first[piece] + positions - piece * self.length


def divide(count: int, share: float, shuffle: bool, seed: int) -> tuple[Part, Part]:
    """Training rows and test rows: the last ones, or drawn at random.

    What is drawn are pieces of consecutive rows, single ones up to PIECES rows: the parts of any file are short lists.
    """
    if not shuffle:
        kept = max(1, count - round(share * count))
        return Part(torch.tensor([0]), kept, kept), Part(torch.tensor([kept]), max(1, count - kept), count - kept)
    length = -(-count // PIECES)
    first = torch.arange(0, count, length)
    drawn = held_out(torch.zeros(count // length, dtype=torch.int64), share, seed)
    test = torch.cat([drawn, torch.zeros(len(first) - len(drawn), dtype=torch.bool)])  # a shorter piece is learnt from
    tested = int(test.sum()) * length
    return Part(first[~test], length, count - tested), Part(first[test], length, tested)


class Form(NamedTuple):
    """What is made of a row: which of its columns (None: all of it) are input and target, and how they are read."""

    inputs: Sequence[int] | None = None
    targets: Sequence[int] = ()
    scaler: Scaler | None = None  # None: values as they are
    within: Range | None = None  # all values are known to lie there
    classes: Values | None = None  # sorted; None: targets are numbers


class FileRows(Dataset):
    """Rows of an .npy file. Each is checked when it is read, so that the file is never read as a whole."""

    resident = False
    batches_at_once = 16  # handing a batch from thread to thread takes longer than reading it

    def __init__(self, spec: DataSpec, file: RowFile, part: Part, form: Form) -> None:
        self.spec = spec
        self.file = file
        self.part = part
        self.form = form

    def __len__(self) -> int:
        return self.part.total

    def rows(self, indices: Tensor) -> Batch:
        rows = self.part.rows(indices.cpu())
        values = self.file.read(rows.numpy())
        target = None if not self.form.targets else self._target(rows, values[:, list(self.form.targets)])
        return Batch(self._input(rows, self.cut(values)), target)

    def cut(self, values: Values) -> Values:
        """The inputs among the values of rows."""
        return values if self.form.inputs is None else values[:, list(self.form.inputs)]

    def _input(self, rows: Tensor, values: Values) -> Tensor:
        read, wanted = as_tensor(values), torch.get_default_dtype()
        if self.form.within is not None:
            self._check_within(rows, read, *self.form.within)
        scaled = (read if self.form.scaler is None else self.form.scaler.forward(read.to(EXACT))).to(wanted)
        if not math.isfinite(float(scaled.sum())):  # one pass where all is well; a sum that is too large proves nothing
            check_numbers(self.file, self.form.inputs, rows, read)
            self._refuse(self.form.inputs, rows, read, ~scaled.isfinite(), f"too large for {wanted}")
        return scaled

    def _target(self, rows: Tensor, values: Values) -> Tensor:
        read = as_tensor(values)
        check_numbers(self.file, self.form.targets, rows, read)
        if self.form.classes is None:
            target = read.to(torch.get_default_dtype())
            self._refuse(self.form.targets, rows, read, ~target.isfinite(), f"too large for {target.dtype}")
            return target
        column = read[:, 0].to(EXACT).numpy()
        found = torch.from_numpy(np.searchsorted(self.form.classes, column).clip(max=len(self.form.classes) - 1))
        wrong = torch.from_numpy(self.form.classes[found.numpy()] != column)[:, None]
        known = (
            f"none of the {len(self.form.classes)} classes of the rows that were looked at: memory=resident reads all"
        )
        self._refuse(self.form.targets, rows, read, wrong, known)
        return found.to(torch.int64)

    def _check_within(self, rows: Tensor, values: Tensor, low: float, high: float) -> None:
        exact = values.to(EXACT)
        wrong = (exact < low) | (exact > high)
        self._refuse(self.form.inputs, rows, values, wrong, f"outside valueRange={low:g},{high:g}")

    def _refuse(self, columns: Sequence[int] | None, rows: Tensor, values: Tensor, wrong: Tensor, reason: str) -> None:
        if bool(wrong.any()):
            raise DataError(f"{_first(self.file, columns, rows, values, wrong)}, {reason}")


def check_numbers(file: RowFile, columns: Sequence[int] | None, rows: Tensor, values: Tensor) -> None:
    """Raises DataError for the first of the values of these rows that is no finite number."""
    if values.is_floating_point() and not bool(values.isfinite().all()):
        where = _first(file, columns, rows, values, ~values.isfinite())
        raise DataError(f"{where}, expected a finite number")


def _first(file: RowFile, columns: Sequence[int] | None, rows: Tensor, values: Tensor, wrong: Tensor) -> str:
    """Where in the file the first wrong value stands, and what it is."""
    place = wrong.nonzero()[0].tolist()
    inner = place[1:] if columns is None else [columns[place[1]]]
    column = f"column '{inner[0]}'" if len(inner) == 1 else f"value {','.join(map(str, inner))}"
    return f"{file.path}: row {int(rows[place[0]])}, {column} is {values[tuple(place)].item():g}"


def as_tensor(values: Values) -> Tensor:
    """The same numbers as a tensor, as float64 where torch has no such type."""
    dtype = values.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # more than float64 can hold: found infinite later
        return torch.from_numpy(np.ascontiguousarray(values, dtype=dtype if dtype.char in NATIVE else np.float64))


def hold(rows: FileRows) -> TensorDataset:
    """All of the rows, in memory."""
    count, spec = len(rows), rows.spec
    one = rows.rows(torch.tensor([0]))
    input = torch.empty(count, *spec.shape)
    target = None if one.target is None else torch.empty(count, *one.target.shape[1:], dtype=one.target.dtype)
    step = max(1, BLOCK // math.prod(rows.file.layout.shape))
    for start in range(0, count, step):
        batch = rows.rows(torch.arange(start, min(start + step, count)))
        input[start : start + step] = batch.input
        if target is not None and batch.target is not None:
            target[start : start + step] = batch.target
    return TensorDataset(spec, input, target)


def bytes_held(rows: int, values: int) -> int:
    """Bytes of so many rows in memory."""
    size: Any = torch.get_default_dtype().itemsize
    return rows * values * int(size)
