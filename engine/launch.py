"""The life of a run: found or made, assembled, locked, learnt, recorded. The command line and Python call `learn`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ganglion.engine.assembly import assemble, resolve_job
from ganglion.engine.contracts import DataContext, Trace
from ganglion.engine.data import check_finite
from ganglion.engine.errors import ConfigError, EngineError, RunError, StoreError, fold
from ganglion.engine.job import NAMES, JobRequest, naming_plugins, request
from ganglion.engine.learner import Learner, Outcome
from ganglion.engine.recording import alike, hints, now, started, write_documents
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository, Run
from ganglion.engine.resolution import Plan, Resolver
from ganglion.engine.session import Session
from ganglion.engine.settings import format_value
from ganglion.engine.store import Store
from ganglion.engine.threads import choose_threads
from ganglion.engine.trace import Notice, RunFailed, RunFinished, TraceContext, Traces
from ganglion.engine.validation import check_validation

DATA_VARIABLE = "GANGLION_DATA"
CACHE_VARIABLE = "GANGLION_CACHE"
# Keys that may differ when a tag goes on: they change when things happen or are shown, not the mathematics.
FREE_KEYS = frozenset(
    fold(key)
    for key in (
        "iterations", "epochs", "trace", "traces", "traceInterval", "sampleInterval", "samples", "storeInterval",
        "storeSeconds", "keep", "nanRetry", "nanFactor", "lossThreshold", "validationLossThreshold", "thresholdWindow",
        "validationInterval", "fetchThreads", "download", "testSet",
    )
)  # fmt: skip


WAYS = "clean=true starts it anew, another tag leaves it alone"
ALIKE = 0.5  # samples that are less than half as far apart as the data deserve a word


class Learnt(NamedTuple):
    """What a call of `learn` gives: the run's directory and how it ended."""

    tag: str
    directory: Path
    outcome: Outcome


def data_context(notify: Callable[[str], None]) -> Callable[[int], DataContext]:
    """Where data are looked for (GANGLION_DATA) and downloads kept (GANGLION_CACHE), as a function of the seed."""
    named = os.environ.get(DATA_VARIABLE, "")
    folders = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{DATA_VARIABLE}={folder}: there is no such folder")
    cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "ganglion").expanduser()
    return lambda seed: DataContext(folders, cache, seed, notify)


def learn(
    networks: Sequence[str] | str | None,
    dataset: str | None,
    keys: Mapping[str, Any],
    *,
    job: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
    runs: Path | str | None = None,
    notify: Callable[[str], None] | None = None,
) -> Learnt:
    """Carry out a job: a fresh run, or one that goes on where its tag stopped.

    Raises InputError before anything is written when something asked for is wrong, RunError when the run fails.
    """
    notify = notify or (lambda sentence: print(sentence, file=sys.stderr))
    registry, repository = Registry().load(plugins), Repository(runs)
    tag = _text(keys, "tag")
    run = repository.run(tag) if tag else None
    clean = _is_true(keys, "clean")
    resumed = run is not None and run.exists and not clean
    stored = run.read_job() if run is not None and resumed else None
    if run is not None and stored is None and job is None and not networks and not dataset:
        _refuse_nameless(repository, run, keys)
    asked = _asked(networks, dataset, keys, job, stored, plugins)
    with naming_plugins(stored or job or {}, plugins):
        if run is not None and stored is not None:
            _refuse_other_names(run, stored, Resolver(registry, asked).names())
            _refuse_other_settings(run, stored, resolve_job(registry, asked))
        session = assemble(registry, asked, data_context(notify))
    try:
        notices = [*session.notices, *_checked(session, repository, resumed)]
        if run is None:
            names = (asked.networks, session.plan.dataset.name, session.plan.strategy.name)
            run = repository.run(repository.fresh_tag(*names))
        run.lock()
        try:
            if clean and run.exists:
                repository.clean(run)
            return _carry_out(registry, run, session, resumed, notices, notify)
        finally:
            run.release()
    finally:
        session.sampler.close()


