"""Images: the pictures of a folder, its sub-folders being classes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ganglion.datasets.places import find_path
from ganglion.datasets.shares import held_out
from ganglion.engine.api import (
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

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
BYTE_LIMIT = 1 << 34  # of all pictures together: they are held in memory


class ImagesSettings(Settings):
    """Settings of Images."""

    path: str = setting("", "the folder, as it is or below a data folder")
    size: int | None = setting(
        None, "pictures are resized to cover this square, and cut in the middle", unit="pixels", ge=1, le=8192
    )
    channels: Literal[1, 3] = setting(3, "1 for grey, 3 for colour")
    test_share: float = setting(0.1, "share of the pictures, of each class, that is kept for testing", ge=0, lt=1)


class Images(DatasetFactory):
    """A folder of pictures (png, jpg, bmp, gif, webp) with values from 0 to 1; its sub-folders, if any, are classes.

    All must have one size, unless `size` is given. Hidden files, and files not named as pictures, are left out.
    """

    Settings = ImagesSettings

    def load(self) -> Splits:
        folder = find_path("Images", self.settings.path, self.context, folder=True)
        files, classes = list_pictures(folder)
        labels = torch.tensor([label for _, label in files])
        test = held_out(labels, self.settings.test_share, stream_seed(self.context.seed, "Images", "split"))
        order = torch.cat([(~test).nonzero().flatten(), test.nonzero().flatten()])  # so that both parts are views
        pictures, labels = self._read([files[row][0] for row in order.tolist()]), labels[order]
        spec = DataSpec("image", tuple(pictures.shape[1:]), value_range=(0.0, 1.0), classes=classes)
        kept = len(files) - int(test.sum())

        def part(rows: slice) -> TensorDataset:
            return TensorDataset(spec, pictures[rows], labels[rows] if classes else None, scale=1 / 255)

        return Splits(train=part(slice(kept)), test=part(slice(kept, None)) if kept < len(files) else None)

    def _read(self, paths: Sequence[Path]) -> Tensor:
        from ganglion.datasets.pictures import read_picture

        first = torch.from_numpy(read_picture(paths[0], self.settings.channels, self.settings.size).copy())
        if first.numel() * len(paths) > BYTE_LIMIT:
            total = first.numel() * len(paths) / 1e9
            raise DataError(
                f"{paths[0].parent}: {len(paths)} pictures take {total:.1f} GB of memory: choose a smaller size="
            )
        pictures = torch.empty((len(paths), *first.shape), dtype=torch.uint8)
        told = time.monotonic()
        for row, path in enumerate(paths):
            values = torch.from_numpy(read_picture(path, self.settings.channels, self.settings.size).copy())
            if values.shape != first.shape:
                sizes = [f"{shape[2]}x{shape[1]}" for shape in (first.shape, values.shape)]
                raise DataError(
                    f"{path} has {sizes[1]} pixels and {paths[0]} has {sizes[0]}: all pictures must have one size, "
                    f"or choose one with size="
                )
            pictures[row] = values
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                self.context.notify(f"Images: {row + 1} of {len(paths)} pictures read")
        return pictures


def list_pictures(folder: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Picture files with their class numbers, in the order of their names, and the names of the classes.

    Raises DataError for a folder without pictures, and for one with pictures both in it and in its sub-folders.
    """
    try:
        own = _pictures_in(folder)
        nested = {child.name: _pictures_in(child) for child in sorted(folder.iterdir()) if _is_class(child)}
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None
    classes = tuple(name for name, files in nested.items() if files)
    if own and classes:
        raise DataError(
            f"{folder}: has pictures ({own[0].name}) and sub-folders with pictures ({classes[0]}), expected one of both"
        )
    if not own and not classes:
        raise DataError(f"{folder}: holds no pictures, and no sub-folders with pictures (png, jpg, bmp, gif or webp)")
    if own:
        return [(path, 0) for path in own], ()
    return [(path, label) for label, name in enumerate(classes) for path in nested[name]], classes


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


@hookimpl
def register_datasets(register: Any) -> None:
    """Images."""
    register("Images", Images)
