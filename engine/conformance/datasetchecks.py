"""All checks of a data set, in their order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.adapterchain import AdapterSettings
from ganglion.engine.adapters import split_and_adapt
from ganglion.engine.conformance.datasettrial import DatasetTrial
from ganglion.engine.conformance.declared import DECLARED
from ganglion.engine.conformance.results import Check, Failed, Finding, Skipped, carry_out
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.conformance.watching import contained, default_type
from ganglion.engine.contracts import Batch, Dataset, DataSpec
from ganglion.engine.data import data_digest
from ganglion.engine.pictures import picture
from ganglion.engine.trees import same_bytes

DIMENSIONS = {"image": 3, "vector": 1, "sequence": 2}
SHARED_ROWS = 0.5  # of the test rows that may be training rows too: made data may repeat themselves


def examine_dataset(subject: Subject, keys: Mapping[str, Any], skip: Sequence[str] = ()) -> list[Finding]:
    """The findings of every check. Raises ConfigError for a wrong key."""
    with contained():
        return carry_out(CHECKS, DatasetTrial(subject, keys), skip)


def _loads(trial: DatasetTrial) -> None:
    """It loads, or says in one sentence what is missing; every part has rows and the same spec."""
    parts = trial.parts
    empty = next((name for name, part in parts.items() if len(part) < 1), None)
    if empty is not None:
        raise Failed(f"its {empty} part has no rows: leave the part out")
    for name, part in parts.items():
        if not isinstance(part.spec, DataSpec):
            raise Failed(f"the spec of its {name} part is a {type(part.spec).__name__}: it must be a DataSpec")
        if part.spec != parts["train"].spec:
            raise Failed(f"its {name} part has another spec than its training part: every part has the same")


def _offline(trial: DatasetTrial) -> None:
    """Without download=true nothing is fetched, and loading writes no files."""
    with suppress(Skipped):
        _ = trial.loaded
    if trial.called:
        raise Failed(f"{trial.called[0]}: raise DataError that names download=true, unless the settings ask for it")
    if trial.written and not trial.downloads:
        raise Failed(f"loading writes {', '.join(trial.written[:3])}: write below context.cache, after a download only")


def _random(trial: DatasetTrial) -> None:
    """It draws from generators of its own, seeded by the job's seed."""
    _ = trial.loaded
    used = [*trial.shared, *(["torch's default generator"] if trial.drew else [])]
    if used:
        raise Failed(
            f"{' and '.join(used)} is used: draw from torch.Generator().manual_seed(stream_seed(context.seed, 'name'))"
        )


def _spec(trial: DatasetTrial) -> None:
    """The spec is true of the rows: shape, type, range, classes, targets; all numbers are finite."""
    for name, batch in trial.first_rows.items():
        _check_input(name, batch.input, trial.parts[name].spec)
        _check_target(name, batch, trial.parts[name].spec)
        for label, value in {"input": batch.input, "target": batch.target, **batch.fields}.items():
            if value is not None and value.is_floating_point() and not bool(value.isfinite().all()):
                raise Failed(f"{label} of the {name} part holds numbers that are not finite: raise DataError for them")


def _check_input(name: str, rows: Tensor, spec: DataSpec) -> None:
    if tuple(rows.shape[1:]) != spec.shape:
        raise Failed(f"rows of the {name} part have shape {tuple(rows.shape[1:])}, and the spec says {spec.shape}")
    if DIMENSIONS.get(spec.kind, len(spec.shape)) != len(spec.shape):
        raise Failed(f"the spec's shape {spec.shape} is not one of kind {spec.kind}")
    if rows.dtype != torch.get_default_dtype():
        raise Failed(f"rows of the {name} part are {rows.dtype}: they must be torch.get_default_dtype() when fetched")
    if spec.value_range is not None and name == "train":  # a scale that is fitted there may be left elsewhere
        low, high = spec.value_range
        least, most = float(rows.min()), float(rows.max())
        if least < low or most > high:
            raise Failed(f"values of the {name} part are {least:g}..{most:g}, and the spec says {low:g}..{high:g}")
    if spec.features and len(spec.features) != spec.shape[-1]:
        raise Failed(f"the spec names {len(spec.features)} features, and rows have {spec.shape[-1]}")


def _check_target(name: str, batch: Batch, spec: DataSpec) -> None:
    target = batch.target
    if not spec.classes and spec.target_shape is None:
        if target is not None:
            raise Failed("rows have a target, and the spec says neither classes nor target_shape")
        return
    if target is None:
        raise Failed("the spec says that rows have a target, and they have none")
    wanted = () if spec.classes else spec.target_shape
    if tuple(target.shape) != (len(batch), *(wanted or ())):
        raise Failed(f"targets of the {name} part have shape {tuple(target.shape[1:])}, and the spec says {wanted}")
    if spec.classes and (
        target.dtype != torch.int64 or int(target.min()) < 0 or int(target.max()) >= len(spec.classes)
    ):
        raise Failed(
            f"targets of the {name} part are {target.dtype} {int(target.min())}..{int(target.max())}: classes are "
            f"int64 from 0 to {len(spec.classes) - 1}"
        )
    if not spec.classes and not target.is_floating_point():
        raise Failed(f"targets of the {name} part are {target.dtype}: numbers to learn are floating-point")


