"""A run's health in a few words: a sign and a word that are plain without colour, the alarms, the telling figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.text import Text

from ganglion.engine.tables import BLUE, ORANGE, clean_text, format_number, wrap
from ganglion.engine.trace import Alarm, HealthRead

SPREAD, COVERED, REAL, FAKE = "pairwiseDistance", "coverage", "accuracyReal", "accuracyFake"
MOST_FIGURES = 3
SIGNS = {False: ("✓", "ok:"), True: ("▲", "!!")}


def health_line(health: HealthRead, width: int, ascii_only: bool = False) -> Text:
    """`health  ✓ healthy  spread 94 %  at 12,300`, as much of it as fits into `width`."""
    alarmed = bool(health.alarms)
    words = ", ".join(dict.fromkeys(clean_text(alarm.kind) for alarm in health.alarms)) or "healthy"
    line = Text.assemble(("health", "bold"), "  ", no_wrap=True)
    line.append(f"{SIGNS[alarmed][ascii_only]} {words}", f"bold {ORANGE if alarmed else BLUE}")
    for part in [*figures(health.values), f"at {health.iteration:,}"]:
        if line.cell_len + 2 + Text(part).cell_len > width:
            break
        line.append(f"  {part}")
    line.truncate(width)
    return line


def figures(values: Mapping[str, float]) -> list[str]:
    """The figures that tell most, as a person would call them; of others, the first few under their own names."""
    known = []
    if SPREAD in values:
        known.append(f"spread {_percent(values[SPREAD])}")
    if COVERED in values:
        known.append(f"data covered {_percent(values[COVERED])}")
    if REAL in values and FAKE in values:  # half of each is what guessing gives
        known.append(f"told apart {_percent((values[REAL] + values[FAKE]) / 2)}")
    plain = [f"{clean_text(name)} {format_number(float(value))}" for name, value in values.items()]
    return known or plain[:MOST_FIGURES]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def alarm_lines(alarms: Iterable[Alarm], width: int) -> list[Text]:
    """The sentence of each alarm."""
    lines = []
    for alarm in alarms:
        lines += wrap(alarm.sentence, width, Text("  "))
    return lines


class Teller:
    """Says in plain lines what is new about a run's health: the first reading, and every change of its alarms."""

    def __init__(self) -> None:
        self._kinds: tuple[str, ...] | None = None

    def lines(self, health: HealthRead, width: int, ascii_only: bool, problems_only: bool = False) -> list[Text]:
        """What is to be printed: `problems_only` leaves out that all is well where nothing else was said before."""
        kinds, before = tuple(sorted({alarm.kind for alarm in health.alarms})), self._kinds
        self._kinds = kinds
        if kinds == before or (problems_only and not kinds and not before):
            return []
        new = [alarm for alarm in health.alarms if alarm.kind not in (before or ())]
        return [health_line(health, width, ascii_only), *alarm_lines(new, width)]
