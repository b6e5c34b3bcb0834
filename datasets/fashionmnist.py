"""Fashion-MNIST: 60,000 + 10,000 pictures of clothes in the form of MNIST (Zalando Research, MIT)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ganglion.datasets.idxpictures import IdxPictures, train_and_test
from ganglion.engine.api import Splits, hookimpl


class FashionMNIST(IdxPictures):
    """Clothes, 28x28 grey values from 0 to 1, ten classes: 60,000 to learn from and 10,000 to test on."""

    name = "FashionMNIST"
    folders = ("fashion-mnist", "fashionmnist", "FashionMNIST/raw")
    mirrors = ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",)
    digests = {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }
    classes = (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )

    def arrange(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
        return train_and_test(self, train, test)


@hookimpl
def register_datasets(register: Any) -> None:
    """FashionMNIST."""
    register("FashionMNIST", FashionMNIST, aliases=("Fashion",))
