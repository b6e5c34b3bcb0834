"""The life of a run: found or made, assembled, locked, learnt, recorded. The command line and Python call `learn`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.assembly import assemble, resolve_job
from ganglion.engine.contracts import Trace
from ganglion.engine.data import check_finite, refuse_unlike_data
from ganglion.engine.errors import ConfigError, EngineError, PluginError, RunError, StoreError, fold
from ganglion.engine.execution import refusals, settle_execution, to_measure
from ganglion.engine.folders import data_context
from ganglion.engine.given import with_names
from ganglion.engine.job import NAMES, JobRequest, job_folders, named_job, naming_plugins, read_job, request
from ganglion.engine.keywords import python_keys
from ganglion.engine.learner import Learner, Outcome
from ganglion.engine.learnt import Learnt
from ganglion.engine.precision import slower_in_bf16
from ganglion.engine.processes import Part
from ganglion.engine.recording import hints, now, started, write_documents
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository, Run
from ganglion.engine.resolution import Plan, Resolver
from ganglion.engine.resuming import (
    go_on,
    refuse_other_data,
    refuse_other_names,
    refuse_other_processes,
    refuse_other_settings,
    take_up,
    weights_of,
)
from ganglion.engine.session import Session
from ganglion.engine.settings import parse_value
from ganglion.engine.sharding import rehearse
from ganglion.engine.store import Store
from ganglion.engine.tables import clean_text
from ganglion.engine.team import (
    FailedElsewhere,
    FollowingStore,
    LeadingStore,
    explained,
    restarted,
    share_weights,
    stage,
    team,
    tell,
)
from ganglion.engine.threads import settle_threads
from ganglion.engine.trace import Notice, RunFailed, RunFinished, RunPrepared, TraceContext, Traces
from ganglion.engine.validation import can_validate

Network = str | Callable[..., Any]  # a name, a torch.nn.Module, or what makes one from its NetworkContext


def learn(
    networks: Network | Sequence[Network] | None = None,
    dataset: Any = None,
    keys: Mapping[str, Any] | None = None,
    *,
    job: Mapping[str, Any] | Path | str | None = None,
    plugins: Sequence[str] | str = (),
    runs: Path | str | None = None,
    notify: Callable[[str], None] | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Learnt:
    """Carry out a job: a fresh run, or one that goes on where its tag stopped.

        run = learn("Generator,Discriminator", "Digits", strategy="NSGAN", batch_size=16, iterations=3000)
        run = learn(["Generator", "Discriminator"], "Ring", {"generator.learningRate": 1e-4}, strategy="WGAN")
        run = learn(tag="nsgan-digits-1", iterations=6000)

    Settings are those of the command line, as keywords (`batch_size` or `batchSize`) or in the mapping `keys`; those of
    a role as `generator={"learning_rate": 1e-4}` too. `job` is a job file, or the name of one that ships. In place of a
    name there may be the thing itself: a LearningStrategy class as `strategy`; networks, or functions that make them; a
    DatasetFactory class, a Dataset, Splits, a tensor or array, or a pair of rows and targets as `dataset`.

    Progress goes to the standard error; `quiet` shows a person only what goes wrong. Ctrl-C, or the notebook's stop
    button, stores and stops: the run's status is `stopped` then. Raises InputError before anything is written when
    something asked for is wrong, RunError when the run fails.
    """
    notify = notify or (lambda sentence: print(clean_text(sentence), file=sys.stderr))
    plugins = [plugins] if isinstance(plugins, str) else plugins
    registry = Registry().load(plugins)
    named = with_names(registry, networks, dataset, python_keys(keys, settings))
    loaded = read_job(named_job(str(job), job_folders())) if isinstance(job, (str, Path)) else job
    with team(_text(named[2], "patience")) as part:
        live = _live if part.rank == 0 else _follow
        return live(part, registry, Given(*named, loaded, plugins, runs), notify, quiet)


class Given(NamedTuple):
    """What a call of `learn` says: names, keys, the job file's content, plugins, and where runs are kept."""

    networks: Sequence[str] | str | None
    dataset: str | None
    keys: Mapping[str, Any]
    job: Mapping[str, Any] | None
    plugins: Sequence[str]
    runs: Path | str | None


