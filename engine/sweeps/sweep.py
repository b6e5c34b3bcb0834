"""`sweep`: searches for the settings that make a figure best, trial by trial, and sums up what was found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.documents import read_json, write_yaml
from ganglion.engine.engines import Pool, task_pool
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.files import write_atomic
from ganglion.engine.keywords import python_keys
from ganglion.engine.recording import now
from ganglion.engine.registry import Registry
from ganglion.engine.repository import SWEEP
from ganglion.engine.settings import format_value
from ganglion.engine.sweeps.checks import rehearse, space_with_data
from ganglion.engine.sweeps.pictures import draw_sweep
from ganglion.engine.sweeps.planning import Sweep, plan_sweep
from ganglion.engine.sweeps.record import BEST, PICTURE, TABLE, folder_of, taken
from ganglion.engine.sweeps.search import Search
from ganglion.engine.sweeps.space import Space
from ganglion.engine.sweeps.study import require_optuna
from ganglion.engine.sweeps.table import Summary, best_job, markdown, summarise
from ganglion.engine.tables import clean_text


class Swept(NamedTuple):
    """What a call of `sweep` gives; `signal` is what stopped it, 0 otherwise, and there is no summary then."""

    tag: str
    directory: Path
    summary: Summary | None
    signal: int = 0


def sweep(
    networks: str | Sequence[str] | None = None,
    dataset: str | None = None,
    keys: Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[str] | str = (),
    runs: Path | str | None = None,
    notify: Callable[[str], None] | None = None,
    command: str = "",
    engine: str = "local",
    address: str | None = None,
    **settings: Any,
) -> Swept:
    """Search for the settings that make a figure best, or go on with a search where it stopped.

        found = sweep("Generator,Discriminator", "Ring", strategy="NSGAN", learning_rate="log(1e-5,1e-2)", trials=40,
                      budget="iterations:2000", metric="transport-v1.w1:lower")
        found.summary.best.drawn

    `engine` is "local" (processes of this machine) or "ray" (the cluster at `address`: HOST:PORT, or "auto"). Raises
    InputError before anything is written when something asked for is wrong. Trials that fail are in the summary.
    """
    notify = notify or (lambda sentence: print(clean_text(sentence), file=sys.stderr))
    require_optuna()
    registry = Registry().load([plugins] if isinstance(plugins, str) else plugins)
    texts = {key: format_value(value) for key, value in python_keys(keys, settings).items()}
    planned = plan_sweep(registry, networks, dataset, texts, runs, command)
    folder_of(planned).refuse_strangers()
    space = space_with_data(registry, planned, notify)
    if _unfinished(planned):
        first = space.draw(lambda each: each.probes()[0])
        for sentence in rehearse(registry, planned, space.keys(first), notify):
            notify(sentence)
    with task_pool(engine, address, planned.settings, planned.threads, planned.settings.device, notify) as pool:
        return _sweep(planned, space, pool, notify)


def _unfinished(planned: Sweep) -> bool:
    """Whether trials are left to do, as far as that can be seen without the lock."""
    path = planned.directory / SWEEP
    if planned.settings.clean or not path.exists():
        return True
    tasks = read_json(path).get("tasks")
    if not isinstance(tasks, dict) or not all(isinstance(task, dict) for task in tasks.values()):
        raise StoreError(f"{path}: not what 'ganglion sweep' writes; clean=true starts anew")
    ended = [task for task in tasks.values() if task.get("status") != "pending"]
    return len(ended) < max(len(tasks), planned.settings.trials)


def _sweep(planned: Sweep, space: Space, pool: Pool, notify: Callable[[str], None]) -> Swept:
    """Carry out what is left to do, and sum it up."""
    workers = planned.at_a_time(pool.fitting)
    lag = planned.settings.lag or (1 if workers == 1 else 2 * workers)
    with taken(planned, lag) as (file, lag):
        search = Search(planned, space, file, lag, notify)
        search.save()
        done = sum(each.state != "running" for each in search.trials)
        whole = max(planned.settings.trials, len(search.trials))
        notify(f"sweep '{planned.tag}': {whole} trials, {whole - done} to do, {workers} at a time, lag {lag}")
        if lag < workers:
            notify(f"it was begun with lag={lag}: no more than {lag} trials can run at the same time")
        number = pool.run(planned.directory, search.tasks(), workers, search.started, search.ended, search.watch)
        if number:
            done = sum(each.state != "running" for each in search.trials)
            notify(f"stopped with {done} of {whole} trials done; the same command goes on")
            return Swept(planned.tag, planned.directory, None, number)
        if search.wrong:
            raise ConfigError(search.wrong)
        summary = summarise(search)
        _write(search, summary)
        return Swept(planned.tag, planned.directory, summary)


def _write(search: Search, summary: Summary) -> None:
    """The table, the picture, and the best trial as a job file. Raises StoreError."""
    planned, folder = search.sweep, search.sweep.directory
    facts = {"command": f"`{planned.command}`"} if planned.command else {}
    text = markdown(planned, search.lag, summary, {**facts, "date": now()})
    write_atomic(folder / TABLE, text.encode("utf-8"))
    draw_sweep(summary, planned.space.ranges, folder / PICTURE)
    if summary.best is not None:
        write_yaml(folder / BEST, best_job(search, summary.best))
