"""Reads Parquet files, where pyarrow is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ganglion.datasets.columns import Column, Columns, row_number
from ganglion.engine.api import DataError

LIMIT = 1 << 33  # bytes of all numbers of a file


def read_parquet(path: Path) -> Columns:
    """The columns of a flat Parquet file. Raises DataError for missing values, nested columns, and without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs pyarrow: pip install ganglion[parquet]") from None
    try:
        declared = pyarrow.parquet.read_metadata(path)
        if 8 * declared.num_rows * declared.num_columns > LIMIT:
            raise DataError(
                f"{path}: declares {declared.num_rows} rows of {declared.num_columns} columns, more than {LIMIT} bytes"
            )
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: the file is truncated, corrupt or not a Parquet file ({str(error)[:200]})") from None
    if table.num_rows == 0 or table.num_columns == 0:
        raise DataError(f"{path}: the file is empty, expected columns with rows")
    values: list[Column] = []
    for name in table.column_names:
        column = table.column(name)
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise DataError(f"{path}: {row_number(row)}, column '{name}' is missing, expected a value")
        array = column.to_numpy()
        values.append([str(cell) for cell in array] if array.dtype.kind == "O" else np.asarray(array))
    return Columns(path, tuple(table.column_names), values, row_number)
