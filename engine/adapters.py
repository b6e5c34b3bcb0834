"""Ranges, adapters and scale applied to the parts of a data set: what a job learns from, validates on and tests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.engine.adapterchain import ORDER, AdapterSettings, make_adapters
from ganglion.engine.contracts import Adapter, Batch, Dataset, DataSpec, Range, Splits, StreamedDataset
from ganglion.engine.data import Subset, TensorDataset
from ganglion.engine.ranges import Ranges, select_parts
from ganglion.engine.transforms import Augmentation, Autoencode, Rescale, unscale

__all__ = [
    "ORDER",
    "Adapted",
    "AdaptedSplits",
    "AdapterSettings",
    "adapted_spec",
    "make_adapters",
    "scale_splits",
    "scale_to",
    "split_and_adapt",
    "unscale",
]


class Adapted(Dataset):
    """The rows of `source` with adapters that are not random applied to them as they are fetched."""

    def __init__(self, source: Dataset, adapters: Sequence[Adapter]) -> None:
        self.source = source
        self.adapters = list(adapters)
        self.resident, self.batches_at_once = source.resident, source.batches_at_once
        self.spec = adapted_spec(source.spec, adapters)

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: Tensor) -> Batch:
        batch = self.source.rows(indices)
        for adapter in self.adapters:
            batch = adapter.apply(batch, None)
        return batch

    def targets(self) -> Tensor | None:
        same = self.spec.target_shape == self.source.spec.target_shape and self.spec.classes == self.source.spec.classes
        return self.source.targets() if same else None

    def streamed(self) -> StreamedDataset | None:
        return self.source.streamed()

    def sample(self) -> Adapted:
        return Adapted(self.source.sample(), self.adapters)

    def to(self, device: torch.device) -> Adapted:
        return Adapted(self.source.to(device), self.adapters)


class AdaptedSplits(NamedTuple):
    """The parts after ranges and adapters; `augmentations` are applied, in order, to each batch of training rows.

    `spec` is that of a batch after the augmentations, and of validation and test rows. `notices` are for the user.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    augmentations: list[Adapter]
    notices: list[str]
    spec: DataSpec
    plain: Dataset  # the training rows as test rows are: without what is random, for pictures and evaluation


def adapted_spec(spec: DataSpec, adapters: Sequence[Adapter]) -> DataSpec:
    """The spec of rows after all `adapters`."""
    for adapter in adapters:
        spec = adapter.spec(spec)
    return spec


def split_and_adapt(splits: Splits, settings: AdapterSettings) -> AdaptedSplits:
    """Ranges, then adapters: validation and test rows get what is not random (a crop becomes the middle).

    From the first random adapter on, training rows get theirs per batch, so that the order holds for them too.
    """
    parts, notices = select_parts(splits, Ranges(settings.range, settings.validation_set, settings.test_set))
    adapters = make_adapters(settings, splits.train.spec)
    first = next((place for place, adapter in enumerate(adapters) if adapter.random), len(adapters))
    settled = [adapter.settled() if isinstance(adapter, Augmentation) else adapter for adapter in adapters]
    calm = [adapter for adapter in settled if adapter is not None]
    return AdaptedSplits(
        train=_adapt(parts.train, adapters[:first]),
        validation=None if parts.validation is None else _adapt(parts.validation, calm),
        test=None if parts.test is None else _adapt(parts.test, calm),
        augmentations=adapters[first:],
        notices=notices,
        spec=adapted_spec(splits.train.spec, adapters),
        plain=_adapt(parts.train.sample(), calm),
    )


def _adapt(dataset: Dataset, adapters: Sequence[Adapter]) -> Dataset:
    return Adapted(dataset, adapters) if adapters else dataset


def scale_to(dataset: Dataset, wanted: Range) -> Dataset:
    """The data set with `spec.value_range` mapped onto `wanted`; unbounded data are returned as they are."""
    spec = dataset.spec
    if spec.value_range is None or spec.value_range == wanted:
        return dataset
    if isinstance(dataset, TensorDataset):
        return dataset.scaled(wanted)
    if isinstance(dataset, Subset):
        return Subset(scale_to(dataset.source, wanted), dataset.indices)
    if isinstance(dataset, Adapted):  # last, so that thresholds, noise and borders keep the data's own values
        return Adapted(dataset.source, [*dataset.adapters, _rescale(spec.value_range, wanted, dataset.adapters)])
    return Adapted(dataset, [Rescale(spec.value_range, wanted)])


def scale_splits(splits: AdaptedSplits, wanted: Range) -> AdaptedSplits:
    """All parts mapped onto `wanted`: training rows after their augmentations, which work on the data's own values."""
    own = splits.spec.value_range
    if own is None or own == wanted:
        return splits
    train, augmentations = splits.train, splits.augmentations
    if augmentations:
        before = train.adapters if isinstance(train, Adapted) else []
        augmentations = [*augmentations, _rescale(own, wanted, [*before, *augmentations])]
    else:
        train = scale_to(train, wanted)
    return splits._replace(
        train=train,
        augmentations=augmentations,
        validation=None if splits.validation is None else scale_to(splits.validation, wanted),
        test=None if splits.test is None else scale_to(splits.test, wanted),
        spec=replace(splits.spec, value_range=wanted),
        plain=scale_to(splits.plain, wanted),
    )


def _rescale(own: Range, wanted: Range, adapters: Sequence[Adapter]) -> Rescale:
    return Rescale(own, wanted, with_target=any(isinstance(adapter, Autoencode) for adapter in adapters))