def _access(trial: DatasetTrial) -> None:
    """Rows are the same in any order, one by one, twice, and after somebody changed what was fetched."""
    for name, part in trial.parts.items():
        count = min(len(part), 64)
        before = part.rows(torch.arange(count))
        before = before.map(Tensor.clone)
        order = torch.tensor([count - 1, 0, count // 2, 0])
        _same(before.map(lambda value: value[order]), part.rows(order), f"rows in another order ({name})")  # noqa: B023
        _same(before.rows(count - 1, count), part.rows(torch.tensor([count - 1])), f"a single row ({name})")
        part.rows(torch.arange(count)).input.add_(1.0)
        _same(before, part.rows(torch.arange(count)), f"rows after what was fetched before is changed ({name})")
        targets = part.targets()
        if targets is not None and before.target is not None and not torch.equal(targets[:count], before.target):
            raise Failed(f"targets() of the {name} part are not the targets of its rows")
        _refuses_far_row(name, part)


def _refuses_far_row(name: str, part: Dataset) -> None:
    try:
        part.rows(torch.tensor([len(part)]))
    except Exception:
        return
    raise Failed(f"the {name} part gives a row beyond its last one: rows() must raise IndexError or DataError for it")


def _same(one: Batch, other: Batch, what: str) -> None:
    names = {"input": (one.input, other.input), "target": (one.target, other.target)}
    names |= {name: (value, other.fields.get(name)) for name, value in one.fields.items()}
    for name, (mine, others) in names.items():
        if (mine is None) != (others is None):
            raise Failed(f"{what}: '{name}' is there only sometimes")
        if mine is not None and others is not None and not same_bytes(mine, others):
            raise Failed(f"{what}: '{name}' differs; a row must depend on its index only, and be a copy")


def _repeatable(trial: DatasetTrial) -> None:
    """Loaded twice it is the same."""
    again = trial.again()
    for name, part in trial.parts.items():
        other = getattr(again, name)
        if other is None or data_digest(part) != data_digest(other):
            raise Failed(f"loaded twice with the same seed, its {name} part differs: draw by stream_seed(context.seed)")


def _splits(trial: DatasetTrial) -> None:
    """Test and validation rows are not training rows."""
    rows = trial.first_rows
    if len(rows) < 2:
        raise Skipped("it has a training part only")
    known = _row_bytes(rows["train"])
    for name in rows:
        if name == "train":
            continue
        own = _row_bytes(rows[name])
        share = sum(row in known for row in own) / len(own)
        if share > SHARED_ROWS:
            raise Failed(f"{share:.0%} of its {name} rows are training rows: keep the parts apart")


def _row_bytes(batch: Batch) -> set[bytes]:
    return {row.numpy().tobytes() for row in batch.input.contiguous()}


def _used(trial: DatasetTrial) -> None:
    """It can be adapted, shown as a picture, and judged by its own assess()."""
    factory, splits = trial.loaded
    adapted = split_and_adapt(splits, AdapterSettings())
    count = min(16, len(adapted.plain))
    shown = adapted.plain.rows(torch.arange(count)).input
    _same(Batch(shown), Batch(splits.train.rows(torch.arange(count)).input), "plain rows")
    if adapted.spec.kind == "image":
        picture(shown, adapted.spec)
    figures = factory.assess(trial.first_rows["test" if "test" in trial.first_rows else "train"].input)
    for name, value in figures.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Failed(f"assess() gives '{name}' = {value!r} for its own rows: give finite numbers")


def _double(trial: DatasetTrial) -> None:
    """It is read in double precision where that is the default type."""
    with default_type(torch.float64):
        rows = trial.again().train.rows(torch.arange(2)).input
    if rows.dtype != torch.float64:
        raise Failed(f"rows are {rows.dtype} where float64 is the default type: use torch.get_default_dtype()")


CHECKS: tuple[Check, ...] = (
    *DECLARED,
    Check("loads", _loads, ("settings",)),
    Check("offline", _offline, ("settings",)),
    Check("random numbers", _random, ("loads",)),
    Check("spec", _spec, ("loads",)),
    Check("access", _access, ("spec",)),
    Check("repeatable", _repeatable, ("loads",)),
    Check("splits", _splits, ("spec",)),
    Check("float64", _double, ("spec",)),
    Check("used", _used, ("spec", "access")),
)
