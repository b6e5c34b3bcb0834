"""What a comparison found: medians, intervals and tests per figure, times, and the tables that show them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.comparejudging import FigureChoice
from ganglion.engine.comparerecord import Record, task_name
from ganglion.engine.errors import suggestion
from ganglion.engine.statistics import SIGNIFICANT, Interval, holm, median, median_interval, sign_flip, smallest_p
from ganglion.engine.tables import clean_text, format_number

ENOUGH = 6  # values whose lowest and highest enclose the median in more than 95 % of the cases


class Row(NamedTuple):
    """One entry in one figure; the last four compare it with the baseline, seed by seed, and are None for itself."""

    entry: str
    values: Mapping[int, float]  # by seed
    median: float | None
    interval: Interval | None
    pairs: int | None = None
    difference: float | None = None  # mean of entry minus baseline
    p: float | None = None
    holm: float | None = None


class Figure(NamedTuple):
    """One figure of all entries; `better` is higher, lower, or empty where that is not known."""

    name: str
    better: str
    rows: Sequence[Row]

    def best(self, seeds: int) -> float | None:
        """The best median of those over all seeds, where it is known which that is."""
        medians = [row.median for row in self.rows if row.median is not None and len(row.values) == seeds]
        return {"higher": max, "lower": min}[self.better](medians) if self.better and medians else None


class Speed(NamedTuple):
    """How long one entry learnt: medians over its finished runs."""

    entry: str
    runs: int
    iterations: float | None
    seconds: float | None
    rate: float | None  # iterations per second


class Summary(NamedTuple):
    """All that a comparison found."""

    against: str
    seeds: Sequence[int]
    figures: Sequence[Figure]
    constant: Mapping[str, float]  # medians of figures that are the same for every entry
    speeds: Sequence[Speed]
    failed: Mapping[str, str]  # what went wrong, by task
    unjudged: Mapping[str, Sequence[str]]  # the tasks that could not be judged, by the reason
    absent: Sequence[str]  # sentences on figures that no run has
    notices: Sequence[str]


def summarise(record: Record) -> Summary:
    """Everything that the record's finished runs say about what is asked for."""
    comparison = record.comparison
    found = {
        entry.label: {
            seed: record.figures(entry, seed)
            for seed in comparison.seeds
            if record.of(entry, seed)["status"] == "finished"
        }
        for entry in comparison.entries
    }
    names = list(dict.fromkeys(name for runs in found.values() for values in runs.values() for name in values))
    choices = comparison.figures or [FigureChoice(name) for name in names]
    absent = [
        f"no run has the figure {choice.name}{suggestion(choice.name, names)}"
        for choice in choices
        if choice.name not in names
    ]
    constant, figures = {}, []
    for choice in choices:
        if choice.name not in names:
            continue
        columns = {label: _column(runs, choice.name) for label, runs in found.items()}
        same = None if comparison.figures else _same(columns)
        if same is not None:
            constant[choice.name] = same
        else:
            figures.append(Figure(choice.name, choice.better, _rows(columns, comparison.against)))
    failed = {
        task_name(entry, seed): str(record.of(entry, seed).get("error", ""))
        for entry, seed in comparison.tasks()
        if record.of(entry, seed)["status"] == "failed"
    }
    speeds = [_speed(record, entry) for entry in comparison.entries]
    unjudged: dict[str, list[str]] = {}
    for entry, seed in comparison.tasks():
        for reason in dict.fromkeys(record.problems(entry, seed).values()):
            unjudged.setdefault(reason, []).append(task_name(entry, seed))
    notices = [*comparison.notices, *_too_few(figures), *_too_short(figures)]
    notices += [f"{_of(labels, comparison.entries)}: {said}" for said, labels in record.notices().items()]
    return Summary(comparison.against, comparison.seeds, figures, constant, speeds, failed, unjudged, absent, notices)


def _of(labels: Sequence[str], entries: Sequence[Any]) -> str:
    return "every entry" if len(labels) == len(entries) > 1 else ", ".join(labels)


def _column(runs: Mapping[int, Mapping[str, float | None]], name: str) -> dict[int, float]:
    values = {seed: figures.get(name) for seed, figures in runs.items()}
    return {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}


def _same(columns: Mapping[str, Mapping[int, float]]) -> float | None:
    """The median of a figure that is the same for every entry, seed by seed: it compares nothing."""
    first, *others = columns.values()
    return median(list(first.values())) if first and others and all(first == other for other in others) else None


def _rows(columns: Mapping[str, Mapping[int, float]], against: str) -> list[Row]:
    baseline = columns[against]
    rows = []
    for label, column in columns.items():
        values = list(column.values())
        middle, interval = (median(values), median_interval(values)) if values else (None, None)
        row = Row(label, column, middle, interval)
        if label != against:
            differences = [column[seed] - baseline[seed] for seed in column if seed in baseline]
            mean = sum(differences) / len(differences) if differences else None
            row = row._replace(pairs=len(differences), difference=mean, p=sign_flip(differences))
        rows.append(row)
    return [row._replace(holm=value) for row, value in zip(rows, holm([row.p for row in rows]), strict=True)]


def _speed(record: Record, entry: Any) -> Speed:
    tasks = [record.of(entry, seed) for seed in record.comparison.seeds]
    done = [task for task in tasks if task["status"] == "finished" and task.get("seconds")]
    if not done:
        return Speed(entry.label, 0, None, None, None)
    rates = [task["iteration"] / task["seconds"] for task in done]
    iterations, seconds = (median([task[key] for task in done]) for key in ("iteration", "seconds"))
    return Speed(entry.label, len(done), iterations, seconds, median(rates))