def _refuse_nameless(repository: Repository, run: Run, keys: Mapping[str, Any]) -> None:
    """A tag alone goes on with a run. Raises StoreError where there is none, ConfigError where it is to be cleaned."""
    if any(fold(key) in NAMES for key in keys):
        return
    repository.find(run.tag)
    raise ConfigError(
        f"clean=true starts run '{run.tag}' anew: name the networks and the data set again, "
        f"or add --job {run.directory / 'job.yaml'}"
    )


def _asked(
    networks: Sequence[str] | str | None,
    dataset: str | None,
    keys: Mapping[str, Any],
    job: Mapping[str, Any] | None,
    stored: Mapping[str, Any] | None,
    plugins: Sequence[str],
) -> JobRequest:
    """What is asked for: the command line over the job file, both over the job that the tag was started with."""
    if stored is not None and job is not None:
        keys = {**dict(job.get("settings") or {}), **keys}
        stored = {**stored, **{name: job[name] for name in NAMES if job.get(name)}}
    given = {fold(key) for key in keys}
    if "epochs" in given and given & {"iterations", "maxiterations"}:
        raise ConfigError("iterations and epochs are both given; one says how long to learn")
    return request(networks, dataset, keys, stored if stored is not None else job, plugins)


def _checked(session: Session, repository: Repository, resumed: bool) -> list[str]:
    """The last checks before anything is written; other runs' weights are taken here. Raises InputError."""
    for part in (session.data.train, session.data.validation, session.data.test):
        if part is not None:
            check_finite(part, session.plan.dataset.name)
    check_validation(session)
    tag = session.plan.job.init_tag
    if tag is not None and resumed:
        return [f"initTag={tag} is not used: the run goes on with its own weights"]
    return [_take_weights(repository, session)] if tag is not None else []


def _carry_out(
    registry: Registry,
    run: Run,
    session: Session,
    resumed: bool,
    notices: Sequence[str],
    notify: Callable[[str], None],
) -> Learnt:
    traces = _make_traces(session.plan, run)
    learner = Learner(session, Store(run, session.plan.job.keep, lambda: _flush(traces)), traces)
    try:
        damaged = _go_on(run, learner) if resumed else []
        if not any(trace.shows for trace in traces.traces):  # this must be said, whatever is shown
            for sentence in damaged:
                notify(sentence)
        said = [*notices, *damaged, *_settle(session)]
        write_documents(run, registry, session, learner, resumed)
        return _learn(run, session, learner, traces, said)
    except StoreError:
        if not run.checkpoints().iterations():  # nothing was learnt: leave nothing half-written
            run.forget()
        raise
    finally:
        traces.close()


def _learn(run: Run, session: Session, learner: Learner, traces: Traces, notices: Sequence[str]) -> Learnt:
    began = learner.iteration
    try:
        learner.store_first()
        traces(started(run, learner, session, notices))
        outcome = learner.learn()
        run.update_record(
            status=outcome.status,
            reason=outcome.reason,
            iteration=outcome.iteration,
            seconds=round(outcome.seconds, 3),
            ended=now(),
            result=outcome.values,
        )
    except KeyboardInterrupt:
        run.update_record(status="stopped", reason="stopped at once", iteration=learner.iteration, ended=now())
        raise
    except StoreError as error:
        if learner.iteration == began:
            raise
        failure = RunError(str(error))
        _failed(run, traces, learner, failure)
        raise failure from error
    except BaseException as error:
        _failed(run, traces, learner, error)
        raise
    if learner.spread is not None and learner.spread < ALIKE and outcome.status == "finished":
        traces(Notice(alike(learner.spread)))
    end = (outcome.iteration, outcome.seconds, outcome.status, outcome.reason, outcome.values)
    traces(RunFinished(*end, hints(run, session, outcome)))
    return Learnt(run.tag, run.directory, outcome)


def _go_on(run: Run, learner: Learner) -> list[str]:
    """Take up the last good checkpoint; sentences on damaged ones. Raises ConfigError when nothing is left to do."""
    weights, state, damaged = learner.store.open("latest")
    learner.load(weights, state)
    _refuse_done(run, learner)
    return damaged


