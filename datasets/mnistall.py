"""MNIST-all: the 70,000 digits of MNIST as one set, as DIANNE has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.idxpictures import IdxPictures, check_sizes
from ganglion.datasets.mnist import DIGESTS, DIGITS, FOLDERS, MIRRORS
from ganglion.engine.api import Splits, hookimpl


class MNISTAll(IdxPictures):
    """The 60,000 training digits of MNIST and then its 10,000 test digits, as one training set of 70,000."""

    name = "MNIST-all"
    folders = FOLDERS
    mirrors = MIRRORS
    digests = DIGESTS
    classes = DIGITS

    def arrange(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
        check_sizes(self, train, test)
        return Splits(train=self.dataset(torch.cat([train[0], test[0]]), torch.cat([train[1], test[1]])))


@hookimpl
def register_datasets(register: Any) -> None:
    """MNIST-all."""
    register("MNIST-all", MNISTAll)
