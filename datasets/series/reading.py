"""Reads what the columns of a file mean for a series: times, values that may be missing, windows, zipped tables."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ganglion.datasets.columns import Columns, Numbers, numbers
from ganglion.datasets.csvfile import read_csv
from ganglion.datasets.idx import DEFLATE_RATIO
from ganglion.datasets.npzfile import PACKINGS, read_arrays
from ganglion.datasets.places import find_path
from ganglion.datasets.table import read_file
from ganglion.engine.api import DataContext, DataError

LIMIT = 1 << 30  # bytes of text in a zipped table
ABSENT = frozenset(("", "nan", "na", "n/a", "null", "none", "?"))
DATES = "datetime64[us]"


def find_file(owner: str, given: str, context: DataContext, source: str = "") -> Path:
    """`given` as it stands or below a data folder; `source` says in the error where it can be had from."""
    try:
        return find_path(owner, given, context, folder=False)
    except DataError as error:
        raise DataError(f"{error}{source and f' ({source})'}") from None


def read_table(path: Path, separator: str = "auto", header: bool | None = None) -> Columns:
    """The columns of a CSV, NPZ or Parquet file, or of the one CSV file in a ZIP file. Raises DataError."""
    if path.suffix.lower() != ".zip":
        return cast("Columns", read_file(path, separator, header))
    try:
        with zipfile.ZipFile(path) as archive:
            return read_csv(_member(path, archive), separator, header)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: the file is truncated, corrupt or not a ZIP file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _member(path: Path, archive: zipfile.ZipFile) -> Path:
    """The CSV file in it, which can be opened like a path; its size is looked at before anything is unpacked."""
    found = [info for info in archive.infolist() if info.filename.lower().endswith(".csv")]
    if len(found) != 1:
        raise DataError(f"{path}: holds {len(found)} CSV files, expected one")
    (info,) = found
    if info.file_size > LIMIT or info.file_size > DEFLATE_RATIO * info.compress_size + 1:
        raise DataError(
            f"{path}: {info.filename} declares {info.file_size} bytes, packed into {info.compress_size}: "
            f"at most {LIMIT} bytes, {DEFLATE_RATIO} for each packed one, are allowed"
        )
    if info.compress_type not in PACKINGS:
        raise DataError(f"{path}: {info.filename} is packed in a way that is not supported, expected deflate")
    return cast("Path", zipfile.Path(archive, info.filename))


def read_windows(path: Path) -> tuple[Columns, int] | None:
    """Windows that a file holds as one 3-D array, as rows: the columns, and the steps of a window; None for no such.

    1-D arrays beside it, with an entry per window, become columns too.
    """
    if path.suffix.lower() != ".npz":
        return None
    arrays = read_arrays(path)
    cubes = [name for name, array in arrays.items() if array.ndim == 3]
    if not cubes:
        return None
    flat = {name: array for name, array in arrays.items() if array.ndim == 1}
    if len(cubes) != 1 or len(flat) + 1 != len(arrays):
        shown = ", ".join(f"'{name}' with {array.ndim}" for name, array in arrays.items())
        raise DataError(f"{path}: expected one array with 3 dimensions (windows) and others with 1, got {shown}")
    cube = arrays[cubes[0]]
    windows, steps, features = cube.shape
    if not cube.size:
        raise DataError(f"{path}: array '{cubes[0]}' has the shape {cube.shape}, expected windows with values")
    for name, array in flat.items():
        if len(array) != windows:
            raise DataError(f"{path}: array '{name}' has {len(array)} entries for {windows} windows")
    names = (*(str(place) for place in range(features)), *flat)
    values = [*cube.reshape(-1, features).T, *(np.repeat(array, steps) for array in flat.values())]
    return Columns(path, names, values, lambda row: f"window {row // steps}, step {row % steps}"), steps


def numbers_or_missing(table: Columns, position: int) -> Numbers:
    """A column as numbers, NaN where a cell is empty, `nan`, `na`, `null`, `none` or `?`."""
    column = table.values[position]
    if isinstance(column, np.ndarray):
        seen = ~np.isnan(column) if column.dtype.kind == "f" else np.ones(len(column), dtype=bool)
        there = np.flatnonzero(seen)
        observed: Any = column[there]
    else:
        there = np.array([row for row, cell in enumerate(column) if cell.strip().lower() not in ABSENT], dtype=np.int64)
        observed = [column[int(row)] for row in there]
    part = Columns(table.path, (table.names[position],), [observed], lambda row: table.place(int(there[row])))
    values: Numbers = np.full(len(column), np.nan)
    values[there] = numbers(part, 0)
    return values


class Times(NamedTuple):
    """When each row is: `moments` (rows,) in seconds, or as in the file; `dates` (rows,) as on a clock, if known."""

    moments: Numbers
    dates: np.ndarray[Any, np.dtype[np.datetime64]] | None


def read_times(table: Columns, position: int) -> Times:
    """A column of dates (ISO 8601) or of numbers. Raises DataError, naming the row, for anything else."""
    column = table.values[position]
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        if np.isnat(column).any():
            row = int(np.isnat(column).argmax())
            raise DataError(f"{table.path}: {table.place(row)}, column '{table.names[position]}' is empty")
        dates = column.astype(DATES)
        return Times(dates.astype(np.int64) / 1e6, dates)
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiub":
        return Times(numbers(table, position), None)
    if _date(str(column[0])) is None and _is_number(str(column[0])):
        return Times(numbers(table, position), None)
    return _parsed_dates(table, position, [str(cell) for cell in column])


def _parsed_dates(table: Columns, position: int, cells: Sequence[str]) -> Times:
    read = []
    for row, cell in enumerate(cells):
        date = _date(cell)
        if date is None:
            shown = f"'{cell[:40]}'" if cell else "empty"
            raise DataError(
                f"{table.path}: {table.place(row)}, column '{table.names[position]}' is {shown}, "
                f"expected a date such as 2024-12-31 or 2024-12-31 23:59:59"
            )
        read.append(date)
    moments = np.array([(date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() for date in read])
    return Times(moments, np.array([date.replace(tzinfo=None) for date in read], dtype=DATES))


def _date(cell: str) -> datetime | None:
    try:
        return datetime.fromisoformat(cell.strip())
    except ValueError:
        return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def calendar_labels(dates: np.ndarray[Any, np.dtype[np.datetime64]], kind: str) -> np.ndarray[Any, Any]:
    """Whole numbers (rows,): month 0 to 11, weekday 0 (Monday) to 6, hour 0 to 23, day of the month 0 to 30."""
    days = dates.astype("datetime64[D]")
    if kind == "month":
        return cast("np.ndarray[Any, Any]", dates.astype("datetime64[M]").astype(np.int64) % 12)
    if kind == "weekday":
        return cast("np.ndarray[Any, Any]", (days.astype(np.int64) + 3) % 7)  # day 0, 1970-01-01, was a Thursday
    if kind == "hour":
        return cast("np.ndarray[Any, Any]", dates.astype("datetime64[h]").astype(np.int64) % 24)
    return cast("np.ndarray[Any, Any]", (days - dates.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64))
