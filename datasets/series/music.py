"""Notes as events: the four features, and the two ways to write a pitch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pitch = Literal["note", "frequency"]
BEAT = 480  # ticks of a quarter note
MAJOR = (0, 2, 4, 5, 7, 9, 11)  # semitones of a major scale above its first note


def features(pitch: Pitch) -> tuple[str, str, str, str]:
    """Ticks since the event before began, ticks that it lasts, its pitch, and how hard it is struck (1 to 127)."""
    return ("ticks", "length", pitch, "velocity")


def to_frequency(note: Tensor) -> Tensor:
    """MIDI note numbers as frequencies in hertz; 69 is the A of 440 Hz."""
    return 440.0 * torch.exp2((note - 69.0) / 12.0)


def to_note(frequency: Tensor) -> Tensor:
    """Frequencies in hertz as MIDI note numbers, not rounded; what is not above 0 counts as note 0."""
    lowest = to_frequency(torch.zeros((), dtype=frequency.dtype, device=frequency.device))
    return 69.0 + 12.0 * (frequency.maximum(lowest) / 440.0).log2()
