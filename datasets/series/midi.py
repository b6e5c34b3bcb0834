"""Midi: the notes of MIDI files, as crops of so many events."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.places import find_path
from ganglion.datasets.series.cutting import Cutting, SplitSettings
from ganglion.datasets.series.midifile import read_midi
from ganglion.datasets.series.music import Pitch, features, to_frequency
from ganglion.datasets.series.preparing import SeriesFactory
from ganglion.datasets.series.record import Record, padded
from ganglion.engine.api import DataError, hookimpl, setting

ENDINGS = (".mid", ".midi")


class MidiSettings(SplitSettings):
    """Settings of Midi."""

    path: str = setting("", "the folder with .mid files, in it or below, as it is or below a data folder")
    length: int = setting(100, "events of a crop", unit="events", ge=1)
    stride: int = setting(1, "from the beginning of a crop to that of the next", unit="events", ge=1)
    pitch: Pitch = setting("note", "pitch as MIDI note number, or as frequency in hertz")


class Midi(SeriesFactory):
    """Events of MIDI files (ticks since the event before, length in ticks, pitch, velocity), in crops of 100.

    After C-RNN-GAN (Mogren 2016, https://arxiv.org/abs/1611.09904). Any row of the data set is a crop; files are held
    out as a whole. The field `mask` (batch, events, 4) is 0 where a file is shorter than a crop, and so are the values.

    Deviations: ticks are 480 a quarter note, rather than the file's own or 384; drums are left out; values are scaled,
    scale=none leaves them as they are; long files have more crops than short ones, rather than as many.
    """

    Settings = MidiSettings

    name = "Midi"

    def cutting(self) -> Cutting:
        settings = self.settings
        shares = settings.test_share, settings.validation_share
        return Cutting(settings.length, *shares, stride=settings.stride, by="drawn", seed=self.context.seed)

    def read(self) -> Record:
        folder = find_path(self.name, self.settings.path, self.context, folder=True)
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
        songs = [song for song in self._read_all(files) if len(song)]
        if len(songs) < len(files):
            self.context.notify(
                f"Midi: {len(files) - len(songs)} of {len(files)} files have no notes: they are left out"
            )
        if not songs:
            raise DataError(f"{folder}: holds no .mid file with notes, in it or below")
        ends = torch.tensor([len(song) for song in songs]).cumsum(0).tolist()
        series = [range(end - len(song), end) for song, end in zip(songs, ends, strict=True)]
        values = torch.cat(songs)
        if self.settings.pitch == "frequency":
            values[:, 2] = to_frequency(values[:, 2])
        return padded(Record(str(folder), values, features(self.settings.pitch), series), self.settings.length)

    def _read_all(self, files: list[Path]) -> list[Tensor]:
        songs, told = [], time.monotonic()
        for path in files:
            songs.append(read_midi(path))
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                self.context.notify(f"Midi: {len(songs)} of {len(files)} files read")
        return songs


@hookimpl
def register_datasets(register: Any) -> None:
    """Midi."""
    register("Midi", Midi)
