"""What is written about a run, and said at its start and end: job.yaml, record.json, the start block, hints."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from ganglion.engine.data import data_digest
from ganglion.engine.device import stored_name
from ganglion.engine.execution import Execution
from ganglion.engine.job import JOB_FORMAT
from ganglion.engine.learner import Learner, Outcome
from ganglion.engine.processes import this_process
from ganglion.engine.registry import PYTHON, Registry, about
from ganglion.engine.resolution import Plan
from ganglion.engine.runs import Run
from ganglion.engine.session import Session
from ganglion.engine.settings import format_value
from ganglion.engine.trace import RunStarted

SETTLED = ("execution", "threads", "decayIterations")  # that job.yaml has in place of what was to be found out


def write_documents(
    run: Run, registry: Registry, session: Session, learner: Learner, resumed: bool, execution: Execution
) -> None:
    """job.yaml with everything resolved, the data's description, the networks' definitions, record.json."""
    plan = session.plan
    values = dict(plan.values)
    decay = plan.key("decayIterations")
    if values.get(decay) is None and plan.job.iterations > 0:
        values[decay] = plan.job.iterations
    values.update({f"{role}.device": stored_name(device) for role, device in session.devices.items()})
    names = plan.names()
    run.write_job({"format": JOB_FORMAT, **names, "plugins": plan.code_files(), "settings": values})
    run.write_data(session.spec, {"data_range": session.data_range})
    for role, network in session.networks.items():
        text = getattr(network, "to_yaml", None)
        if text is not None:
            run.write_network(role, text())
    before = run.read_record() if resumed else {}
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
            "defaults": _changed(plan, before),
            "initTag": before.get("initTag") if resumed else plan.job.init_tag,
            "devices": {role: str(device) for role, device in session.devices.items()},
            "execution": {"name": execution.name, "reason": execution.reason, **execution.figures},
            "precision": plan.job.precision,
            "threads": torch.get_num_threads(),
            "processes": this_process().count,
            "versions": versions(),
            "plugins": [plugin._asdict() for plugin in registry.plugins],
            "data": {"digest": data_digest(session.data.train), "rows": len(session.data.train)},
            "started": before.get("started", now()),
            "continued": now() if resumed else None,
            "sessions": before.get("sessions", 0) + 1,
        }
    )


def _changed(plan: Plan, before: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were asked to be something else than their defaults, with those.

    A run that goes on was told in its job file what the engine had settled: nobody asked for that.
    """
    known = before.get("defaults") or {}
    settled = {plan.key(name) for name in SETTLED} | {f"{role}.device" for role in plan.roles}
    return {key: value for key, value in plan.changed.items() if not before or key in known or key not in settled}


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


def started(run: Run, learner: Learner, session: Session, notices: Sequence[str]) -> RunStarted:
    plan = session.plan
    counts = {
        role: sum(weight.numel() for weight in network.parameters()) for role, network in session.networks.items()
    }
    shape = "x".join(map(str, session.spec.shape))
    devices = " and ".join(sorted({str(device) for device in session.devices.values()}))
    threads = torch.get_num_threads()
    summary = {
        "strategy": f"{plan.strategy.name}  {about(plan.strategy_class)}",
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


def hints(run: Run, session: Session, outcome: Outcome, where: str) -> list[str]:
    """What to type next; `where` is the option that names the folder of runs, if it was given."""
    plan, lines = session.plan, list[str]()
    if any(name.startswith(f"{PYTHON}:") for name in _given_names(plan)):  # no command can find an object of a program
        return ["draw more: run.sample(64), where run is what learn() gave", "judge it: run.evaluate()"]
    options = where + "".join(f" --plugin {file}" for file in plan.code_files())
    pictures = sorted(run.directory.glob("samples/*.png"), key=lambda path: int(path.stem))
    if pictures:
        lines.append(f"picture: {pictures[-1]}")
        extension = "txt" if session.spec.text else "png"
        lines.append(f"draw more: ganglion sample {run.tag} count=64 out=samples.{extension}{options}")
    lines.append(f"judge it: ganglion evaluate {run.tag}{options}")
    longer = "" if outcome.status == "stopped" else f" iterations={max(1000, 2 * outcome.iteration)}"
    allowed = plan.job.seconds
    if longer and allowed is not None and outcome.seconds >= allowed:
        longer = f" seconds={max(60, 2 * round(outcome.seconds))}"
    lines.append(f"go on: learn tag={run.tag}{longer}{options}")
    return lines


def _given_names(plan: Plan) -> list[str]:
    names = plan.names()
    return [*names["networks"], names["dataset"], names["strategy"]]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
