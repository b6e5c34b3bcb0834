"""Which rows are learnt from, validated on and tested on: half-open ranges, lists of rows, no row in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.engine.contracts import Dataset, Splits
from ganglion.engine.data import take
from ganglion.engine.errors import ConfigError


class Ranges(NamedTuple):
    """The keys as given: `n` is [0, n), `start,end` is half-open, three or more numbers are a list of rows."""

    range: Sequence[int] | None = None
    validation_set: Sequence[int] | None = None
    test_set: Sequence[int] | None = None


def chosen_rows(key: str, value: Sequence[int], dataset: Dataset, part: str) -> Tensor:
    """The rows (int64) that `key=value` names. Raises ConfigError for none, and for rows that do not exist."""
    count = len(dataset)
    given = f"{key}={','.join(str(number) for number in value)}"
    has = f"the {part} part has {count} rows"
    if len(value) > 2:
        missing = [row for row in value if not 0 <= row < count]
        if missing:
            raise ConfigError(f"{given}: row {missing[0]} does not exist, {has}, 0 to {count - 1}")
        return torch.tensor(value, dtype=torch.int64)
    start, end = (0, *value)[-2:] if value else (0, 0)
    if not 0 <= start < end <= count:
        raise ConfigError(f"{given}: expected START,END with 0 <= START < END <= {count} (END is not included): {has}")
    return torch.arange(start, end)


def select_parts(splits: Splits, ranges: Ranges) -> tuple[Splits, list[str]]:
    """The three parts that the keys ask for, and sentences on what was decided.

    `range` and `validationSet` count the training part; `testSet` counts the test part, or the training part where the
    data have no other. Without `range`, rows held out are taken from the training rows; an overlap is refused.
    """
    held_out: dict[str, Tensor] = {}
    validation, test = splits.validation, splits.test
    if ranges.validation_set is not None:
        held_out["validationSet"] = chosen_rows("validationSet", ranges.validation_set, splits.train, "training")
        validation = take(splits.train, held_out["validationSet"])
    if ranges.test_set is not None and splits.test is not None:
        test = take(splits.test, chosen_rows("testSet", ranges.test_set, splits.test, "test"))
    elif ranges.test_set is not None:
        held_out["testSet"] = chosen_rows("testSet", ranges.test_set, splits.train, "training")
        test = take(splits.train, held_out["testSet"])
    train, notices = _training_part(splits.train, ranges.range, held_out)
    return Splits(train, validation, test), notices


def _training_part(
    source: Dataset, wanted: Sequence[int] | None, held_out: dict[str, Tensor]
) -> tuple[Dataset, list[str]]:
    count = len(source)
    owner = _refuse_overlap(count, held_out)
    notices = []
    if wanted is not None:
        rows = chosen_rows("range", wanted, source, "training")
        _refuse_overlap(count, {"range": rows, **held_out})
        if len(wanted) <= 2 and wanted[-1] == count - 1:
            notices.append(f"range: the end is not included, so the last row, {count - 1}, is left out")
        return take(source, rows), notices
    if not held_out:
        return source, notices
    rows = (~owner).nonzero().flatten()
    if len(rows) == 0:
        raise ConfigError(
            f"{' and '.join(held_out)} hold all {count} rows of the training part: none is left to learn from"
        )
    names = " and ".join(held_out)
    notices.append(f"{names}: {count - len(rows)} of {count} training rows are held out, {len(rows)} are learnt from")
    return take(source, rows), notices


def _refuse_overlap(count: int, parts: dict[str, Tensor]) -> Tensor:
    """Mask of the rows that some part holds. Raises ConfigError where two parts hold the same."""
    masks: dict[str, Tensor] = {}
    for name, rows in parts.items():
        mask = torch.zeros(count, dtype=torch.bool)
        mask[rows] = True
        for other, taken in masks.items():
            shared = int((mask & taken).sum())
            if shared:
                raise ConfigError(
                    f"{other} and {name} share {shared} rows of the training part: choose rows that do not overlap"
                )
        masks[name] = mask
    union = torch.zeros(count, dtype=torch.bool)
    for mask in masks.values():
        union |= mask
    return union
