"""Judging sequences of notes by the statistics of their tones, loudness and chords."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import DataError, Evaluation, EvaluationContext, Metric, Settings, hookimpl, setting
from ganglion.strategies.metrics.series.windows import beside, made_windows, makes_series, own_units

NAME = "music-v1"
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
OCTAVE = 12
LONGEST = 9  # tones of the longest repetition that is counted


class MusicSettings(Settings):
    """Settings of the metric `music-v1`."""

    count: int = setting(500, "samples, and real windows at most", ge=1)
    pitch: Literal["auto", "frequency", "note"] = setting(
        "auto", "what pitches are: hertz, or MIDI note numbers; auto: hertz where the feature is named so"
    )


class Music(Metric):
    """Statistics of music made of note events, of samples and, `...Real`, of real windows; means over windows.

    A step is an event: ticks since the previous onset, then length, pitch and velocity of one tone, or of each of
    several. A tone with a length, pitch or velocity of half a unit or less is silence and counts nowhere.
    `scaleConsistency`: share of tones in the best of 36 scales (major, natural and harmonic minor on 12 roots);
    `toneSpan`: highest minus lowest tone in semitones; `uniqueTones`; `repetitions2` .. `repetitions9`: pairs of equal
    runs of so many tones that do not overlap; `intensitySpan`: largest minus smallest velocity; `polyphony`: share of
    onsets at which more than one tone begins. `silent`: share of samples without any tone, which the other figures
    leave out. (Mogren 2016, https://arxiv.org/abs/1611.09904, and its code.)

    Deviations: the published code does not take the distance from the root modulo 12, and so misses tones below it; it
    counts polyphony per note and forgets the last onset; and its repetitions leave out the last place.
    """

    Settings = MusicSettings

    def applies(self, context: EvaluationContext) -> bool:
        return makes_series(context) and any("velocity" in name.lower() for name in context.spec.features)

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        features = context.spec.features
        hertz = self.settings.pitch == "frequency" or (
            self.settings.pitch == "auto" and any("freq" in name.lower() for name in features)
        )
        windows, what = beside(context, NAME, self.settings.count)
        made = own_units(context, made_windows(context, NAME, self.settings.count))
        real, found = statistics(own_units(context, windows), hertz, what), statistics(made, hertz, "samples")
        values: dict[str, float] = {}
        for name, value in found.items():
            values |= {name: value, f"{name}Real": real[name]}
        return Evaluation(NAME, {**values, "samples": float(len(made))}, {"real": what})


class Notes(NamedTuple):
    """The tones of one window in order: MIDI numbers, velocities and the number of the onset each begins at."""

    tones: Tensor
    velocities: Tensor
    onsets: Tensor


def statistics(windows: Tensor, hertz: bool, what: str = "windows") -> dict[str, float]:
    """Means over windows (count, events, 1 + 3 tones) of the statistics. Raises DataError where none has a tone."""
    if windows.shape[2] < 4 or windows.shape[2] % 3 != 1:
        raise DataError(
            f"metric {NAME}: an event must be ticks, then length, pitch and velocity per tone: 4, 7, 10... features, "
            f"and there are {windows.shape[2]}"
        )
    notes = [each for each in (notes_of(window, hertz) for window in windows.double()) if len(each.tones)]
    if not notes:
        raise DataError(f"metric {NAME}: none of the {len(windows)} {what} holds a tone: nothing to compare")
    rows = [_statistics(each) for each in notes]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {**means, "silent": 1 - len(notes) / len(windows)}


def notes_of(window: Tensor, hertz: bool) -> Notes:
    """The tones of one window (events, 1 + 3 tones)."""
    cells = window[:, 1:].reshape(len(window), -1, 3)
    lengths, pitches, velocities = cells.unbind(2)
    sounding = (lengths > 0.5) & (pitches > 0.5) & (velocities > 0.5)
    numbers = 69 + OCTAVE * (pitches.clamp_min(1e-9) / 440).log2() if hertz else pitches
    # Events without ticks since the one before begin at the same time as it.
    later = (window[:, 0] > 0.5).long().cumsum(0)[:, None].expand_as(sounding)
    return Notes(numbers[sounding].round().long(), velocities[sounding], later[sounding])


def _statistics(notes: Notes) -> dict[str, float]:
    tones, velocities = notes.tones, notes.velocities
    chords = notes.onsets.unique(return_counts=True)[1]
    return {
        "scaleConsistency": scale_consistency(tones),
        "toneSpan": float(tones.max() - tones.min()),
        "uniqueTones": float(len(tones.unique())),
        **{f"repetitions{length}": float(number) for length, number in repetitions(tones).items()},
        "intensitySpan": float(velocities.max() - velocities.min()),
        "polyphony": float((chords > 1).double().mean()),
    }


def scale_consistency(tones: Tensor) -> float:
    """The share of tones (count,) that are in the best of the 36 scales."""
    counts = torch.bincount(tones % OCTAVE, minlength=OCTAVE)
    roots = torch.arange(OCTAVE)[:, None]
    best = max(int(counts[(roots + torch.tensor(scale)) % OCTAVE].sum(1).max()) for scale in SCALES.values())
    return best / len(tones)


def repetitions(tones: Tensor) -> dict[int, int]:
    """For runs of 2 to 9 tones (count,): how many pairs of them are equal and do not overlap."""
    equal = tones[:, None] == tones[None, :]
    same, found = equal, {}
    for length in range(2, LONGEST + 1):
        same = same[:-1, :-1] & equal[length - 1 :, length - 1 :]  # runs of `length` from i and from j are equal
        found[length] = int(same.triu(diagonal=length).sum())
    return found


@hookimpl
def register_metrics(register: Any) -> None:
    """music-v1."""
    register(NAME, Music)