def _live(part: Part, registry: Registry, given: Given, notify: Callable[[str], None], quiet: bool) -> Learnt:
    repository, tag = Repository(given.runs), _text(given.keys, "tag")
    with stage(part):
        run = repository.run(tag) if tag else None
        clean = _is_true(given.keys, "clean")
        clean = not restarted(tag, clean) and clean
        whole = bool(given.networks or given.dataset or given.job or any(fold(key) in NAMES for key in given.keys))
        resumed = run is not None and not clean and _goes_on(run, whole)
        stored = run.read_whole_job() if run is not None and resumed else None
        if run is not None and stored is None and not whole:
            _refuse_nameless(repository, run)
    tell(part, {"stored": stored, "resumed": resumed})
    with stage(part), naming_plugins(stored or given.job or {}, given.plugins):
        asked = _asked(given, stored)
        if run is not None and stored is not None:
            refuse_other_names(run, stored, Resolver(registry, asked).names())
            refuse_other_settings(run, stored, resolve_job(registry, asked))
        initial = None if resumed else weights_of(repository)
        with _staying(PluginError):
            session = assemble(registry, asked, data_context(notify), initial, part)
    with closing(session.sampler):
        with stage(part), _staying(PluginError):
            notices = [*session.notices, *_checked(session, run if resumed else None)]
        _tried(part, session)
        if run is None:
            names = (asked.networks, session.plan.dataset.name, session.plan.strategy.name)
            run = repository.run(repository.fresh_tag(*names))
        with stage(part):
            _take(repository, run, clean, resumed)
        try:
            tell(part, {"tag": run.tag})
            traces = _make_traces(session.plan, run, quiet)
            outcome = _carry_out(part, registry, run, session, traces, resumed, notices, notify, _where(given.runs))
            return Learnt(run, outcome, registry)
        finally:
            run.release()


def _take(repository: Repository, run: Run, clean: bool, resumed: bool) -> None:
    """Lock a run's directory, and clear it where that is asked for. Raises StoreError where another process has it."""
    run.lock()
    try:
        if clean and run.exists:
            repository.clean(run)
        elif not resumed and run.checkpoints().iterations():
            raise StoreError(f"run '{run.tag}' was begun by another process just now; give the command again")
    except BaseException:
        run.release()
        raise


def _follow(part: Part, registry: Registry, given: Given, notify: Callable[[str], None], quiet: bool) -> Learnt:
    """What `_live` does, in a process that is not the first: it writes nothing, and says only what goes wrong here."""
    with stage(part):
        restarted(_text(given.keys, "tag"))
    told = tell(part)
    with stage(part), naming_plugins(told["stored"] or given.job or {}, given.plugins), _staying(PluginError):
        asked = _asked(given, told["stored"])
        initial = None if told["resumed"] else weights_of(Repository(given.runs))
        session = assemble(registry, asked, data_context(lambda sentence: None), initial, part)
    with closing(session.sampler):
        with stage(part), _staying(PluginError):
            _checked(session, None)
        _tried(part, session)
        with stage(part):
            pass  # the first process takes the run's directory
        tag = tell(part)["tag"]
        learner = Learner(session, FollowingStore(part, session.plan.job.seed, told["resumed"]), Traces([]))
        with stage(part):
            pass  # the first process settles a chosen execution
        with stage(part):
            if told["resumed"]:
                take_up(learner, learner.store.load())
            settle_threads(session)
            settle_execution(session)
        learner.store_first()
        with _staying(RunError), explained(part, session.plan.job.patience):
            outcome = learner.learn()
        return Learnt(Repository(given.runs).run(tag), outcome, registry)


