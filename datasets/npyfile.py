"""Reads rows of the array in an .npy file when they are asked for, trusting nothing that its header says."""

from __future__ import annotations

import math
import os
import warnings
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ganglion.datasets.npzfile import BROKEN, HEADER_READERS
from ganglion.engine.api import DataError

Values = np.ndarray[Any, Any]
SHOWN = 60  # characters of a type in a message
MOST_VALUES = 1 << 26  # of a row
MOST_COLUMNS = 1 << 20  # of a table: each has a name


class Layout(NamedTuple):
    """What an .npy file says of its array, and the byte at which its first row begins."""

    rows: int
    shape: tuple[int, ...]  # of a row
    dtype: np.dtype[Any]
    start: int

    @property
    def values(self) -> int:
        """Values of one row."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.values * self.dtype.itemsize


class RowFile:
    """The rows of the array in an .npy file.

    They are read with calls of the system and copied. Pages of a file that is mapped would count as this process's
    memory, the more of them the more rows have been read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                self.layout = read_layout(path, stream)
                self._descriptor = os.dup(stream.fileno())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, rows: Values) -> Values:
        """The values (count, *shape) of rows (count,) in any order. Raises DataError for what cannot be read."""
        order = np.argsort(rows, kind="stable")
        ordered, size = rows[order], self.layout.row_bytes
        found = np.empty((len(rows), size), dtype=np.uint8)
        whole = found.reshape(-1).data
        begins = np.flatnonzero(np.diff(ordered, prepend=-2) != 1).tolist()  # neighbours are read in one call
        starts = (self.layout.start + ordered[begins] * size).tolist()
        for (begin, end), start in zip(pairwise([*begins, len(rows)]), starts, strict=True):
            self._fill(whole[begin * size : end * size], start)
        asked = np.empty_like(found)
        asked[order] = found
        return asked.view(self.layout.dtype).reshape(len(rows), *self.layout.shape)

    def _fill(self, place: memoryview, start: int) -> None:
        """Bytes of the file from there on, until the place is full."""
        while place:
            try:
                count = os.preadv(self._descriptor, [place], start)
            except OSError as error:
                raise DataError(f"{self._row_at(start)} cannot be read ({error.strerror or error})") from None
            if not count:
                raise DataError(
                    f"{self._row_at(start)} and what follows it cannot be read: the file has become shorter since it "
                    f"was opened, when it held {self.layout.rows} rows"
                )
            place, start = place[count:], start + count

    def _row_at(self, offset: int) -> str:
        return f"{self.path}: row {(offset - self.layout.start) // self.layout.row_bytes}"


def read_header(where: str, stream: BinaryIO, inside: str = "") -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type; `inside` names the array of an archive. Raises DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files as Python 2, or an older NumPy, wrote them
            version = np.lib.format.read_magic(stream)
            if version not in HEADER_READERS:
                raise DataError(f"{where}: {inside}has format version {version}, expected 1.0 or 2.0")
            shape, by_columns, dtype = HEADER_READERS[version](stream)
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: {inside}the file is truncated, corrupt or not an NPY file ({reason})") from None
    return shape, by_columns, dtype


def read_layout(path: Path, stream: BinaryIO) -> Layout:
    """What the header says, once the file has been found to hold it. Raises DataError for any other file."""
    shape, by_columns, dtype = read_header(str(path), stream)
    _check_kind(path, shape, by_columns, dtype)
    layout = Layout(shape[0], tuple(shape[1:]), dtype, stream.tell())
    present = os.fstat(stream.fileno()).st_size - layout.start
    if present != layout.rows * layout.row_bytes:
        raise DataError(
            f"{path}: the file is truncated or corrupt: its header declares {layout.rows * layout.row_bytes} bytes of "
            f"values, and {present} follow it"
        )
    return layout


def _check_kind(path: Path, shape: tuple[int, ...], by_columns: bool, dtype: np.dtype[Any]) -> None:
    """Raises DataError for an array that is no table, no windows and no images of numbers, row after row."""
    if dtype.hasobject:
        raise DataError(f"{path}: the array holds Python objects, expected numbers")
    if dtype.kind not in "fiub":
        raise DataError(f"{path}: the array holds {str(dtype)[:SHOWN]}, expected numbers")
    if len(shape) not in (2, 3, 4):
        raise DataError(
            f"{path}: the array has {len(shape)} dimensions, expected 2 (rows, columns), 3 (rows, steps, features) or "
            "4 (rows, channels, height, width)"
        )
    if min(shape) < 1:
        raise DataError(f"{path}: the array has the shape {shape}, expected rows with values")
    values, most = math.prod(shape[1:]), MOST_COLUMNS if len(shape) == 2 else MOST_VALUES
    if values > most:
        raise DataError(f"{path}: a row of the array has {values} values, expected at most {most}")
    if by_columns:
        raise DataError(
            f"{path}: the array is stored column after column (Fortran order), expected rows one after another, as "
            "numpy.save writes numpy.ascontiguousarray(array)"
        )
