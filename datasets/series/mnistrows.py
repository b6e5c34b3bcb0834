"""MNISTRows: MNIST's digits as sequences of their rows."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.nn.functional import avg_pool2d

from ganglion.datasets.idxpictures import IdxPictures, IdxPicturesSettings, check_sizes
from ganglion.datasets.mnist import DIGESTS, DIGITS, FOLDERS, MIRRORS
from ganglion.engine.api import DataSpec, Splits, TensorDataset, hookimpl, setting


class MNISTRowsSettings(IdxPicturesSettings):
    """Settings of MNISTRows."""

    side: Literal[28, 14] = setting(
        28, "rows, and values in a row; 14: the means of squares of four", also=("size",), unit="steps"
    )


class MNISTRows(IdxPictures):
    """Handwritten digits as 28 steps, the rows from above, of 28 values from 0 to 1, ten classes (60,000 + 10,000).

    With size=14 (or side=14) the sequences of 14 x 14 of RGAN (Esteban, Hyland, Raetsch 2017, https://arxiv.org/abs/1706.02633).

    Deviations: the published test images are the test part, rather than a share of all images; values are from 0 to 1,
    not from -1 to 1, and are scaled to what the network makes.
    """

    Settings = MNISTRowsSettings

    name = "MNISTRows"
    folders = FOLDERS
    mirrors = MIRRORS
    digests = DIGESTS
    classes = DIGITS

    def arrange(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
        check_sizes(self, train, test)
        return Splits(train=self.dataset(*train), test=self.dataset(*test))

    def dataset(self, images: Tensor, labels: Tensor) -> TensorDataset:
        """Bytes (rows, steps, values) in memory, read as numbers from 0 to 1."""
        if self.settings.side == 14:
            images = avg_pool2d(images.float(), 2).round().to(images.dtype)
        sequences = images[:, 0]
        spec = DataSpec("sequence", tuple(sequences.shape[1:]), value_range=(0.0, 1.0), classes=self.classes)
        return TensorDataset(spec, sequences, labels, scale=1 / 255)


@hookimpl
def register_datasets(register: Any) -> None:
    """MNISTRows."""
    register("MNISTRows", MNISTRows)
