"""The life of a run: found or made, assembled, locked, learnt, recorded. The command line and Python call `learn`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ganglion.engine.assembly import assemble, resolve_job
from ganglion.engine.contracts import DataContext, Trace
from ganglion.engine.data import check_finite, data_digest
from ganglion.engine.errors import ConfigError, EngineError, StoreError, fold
from ganglion.engine.job import JOB_FORMAT, JobRequest, request
from ganglion.engine.learner import Learner, Outcome
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository, Run
from ganglion.engine.resolution import Plan
from ganglion.engine.session import Session
from ganglion.engine.settings import format_value
from ganglion.engine.store import Store
from ganglion.engine.threads import choose_threads
from ganglion.engine.trace import Notice, RunFailed, RunFinished, RunStarted, TraceContext, Traces
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
    registry = Registry().load(plugins)
    repository = Repository(runs)
    tag = _text(keys, "tag")
    run = repository.run(tag) if tag else None
    clean = run is not None and _is_true(keys, "clean")
    resumed = run is not None and run.exists and not clean
    stored = run.read_job() if run is not None and resumed else None
    asked = request(networks, dataset, keys, stored if stored is not None else job, plugins)
    if stored is not None and job is not None:
        asked = request(
            networks or job.get("networks"),
            dataset or job.get("dataset"),
            {**dict(job.get("settings") or {}), **keys},
            {**stored, "strategy": job.get("strategy", stored["strategy"])},
            plugins,
        )
    _refuse_two_lengths(asked)
    if run is not None and resumed:
        _refuse_other_job(run, stored or {}, resolve_job(registry, asked))
    session = assemble(registry, asked, data_context(notify))
    check_finite(session.data.train, session.plan.dataset.name)
    check_validation(session)
    if run is None:
        run = repository.run(
            repository.fresh_tag(asked.networks, session.plan.dataset.name, session.plan.strategy.name)
        )
    run.lock()
    try:
        if clean and run.exists:
            repository.clean(run)
        return _learn(repository, registry, run, session, resumed)
    finally:
        session.sampler.close()
        run.release()


def _learn(repository: Repository, registry: Registry, run: Run, session: Session, resumed: bool) -> Learnt:
    traces = _make_traces(session.plan, run)
    store = Store(run, session.plan.job.keep, lambda: _flush(traces))
    learner = Learner(session, store, traces)
    notices = list(session.notices)
    if resumed:
        weights, state, damaged = store.open("latest")
        learner.load(weights, state)
        notices += damaged
    elif session.plan.job.init_tag is not None:
        notices.append(_take_weights(repository, session))
    notices += _settle(session, resumed)
    _write_documents(run, registry, session, learner, resumed)
    try:
        traces(_started(run, learner, session, notices))
        if learner.limit is not None and learner.iteration >= learner.limit > 0 and resumed:
            raise ConfigError(
                f"run '{run.tag}' has all its {learner.iteration} iterations; give a larger number to go on, "
                f"e.g. iterations={2 * learner.iteration}"
            )
        if not resumed:
            learner.store_now()
        outcome = learner.learn()
    except KeyboardInterrupt:
        run.update_record(status="stopped", reason="stopped at once", iteration=learner.iteration, ended=_now())
        raise
    except EngineError as error:
        _failed(run, traces, learner, str(error))
        raise
    except BaseException as error:
        _failed(run, traces, learner, f"{type(error).__name__}: {error}")
        raise
    else:
        run.update_record(
            status=outcome.status,
            reason=outcome.reason,
            iteration=outcome.iteration,
            seconds=round(outcome.seconds, 3),
            ended=_now(),
            result=outcome.values,
        )
        traces(
            RunFinished(
                outcome.iteration,
                outcome.seconds,
                outcome.status,
                outcome.reason,
                outcome.values,
                _hints(run, session, outcome),
            )
        )
        return Learnt(run.tag, run.directory, outcome)
    finally:
        traces.close()


def _alike(share: float) -> str:
    return (
        f"the samples are only {share:.0%} as far apart as the data: the generator may have collapsed to a few kinds "
        "of sample; smaller steps for it, method=ADAM learningRate=2e-4 beta1=0.5, or strategy=NSGAN may help"
    )


def _failed(run: Run, traces: Traces, learner: Learner, reason: str) -> None:
    try:
        run.update_record(status="failed", reason=reason, iteration=learner.iteration, ended=_now())
    except StoreError as error:  # the disk may be what failed
        traces(Notice(str(error)))
    traces(RunFailed(learner.iteration, reason))


def _refuse_two_lengths(asked: JobRequest) -> None:
    given = {fold(key) for key in asked.given}
    if "epochs" in given and given & {"iterations", "maxiterations"}:
        raise ConfigError("iterations and epochs are both given; one says how long to learn")


def _settle(session: Session, resumed: bool) -> list[str]:
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


def _refuse_other_job(run: Run, stored: Mapping[str, Any], plan: Plan) -> None:
    """A tag goes on with the job it was started with. Raises ConfigError that shows the difference."""
    ways = "clean=true starts it anew, another tag leaves it alone"
    now = {
        "networks": ",".join(entry.network.name for entry in plan.roles.values()),
        "dataset": plan.dataset.name,
        "strategy": plan.strategy.name,
    }
    before = {
        "networks": ",".join(stored.get("networks", ())),
        "dataset": stored.get("dataset"),
        "strategy": stored.get("strategy"),
    }
    for name, value in now.items():
        if fold(str(before[name])) != fold(value):
            raise ConfigError(f"run '{run.tag}' was started with {name} {before[name]}, not {value}; {ways}")
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
                f"run '{run.tag}' was started with {key}={format_value(old)}, not {format_value(value)}; {ways}"
            )


def _write_documents(run: Run, registry: Registry, session: Session, learner: Learner, resumed: bool) -> None:
    plan = session.plan
    values = dict(plan.values)
    if values.get("decayIterations") is None and plan.job.iterations > 0:
        values["decayIterations"] = plan.job.iterations
    run.write_job(
        {
            "format": JOB_FORMAT,
            "networks": [
                entry.network.name if ":" not in name and not name.endswith((".yaml", ".yml")) else name
                for entry, name in zip(plan.roles.values(), plan.request.networks, strict=True)
            ],
            "dataset": plan.dataset.name if ":" not in plan.request.dataset else plan.request.dataset,
            "strategy": plan.strategy.name if ":" not in plan.request.strategy else plan.request.strategy,
            "plugins": list(plan.request.plugins),
            "settings": values,
        }
    )
    run.write_data(session.spec, {"data_range": session.data_range})
    for role, network in session.networks.items():
        text = getattr(network, "to_yaml", None)
        if text is not None:
            run.write_network(role, text())
    sessions = run.read_record().get("sessions", 0) + 1 if resumed else 1
    run.write_record(
        {
            "tag": run.tag,
            "status": "running",
            "iteration": learner.iteration,
            "iterations": plan.job.iterations,
            "strategy": plan.strategy.name,
            "dataset": plan.dataset.name,
            "networks": [entry.network.name for entry in plan.roles.values()],
            "seed": plan.job.seed,
            "devices": {role: str(device) for role, device in session.devices.items()},
            "execution": "eager",
            "precision": "fp32",
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "plugins": [plugin._asdict() for plugin in registry.plugins],
            "data": {"digest": data_digest(session.data.train), "rows": len(session.data.train)},
            "started": _now(),
            "sessions": sessions,
        }
    )


def versions() -> dict[str, str]:
    """What this machine runs: the last bits of a result depend on it."""
    from importlib.metadata import version

    names = ("ganglion", "torch", "numpy", "pluggy", "pydantic", "safetensors")
    return {
        **{name: version(name) for name in names},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


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


def _started(run: Run, learner: Learner, session: Session, notices: Sequence[str]) -> RunStarted:
    plan = session.plan
    counts = {
        role: sum(weight.numel() for weight in network.parameters()) for role, network in session.networks.items()
    }
    shape = "x".join(map(str, session.spec.shape))
    devices = " and ".join(sorted({str(device) for device in session.devices.values()}))
    threads = torch.get_num_threads()
    summary = {
        "strategy": f"{plan.strategy.name}  {_first_sentence(plan.strategy_class.__doc__)}",
        "data": f"{plan.dataset.name}: {len(session.data.train):,} rows, {session.spec.kind} {shape}",
        **{
            role: f"{entry.network.name}, {counts[role]:,} weights, {_chain_text(entry)}"
            for role, entry in plan.roles.items()
        },
        "settings": f"batchSize={plan.job.batch_size} iterations={plan.job.iterations} seed={plan.job.seed} "
        f"sampling={plan.sampling.name}",
        "where": f"{run.directory} on {devices}, {threads} thread{'s' if threads > 1 else ''}",
    }
    if learner.iteration:
        summary["goes on"] = f"from iteration {learner.iteration:,}, where it stopped"
    replaced = [
        f"{entry.key}={format_value(entry.preset)} of the preset is replaced by {format_value(entry.value)}"
        for entry in plan.replaced
    ]
    return RunStarted(
        run.tag,
        run.directory,
        learner.iteration,
        learner.limit,
        summary,
        [*replaced, *notices],
        lambda: learner.iteration,
        plan.job.trace,
    )


def _chain_text(entry: Any) -> str:
    rate = getattr(entry.method_settings, "learning_rate", None)
    extras = [
        f"{name}={format_value(value)}"
        for name, value in entry.method_settings.model_dump(by_alias=True).items()
        if name in ("momentum", "nesterov", "beta1") and value
    ]
    return " ".join([entry.method.name, *([f"learningRate={rate:g}"] if rate is not None else []), *extras])


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _hints(run: Run, session: Session, outcome: Outcome) -> list[str]:
    hints = []
    if any(run.directory.glob("samples/*.png")):
        latest = max(run.directory.glob("samples/*.png"), key=lambda path: int(path.stem))
        hints.append(f"picture: {latest}")
        hints.append(f"draw more: ganglion sample {run.tag} count=64 out=samples.png")
    hints.append(f"judge it: ganglion evaluate {run.tag}")
    longer = session.plan.job.iterations if outcome.status == "stopped" else 2 * outcome.iteration
    hints.append(f"go on: learn tag={run.tag}" + ("" if outcome.status == "stopped" else f" iterations={longer}"))
    return hints


def _text(keys: Mapping[str, Any], name: str) -> str | None:
    found = [value for key, value in keys.items() if fold(key) == fold(name)]
    return str(found[0]).strip() or None if found and str(found[0]).strip().lower() != "none" else None


def _is_true(keys: Mapping[str, Any], name: str) -> bool:
    return (_text(keys, name) or "false").lower() in ("true", "yes", "on", "1")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
