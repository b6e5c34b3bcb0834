"""The columns of a table, whatever file they come from: choosing them, and reading them as numbers or as classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ganglion.engine.api import ConfigError, DataError, suggestion

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Column = Sequence[str] | np.ndarray[Any, Any]


class Columns(NamedTuple):
    """Equally long columns by name; `place` says in words where a row stands in the file."""

    path: Path
    names: tuple[str, ...]
    values: Sequence[Column]
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.values[0])


def row_number(row: int) -> str:
    """Where a row stands in a file without lines."""
    return f"row {row}"


def chosen(table: Columns, wanted: Sequence[str], key: str) -> list[int]:
    """Positions of the columns that are named, or numbered from 0; `x` also stands for all of `x.0`, `x.1`..."""
    positions: list[int] = []
    numbered = {str(position): position for position in range(len(table.names))}
    for name in wanted:
        exact = [i for i, known in enumerate(table.names) if known == name]
        group = [i for i, known in enumerate(table.names) if known.startswith(f"{name}.")]
        if len(exact) > 1:
            raise DataError(f"{table.path}: {len(exact)} columns are called '{name}': choose one by its number from 0")
        if exact or group:
            positions += exact or group
        elif name in numbered:
            positions.append(numbered[name])
        else:
            raise ConfigError(f"{table.path}: {key} names no column '{name}'{suggestion(name, table.names)}")
    return positions


def input_and_target(
    table: Columns, columns: Sequence[str] | None, target: Sequence[str], classification: bool
) -> tuple[list[int], list[int]]:
    """Positions of the columns to learn from (none given: all others) and of the target. Raises ConfigError."""
    names, targets = table.names, chosen(table, target, "target")
    if columns is None:
        inputs = [position for position in range(len(names)) if position not in targets]
    else:
        inputs = chosen(table, columns, "columns")
    if not inputs:
        raise ConfigError(f"Table: columns leaves no input: the file has {', '.join(names)}")
    both = [names[position] for position in inputs if position in targets]
    if both:
        raise ConfigError(f"Table: column '{both[0]}' is both input and target: it can be only one")
    if classification and len(targets) != 1:
        raise ConfigError(f"Table: classification=true needs one target column, got {len(targets)}: set target=NAME")
    return inputs, targets


def numbers(table: Columns, position: int) -> Numbers:
    """A column as finite numbers. Raises DataError, naming row and column, for anything else."""
    column, name = table.values[position], table.names[position]
    values = _parsed(table, column, name) if not isinstance(column, np.ndarray) else _converted(table, column, name)
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"{table.path}: {table.place(row)}, column '{name}' is {values[row]}, expected a finite number")
    return values


def _parsed(table: Columns, cells: Sequence[str], name: str) -> Numbers:
    values = np.empty(len(cells), dtype=np.float64)
    for row, cell in enumerate(cells):
        try:
            values[row] = float(cell)
            valid = "_" not in cell  # Python reads 1_000 as a number; in a file it is a mistake
        except ValueError:
            valid = False
        if not valid:
            shown = f"'{cell[:40]}'" if cell else "empty"
            raise DataError(f"{table.path}: {table.place(row)}, column '{name}' is {shown}, expected a number")
    return values


def _converted(table: Columns, column: np.ndarray[Any, Any], name: str) -> Numbers:
    if column.dtype.kind not in "fiub":
        raise DataError(f"{table.path}: column '{name}' holds {column.dtype}, expected numbers")
    return column.astype(np.float64)


def labels(table: Columns, position: int) -> tuple[np.ndarray[Any, np.dtype[np.int64]], tuple[str, ...]]:
    """A column as class numbers (rows,) and the names of the classes; sorted."""
    column, name = table.values[position], table.names[position]
    if not isinstance(column, np.ndarray):
        column = np.array([cell.strip() for cell in column], dtype=object)
        try:
            column = numbers(table, position)
        except DataError:
            empty = [row for row, cell in enumerate(column) if not cell]
            if empty:
                raise DataError(
                    f"{table.path}: {table.place(empty[0])}, column '{name}' is empty, expected a class"
                ) from None
    elif column.dtype.kind in "fiub":
        column = numbers(table, position)
    elif column.dtype.kind != "U":
        raise DataError(f"{table.path}: column '{name}' holds {column.dtype}, expected class names or numbers")
    found, indices = np.unique(column, return_inverse=True)
    names = tuple(f"{value:g}" if column.dtype.kind == "f" else str(value) for value in found)
    return indices.astype(np.int64), names
