"""The live display of a run: what it is, how far, how well, its figures, its samples, and what happened last."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.text import Text

from ganglion.engine.tables import (
    BLUE,
    ORANGE,
    clean_text,
    format_duration,
    format_number,
    pair_lines,
    shorten,
    shorten_middle,
    sparkline,
    wrap,
)
from ganglion.engine.terminal.health import alarm_lines, health_line
from ganglion.engine.terminal.picture import Ink, picture_lines
from ganglion.engine.terminal.state import History, RunState
from ganglion.engine.trace import Validated

NUMBER_WIDTH = 10
WIDEST_BAR = 60
WIDEST_CURVE = 100
ROOMY = 16  # lines from which on there is room for what only explains
PICTURE_SHARE = 3  # a picture takes at most one of so many parts of the screen
NO_GOAL = "losses of players against each other need not fall; health and samples tell more"


def live_lines(state: RunState, width: int, height: int, ink: Ink = "colours") -> list[Text]:
    """The live display, never wider or higher than the terminal."""
    ascii_only, room = ink == "ascii", max(1, height - 1)
    head = _head_lines(state, width, ascii_only)
    health = _health_lines(state, width, max(1, height // 4), ascii_only)
    foot = _foot_lines(state, width)[-max(0, height - 6) :]
    left = room - len(head) - len(health) - len(foot) - 1 - bool(foot)
    rows = _figure_lines(state, width, left, height >= ROOMY, ascii_only)
    lines = [*head, *health, Text(), *rows]
    picture = _picture(state, width, min(height // PICTURE_SHARE, left - len(rows) - 1), ink)
    if picture:
        lines += [Text(), *picture]
    if foot:
        lines += [Text(), *foot]
    lines = lines[:room]
    for line in lines:  # a terminal of a few columns: what is left over is cut, never wrapped
        if line.cell_len > width:
            line.truncate(width)
    return lines


def _head_lines(state: RunState, width: int, ascii_only: bool) -> list[Text]:
    started, iteration = state.started, state.started.position()
    tag = clean_text(started.tag)
    # What stands before two blanks is a name, what follows explains it: the start block has all of it.
    names = [value.partition("  ")[0] for value in list(started.summary.values())[:2]]
    about = (", " if ascii_only else " · ").join(names)
    title = shorten(tag, width, ascii_only) if len(tag) + 4 > width else Text(tag)
    title.append_text(Text("  ") + shorten(about, max(0, width - title.cell_len - 2), ascii_only))
    title.stylize("bold", 0, len(tag))
    return [
        title,
        progress_line(iteration, started.iterations, width, ascii_only),
        _pace_line(state, iteration, width),
    ]


def progress_line(iteration: int, total: int | None, width: int, ascii_only: bool = False) -> Text:
    """A bar with the iteration and the total, or the iteration alone in an endless run."""
    if total is None:
        return Text(f"iteration {iteration:,}, endless"[:width])
    share = min(1.0, iteration / total) if total > 0 else 1.0
    counter = f"{iteration:,} / {total:,}  {math.floor(share * 100)} %"
    room = min(WIDEST_BAR, width - len(counter) - 2)
    if room < 4:
        return Text(counter[:width])
    filled = int(share * room)  # full at the end only
    full, rest = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble((full * filled, BLUE), (rest * (room - filled), "dim"), "  ", counter)


def _pace_line(state: RunState, iteration: int, width: int) -> Text:
    rate, total = state.rate(iteration), state.started.iterations
    parts = [f"{format_number(rate)} it/s" if math.isfinite(rate) else "- it/s"]
    if total is not None:
        left = (total - iteration) / rate if rate > 0 else math.nan
        parts.append(f"ETA {format_duration(left, precise=False)}")
    parts.append(f"elapsed {format_duration(state.elapsed(), precise=False)}")
    return Text("   ".join(parts)[:width])


def _health_lines(state: RunState, width: int, most: int, ascii_only: bool) -> list[Text]:
    """The state in a line, and below it why, in at most `most` lines."""
    health = state.health
    if health is None:
        return []
    sentences = alarm_lines(health.alarms, width)
    if len(sentences) > most:
        kept = shorten(f"{sentences[most - 1].plain} ...", width, ascii_only)
        sentences = [*sentences[: most - 1], kept]
    return [health_line(health, width, ascii_only), *sentences]


# --- figures ------------------------------------------------------------------------------------------------------


def _figure_lines(state: RunState, width: int, room: int, roomy: bool, ascii_only: bool) -> list[Text]:
    """As many values as there is room for, and what helps to read them where there is more room than that."""
    histories = dict(state.histories)
    if not histories:
        return [Text("no figures yet", style="dim")]
    rows = value_lines(histories, width, ascii_only, heading=roomy and len(histories) < room)
    if len(rows) > room:
        hidden = len(rows) - max(0, room - 1)
        return [*rows[: max(0, room - 1)], Text(f"and {hidden} more values in trace.jsonl", style="dim")]
    competing = sum(name.endswith("Loss") for name in histories) > 1
    if roomy and competing and len(rows) < room and len(NO_GOAL) <= width:
        rows.append(Text(NO_GOAL, style="dim"))
    return rows


def value_lines(
    histories: Mapping[str, History], width: int, ascii_only: bool = False, heading: bool = False
) -> list[Text]:
    """One row per progress value: name, latest number, curve over the run, lowest and highest."""
    names = {name: shorten_middle(name, max(8, width // 3), ascii_only) for name in histories}
    column = max((name.cell_len for name in names.values()), default=0)
    rest = width - column - NUMBER_WIDTH - 4
    with_range = rest >= 2 * NUMBER_WIDTH + 14
    room = min(WIDEST_CURVE, rest - (2 * NUMBER_WIDTH + 6 if with_range else 0))
    dots = ".." if ascii_only else "…"
    lines = []
    if heading:
        words = [" " * column, "now".rjust(NUMBER_WIDTH), "so far".ljust(max(room, 0)), f"lowest {dots} highest"]
        lines.append(Text("  ".join(words[: 2 + (room > 6) + with_range]).rstrip(), style="dim"))
    for key, history in histories.items():
        style = "bold" if math.isfinite(history.last) else f"bold {ORANGE}"
        line = names[key] + Text(" " * (column + 2 - names[key].cell_len))
        line.append(format_number(history.last).rjust(NUMBER_WIDTH), style)
        if room > 3:
            line.append("  " + sparkline(history.curve(), room, ascii_only), BLUE)
        if with_range and history.low < history.high:
            line.append(" " * (column + NUMBER_WIDTH + room + 6 - line.cell_len))
            line.append(f"{format_number(history.low)} {dots} {format_number(history.high)}", "dim")
        lines.append(line)
    return lines


# --- picture and foot ---------------------------------------------------------------------------------------------


def _picture(state: RunState, width: int, height: int, ink: Ink) -> list[Text]:
    """The picture of the latest samples, drawn once for each size."""
    kept = state.samples
    if kept is None:
        return []
    wanted = (kept.iteration, width, height, ink)
    if state.drawn is None or state.drawn[0] != wanted:
        state.drawn = (wanted, picture_lines(kept, width, height, ink))
    return state.drawn[1]


def _foot_lines(state: RunState, width: int) -> list[Text]:
    pairs: dict[str, str] = {}
    if state.validated is not None:
        pairs["validation"] = validation_text(state.validated)
    if state.checkpoint is not None:
        ago = format_duration(state.clock() - state.stored, precise=False)
        pairs["checkpoint"] = f"{state.checkpoint.iteration:,}, {ago} ago"
    lines = pair_lines(pairs, width, indent=0)
    for message, times in state.news()[-3:]:
        lines += notice_lines(message, times, width)[:2]
    return lines


def validation_text(event: Validated) -> str:
    """The figures of a validation, and whether they are the best."""
    figures = "  ".join(f"{name} {format_number(float(value))}" for name, value in event.values.items())
    return f"{figures}  at {event.iteration:,}{', the best so far' if event.best else ''}"


def notice_lines(message: str, times: int, width: int) -> list[Text]:
    """A notice, and how often it came."""
    return wrap(f"{message}{f' ({times} times)' if times > 1 else ''}", width, Text("! ", style=f"bold {ORANGE}"))
