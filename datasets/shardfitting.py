"""What all shards have in common: the plan of their rows, and the scale and classes that some of them show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganglion.datasets.filerows import as_tensor
from ganglion.datasets.npyfile import Values
from ganglion.datasets.scaling import EXACT, Range, Scaler, fit_known
from ganglion.datasets.shardformats import Layout
from ganglion.datasets.shardforms import Choice, Form, class_names, class_values, given_classes
from ganglion.datasets.shardorder import Segment
from ganglion.datasets.shardpieces import Pieces, spread
from ganglion.engine.api import ConfigError, DataError, DataSpec

LOOKED_AT = 1 << 22  # values that a scale is fitted on
PIECE_BYTES = 1 << 20  # what is read at once is not less, where the window allows it


class Plan(NamedTuple):
    """What all shards have in common, and how much of them is in memory."""

    layout: Layout
    choice: Choice
    spec: DataSpec
    bytes: bool
    row_bytes: int
    window: int

    @property
    def most(self) -> int:
        """Rows of a piece."""
        lane = self.window
        return max(1, min(lane, max(lane // 4, PIECE_BYTES // self.row_bytes)))


def fitted_form(plan: Plan, pieces: Pieces, settings: Any, known: Range | None) -> Form:
    """How rows are read: with a scale and classes of rows of some shards where they are not given."""
    kind = "bytes" if plan.bytes else "standard" if settings.scale == "auto" else settings.scale
    inside = (0.0, 1.0) if kind in ("bytes", "minmax") else known
    spec = replace(plan.spec, value_range=inside)
    form = Form(spec, plan.choice, None, None if plan.bytes else known, None, plan.bytes)
    scaler = _given_scaler(kind, form, settings, known)
    classified = bool(plan.choice.targets) and (settings.classification or bool(settings.labels))
    classes = given_classes(settings.classes) if settings.classes and classified else None
    fits = kind in ("standard", "minmax") and scaler is None
    if fits or (classified and classes is None):
        values, found = _look_at_rows(pieces, form, fits, classified)
        classes = np.unique(np.concatenate(found)) if classified and classes is None else classes
        scaler = fit_known(kind, torch.cat(values), known) if fits else scaler
    if scaler is not None and not bool(scaler.factor.isfinite().all()):
        raise DataError(f"Shards: the shards hold numbers too large or too far apart for scale={kind}")
    count = len(plan.choice.targets)
    names = () if classes is None else class_names(classes)
    spec = replace(spec, classes=names, target_shape=(count,) if count and classes is None else None)
    return form._replace(spec=spec, scaler=scaler, classes=classes)


def _given_scaler(kind: str, form: Form, settings: Any, known: Range | None) -> Scaler | None:
    """The scale of the numbers that the settings give; None where they give none. Raises ConfigError."""
    columns, mean, deviation = (
        form.columnwise(torch.zeros(1, *form.spec.shape)).shape[1],
        settings.mean,
        settings.deviation,
    )
    if kind == "minmax" and known is not None:
        return fit_known(kind, torch.zeros(1, columns), known)
    if not mean and not deviation:
        return None
    if kind != "standard":
        raise ConfigError(f"Shards: mean and deviation are for scale=standard, not {kind}")
    for name, values in (("mean", mean), ("deviation", deviation)):
        if len(values) not in (1, columns) or not all(map(math.isfinite, values)):
            raise ConfigError(f"Shards: {name} has {len(values)} numbers, expected 1 or {columns} finite ones")
    if min(deviation) <= 0:
        raise ConfigError(f"Shards: deviation={min(deviation):g}: expected numbers above 0")
    shift, factor = (torch.tensor(values, dtype=EXACT).expand(columns).clone() for values in (mean, deviation))
    return Scaler(shift, factor)


def _look_at_rows(pieces: Pieces, form: Form, fits: bool, classified: bool) -> tuple[list[Tensor], list[Values]]:
    """Values (rows, columns) to fit a scale on, and the classes, of pieces from end to end."""
    segments = [Segment(number, 0, piece.rows) for number, piece in enumerate(pieces.all)]
    values, classes = [], []
    for segment, places in spread(segments, max(1, LOOKED_AT // math.prod(form.spec.shape))):
        raw = pieces.read(segment.piece)
        if fits:
            form.decoded(raw._replace(target=None))  # refuses what is no finite number
            values.append(form.columnwise(as_tensor(raw.input[places.numpy()]).to(EXACT)))
        if classified and raw.target is not None:
            classes.append(np.unique(class_values(raw.target[:, 0], raw.where)))
    return values, classes
