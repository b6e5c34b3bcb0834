"""Series as they were read, before they are split, scaled and cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ganglion.datasets.series.windows import Rows


@dataclass(frozen=True)
class Record:
    """Series as they were read, one after the other.

    `values` is (rows, features) float64, NaN where a value is missing; `series` are the rows of each. `along`,
    `first` and `labels` are as in Rows (`along` unscaled). `begins` (rows,) says where a window may begin, `only` in
    words why; `padded` (rows,) are rows that are none; `names` are those of the series, where they have some.
    """

    where: str
    values: Tensor
    features: tuple[str, ...]
    series: Sequence[range]
    along: Mapping[str, Tensor] = field(default_factory=dict)
    first: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    rate: float | None = None
    begins: Tensor | None = None
    only: str = ""
    padded: Tensor | None = None
    names: tuple[str, ...] = ()

    def at(self, order: Tensor) -> Record:
        """The rows in another order."""
        taken = Rows(self.values, self.along, self.first, self.labels).map(lambda value: value[order])
        begins = None if self.begins is None else self.begins[order]
        padded = None if self.padded is None else self.padded[order]
        return replace(
            self,
            values=taken.values,
            along=taken.along,
            first=taken.first,
            labels=taken.target,
            begins=begins,
            padded=padded,
        )


def turned_round(record: Record) -> Record:
    """Every series with its last row first."""
    return record.at(torch.cat([torch.arange(rows.stop - 1, rows.start - 1, -1) for rows in record.series]))


def padded(record: Record, length: int) -> Record:
    """Every series shorter than `length` filled up with rows that are none, at its end."""
    order: list[Tensor] = []
    none: list[Tensor] = []
    series: list[range] = []
    for rows in record.series:
        start, wanted = series[-1].stop if series else 0, max(len(rows), length)
        places = torch.arange(rows.start, rows.start + wanted)
        none.append(places >= rows.stop)
        order.append(places.clamp(max=rows.stop - 1))
        series.append(range(start, start + wanted))
    added = torch.cat(none)
    longer = record.at(torch.cat(order))
    values = torch.where(added[:, None], torch.full_like(longer.values, torch.nan), longer.values)
    return replace(longer, values=values, series=series, padded=added)