def _refuse_done(run: Run, learner: Learner) -> None:
    done = learner.iteration
    if learner.limit is not None and done >= learner.limit:
        raise ConfigError(
            f"run '{run.tag}' has all its {done} iterations; give a larger number to go on, e.g. iterations={2 * done}"
        )


def _failed(run: Run, traces: Traces, learner: Learner, error: BaseException) -> None:
    """Record and tell why the run failed, and mark the error as told where a person has seen it."""
    reason = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    try:
        run.update_record(status="failed", reason=reason, iteration=learner.iteration, ended=now())
    except StoreError as problem:  # the disk may be what failed
        traces(Notice(str(problem)))
    traces(RunFailed(learner.iteration, reason))
    if isinstance(error, EngineError):
        error.told = any(trace.shows for trace in traces.traces)


def _settle(session: Session) -> list[str]:
    """Decide what is decided before iteration 0 and never changed: the number of threads."""
    wanted = session.plan.values.get("threads")
    if wanted is not None:
        torch.set_num_threads(int(wanted))
        return []
    threads, sentence = choose_threads(session)
    session.plan.values["threads"] = threads
    return [sentence] if sentence else []


def _take_weights(repository: Repository, session: Session) -> str:
    """initTag: the weights of another run, for every role that it has too."""
    tag = session.plan.job.init_tag
    assert tag is not None
    source = repository.find(tag)
    checkpoint = source.checkpoints().weights_only()
    shared = [role for role in session.networks if role in checkpoint.networks]
    if not shared:
        raise ConfigError(
            f"initTag={tag}: it has the roles {', '.join(checkpoint.networks)}, "
            f"this job has {', '.join(session.networks)}"
        )
    for role in shared:
        try:
            session.networks[role].load_state_dict(dict(checkpoint.networks[role]))
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise ConfigError(f"initTag={tag}: its {role} is another network: {reason}") from None
    return f"weights of {' and '.join(shared)} taken from run '{tag}', iteration {checkpoint.iteration}"


def _refuse_other_names(run: Run, stored: Mapping[str, Any], names: Mapping[str, Any]) -> None:
    """A tag goes on with the names it was started with. Raises ConfigError that shows the difference."""
    for name, value in names.items():
        old, new = (",".join(each) if isinstance(each, list) else str(each) for each in (stored.get(name), value))
        if fold(old) != fold(new):
            raise ConfigError(f"run '{run.tag}' was started with {name} {old}, not {new}; {WAYS}")


def _refuse_other_settings(run: Run, stored: Mapping[str, Any], plan: Plan) -> None:
    """The same for the settings."""
    settings = stored.get("settings", {})
    for key, value in plan.values.items():
        old = settings.get(key)
        if (
            key in settings
            and fold(key) not in FREE_KEYS
            and format_value(old) != format_value(value)
            and not key.endswith("device")
        ):
            raise ConfigError(
                f"run '{run.tag}' was started with {key}={format_value(old)}, not {format_value(value)}; {WAYS}"
            )


def _make_traces(plan: Plan, run: Run) -> Traces:
    context = TraceContext(run.directory)
    made: list[Trace] = [entry.thing(settings, context) for entry, settings in plan.traces]
    return Traces(made)


def _flush(traces: Traces) -> int:
    """The length of trace.jsonl with everything written to it; 0 where no trace writes it."""
    for trace in traces.traces:
        offset = getattr(trace, "offset", None)
        if offset is not None:
            return int(offset())
    return 0


def _text(keys: Mapping[str, Any], name: str) -> str | None:
    found = [value for key, value in keys.items() if fold(key) == fold(name)]
    return str(found[0]).strip() or None if found and str(found[0]).strip().lower() != "none" else None


def _is_true(keys: Mapping[str, Any], name: str) -> bool:
    return (_text(keys, name) or "false").lower() in ("true", "yes", "on", "1")
