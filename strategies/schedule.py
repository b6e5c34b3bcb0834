"""The schedule of an adversarial iteration as data: which player is updated how often, and until when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ganglion.engine.api import ConfigError, suggestion

PLAYERS = {"discriminator": "discriminator", "critic": "discriminator", "generator": "generator"}
TURN = re.compile(r"([A-Za-z]+)(?:\*([0-9]{1,9}))?")
END = re.compile(r"[0-9]{1,18}")


class Turn(NamedTuple):
    """So many updates of one player."""

    player: str
    updates: int


class Phase(NamedTuple):
    """The turns of every iteration before iteration `until` (None: for good)."""

    turns: tuple[Turn, ...]
    until: int | None


@dataclass(frozen=True)
class Schedule:
    """Phases in order; the last has no end."""

    phases: tuple[Phase, ...]

    def turns(self, iteration: int) -> tuple[Turn, ...]:
        """The turns of one iteration (0-based)."""
        for phase in self.phases:
            if phase.until is None or iteration < phase.until:
                return phase.turns
        raise AssertionError("the last phase has no end")

    def __str__(self) -> str:
        return ", ".join(
            " ".join(f"{turn.player}*{turn.updates}" for turn in phase.turns)
            + (f" until {phase.until}" if phase.until is not None else "")
            for phase in self.phases
        )


def parse_schedule(text: str) -> Schedule:
    """Read `discriminator*100 generator until 25, discriminator*5 generator`. Raises ConfigError."""
    phases = [_parse_phase(part, text) for part in text.split(",")]
    ends = [phase.until for phase in phases]
    if ends[-1] is not None or None in ends[:-1]:
        raise ConfigError(f"schedule '{text}': every phase but the last ends with 'until N'")
    numbers = [end for end in ends if end is not None]
    if numbers != sorted(set(numbers)):
        raise ConfigError(f"schedule '{text}': the phases' ends must increase")
    return Schedule(tuple(phases))


def _parse_phase(part: str, text: str) -> Phase:
    words, until = part.split(), None
    if len(words) >= 2 and words[-2] == "until" and END.fullmatch(words[-1]):
        words, until = words[:-2], int(words[-1])
    turns = []
    for word in words:
        match = TURN.fullmatch(word)
        if match is None or match[1].lower() not in PLAYERS or (match[2] and not int(match[2])):
            raise ConfigError(
                f"schedule '{text}': '{word}' is not PLAYER or PLAYER*COUNT{suggestion(word, set(PLAYERS))}"
            )
        turns.append(Turn(PLAYERS[match[1].lower()], int(match[2] or 1)))
    if not turns:
        raise ConfigError(f"schedule '{text}': a phase names no player, e.g. 'discriminator*5 generator'")
    return Phase(tuple(turns), until)
