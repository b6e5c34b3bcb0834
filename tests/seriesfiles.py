"""Small files for the data sets that read series, and the keys with which they are read."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DAY = np.timedelta64(1, "D")


def dated(count: int, columns: int = 2, step: np.timedelta64 = DAY, newest_first: bool = False) -> str:
    """A CSV file: dates from 2024-01-01 on, and columns a, b... of numbers above 0."""
    start = np.datetime64("2024-01-01T00:00:00")
    rows = [
        ",".join([str(start + row * step), *(f"{5 + math.sin(row * (place + 1)):.6f}" for place in range(columns))])
        for row in range(count)
    ]
    header = ",".join(["date", *"abcdefgh"[:columns]])
    return "\n".join([header, *(reversed(rows) if newest_first else rows)]) + "\n"


def zipped(name: str, content: str) -> bytes:
    """A ZIP file with one file in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def midi_file(tracks: Sequence[Sequence[tuple[int, bytes]]], resolution: int = 480, kind: int = 1) -> bytes:
    """A MIDI file of (ticks since the message before, message) in each track."""
    chunks = [b"MThd" + struct.pack(">LHHh", 6, kind, len(tracks), resolution)]
    for track in tracks:
        body = b"".join(_variable(ticks) + message for ticks, message in [*track, (0, b"\xff\x2f\x00")])
        chunks.append(b"MTrk" + struct.pack(">L", len(body)) + body)
    return b"".join(chunks)


def _variable(number: int) -> bytes:
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append((number & 0x7F) | 0x80)
    return bytes(reversed(parts))


def melody(notes: int, seed: int) -> bytes:
    """A MIDI file of one track with notes one after the other."""
    drawn = np.random.default_rng(seed).integers(60, 80, notes)
    track = [part for note in drawn for part in ((0, bytes((0x90, note, 90))), (240, bytes((0x80, note, 0))))]
    return midi_file([track])


def repetitions(folder: Path, count: int = 10) -> None:
    """The four files of Movements, with `count` repetitions of each class."""
    random = np.random.default_rng(0)
    for word in ("Correct", "Incorrect"):
        np.savetxt(folder / f"m01_Autoencoder_Output_{word}.csv", random.normal(size=(count, 960)), "%.4f", ",")
        np.savetxt(folder / f"m01_Labels_{word}.csv", random.uniform(size=count), "%.4f")


def _stocks(folder: Path) -> dict[str, Any]:
    (folder / "stocks.csv").write_text("\n".join(row.partition(",")[2] for row in dated(300, 6).splitlines()))
    return {"path": str(folder / "stocks.csv")}


def _energy(folder: Path) -> dict[str, Any]:
    (folder / "energy.zip").write_bytes(zipped("energy.csv", dated(300, 6, np.timedelta64(10, "m"))))
    return {"path": str(folder / "energy.zip")}


def _returns(folder: Path) -> dict[str, Any]:
    (folder / "prices.csv").write_text(dated(301, 1, newest_first=True))
    return {"path": str(folder / "prices.csv"), "price": "a", "length": 64}


def _series(folder: Path) -> dict[str, Any]:
    (folder / "series.csv").write_text(dated(300, 3))
    return {"path": str(folder / "series.csv"), "time": "date", "calendar": "month", "covariates": "c"}


def _movements(folder: Path) -> dict[str, Any]:
    repetitions(folder)
    return {"path": str(folder)}


def _midi(folder: Path) -> dict[str, Any]:
    for number in range(10):
        (folder / f"{number}.mid").write_bytes(melody(20 + 3 * number, number))
    return {"path": str(folder), "length": 24}


WRITERS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "Stocks": _stocks,
    "Energy": _energy,
    "Returns": _returns,
    "Series": _series,
    "Movements": _movements,
    "Midi": _midi,
}


def write_series(dataset: str, folder: Path) -> dict[str, Any]:
    """Write what the data set reads; its keys, none for one that reads no files of this kind."""
    return WRITERS[dataset](folder) if dataset in WRITERS else {}
