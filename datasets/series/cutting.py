"""Which rows of which series belong to which part, and where windows begin in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ganglion.datasets.shares import held_out
from ganglion.engine.api import Settings, setting, stream_seed

PARTS = ("train", "validation", "test")
PUBLISHED = "protocol=timegan has its own: stride 1, the scale of the whole series, nothing held out"


class SplitSettings(Settings):
    """Settings of every data set that is scaled and split."""

    scale: Literal["minmax", "standard", "symmetric", "none"] = setting(
        "minmax", "0 to 1, mean 0 and deviation 1, -1 to 1, or as they are: fitted on the rows that are learnt from"
    )
    test_share: float = setting(0.2, "share that is kept for testing", ge=0, lt=1)
    validation_share: float = setting(0.0, "share that is kept for validation", ge=0, lt=1)


class SeriesSettings(SplitSettings):
    """Settings of every data set that cuts windows from series."""

    length: int | None = setting(None, "steps of a window; none: 24", unit="steps", ge=1)
    stride: int = setting(1, "from the beginning of a window to that of the next", unit="steps", ge=1)
    gap: int | None = setting(
        None, "rows that are left out between the parts; none: as many as a window has", unit="steps", ge=0
    )
    stretches: int = setting(
        1, "equal stretches of a series, of each of which the last rows are held out; 1: the latest rows of all", ge=1
    )
    protocol: Literal["honest", "timegan"] = setting(
        "honest", "honest: parts by time, scale of the training rows; timegan: the published preparation, all in one"
    )
    reverse: bool = setting(False, "with protocol=timegan: rows are turned round first, as the published loader does")

    def without_effect(self) -> Mapping[str, str]:
        if self.protocol == "honest":
            return {"reverse": "it has no effect without protocol=timegan"}
        names = ("scale", "test_share", "validation_share", "stride", "gap", "stretches")
        return {name: f"it has no effect, {PUBLISHED}" for name in names}


class Cutting(NamedTuple):
    """How series are cut: each by time, or whole ones held out, `drawn` at random or the `last`.

    `published` is TimeGAN's way, which holds nothing out.
    """

    length: int
    test_share: float = 0.0
    validation_share: float = 0.0
    stride: int = 1
    gap: int = 0
    by: Literal["time", "drawn", "last"] = "time"
    published: bool = False
    seed: int = 0
    stretches: int = 1


def parts_of(series: Sequence[range], cutting: Cutting, classes: Tensor | None = None) -> dict[str, list[range]]:
    """The rows of each part, as ranges of which none reaches over two series.

    By time: in each series, or each of its stretches, come the training rows, a gap, the validation rows, a gap, the
    test rows, and a gap before the next stretch. Last: so come whole series, and the gap counts them. Drawn: series are
    drawn at random, as many of each class (series,) where there are classes.
    """
    if cutting.published:
        return {"train": list(series), "validation": [], "test": []}
    if cutting.by == "drawn":
        return _drawn(series, cutting, classes)
    if cutting.by == "last":
        cut = [_cut(stretch, cutting) for stretch in _stretches(range(len(series)), cutting)]
        return {name: [series[place] for parts in cut for place in parts[name]] for name in PARTS}
    cut = [_cut(stretch, cutting) for rows in series for stretch in _stretches(rows, cutting)]
    return {name: [parts[name] for parts in cut] for name in PARTS}


def _stretches(rows: range, cutting: Cutting) -> list[range]:
    """Stretches of a series of equal length; where rows before one are held out, it begins a gap later."""
    edges = [rows.start + len(rows) * number // cutting.stretches for number in range(cutting.stretches + 1)]
    apart = cutting.gap if cutting.test_share or cutting.validation_share else 0
    starts = [edges[0], *(edge + apart for edge in edges[1:-1])]
    return [range(min(start, stop), stop) for start, stop in zip(starts, edges[1:], strict=True)]


def _cut(rows: range, cutting: Cutting) -> dict[str, range]:
    """The rows of each part, the latest for testing, with a gap before each part that is held out."""
    parts, stop = {}, rows.stop
    for name, share in (("test", cutting.test_share), ("validation", cutting.validation_share)):
        wanted = round(share * len(rows))
        parts[name] = range(max(rows.start, stop - wanted), max(rows.start, stop))
        stop -= wanted + cutting.gap if wanted else 0
    return {**parts, "train": range(rows.start, max(rows.start, stop))}


def _drawn(series: Sequence[range], cutting: Cutting, classes: Tensor | None) -> dict[str, list[range]]:
    groups = torch.zeros(len(series), dtype=torch.int64) if classes is None else classes
    test = held_out(groups, cutting.test_share, stream_seed(cutting.seed, "series", "test"))
    rest = (~test).nonzero().flatten()
    share = min(1.0, cutting.validation_share / (1 - cutting.test_share))
    validation = torch.zeros_like(test)
    validation[rest] = held_out(groups[rest], share, stream_seed(cutting.seed, "series", "validation"))
    chosen = {"train": ~test & ~validation, "validation": validation, "test": test}
    return {name: [series[place] for place in mask.nonzero().flatten().tolist()] for name, mask in chosen.items()}


def starts_of(ranges: Sequence[range], cutting: Cutting, begins: Tensor | None = None) -> Tensor:
    """The rows at which the windows of a part begin; `begins` (rows,) says where one may.

    TimeGAN's way leaves the last window of a series out, and shuffles.
    """
    last = cutting.length if cutting.published else cutting.length - 1
    pieces = [torch.arange(rows.start, max(rows.start, rows.stop - last), cutting.stride) for rows in ranges]
    starts = torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)
    if begins is not None:
        starts = starts[begins[starts]]
    if cutting.published:
        generator = torch.Generator().manual_seed(stream_seed(cutting.seed, "series", "shuffle"))
        starts = starts[torch.randperm(len(starts), generator=generator)]
    return starts