def _goes_on(run: Run, whole: bool) -> bool:
    """Whether there is something to go on with; what ended before it had stored anything begins again.

    Raises StoreError where the command does not say the `whole` job, so that it cannot.
    """
    begun = run.exists and (bool(run.checkpoints().iterations()) or run.trace_offset() > 0)
    if run.exists and not begun and not whole:
        if run.locked:
            return True  # it is being begun: refused by its lock
        raise StoreError(
            f"run '{run.tag}' ended before it had stored anything; give the networks, the data set and the keys again"
        )
    return begun


@contextmanager
def _staying(kind: type[EngineError]) -> Iterator[None]:
    """Raise `kind` in place of a plugin's sys.exit(), which must not look like the end of a run."""
    try:
        yield
    except SystemExit as error:
        raise kind(f"something that the job names called sys.exit({error.code!r})") from error


def _refuse_nameless(repository: Repository, run: Run) -> None:
    """A tag alone goes on with a run. Raises StoreError where there is none, ConfigError where it is to be cleaned."""
    repository.find(run.tag)
    raise ConfigError(
        f"clean=true starts run '{run.tag}' anew: name the networks and the data set again, "
        f"or add --job {run.directory / 'job.yaml'}"
    )


def _asked(given: Given, stored: Mapping[str, Any] | None) -> JobRequest:
    """What is asked for: the command line over the job file, both over the job that the tag was started with."""
    keys, job = given.keys, given.job
    if stored is not None and job is not None:
        keys = {**dict(job.get("settings") or {}), **keys}
        stored = {**stored, **{name: job[name] for name in NAMES if job.get(name)}}
    named = {fold(key) for key in keys}
    if "epochs" in named and named & {"iterations", "maxiterations"}:
        raise ConfigError("iterations and epochs are both given; one says how long to learn")
    return request(given.networks, given.dataset, keys, stored if stored is not None else job, given.plugins)


def _checked(session: Session, resumed: Run | None) -> list[str]:
    """The last checks that each process makes by itself, before anything is written. Raises InputError."""
    for part in (session.data.train, session.data.validation, session.data.test):
        if part is not None:
            check_finite(part, session.plan.dataset.name)
    if resumed is None:
        return []
    refuse_other_data(resumed, session)
    notices = refuse_other_processes(resumed, session)
    tag = session.plan.job.init_tag
    unused = [f"initTag={tag} is not used: the run goes on with its own weights"] if tag is not None else []
    return [*unused, *notices]


def _tried(part: Part, session: Session) -> None:
    """Let networks compute, in all processes together where they are divided, and begin with the same weights."""
    with stage(part), _staying(PluginError):
        refuse_unlike_data(session.data.train, session.plan.dataset.name)
        rehearse(session)
        can_validate(session)
    share_weights(part, session.networks)


def _carry_out(
    part: Part,
    registry: Registry,
    run: Run,
    session: Session,
    traces: Traces,
    resumed: bool,
    notices: Sequence[str],
    notify: Callable[[str], None],
    where: str,
) -> Outcome:
    store = (Store if part.count == 1 else LeadingStore)(run, session.plan.job.keep, lambda: _flush(run, traces))
    learner = Learner(session, store, traces)
    try:
        with stage(part):
            chosen = session.plan.job.execution != "auto"
            execution = settle_execution(session) if chosen else None  # a stored state may hold that of graphs
        with stage(part):  # going on is an exchange, and comes first
            damaged = go_on(run, learner) if resumed else []
            if not any(trace.shows for trace in traces.traces):  # this must be said, whatever is shown
                for sentence in damaged:
                    notify(sentence)
            _announce(run, session, traces)
            threads = settle_threads(session)
            said = [*notices, *damaged, *threads.notices, *slower_in_bf16(session)]
            say = partial(_prepare, run, traces)
            execution = execution or settle_execution(session, threads.seconds, say)
            session.plan.values[session.plan.key("execution")] = execution.name
            write_documents(run, registry, session, learner, resumed, execution)
        return _learn(part, run, session, learner, traces, [*said, *execution.notices()], where)
    except (StoreError, FailedElsewhere):
        if not run.checkpoints().iterations():  # nothing was learnt: leave nothing half-written
            run.forget()
        raise
    except KeyboardInterrupt as error:
        if run.checkpoints().iterations():
            raise
        run.forget()
        raise KeyboardInterrupt(f"nothing was learnt yet, and nothing of run '{run.tag}' is left") from error
    finally:
        traces.close()


