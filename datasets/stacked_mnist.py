"""StackedMNIST: three digits as the channels of one image, to count the thousand modes that a generator finds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.idxpictures import IdxPictures, IdxPicturesSettings, check_sizes
from ganglion.datasets.mnist import DIGESTS, DIGITS, FOLDERS, MIRRORS
from ganglion.engine.api import Batch, Dataset, DataSpec, Splits, hookimpl, setting, stream_seed

TRIPLES = tuple(one + two + three for one in DIGITS for two in DIGITS for three in DIGITS)


class StackedMNISTSettings(IdxPicturesSettings):
    """Settings of StackedMNIST."""

    size: int = setting(128_000, "triples to learn from", ge=1)
    test_size: int = setting(26_000, "triples to test on, of MNIST's test digits", ge=1)


class StackedMNIST(IdxPictures):
    """Three random MNIST digits as the red, green and blue of one image (3, 28, 28), values from 0 to 1: 1,000 classes.

    The class is the number that the digits form. The protocol of VEEGAN and PacGAN (https://arxiv.org/abs/1712.04086)
    learns from 128,000 triples and judges 26,000 samples: metric stacked-v1. Triples are drawn from the seed, uniformly
    and with replacement, training triples from MNIST's training digits and test triples from its test digits.
    """

    Settings = StackedMNISTSettings

    name = "StackedMNIST"
    folders = FOLDERS
    mirrors = MIRRORS
    digests = DIGESTS
    classes = TRIPLES

    def arrange(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
        check_sizes(self, train, test)
        return Splits(
            train=self._part("train", *train, self.settings.size),
            test=self._part("test", *test, self.settings.test_size),
        )

    def _part(self, split: str, images: Tensor, labels: Tensor, count: int) -> StackedRows:
        generator = torch.Generator().manual_seed(stream_seed(self.context.seed, self.name, split))
        triples = torch.randint(len(images), (count, 3), generator=generator)
        spec = DataSpec("image", (3, *images.shape[2:]), value_range=(0.0, 1.0), classes=self.classes)
        return StackedRows(spec, images, labels, triples)


class StackedRows(Dataset):
    """Triples of byte images, put together as they are read: in memory are the single images and the triples' indices.

    `images` is (images, 1, height, width) uint8, `labels` (images,) int64, `triples` (rows, 3) int64.
    """

    def __init__(self, spec: DataSpec, images: Tensor, labels: Tensor, triples: Tensor) -> None:
        self.spec = spec
        self.images = images
        self.labels = labels
        self.triples = triples

    def __len__(self) -> int:
        return len(self.triples)

    def rows(self, indices: Tensor) -> Batch:
        if self.images.device.type == "cuda" and indices.device.type == "cpu":
            indices = indices.pin_memory()  # so that the copy does not wait
        chosen = self.triples.index_select(0, indices.to(self.images.device, non_blocking=True))
        pixels = self.images.index_select(0, chosen.flatten()).view(len(chosen), *self.spec.shape)
        return Batch(pixels.to(torch.get_default_dtype()).mul_(1 / 255), self._classes(chosen))

    def targets(self) -> Tensor:
        return self._classes(self.triples)

    def to(self, device: torch.device) -> StackedRows:
        parts = (tensor.to(device) for tensor in (self.images, self.labels, self.triples))
        return StackedRows(self.spec, *parts)

    def _classes(self, triples: Tensor) -> Tensor:
        first, second, third = self.labels.index_select(0, triples.flatten()).view(-1, 3).unbind(1)
        return 100 * first + 10 * second + third


@hookimpl
def register_datasets(register: Any) -> None:
    """StackedMNIST."""
    register("StackedMNIST", StackedMNIST)
