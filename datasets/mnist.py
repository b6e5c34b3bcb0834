"""MNIST: 60,000 + 10,000 handwritten digits (LeCun, Cortes, Burges)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ganglion.datasets.idxpictures import IdxPictures, train_and_test
from ganglion.engine.api import Splits, hookimpl

DIGITS = tuple("0123456789")
FOLDERS = ("mnist", "MNIST/raw", ".")
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
DIGESTS = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


class MNIST(IdxPictures):
    """Handwritten digits, 28x28 grey values from 0 to 1, ten classes: 60,000 to learn from and 10,000 to test on."""

    name = "MNIST"
    folders = FOLDERS
    mirrors = MIRRORS
    digests = DIGESTS
    classes = DIGITS

    def arrange(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
        return train_and_test(self, train, test)


@hookimpl
def register_datasets(register: Any) -> None:
    """MNIST."""
    register("MNIST", MNIST)
