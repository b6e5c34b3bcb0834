"""Table: the rows of a CSV, NPZ, NPY or Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ganglion.datasets.places import find_path
from ganglion.datasets.scaling import Scaler, check_range, check_scaled, fit_known, known_range
from ganglion.datasets.shares import held_out
from ganglion.engine.api import (
    DataContext,
    DataError,
    DatasetFactory,
    DataSpec,
    Settings,
    Splits,
    TensorDataset,
    hookimpl,
    setting,
    stream_seed,
)


class TableSettings(Settings):
    """Settings of Table."""

    path: str = setting("", "the file (.csv, .tsv, .txt, .npz, .npy, .parquet), as it is or below a data folder")
    columns: tuple[str, ...] | None = setting(None, "input columns by name or number from 0; none: all but the target")
    target: tuple[str, ...] = setting((), "target column, or columns, by name or number from 0")
    classification: bool = setting(False, "whether the target is a class")
    scale: Literal["standard", "minmax", "none"] = setting(
        "standard", "inputs with mean 0 and deviation 1, from 0 to 1, or as they are"
    )
    value_range: tuple[float, ...] | None = setting(
        None, "low,high between which all inputs are known to lie: what scale=minmax maps onto 0 to 1; none: unknown"
    )
    test_share: float = setting(0.2, "share of the rows that is kept for testing", ge=0, lt=1)
    shuffle: bool = setting(True, "test rows are drawn at random; false: they are the last ones")
    separator: str = setting("auto", "between cells of a CSV file: auto, tab, or one character")
    header: bool | None = setting(None, "whether the first row of a CSV file holds names; none: it is guessed")
    memory: Literal["auto", "resident", "file"] = setting(
        "auto",
        "an .npy file is held in memory (resident), or its rows are read when needed (file); auto: resident where it "
        "takes at most 1 GiB and a quarter of the machine's memory",
    )

    def without_effect(self) -> Mapping[str, str]:
        reasons = {} if self.scale != "standard" else {"value_range": "it has no effect with scale=standard"}
        if not self.path.lower().endswith(".npy"):
            reasons["memory"] = f"it is for .npy files: {self.path or 'any other'} is held in memory"
        return reasons


class Table(DatasetFactory):
    """Rows of a CSV, NPZ, NPY or Parquet file as vectors, with a target of classes or numbers, or without.

    The scale is fitted on the training rows only, so test rows may lie outside 0 to 1; targets are never scaled. In an
    NPZ file each 1-D array is a column and each 2-D array a group of columns.

    An NPY file, which may be larger than the memory, holds one array, row after row: 2-D for vectors, whose columns are
    numbered, (rows, steps, features) for series, with a scale per feature, or (rows, channels, height, width) for
    images, with one scale. Where there are more than four million values the scale is fitted on so many of them, from
    end to end; where there are more than a million rows, neighbours are kept for testing together. Test rows are drawn
    without regard to classes.
    """

    Settings = TableSettings

    def __init__(self, settings: Any, context: DataContext) -> None:
        super().__init__(settings, context)
        self.scaler: Scaler | None = None  # known once the file has been loaded

    def load(self) -> Splits:
        settings = self.settings
        path = find_path("Table", settings.path, self.context, folder=False)
        known = known_range("Table: valueRange", settings.value_range)
        if path.suffix.lower() == ".npy":
            from ganglion.datasets.npyarray import load_array

            splits, self.scaler = load_array(path, settings, self.context, known)
            return splits
        inputs, features, target, classes = self._read(path)
        check_range(settings.path, inputs, known, features)
        test = self._test_rows(target if classes else None, len(inputs))
        self.scaler = fit_known(settings.scale, inputs[~test], known)
        scaled = self.scaler.forward(inputs).to(torch.get_default_dtype())
        check_scaled(settings.path, scaled, self.scaler, features)
        spec = DataSpec(
            "vector",
            (len(features),),
            value_range=(0.0, 1.0) if settings.scale == "minmax" else known,
            classes=classes,
            target_shape=None if target is None or classes else tuple(target.shape[1:]),
            features=features,
        )

        def part(rows: Tensor) -> TensorDataset:
            return TensorDataset(spec, scaled[rows], None if target is None else target[rows])

        return Splits(train=part(~test), test=part(test) if bool(test.any()) else None)

    def unscale(self, samples: Tensor) -> Tensor:
        """Samples (count, *shape) in the units of the file, once it has been loaded."""
        assert self.scaler is not None, "load comes first"
        return self.scaler.inverse(samples)

    def _read(self, path: Path) -> tuple[Tensor, tuple[str, ...], Tensor | None, tuple[str, ...]]:
        """Inputs (rows, columns), their names, the target and its classes."""
        from ganglion.datasets.columns import input_and_target, labels, numbers

        settings, table = self.settings, read_file(path, self.settings.separator, self.settings.header, ", .npy")
        inputs, targets = input_and_target(table, settings.columns, settings.target, settings.classification)
        values = torch.stack([torch.from_numpy(numbers(table, position)) for position in inputs], dim=1)
        features = tuple(table.names[position] for position in inputs)
        if settings.classification:
            indices, classes = labels(table, targets[0])
            return values, features, torch.from_numpy(indices), classes
        if not targets:
            return values, features, None, ()
        target = torch.stack([torch.from_numpy(numbers(table, position)) for position in targets], dim=1)
        return values, features, target.to(torch.get_default_dtype()), ()

    def _test_rows(self, classes: Tensor | None, count: int) -> Tensor:
        if self.settings.shuffle:
            groups = torch.zeros(count, dtype=torch.int64) if classes is None else classes
            return held_out(groups, self.settings.test_share, stream_seed(self.context.seed, "Table", "split"))
        kept = max(1, count - round(self.settings.test_share * count))
        mask: Tensor = torch.arange(count) >= kept
        return mask


def read_file(path: Path, separator: str, header: bool | None, others: str = "") -> Any:
    """The columns of the file, by the reader that its ending asks for; readers are imported only when one is needed.

    `others` are further endings that the caller takes, for the message.
    """
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv", ".txt"):
        from ganglion.datasets.csvfile import read_csv

        return read_csv(path, separator, header)
    if ending == ".npz":
        from ganglion.datasets.npzfile import read_npz

        return read_npz(path)
    if ending in (".parquet", ".pq"):
        from ganglion.datasets.parquetfile import read_parquet

        return read_parquet(path)
    raise DataError(f"{path}: ends in '{ending}', expected .csv, .tsv, .txt, .npz{others} or .parquet")


@hookimpl
def register_datasets(register: Any) -> None:
    """Table."""
    register("Table", Table)
