"""Shards: rows in many files, on this machine or elsewhere, that are never all in memory."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ganglion.datasets.scaling import Scaler, known_range
from ganglion.datasets.shardfiles import Patience, Source, find_shards
from ganglion.datasets.shardfitting import Plan, fitted_form
from ganglion.datasets.shardformats import Layout, format_of
from ganglion.datasets.shardforms import Form, choose, spec_of
from ganglion.datasets.shardorder import Segment
from ganglion.datasets.shardpieces import Pieces, Reading, Shard
from ganglion.datasets.shardrows import ShardRows
from ganglion.engine.api import (
    ConfigError,
    DataContext,
    DataError,
    DatasetFactory,
    Settings,
    Splits,
    hookimpl,
    setting,
    stream_seed,
)

SAMPLE_BYTES = 1 << 28
LOOKERS = 8  # files elsewhere are looked at together
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
SIZE = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*)\s*")


class ShardsSettings(Settings):
    """Settings of Shards."""

    path: tuple[str, ...] = setting(
        (), "files by pattern (part-*.parquet, part-{000..023}.npz), folder or address (s3://..., https://...)"
    )
    test_path: tuple[str, ...] = setting((), "the same for test data; none: some of the shards are kept for testing")
    test_share: float = setting(0.1, "share of the shards that is kept for testing, by their names", ge=0, lt=1)
    columns: tuple[str, ...] | None = setting(
        None, "input columns or array by name, or by number from 0; none: all but target"
    )
    target: tuple[str, ...] = setting((), "target column, or columns, by name or number from 0")
    labels: tuple[str, ...] = setting((), "files with the classes of the rows, one for each shard (IDX, NPY)")
    test_labels: tuple[str, ...] = setting((), "the same for testPath")
    classification: bool = setting(False, "whether the target is a class")
    classes: tuple[str, ...] = setting((), "all classes; none: those of the shards that are looked at before the start")
    shape: tuple[int, ...] | None = setting(
        None, "what a row is: features, or steps,features, or channels,height,width; none: as the array says"
    )
    scale: Literal["auto", "standard", "minmax", "bytes", "none"] = setting(
        "auto",
        "inputs with mean 0 and deviation 1, from 0 to 1, bytes divided by 255, or as they are; auto: images of bytes "
        "are divided by 255, all others standard",
    )
    mean: tuple[float, ...] = setting((), "mean of each input, or of all, for scale=standard; none: from some shards")
    deviation: tuple[float, ...] = setting((), "deviation of each input, or of all; given with mean")
    value_range: tuple[float, ...] | None = setting(
        None, "low,high between which all inputs are known to lie: what scale=minmax maps onto 0 to 1; none: unknown"
    )
    window: str = setting("256MB", "rows that are mixed: a number of rows, or their bytes in memory (200MB, 2GB)")
    prefetch: int = setting(1, "windows that are read ahead: each takes as much memory as the first", ge=0, le=16)
    lanes: int = setting(
        8, "parts of a batch that come from shards of their own: of so many processes each reads its own", ge=1, le=1024
    )
    damaged: Literal["fail", "skip", "retry"] = setting(
        "fail", "a shard that cannot be read ends the run, is replaced by rows of others, or is tried again"
    )
    attempts: int = setting(6, "how often damaged=retry tries, waiting longer each time", ge=2, le=20)
    sample_rows: int = setting(
        10000, "rows of each part, at most, that pictures, health and evaluation look at", unit="rows", ge=1
    )

    def without_effect(self) -> Mapping[str, str]:
        reasons = {}
        if self.scale not in ("minmax", "none"):
            reasons["value_range"] = f"it has no effect with scale={self.scale}"
        if self.test_path:
            reasons["test_share"] = "testPath says what is for testing"
        if self.damaged != "retry":
            reasons["attempts"] = f"it has no effect with damaged={self.damaged}"
        return reasons


class Shards(DatasetFactory):
    """Rows in many Parquet, NPZ, NPY or IDX files, here or elsewhere, for data that do not fit into memory.

    Shards come in a new random order in every epoch, and rows are mixed within a window: memory is bounded by `window`
    and `prefetch`. A run that goes on reads the shards of its window again, and no others. Parquet needs the extra
    `parquet`, addresses need `shards`, and the drivers of fsspec for where they lead. Whole shards are kept for
    testing, so that what was written together is not in both parts.
    """

    Settings = ShardsSettings
    preset: ClassVar[Mapping[str, Any]] = {"sampling": "STREAM"}

    def __init__(self, settings: Any, context: DataContext) -> None:
        super().__init__(settings, context)
        self.scaler: Scaler | None = None  # known once the first shards have been looked at
        self._sentences: list[str] = []  # what `told` gives, to be kept with the run
        self._loaded = False
        attempts = settings.attempts if settings.damaged == "retry" else 1
        self._patience = Patience(attempts, self._say)

    def load(self) -> Splits:
        settings = self.settings
        known = known_range("Shards: valueRange", settings.value_range)
        train, test = self._shards()
        plan = self._plan(train[0])
        self._check_alike([*train, *test], plan.layout)
        reading = Reading(
            plan.window * settings.lanes, settings.lanes, settings.prefetch, self._patience, settings.damaged == "skip"
        )
        pieces = Pieces(train, plan.choice, reading, plan.most)
        form = fitted_form(plan, pieces, settings, known)
        self.scaler = form.scaler
        rows = self._rows(form, pieces, plan)
        self._tell(rows, plan)
        splits = Splits(
            train=rows,
            test=self._rows(form, Pieces(test, plan.choice, reading, plan.most), plan).sample() if test else None,
        )
        self._loaded = True
        return splits

    def unscale(self, samples: Tensor) -> Tensor:
        """Samples (count, *shape) in the units of the shards, once they have been loaded."""
        return samples if self.scaler is None else self.scaler.inverse(samples)

    def told(self) -> list[str]:
        sentences, self._sentences = self._sentences, []
        return sentences

    def _say(self, sentence: str) -> None:
        self._sentences.append(f"Shards: {sentence}")
        if not self._loaded:
            self.context.notify(self._sentences[-1])

    # --- which shards there are

    def _shards(self) -> tuple[list[Shard], list[Shard]]:
        settings = self.settings
        if not settings.path:
            raise ConfigError("Shards needs path=, a pattern, a folder or an address of files")
        sources = self._find("path", settings.path)
        labels = self._find("labels", settings.labels)
        if not settings.test_path:
            if settings.test_labels:
                raise ConfigError("Shards: testLabels are given without testPath")
            return self._divided(self._looked_at(sources, labels, "labels"))
        test = self._find("testPath", settings.test_path)
        shared = {source.name for source in sources} & {source.name for source in test}
        if shared:
            raise ConfigError(f"Shards: path and testPath both name {min(shared)}: a shard is learnt from or tested on")
        test_labels = self._find("testLabels", settings.test_labels)
        return self._looked_at(sources, labels, "labels"), self._looked_at(test, test_labels, "testLabels")

    def _find(self, key: str, patterns: Sequence[str]) -> list[Source]:
        return find_shards("Shards", key, patterns, self.context, self._patience) if patterns else []

    def _divided(self, shards: list[Shard]) -> tuple[list[Shard], list[Shard]]:
        """Whole shards are kept: those whose names come first when they are shuffled by the seed."""
        count = min(round(self.settings.test_share * len(shards)), len(shards) - 1)
        seed = self.context.seed
        ordered = sorted(shards, key=lambda shard: stream_seed(seed, "Shards", Path(shard.source.name).name))
        kept = {shard.source.name for shard in ordered[:count]}
        return (
            [shard for shard in shards if shard.source.name not in kept],
            [shard for shard in shards if shard.source.name in kept],
        )

    def _looked_at(self, sources: Sequence[Source], labels: Sequence[Source], key: str) -> list[Shard]:
        if labels and len(labels) != len(sources):
            raise DataError(
                f"Shards: {key} names {len(labels)} files, expected one for each of the {len(sources)} shards"
            )
        pairs = [(source, labels[place] if labels else None) for place, source in enumerate(sources)]
        with ThreadPoolExecutor(LOOKERS if any(source.far for source in sources) else 1) as pool:
            found = [shard for shard in pool.map(self._look, pairs) if shard is not None]
        if not found:
            raise DataError(f"Shards: none of the {len(sources)} shards can be read, the first is {sources[0]}")
        return found

    def _look(self, pair: tuple[Source, Source | None]) -> Shard | None:
        source, labels = pair
        try:
            layout = self._patience.keep_trying(source, lambda: format_of(source).look(source))
            if labels is None:
                return Shard(source, layout)
            own = self._patience.keep_trying(labels, lambda: format_of(labels).look(labels))
        except DataError as error:
            if self.settings.damaged != "skip":
                raise
            self._say(f"{error}; skipped")
            return None
        if own.rows != layout.rows or len(own.fields) != 1 or own.fields[0].shape:
            raise DataError(f"{labels}: expected {layout.rows} labels, one for each row of {source}")
        return Shard(source, layout, labels, own)

    def _check_alike(self, shards: Sequence[Shard], layout: Layout) -> None:
        for shard in shards:
            if shard.layout.form() != layout.form():
                mine, first = dict(shard.layout.form()), dict(layout.form())
                other = min(set(mine.items()) ^ set(first.items()) or {("the order of columns", ())})
                raise DataError(
                    f"{shard.source}: differs from {shards[0].source} in '{other[0]}': expected the same columns"
                )

    # --- what a row is

    def _plan(self, first: Shard) -> Plan:
        settings, name, layout = self.settings, first.source.name, first.layout
        if first.label_layout is not None:
            layout = layout._replace(fields=(*layout.fields, first.label_layout.fields[0]._replace(name="labels")))
        choice = choose(name, layout, settings, None if first.label_layout is None else "labels")
        spec = spec_of(name, layout, choice, settings.shape)
        types = {field.dtype for field in layout.fields if field.name in {each.field for each in choice.inputs}}
        pictures = types == {np.dtype(np.uint8)}
        if settings.scale == "bytes" and not pictures:
            raise ConfigError(f"Shards: scale=bytes: {name} holds {', '.join(map(str, types))}, expected bytes (uint8)")
        as_bytes = settings.scale == "bytes" or (settings.scale == "auto" and pictures and len(spec.shape) == 3)
        item = 1 if as_bytes else torch.get_default_dtype().itemsize
        row = max(1, math.prod(spec.shape) * item + 8 * len(choice.targets))
        return Plan(first.layout, choice, spec, as_bytes, row, max(1, self._window(row) // settings.lanes))

    def _window(self, row_bytes: int) -> int:
        """Rows of a window. Raises ConfigError for what is no size."""
        match, given = SIZE.fullmatch(self.settings.window), self.settings.window
        if match is None or match[2].lower() not in UNITS or float(match[1]) <= 0:
            raise ConfigError(f"Shards: window={given}: expected a number of rows, or a size such as 200MB or 2GB")
        amount = float(match[1]) * UNITS[match[2].lower()]
        return max(1, int(amount / row_bytes if match[2] else amount))

    def _rows(self, form: Form, pieces: Pieces, plan: Plan) -> ShardRows:
        segments = [Segment(number, 0, piece.rows) for number, piece in enumerate(pieces.all)]
        files = [source for shard in pieces.shards for source in (shard.source, shard.labels) if source is not None]
        listed = [(source.name, source.size, source.stamp) for source in files]
        settings = self.settings.model_dump(include={"columns", "target", "shape", "scale"})
        digest = hashlib.sha256(repr((listed, settings)).encode()).hexdigest()
        return ShardRows(
            form, pieces, segments, digest, min(self.settings.sample_rows, max(1, SAMPLE_BYTES // plan.row_bytes))
        )

    def _tell(self, rows: ShardRows, plan: Plan) -> None:
        """Memory is what was asked for, unless shards, or their row groups, are too large for that."""
        memory, asked = rows.most_rows(), plan.window * self.settings.lanes * (1 + self.settings.prefetch)
        largest = rows.pieces.largest
        if largest > plan.window and memory > asked:
            self.context.notify(
                f"Shards: up to {largest:,} rows are read at once, and window={self.settings.window} has "
                f"{plan.window:,} for each of {self.settings.lanes} lanes: up to "
                f"{memory * plan.row_bytes / 1e6:,.0f} MB of rows are in memory; "
                "smaller shards or row groups, or fewer lanes, take less"
            )


@hookimpl
def register_datasets(register: Any) -> None:
    """Shards."""
    register("Shards", Shards)
