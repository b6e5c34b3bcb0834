"""Reads the notes of a MIDI file, where mido is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganglion.datasets.series.music import BEAT
from ganglion.engine.api import DataError

LIMIT = 1 << 24  # bytes of a file
DRUMS = 9  # the channel on which notes are instruments
BROKEN = (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, OverflowError)  # what mido raises


def read_midi(path: Path) -> Tensor:
    """Events (count, 4) in the order of their beginnings: ticks since the one before, length, note number, velocity.

    480 ticks are a quarter note, whatever the file's resolution; tempo and drums are left out. Raises DataError.
    """
    try:
        import mido
    except ImportError:
        raise DataError(f"{path}: MIDI needs mido: pip install ganglion[midi]") from None
    try:
        if path.stat().st_size > LIMIT:
            raise DataError(f"{path}: the file is larger than the {LIMIT} bytes that are allowed")
        song = mido.MidiFile(path)
        if song.ticks_per_beat <= 0 or song.type not in (0, 1):
            raise DataError(f"{path}: MIDI files of type 0 or 1 with ticks per quarter note are read, no others")
        found = sorted(note for track in song.tracks for note in _notes(track))
        starts, notes, lengths, velocities = zip(*found, strict=True) if found else ((), (), (), ())
        columns = [torch.tensor(values, dtype=torch.float64) for values in (starts, lengths, notes, velocities)]
    except BROKEN as error:
        raise DataError(f"{path}: the file is truncated, corrupt or not a MIDI file ({error})") from None
    events = torch.stack(columns, dim=1)
    events[:, 0] = events[:, 0].diff(prepend=events[:1, 0])
    events[:, :2] *= BEAT / song.ticks_per_beat
    return events


def _notes(track: Any) -> list[tuple[int, int, int, int]]:
    """Beginning, number, length and velocity of each note; one that is never ended lasts to the end of the track."""
    now = 0
    done: list[tuple[int, int, int, int]] = []
    sounding: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        begun = sounding.setdefault((message.channel, message.note), [])
        if message.type == "note_on" and message.velocity:
            begun.append((now, message.velocity))
        elif begun:
            start, velocity = begun.pop(0)
            done.append((start, message.note, now - start, velocity))
    for (_, note), begun in sounding.items():
        done += [(start, note, now - start, velocity) for start, velocity in begun]
    return done
