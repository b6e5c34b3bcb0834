"""MadeMusic: random melodies in C major, for which statistics of music have exact values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ganglion.datasets.scaling import Scaler, fit_scaler
from ganglion.datasets.series.made import EXACT, MadeSeries, MadeSettings
from ganglion.datasets.series.music import BEAT, MAJOR, Pitch, features, to_frequency, to_note
from ganglion.engine.api import hookimpl, setting

LENGTHS = (BEAT // 4, BEAT // 2, BEAT)  # sixteenth, eighth and quarter notes, equally likely
SOFTEST, LOUDEST = 60, 100
LOWEST = 60  # middle C
OCTAVES = 2
LEAP = 2  # degrees of the scale from one note to the next, at most


class MadeMusicSettings(MadeSettings):
    """Settings of MadeMusic."""

    length: int = setting(100, "events of a melody", unit="events", ge=1)
    chords: float = setting(0.2, "share of events that begin together with the one before", ge=0, lt=1)
    pitch: Pitch = setting("note", "pitch as MIDI note number, or as frequency in hertz")
    scale: Literal["minmax", "symmetric", "none"] = setting(
        "minmax", "from 0 to 1, from -1 to 1, or as they are, by the known limits of each feature"
    )


class MadeMusic(MadeSeries):
    """Melodies of 100 events (ticks since the event before, length in ticks, pitch, velocity); 480 ticks a quarter.

    A random walk of up to two degrees at a time on two octaves of C major from middle C; sixteenth, eighth and quarter
    notes; velocities 60 to 100. Samples are judged, after rounding to whole notes, by inScale, the share of notes of
    the scale (exactly 1), inRange, the share within the two octaves (exactly 1), and chordShare, the share of events
    less than half of a sixteenth after the one before, beside its exact value, chordShareExact.
    """

    Settings = MadeMusicSettings

    name = "MadeMusic"

    def features(self) -> tuple[str, ...]:
        return features(self.settings.pitch)

    def value_range(self) -> tuple[float, float] | None:
        return {"minmax": (0.0, 1.0), "symmetric": (-1.0, 1.0)}.get(self.settings.scale)

    def scaler(self) -> Scaler:
        """The scale that the limits of the features give."""
        low = torch.tensor([0.0, LENGTHS[0], LOWEST, SOFTEST], dtype=EXACT)
        high = torch.tensor([LENGTHS[-1], LENGTHS[-1], LOWEST + 12 * OCTAVES, LOUDEST], dtype=EXACT)
        limits = torch.stack([low, high])
        return fit_scaler(self.settings.scale, self._pitched(limits))

    def _pitched(self, events: Tensor) -> Tensor:
        if self.settings.pitch == "note":
            return events
        return torch.cat([events[..., :2], to_frequency(events[..., 2:3]), events[..., 3:]], dim=-1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        shape, lengths = (count, self.settings.length), torch.tensor(LENGTHS, dtype=EXACT)
        apart, lasting = (lengths[torch.randint(len(LENGTHS), shape, generator=generator)] for _ in range(2))
        together = torch.rand(shape, generator=generator, dtype=EXACT) < self.settings.chords
        velocity = torch.randint(SOFTEST, LOUDEST + 1, shape, generator=generator).to(EXACT)
        ticks = torch.where(together, torch.zeros_like(apart), apart)
        events = torch.stack([ticks, lasting, self._walk(shape, generator), velocity], dim=2)
        return self.scaler().forward(self._pitched(events))

    def _walk(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Note numbers (count, events): a walk that is turned back at both ends of the scale."""
        top = len(MAJOR) * OCTAVES
        leaps = torch.randint(-LEAP, LEAP + 1, shape, generator=generator)
        leaps[:, 0] = torch.randint(top + 1, (shape[0],), generator=generator)
        folded = leaps.cumsum(dim=1) % (2 * top)
        degrees = torch.minimum(folded, 2 * top - folded)
        return LOWEST + 12.0 * (degrees // len(MAJOR)) + torch.tensor(MAJOR, dtype=EXACT)[degrees % len(MAJOR)]

    def unscale(self, samples: Tensor) -> Tensor:
        """Samples (count, events, 4) in ticks, note numbers or hertz, and velocities."""
        return self.scaler().inverse(samples)

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        events = self.unscale(samples.to("cpu", EXACT))
        pitch = events[..., 2] if self.settings.pitch == "note" else to_note(events[..., 2])
        notes = pitch.round()
        in_scale = (notes[..., None] % 12 == torch.tensor(MAJOR, dtype=EXACT)).any(dim=-1)
        in_range = (notes >= LOWEST) & (notes <= LOWEST + 12 * OCTAVES)
        together = events[..., 0] < LENGTHS[0] / 2
        named = {"inScale": in_scale, "inRange": in_range, "chordShare": together}
        figures = {name: float(value.to(EXACT).mean()) for name, value in named.items()}
        return {**figures, "chordShareExact": self.settings.chords}


@hookimpl
def register_datasets(register: Any) -> None:
    """MadeMusic."""
    register("MadeMusic", MadeMusic)
