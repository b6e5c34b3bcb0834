"""Digits: the 1,797 real handwritten digits that come with scikit-learn, so that nothing ever has to be downloaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import DatasetFactory, DataSpec, Splits, TensorDataset, hookimpl

EVERY = 5  # of each class every fifth row is a test row, whatever the seed


class Digits(DatasetFactory):
    """Handwritten digits (UCI, by way of scikit-learn), 8x8 grey values from 0 to 1: 1,442 to learn from, 355 to test.

    Every fifth digit of each class is in the test part.
    """

    def load(self) -> Splits:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = torch.from_numpy(bunch.images.astype("uint8")).unsqueeze(1)
        labels = torch.from_numpy(bunch.target.astype("int64"))
        test = _every_fifth(labels)
        return Splits(train=_dataset(images[~test], labels[~test]), test=_dataset(images[test], labels[test]))


def _every_fifth(labels: Tensor) -> Tensor:
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for value in torch.unique(labels):
        rows = (labels == value).nonzero().flatten()
        chosen[rows[EVERY - 1 :: EVERY]] = True
    return chosen


def _dataset(images: Tensor, labels: Tensor) -> TensorDataset:
    spec = DataSpec("image", (1, 8, 8), value_range=(0.0, 1.0), classes=tuple("0123456789"))
    return TensorDataset(spec, images, labels, scale=1 / 16)


@hookimpl
def register_datasets(register: Any) -> None:
    """Digits."""
    register("Digits", Digits)