def _announce(run: Run, session: Session, traces: Traces) -> None:
    """Say what is about to be learnt, where something is measured first: on a busy machine that takes a while."""
    keys, plan = to_measure(session), session.plan
    if keys:
        what = f"prepares to learn {plan.dataset.name} by {plan.strategy.name}"
        _prepare(run, traces, f"{what}: measuring how that is fastest here (not with {' '.join(keys)})")


def _prepare(run: Run, traces: Traces, clause: str) -> None:
    traces(RunPrepared(run.tag, clause))


def _learn(
    part: Part,
    run: Run,
    session: Session,
    learner: Learner,
    traces: Traces,
    notices: Sequence[str],
    where: str,
) -> Outcome:
    began = learner.iteration
    try:
        learner.store_first()
        traces(started(run, learner, session, notices))
        with _staying(RunError), explained(part, session.plan.job.patience):
            outcome = learner.learn()
        run.update_record(
            status=outcome.status,
            reason=outcome.reason,
            iteration=outcome.iteration,
            seconds=round(outcome.seconds, 3),
            ended=now(),
            result=outcome.values,
            as_written=refusals(session),
        )
    except KeyboardInterrupt:
        run.update_record(status="stopped", reason="stopped at once", iteration=learner.iteration, ended=now())
        raise
    except StoreError as error:
        if learner.iteration == began:
            if run.checkpoints().iterations():
                _failed(run, traces, learner, error)
            raise
        failure = RunError(str(error))
        _failed(run, traces, learner, failure)
        raise failure from error
    except BaseException as error:
        _failed(run, traces, learner, error)
        raise
    end = (outcome.iteration, outcome.seconds, outcome.status, outcome.reason, outcome.values)
    traces(RunFinished(*end, hints(run, session, outcome, where)))
    return outcome


def _failed(run: Run, traces: Traces, learner: Learner, error: BaseException) -> None:
    """Record and tell why the run failed, and mark the error as told where a person has seen it."""
    reason = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    try:
        run.update_record(status="failed", reason=reason, iteration=learner.iteration, ended=now())
    except StoreError as problem:  # the disk may be what failed
        traces(Notice(str(problem)))
    traces(RunFailed(learner.iteration, reason))
    if isinstance(error, EngineError):
        error.told = error.told or any(trace.shows for trace in traces.traces)


def _make_traces(plan: Plan, run: Run, quiet: bool) -> Traces:
    context = TraceContext(run.directory, quiet)
    made: list[Trace] = [entry.thing(settings, context) for entry, settings in plan.traces]
    return Traces(made)


def _flush(run: Run, traces: Traces) -> int:
    """The length of trace.jsonl with everything written to it."""
    for trace in traces.traces:
        offset = getattr(trace, "offset", None)
        if offset is not None:
            return int(offset())
    return run.trace_offset()


def _where(runs: Path | str | None) -> str:
    return f" --runs {runs}" if runs is not None else ""


def _text(keys: Mapping[str, Any], name: str) -> str | None:
    found = [value for key, value in keys.items() if fold(key) == fold(name)]
    return str(found[0]).strip() or None if found and str(found[0]).strip().lower() != "none" else None


def _is_true(keys: Mapping[str, Any], name: str) -> bool:
    try:
        return bool(parse_value(bool, _text(keys, name) or "false"))
    except ValueError:
        return False  # refused with its key when the settings are resolved
