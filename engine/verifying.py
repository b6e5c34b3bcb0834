"""Proves that a job resumes bit for bit: learnt once straight, once killed and gone on with, and compared."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.assembly import assemble, resolve_job
from ganglion.engine.errors import ConfigError, RunError, StoreError, fold
from ganglion.engine.folders import data_context
from ganglion.engine.job import JobSettings, naming_plugins, request
from ganglion.engine.keywords import python_keys
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository, Run
from ganglion.engine.settings import format_value
from ganglion.engine.streams import stream_seed
from ganglion.engine.verifychild import Template
from ganglion.engine.verifydifference import Compared, compare_runs
from ganglion.engine.verifykills import Course, Kill, learn_straight

DEFAULT = {"iterations": 200}  # where the job does not say
PATIENCE = 300.0  # seconds without a change of the run's files after which a process counts as stuck
ATTEMPTS = 3  # courses, where kills of the one before came too late
LENGTH_KEYS = {"iterations", "maxiterations", "epochs"}
Templates = tuple[Template, Template]  # of the run that learns straight and of the one that is killed


class Verified(NamedTuple):
    """What came of it; `folder` holds the two runs, None where they were removed."""

    iterations: int
    kills: tuple[Kill, ...]
    compared: Compared
    folder: Path | None

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.compared.difference is None


class _Work(NamedTuple):
    """The job as both runs learn it: the arguments of `learn`, its settings, those of them that nobody gave."""

    task: Mapping[str, Any]
    settings: JobSettings
    settled: Mapping[str, Any]
    notify: Callable[[str], None]


def verify_resume(
    networks: Sequence[str] | str | None = None,
    dataset: str | None = None,
    keys: Mapping[str, Any] | None = None,
    *,
    job: Mapping[str, Any] | None = None,
    kills: int = 5,
    plugins: Sequence[str] = (),
    runs: Path | str | None = None,
    patience: float = PATIENCE,
    templates: Templates | None = None,
    notify: Callable[[str], None] = lambda sentence: None,
    **settings: Any,
) -> Verified:
    """Carry out a job straight, and once more under `kills` SIGKILLs; compare every checkpoint and trace point.

        assert verify_resume("Generator,Discriminator", "Circle", strategy="GAN", kills=3).identical

    Without `runs` the two runs are in a temporary folder, which stays where they differ. `templates` start the
    processes, where several jobs share them. Raises InputError for what `learn` refuses, RunError where a run fails,
    does not go on, or stands still for `patience` seconds.
    """
    work = _prepare(networks, dataset, python_keys(keys, settings), job, plugins, notify)
    _refuse(work.settings, runs, kills)
    if work.settled:
        notify(f"verified with {' '.join(f'{key}={format_value(value)}' for key, value in work.settled.items())}")
    folder = Path(runs).absolute() if runs is not None else Path(tempfile.mkdtemp(prefix="ganglion-verify-"))
    kept = runs is not None
    try:
        work = work._replace(task={**work.task, "runs": str(folder)})
        both = _two_free_runs(Repository(folder), work.settings)
        with nullcontext(templates) if templates is not None else two_templates() as pair:
            verified = _verify(work, both, pair, kills, patience)
        kept = kept or not verified.identical
        return verified._replace(folder=folder if kept else None)
    except RunError as error:
        kept = True
        raise RunError(f"{error}; the runs are in {folder}") from error
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


# --- the job ------------------------------------------------------------------------------------------------------


def _prepare(
    networks: Sequence[str] | str | None,
    dataset: str | None,
    keys: Mapping[str, Any],
    job: Mapping[str, Any] | None,
    plugins: Sequence[str],
    notify: Callable[[str], None],
) -> _Work:
    """Settle what a verification needs, unless it was given with the job, above its file. Raises InputError."""
    registry = Registry().load(plugins)
    own = job or {}
    inside = dict(own.get("settings") or {})
    given = {fold(key).removeprefix("job.") for key in keys}
    length = {} if (given | {fold(key).removeprefix("job.") for key in inside}) & LENGTH_KEYS else DEFAULT
    below = {**own, "settings": {**length, **inside}}
    asked = request(networks, dataset, keys, below, plugins)
    with naming_plugins(own, plugins):  # whatever is wrong is told before anything is started
        session = assemble(registry, asked, data_context(notify))
    session.sampler.close()
    number = session.plan.job.iterations  # the data say how many iterations `epochs` are
    intervals = {key: value for key, value in _intervals(number).items() if fold(key) not in given}
    if "traces" not in intervals:
        intervals.pop("lines.flushSeconds", None)
    keys = {**intervals, **keys}
    settings = resolve_job(registry, request(networks, dataset, keys, below, plugins)).job
    settings = settings.model_copy(update={"iterations": number})
    keys = {key: value for key, value in keys.items() if fold(key) not in ("tag", "clean")}
    task = {"networks": networks, "dataset": dataset, "keys": keys, "job": below, "plugins": list(plugins)}
    return _Work(task, settings, {**length, **intervals}, notify)


def _intervals(iterations: int) -> dict[str, Any]:
    """Some twenty checkpoints that stay, none by the clock, and trace points that are on the disk at once."""
    return {
        "storeInterval": max(1, iterations // 20),
        "storeSeconds": 0,
        "keep": 0,
        "traceInterval": max(1, iterations // 200),
        "validationInterval": max(1, iterations // 10),
        "traces": "lines",
        "lines.flushSeconds": 0,
    }


def _refuse(settings: JobSettings, runs: Path | str | None, kills: int) -> None:
    """Raises ConfigError for a job that cannot be verified."""
    number = settings.iterations
    if settings.seconds is not None:
        raise ConfigError(
            f"seconds={settings.seconds:g}: two runs that end by the clock need not be the same; give iterations="
        )
    if number < 0:
        raise ConfigError(f"iterations={number}: a run without an end cannot be verified")
    if number < 2 * kills:
        raise ConfigError(f"iterations={number}: expected at least {2 * kills}, two for each of {kills} kills")
    if not 0 < settings.store_interval <= number // 4:
        raise ConfigError(
            f"storeInterval={settings.store_interval}: expected 1 to {number // 4}, so that a process which was killed "
            "goes on from what it learnt, not from the start"
        )
    if settings.init_tag is not None and runs is None:
        raise ConfigError(f"initTag={settings.init_tag}: give --runs FOLDER too, the one that run is in")


# --- the two runs -------------------------------------------------------------------------------------------------


@contextmanager
def two_templates() -> Iterator[Templates]:
    """One for each run: what is left to chance at the start of Python, the order of sets for example, differs."""
    with Template() as one, Template() as other:
        yield one, other


def _verify(work: _Work, both: tuple[Run, Run], templates: Templates, kills: int, patience: float) -> Verified:
    straight, killed = both
    one, other = templates
    iterations = learn_straight(one, straight, _started(work.task, straight, {}), patience)
    work.notify(f"learnt {iterations} iterations straight")
    stored = straight.read_job()
    # Once there is a second checkpoint: from the first one, a run that forgets would go on as well.
    first = work.settings.store_interval + 1
    course = Course(other, killed, _started(work.task, killed, _settled(stored)), first, iterations, patience)
    course.plugins = sorted({*work.task["plugins"], *(stored.get("plugins") or ())})
    done = _killed_often_enough(work, course, kills)
    try:
        compared = compare_runs(straight, killed, timed=work.settings.store_seconds > 0)
    except StoreError as error:  # a kill must not damage anything either
        raise RunError(str(error)) from error
    return Verified(iterations, done, compared, None)


def _killed_often_enough(work: _Work, course: Course, kills: int) -> tuple[Kill, ...]:
    """Learn under kills, anew where the run was over before all of them had landed. Raises RunError."""
    dice = random.Random(stream_seed(work.settings.seed, "verify-resume"))
    counts: list[int] = []
    while len(counts) < ATTEMPTS:
        if counts:
            work.notify(f"the run was over after {counts[-1]} of {kills} kills; once more from its start")
        done = course.learn(kills, dice, work.notify)
        if len(done) == kills:
            return done
        counts.append(len(done))
    raise RunError(f"only {max(counts)} of {kills} kills landed before the run was over; give more iterations")


def _two_free_runs(repository: Repository, settings: JobSettings) -> tuple[Run, Run]:
    """Those that learn straight and under kills. Raises StoreError where one of them is there already."""
    tag = settings.tag or "verify"
    return (
        _free_run(repository, f"{tag}-straight", settings.clean),
        _free_run(repository, f"{tag}-killed", settings.clean),
    )


def _free_run(repository: Repository, tag: str, clean: bool) -> Run:
    run = repository.run(tag)
    if run.exists and not clean:
        raise StoreError(f"run '{tag}' exists in {repository.root}; clean=true starts it anew, another tag= leaves it")
    return run


def _started(task: Mapping[str, Any], run: Run, more: Mapping[str, Any]) -> dict[str, Any]:
    return {**task, "keys": {**task["keys"], **more, "tag": run.tag, "clean": "true"}}


def _settled(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The threads and the execution that the straight run settled on: measured again, they may be others."""
    settings = stored.get("settings") or {}
    keys = [key for name in ("threads", "execution") for key in (f"job.{name}", name) if settings.get(key) is not None]
    return {key: settings[key] for key in keys}
