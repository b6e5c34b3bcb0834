"""Plain lines about a run: how it begins, a table that grows, how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from ganglion.engine.tables import ORANGE, clean_text, format_duration, format_number, pair_lines, shorten_middle, wrap
from ganglion.engine.terminal.health import alarm_lines, health_line
from ganglion.engine.terminal.screen import NUMBER_WIDTH, validation_text, value_lines
from ganglion.engine.terminal.state import RunState
from ganglion.engine.trace import RunFailed, RunFinished, RunStarted, TracePoint

FREELY = 100  # plain lines that come as they come, before they are thinned out


def start_lines(event: RunStarted, width: int) -> list[Text]:
    """What begins: tag, place, summary, and what the engine decided."""
    verb = "begins" if event.iteration == 0 else f"goes on at iteration {event.iteration:,}"
    title = Text(clean_text(event.tag), style="bold")
    lines = wrap(f"{verb} in {event.directory}", width, title + Text(" "))
    lines += pair_lines(event.summary, width)
    for notice in event.notices:
        lines += wrap(notice, width, Text("  ! ", style=f"bold {ORANGE}"))
    return lines


def end_lines(event: RunFinished | RunFailed, state: RunState, width: int, ascii_only: bool = False) -> list[Text]:
    """How it ended: status, iteration, seconds, the last values, health, and where the last checkpoint is."""
    total = state.started.iterations
    where = f"at iteration {event.iteration:,}" + (f" of {total:,}" if total is not None else "")
    tag = Text(clean_text(state.started.tag), style="bold")
    if isinstance(event, RunFailed):
        lines = wrap(f"failed {where}: {event.reason}", width, tag + Text(" "), style=f"bold {ORANGE}")
    else:
        reason = f" ({event.reason})" if event.reason else ""
        text = f"{event.status} {where} after {format_duration(event.seconds)}{reason}"
        lines = wrap(text, width, tag + Text(" "))
    lines += [Text("  ") + line for line in value_lines(state.histories, width - 2, ascii_only)]
    if state.health is not None:
        unsaid = [alarm for alarm in state.health.alarms if alarm.sentence not in event.reason]
        shown = [health_line(state.health, width - 2, ascii_only), *alarm_lines(unsaid, width - 2)]
        lines += [Text("  ") + line for line in shown]
    pairs = {}
    if state.validated is not None:
        pairs["validation"] = validation_text(state.validated)
    if state.checkpoint is not None:
        pairs["checkpoint"] = str(state.checkpoint.directory)
    return lines + pair_lines(pairs, width)


class Columns:
    """Aligned columns for plain lines: as wide as their heads or a number, more than fit go on in the line below."""

    def __init__(self, names: Sequence[str], total: int | None, width: int) -> None:
        self.names = tuple(names)
        fixed = [("iteration", max(9, len(str(total or "")))), ("it/s", NUMBER_WIDTH), ("elapsed", 9)]
        self.indent = fixed[0][1]
        self.rows: list[list[tuple[str, int]]] = [fixed]
        used = sum(column + 2 for _, column in fixed) - 2
        longest = max(NUMBER_WIDTH, min(30, width - self.indent - 2))
        if sum(2 + max(NUMBER_WIDTH, len(name)) for name in names) > width - used >= len(names) * (2 + NUMBER_WIDTH):
            longest = (width - used) // len(names) - 2  # shorter heads, and all in one line
        for name in names:
            head = shorten_middle(name, longest, ascii_only=True)
            column = max(NUMBER_WIDTH, head.cell_len)
            if used + 2 + column > width and self.rows[-1]:
                self.rows.append([])
                used = self.indent
            self.rows[-1].append((head.plain, column))
            used += 2 + column

    def head(self) -> list[str]:
        """The header lines."""
        return self._lines([name for row in self.rows for name, _ in row])

    def line(self, point: TracePoint) -> list[str]:
        """One trace point."""
        values = [format_number(float(point.values[name])) for name in self.names]
        return self._lines([str(point.iteration), format_number(point.rate), format_duration(point.seconds), *values])

    def _lines(self, cells: Iterable[str]) -> list[str]:
        remaining = iter(cells)
        lines = []
        for number, row in enumerate(self.rows):
            parts = [" " * (column - Text(cell).cell_len) + cell for (_, column), cell in zip(row, remaining)]  # noqa: B905
            lines.append(" " * (self.indent + 2 if number else 0) + "  ".join(parts))
        return lines


class Pace:
    """Thins out plain lines: the first hundred trace points as they come, then one every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._shown, self._last = 0, 0.0

    def allows(self, now: float) -> bool:
        """Whether a trace point that comes `now` is shown."""
        if self._shown >= FREELY and now - self._last < self.seconds:
            return False
        self._shown, self._last = self._shown + 1, now
        return True

    @property
    def note(self) -> str | None:
        """What is said once, after the last line that came freely."""
        if self._shown != FREELY or not self.seconds:
            return None
        return f"(from here on a line every {self.seconds:g} s; trace.jsonl has every trace point)"
