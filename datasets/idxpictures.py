"""Picture data sets that come as four IDX files (training and test images and labels): found, or downloaded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ganglion.datasets.download import Download, FetchError, Opener, fetch, open_url
from ganglion.datasets.idx import read_idx
from ganglion.engine.api import DataError, DatasetFactory, DataSpec, Settings, Splits, TensorDataset, setting

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FILES = (*TRAIN, *TEST)


class IdxPicturesSettings(Settings):
    """Settings of data sets that can be downloaded."""

    download: bool = setting(True, "download files that are not there")


class IdxPictures(DatasetFactory):
    """Looks for the files in `<data folder>/<one of folders>`, then in the cache, and else downloads them there."""

    Settings = IdxPicturesSettings

    name: ClassVar[str]
    folders: ClassVar[Sequence[str]]
    mirrors: ClassVar[Sequence[str]]
    digests: ClassVar[Mapping[str, str]]
    classes: ClassVar[tuple[str, ...]]
    opener: Opener = staticmethod(open_url)

    def load(self) -> Splits:
        files = self.find() or self.download()
        return self.arrange(*(self.read(files[images], files[labels]) for images, labels in (TRAIN, TEST)))

    @abstractmethod
    def arrange(self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
        """The parts, from (images, labels) of the training and the test files."""

    def find(self) -> dict[str, Path] | None:
        """The four files, from the first folder that holds them all."""
        for folder in self.places():
            files = {name: path for name in FILES if (path := _present(folder, name)) is not None}
            if len(files) == len(FILES):
                return files
        return None

    def places(self) -> list[Path]:
        """Where to look, in this order; the cache comes last."""
        named = [root / folder for root in self.context.folders for folder in self.folders]
        return [*named, self.cache()]

    def cache(self) -> Path:
        """Where downloads are placed."""
        return self.context.cache / self.folders[0]

    def download(self) -> dict[str, Path]:
        """The four files, after what the cache lacks of them has been downloaded. Raises DataError if it cannot be."""
        if not self.settings.download:
            raise DataError(self._missing("download=false"))
        files = {}
        try:
            for name in FILES:
                files[name] = _present(self.cache(), name) or self._fetch(f"{name}.gz")
        except FetchError as error:
            raise DataError(self._missing(f"no download: {error}")) from None
        except OSError as error:
            raise DataError(f"{self.name}: cannot write to {self.cache()} ({error.strerror or error})") from None
        return files

    def _fetch(self, name: str) -> Path:
        self.context.notify(f"{self.name}: downloading {name} to {self.cache()}")
        download = Download([mirror + name for mirror in self.mirrors], self.digests[name])
        fetch(download, self.cache() / name, self.context.notify, type(self).opener)
        return self.cache() / name

    def _missing(self, reason: str) -> str:
        looked = ", ".join(str(folder) for folder in self.places())
        return (
            f"{self.name}: {', '.join(f'{name}.gz' for name in FILES)} are not all in any of {looked} ({reason}): "
            f"put them into a folder {self.folders[0]}/ and set GANGLION_DATA to the folder that holds it, "
            f"or go online; the data set Digits needs neither"
        )

    def read(self, images: Path, labels: Path) -> tuple[Tensor, Tensor]:
        """Images (rows, 1, height, width) uint8 and labels (rows,) int64. Raises DataError where they do not fit."""
        pictures, numbers = read_idx(images, 3), read_idx(labels, 1)
        if len(pictures) != len(numbers):
            raise DataError(f"{labels}: holds {len(numbers)} labels for the {len(pictures)} images of {images.name}")
        wrong = (numbers >= len(self.classes)).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise DataError(f"{labels}: label {int(numbers[row])} in row {row}, expected 0 to {len(self.classes) - 1}")
        return pictures.unsqueeze(1), numbers.to(torch.int64)

    def dataset(self, images: Tensor, labels: Tensor) -> TensorDataset:
        """Bytes in memory, read as numbers from 0 to 1."""
        spec = DataSpec("image", tuple(images.shape[1:]), value_range=(0.0, 1.0), classes=self.classes)
        return TensorDataset(spec, images, labels, scale=1 / 255)


def train_and_test(source: IdxPictures, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
    """The two parts as they were published. Raises DataError where their images differ in size."""
    check_sizes(source, train, test)
    return Splits(train=source.dataset(*train), test=source.dataset(*test))


def check_sizes(source: IdxPictures, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> None:
    """Raises DataError where training and test images differ in size."""
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = [f"{images.shape[-2]}x{images.shape[-1]}" for images, _ in (train, test)]
        raise DataError(f"{source.name}: the training images are {sizes[0]} and the test images {sizes[1]} pixels")


def _present(folder: Path, name: str) -> Path | None:
    """The file unpacked, or packed, or with the dots that some copies have in their names."""
    for candidate in (name, name.replace("-idx", ".idx"), f"{name}.gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    return None
