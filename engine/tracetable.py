"""A run's trace as columns of numbers: `run.trace["generatorLoss"]` is an array, `run.trace.frame()` a DataFrame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ganglion.engine.errors import ConfigError, suggestion
from ganglion.engine.pages.lines import Line
from ganglion.engine.tables import format_number

Column: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class TraceTable(Mapping[str, Column]):
    """Columns of equal length by name: `iteration` (integers), then the figures (nan where there is none).

    It is a mapping, so that `dict(table)` and everything that takes columns by name (pandas, polars, matplotlib's
    `data=`) work. It is the same with and without pandas: what a program gets must not depend on what else is
    installed; `frame()` is the DataFrame.
    """

    def __init__(self, columns: Mapping[str, Column], what: str = "trace") -> None:
        self._columns = dict(columns)
        self._what = what

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, `iteration` first."""
        return tuple(self._columns)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._columns["iteration"])

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            raise ConfigError(f"the {self._what} has no column '{name}'{suggestion(name, self._columns)}")
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def get(self, name: str, default: Any = None) -> Any:
        """The column, or `default` where there is none of that name."""
        return self._columns.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def frame(self) -> Any:
        """A pandas DataFrame of all columns. Raises ConfigError where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise ConfigError(
                "a DataFrame needs pandas: pip install pandas; without it there are the columns"
            ) from None
        return pandas.DataFrame(self._columns)

    def __repr__(self) -> str:
        if not self.rows:
            return f"TraceTable(no {self._what} yet)"
        last = ", ".join(f"{name} {_shown(column[-1])}" for name, column in self._columns.items())
        return f"TraceTable({self.rows} row{'s' if self.rows > 1 else ''}, the last: {last})"


def trace_table(lines: Sequence[Line], kind: str, what: str) -> TraceTable:
    """The lines of one kind (progress, validation, health) as a table."""
    chosen = [line for line in lines if line.kind == kind]
    columns: dict[str, Column] = {"iteration": np.array([line.iteration for line in chosen], dtype=np.int64)}
    if kind == "progress":
        columns["seconds"] = _floats([line.seconds for line in chosen])
        columns["iterationsPerSecond"] = _floats([line.rate for line in chosen])
    names = dict.fromkeys(name for line in chosen for name in line.values)
    columns.update({name: _floats([line.values.get(name) for line in chosen]) for name in names})
    if kind == "validation":
        columns["best"] = np.array([line.best for line in chosen], dtype=np.bool_)
    return TraceTable(columns, what)


def _shown(value: Any) -> str:
    return format_number(float(value)) if isinstance(value, np.floating) else str(value)


def _floats(values: Sequence[float | None]) -> Column:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