def _too_few(figures: Sequence[Figure]) -> list[str]:
    """What must be said where no test could find anything."""
    pairs = [[row.pairs for row in figure.rows if row.pairs] for figure in figures]
    pairs = [each for each in pairs if each]
    if not pairs:
        return []
    tests, most = max(len(each) for each in pairs), max(max(each) for each in pairs)
    least = tests * smallest_p(most)
    if least <= SIGNIFICANT:
        return []
    needed = next(count for count in itertools.count(1) if tests * 2 / 2**count <= SIGNIFICANT)
    formula = f"2 / 2^{most}" if tests == 1 else f"{tests} * 2 / 2^{most}"
    return [
        f"with {_many(most, 'pair')} and {_many(tests, 'comparison')} no sign-flip test can be significant at 5 %: "
        f"p (Holm) is at least {formula} = {min(1.0, least):.4g}; it takes {needed} seeds or more"
    ]


def _too_short(figures: Sequence[Figure]) -> list[str]:
    """What must be said where an interval cannot cover the median as often as it claims."""
    counts = [len(row.values) for figure in figures for row in figure.rows if row.values]
    if not counts or min(counts) >= ENOUGH:
        return []
    share = 100 * (1 - 2.0 ** (1 - min(counts)))
    return [f"with n = {min(counts)} the interval of the median covers it at most {share:g} % of the time"]


# --- tables -------------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    """A table to print, or to write as Markdown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(summary: Summary) -> list[Table]:
    """The medians side by side where there are several figures, one table per figure, and one of times."""
    made = [_overview(summary)] if len(summary.figures) > 1 else []
    made += [_figure_table(figure, summary) for figure in summary.figures]
    speeds = [
        [speed.entry, str(speed.runs), _short(speed.iterations), _short(speed.seconds), _short(speed.rate)]
        for speed in summary.speeds
    ]
    return [*made, Table("time to learn (medians)", ["entry", "runs", "iterations", "seconds", "it/s"], speeds)]


def _overview(summary: Summary) -> Table:
    """The median of every figure and of the seconds, one line per entry."""
    names = [figure.name.partition(".")[2] for figure in summary.figures]
    columns = [
        names[place] if names.count(names[place]) == 1 else figure.name for place, figure in enumerate(summary.figures)
    ]
    rows = []
    for place, speed in enumerate(summary.speeds):
        found = [figure.rows[place] for figure in summary.figures]
        medians = [_short(row.median) + ("!" if len(row.values) < len(summary.seeds) else "") for row in found]
        rows.append([speed.entry, *medians, _short(speed.seconds)])
    return Table(f"medians over {_many(len(summary.seeds), 'seed')}", ["entry", *columns, "seconds"], rows)


def _figure_table(figure: Figure, summary: Summary) -> Table:
    better = f" ({figure.better} is better; * the best median)" if figure.better else ""
    best = figure.best(len(summary.seeds))
    rows = []
    for row in figure.rows:
        whole = len(row.values) == len(summary.seeds)
        mark = " *" if best is not None and whole and row.median == best else ""
        interval = "" if row.interval is None else f"{_short(row.interval.low)} .. {_short(row.interval.high)}"
        runs = f"{len(row.values)}" if whole else f"{len(row.values)}!"
        tests = [_short(row.difference), _short(row.p), _short(row.holm)]
        rows.append([row.entry, runs, _short(row.median) + mark, interval, *tests])
    columns = ["entry", "n", "median", "95 % interval", f"mean - {summary.against}", "p", "p (Holm)"]
    return Table(f"{figure.name}{better}", columns, rows)


def _short(value: float | None) -> str:
    if value is None:
        return ""
    if float(value).is_integer() and abs(value) < 1e6:
        return str(int(value))
    return format_number(value)


def remarks(summary: Summary) -> list[str]:
    """What the tables leave out, in sentences."""
    said = list(summary.notices)
    missing = _missing(summary)
    if missing:
        said.append(f"!: figures are missing of {', '.join(missing)}")
    if summary.constant:
        same = ", ".join(f"{name} = {_short(value)}" for name, value in summary.constant.items())
        said.append(f"the same for every entry: {same}")
    said += [f"{', '.join(tasks)} could not be judged: {reason}" for reason, tasks in summary.unjudged.items()]
    return [*said, *(f"{task} failed: {reason}" for task, reason in summary.failed.items())]


def _missing(summary: Summary) -> list[str]:
    """The runs that a figure lacks, and those of them that failed."""
    rows = [row for figure in summary.figures for row in figure.rows]
    names = dict.fromkeys(f"{row.entry}-{seed}" for row in rows for seed in summary.seeds if seed not in row.values)
    return [f"{name} (failed)" if name in summary.failed else name for name in names]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def markdown(title: str, facts: Mapping[str, str], summary: Summary) -> str:
    """The tables and remarks as a Markdown document."""
    return as_markdown(title, facts, tables(summary), remarks(summary))


def as_markdown(title: str, facts: Mapping[str, str], tables: Sequence[Table], said: Sequence[str]) -> str:
    """A Markdown document of facts, tables and sentences."""
    parts = [f"# {title}\n", "".join(f"- {name}: {value}\n" for name, value in facts.items())]
    for table in tables:
        lines = [table.columns, ["---"] * len(table.columns), *table.rows]
        body = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
        parts.append(f"## {table.title}\n\n{body}")
    parts += ["".join(f"- {clean_text(sentence)}\n" for sentence in said)] if said else []
    return "\n".join(parts)
