"""Movements: correct and incorrect repetitions of an exercise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ganglion.datasets.columns import numbers
from ganglion.datasets.csvfile import read_csv
from ganglion.datasets.places import find_path
from ganglion.datasets.series.cutting import Cutting, SplitSettings
from ganglion.datasets.series.preparing import SeriesFactory
from ganglion.datasets.series.record import Record
from ganglion.engine.api import DataError, hookimpl, setting

STEPS = 240
CLASSES = ("correct", "incorrect")
SOURCE = (
    "the files are in github.com/avakanski/A-Deep-Learning-Framework-for-Assessing-Physical-Rehabilitation-Exercises"
)


class MovementsSettings(SplitSettings):
    """Settings of Movements."""

    path: str = setting("ui-prmd", "the folder, as it is or below a data folder")
    scale: Literal["minmax", "standard", "symmetric", "none"] = setting(
        "symmetric", "0 to 1, mean 0 and deviation 1, -1 to 1, or as they are: fitted on the rows that are learnt from"
    )
    exercise: str = setting("m01", "what the names of its files begin with")


class Movements(SeriesFactory):
    """UI-PRMD's deep squat (https://doi.org/10.3390/data3010002): 90 correct and 90 incorrect repetitions, 240 x 4.

    Four features that an autoencoder made of 117 joint angles; the class is the target, and the published quality of
    each repetition, from 0 to 1, the field `quality` (batch,). Repetitions are held out at random within each class;
    the files do not say whose they are, so a person may be in both parts.
    """

    Settings = MovementsSettings

    name = "Movements"
    usual_length = STEPS

    def cutting(self) -> Cutting:
        settings = self.settings
        shares = settings.test_share, settings.validation_share
        return Cutting(STEPS, *shares, stride=STEPS, by="drawn", seed=self.context.seed)

    def read(self) -> Record:
        try:
            folder = find_path(self.name, self.settings.path, self.context, folder=True)
        except DataError as error:
            raise DataError(f"{error} ({SOURCE})") from None
        values, quality = zip(*(self._read_class(folder, word) for word in CLASSES), strict=True)
        if values[0].shape[2] != values[1].shape[2]:
            raise DataError(f"{folder}: the classes have {values[0].shape[2]} and {values[1].shape[2]} features a step")
        together = torch.cat(values)
        count, steps, features = together.shape
        kinds = torch.cat([torch.full((len(part),), place) for place, part in enumerate(values)])
        return Record(
            str(folder),
            together.reshape(count * steps, features),
            tuple(f"code{place}" for place in range(features)),
            [range(start, start + steps) for start in range(0, count * steps, steps)],
            first={"quality": torch.cat(quality).repeat_interleave(steps)},
            labels=kinds.repeat_interleave(steps),
            classes=CLASSES,
        )

    def _read_class(self, folder: Path, word: str) -> tuple[Tensor, Tensor]:
        """Repetitions (count, steps, features) and their quality (count,)."""
        rows = _read(folder / f"{self.settings.exercise}_Autoencoder_Output_{word.capitalize()}.csv")
        path = folder / f"{self.settings.exercise}_Labels_{word.capitalize()}.csv"
        quality = _read(path)
        if rows.shape[1] % STEPS:
            raise DataError(
                f"{folder}: a {word} repetition has {rows.shape[1]} numbers, expected {STEPS} steps of as many each"
            )
        if quality.shape != (len(rows), 1):
            raise DataError(f"{path}: holds {len(quality)} rows of {quality.shape[1]}, expected {len(rows)} of 1")
        return rows.view(len(rows), STEPS, -1), quality[:, 0]


def _read(path: Path) -> Tensor:
    table = read_csv(path, "comma", header=False)
    return torch.stack([torch.from_numpy(numbers(table, place)) for place in range(len(table.names))], dim=1)


@hookimpl
def register_datasets(register: Any) -> None:
    """Movements."""
    register("Movements", Movements)
