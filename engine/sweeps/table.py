"""What a sweep found: its best trials, how many came to what, which keys mattered, and the best as a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganglion.engine.comparetable import Table, as_markdown
from ganglion.engine.job import JOB_FORMAT
from ganglion.engine.sweeps.planning import Aim, Sweep
from ganglion.engine.sweeps.search import Search, shown
from ganglion.engine.sweeps.study import Trial, importances
from ganglion.engine.tables import clean_text, format_number

SHOWN = 10  # trials in the table


class Summary(NamedTuple):
    """All that a sweep found."""

    figure: str
    better: str
    keys: Sequence[str]  # those with a range
    trials: Sequence[Trial]
    counts: Mapping[str, int]  # trials by what they came to
    best: Trial | None
    importances: Mapping[str, float]
    remarks: Sequence[str]


def summarise(search: Search) -> Summary:
    """Everything that the trials so far say."""
    aim, trials = search.sweep.aim, search.trials
    ranked = best_first(aim, trials)
    counts = Counter(each.state for each in trials)
    states = {state: counts[state] for state in ("finished", "pruned", "failed", "running") if counts[state]}
    return Summary(
        aim.name,
        "lower" if aim.lower else "higher",
        [each.key for each in search.drawing.space.ranges],
        list(trials),
        states,
        ranked[0] if ranked else None,
        importances(search.drawing, trials),
        _remarks(search),
    )


def best_first(aim: Aim, trials: Sequence[Trial]) -> list[Trial]:
    """The finished trials, the best first; of equal ones the earlier."""
    done = [each for each in trials if each.state == "finished" and each.value is not None]
    return sorted(done, key=lambda each: (each.value if aim.lower else -(each.value or 0.0), each.number))


def _remarks(search: Search) -> list[str]:
    """What the table leaves out, in sentences."""
    by = search.sweep.prune_by
    ended = [each for each in search.trials if each.state in ("finished", "pruned")]
    said = []
    if by is not None and ended and not any(each.steps for each in ended):
        said.append(f"no trial was stopped early: none told {by.name} as it learnt")
    notices: dict[str, list[str]] = {}
    for each in search.trials:
        for sentence in each.facts.get("notices", []):
            notices.setdefault(sentence, []).append(each.tag)
    said += [f"{', '.join(tags[:3])}{' and others' if len(tags) > 3 else ''}: {text}" for text, tags in notices.items()]
    failed = [each for each in search.trials if each.state == "failed"]
    return [*said, *(f"{each.tag} failed: {each.facts.get('error', '')}" for each in failed)]


def tables(summary: Summary) -> list[Table]:
    """The best trials, and the share of each key in what the figure varies by."""
    aim = Aim(summary.figure, summary.better == "lower")
    rows = [_row(summary, each) for each in best_first(aim, summary.trials)[:SHOWN]]
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    columns = ["trial", summary.figure, *summary.keys, "iterations", "seconds"]
    made = [Table(f"the best of {len(summary.trials)} trials ({counts}; {summary.better} is better)", columns, rows)]
    if summary.importances:
        shares = [[key, f"{share:.2f}"] for key, share in summary.importances.items()]
        title = f"share of the variance of {summary.figure} (keys that every finished trial has)"
        made.append(Table(title, ["key", "share"], shares))
    return made


def _row(summary: Summary, trial: Trial) -> list[str]:
    drawn = [shown(trial.drawn[key]) if key in trial.drawn else "" for key in summary.keys]
    seconds = trial.facts.get("seconds")
    last = [str(trial.facts.get("iteration", "")), "" if seconds is None else format_number(seconds)]
    return [str(trial.number), "" if trial.value is None else format_number(trial.value), *drawn, *last]


def markdown(sweep: Sweep, lag: int, summary: Summary, facts: Mapping[str, str]) -> str:
    """The tables and remarks as a Markdown document."""
    settings = sweep.settings
    how = f"{settings.sampler}, seed {settings.seed}, lag {lag}, pruner {sweep.asked['pruner']}"
    lines = {**facts, "data set": sweep.dataset, "budget": str(sweep.budget), "search": how}
    lines |= {each.key: str(each) for each in sweep.space.ranges}
    cleaned = {name: clean_text(value) for name, value in lines.items()}
    return as_markdown(f"Sweep {sweep.tag}", cleaned, tables(summary), summary.remarks)


def best_job(search: Search, best: Trial) -> dict[str, Any]:
    """The best trial as a job file: what was asked for and what was drawn, so that it is shown as any run is."""
    sweep, keys = search.sweep, search.drawing.space.keys(best.drawn)
    strategy = next((value for key, value in keys.items() if key.lower() == "strategy"), sweep.plan.strategy.name)
    value = f" of {sweep.aim.name} {best.value:.6g}" if best.value is not None else ""
    job: dict[str, Any] = {
        "format": JOB_FORMAT,
        "doc": f"Trial {best.number} of sweep {sweep.tag}, the best{value}.",
        "networks": list(sweep.networks),
        "dataset": sweep.dataset,
        "strategy": strategy,
        "settings": {key: value for key, value in keys.items() if key.lower() != "strategy"},
    }
    return {**job, "plugins": sweep.plan.code_files()} if sweep.plan.code_files() else job
