"""Going on with a run, or from another one's weights: what must be the same, and what is taken up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ganglion.engine.checkpoint_files import Checkpoint
from ganglion.engine.data import data_digest
from ganglion.engine.errors import ConfigError, StoreError, fold
from ganglion.engine.learner import Learner
from ganglion.engine.processes import this_process
from ganglion.engine.repository import Repository, Run
from ganglion.engine.resolution import Plan
from ganglion.engine.session import Session
from ganglion.engine.settings import describe, format_value
from ganglion.engine.synchronising import KINDS as SYNCHRONISED

# Keys that may differ when a tag goes on: they change when things happen or are shown, not the mathematics.
FREE_KEYS = frozenset(
    fold(key)
    for key in (
        "iterations", "epochs", "seconds", "trace", "traces", "traceInterval", "sampleInterval", "samples",
        "storeInterval", "storeSeconds", "keep", "nanRetry", "nanFactor", "lossThreshold", "validationLossThreshold",
        "thresholdWindow", "validationInterval", "fetchThreads", "download", "prefetch", "damaged", "attempts",
        "healthInterval", "stopOn", "patience",
    )
)  # fmt: skip
# What comes of a state that another version, another plugin, or somebody's hand has written.
UNFIT = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError)
WAYS = "clean=true starts it anew, another tag leaves it alone"


def refuse_other_names(run: Run, stored: Mapping[str, Any], names: Mapping[str, Any]) -> None:
    """A tag goes on with the names it was started with. Raises ConfigError that shows the difference."""
    for name, value in names.items():
        old, new = (",".join(each) if isinstance(each, list) else str(each) for each in (stored.get(name), value))
        if fold(old) != fold(new):
            raise ConfigError(f"run '{run.tag}' was started with {name} {old}, not {new}; {WAYS}")


def refuse_other_settings(run: Run, stored: Mapping[str, Any], plan: Plan) -> None:
    """The same for the settings."""
    settings = stored.get("settings", {})
    shown = {fold(info.key) for _, own in plan.traces for info in describe(type(own))}  # traces only show
    for key, value in plan.values.items():
        old = settings.get(key)
        if (
            key in settings
            and fold(key.removeprefix("job.")) not in FREE_KEYS | shown
            and format_value(old) != format_value(value)
            and not (key.endswith(".device") and value == "auto")
            and not key.endswith(".shard")
        ):
            raise ConfigError(
                f"run '{run.tag}' was started with {key}={format_value(old)}, not {format_value(value)}; {WAYS}"
            )


def refuse_other_data(run: Run, session: Session) -> None:
    """The same for the data and for network files, which may have changed since. Raises StoreError."""
    digest = run.read_record().get("data", {}).get("digest")
    now = data_digest(session.data.train)
    if digest not in (None, now):
        name = session.plan.dataset.name
        raise StoreError(
            f"run '{run.tag}': the data of {name} have changed since it began ({digest[:12]} to {now[:12]}); {WAYS}"
        )
    kept = run.read_networks()
    for role, network in session.networks.items():
        text = getattr(network, "to_yaml", None)
        if text is not None and role in kept and text() != kept[role]:
            raise StoreError(f"run '{run.tag}': the definition of its {role} has changed since it began; {WAYS}")


def refuse_other_processes(run: Run, session: Session) -> list[str]:
    """Another number of processes changes nothing, but for layers that see only their own process's rows.

    Raises ConfigError where statistics are those of each process; the sentences say what is drawn anew.
    """
    before, now = run.read_record().get("processes", 1), this_process().count
    if before == now:
        return []
    modules = [module for network in session.networks.values() for module in network.modules()]
    if session.plan.job.batch_statistics == "process" and any(isinstance(each, SYNCHRONISED) for each in modules):
        raise ConfigError(
            f"run '{run.tag}' was shared by {before} processes, whose BatchNorm counts their own rows "
            f"(batchStatistics=process); go on with {before}"
        )
    if any(isinstance(each, nn.modules.dropout._DropoutNd) and each.p for each in modules):
        return [f"{before} processes before and {now} now: masks of Dropout are drawn otherwise from here on"]
    return []


def go_on(run: Run, learner: Learner) -> list[str]:
    """Take up the last good checkpoint; sentences on damaged ones. Raises ConfigError when nothing is left to do."""
    checkpoint = learner.store.load()
    done, spent = _progress(checkpoint)
    if learner.limit is not None and done >= learner.limit:
        if done == learner.limit and run.read_record().get("status") == "running":  # killed after its last checkpoint
            run.update_record(status="finished", reason="all iterations done", iteration=done)
        raise ConfigError(
            f"run '{run.tag}' has all its {done} iterations; give a larger number to go on, "
            f"e.g. iterations={max(1000, 2 * done)}"
        )
    allowed = learner.job.seconds
    if allowed is not None and spent >= allowed:
        raise ConfigError(
            f"run '{run.tag}' has learnt for {spent:.4g} of its {allowed:g} seconds; give a larger number to go on, "
            f"e.g. seconds={max(60, 2 * round(spent))}"
        )
    take_up(learner, checkpoint)
    return list(checkpoint.notices)


def _progress(checkpoint: Checkpoint) -> tuple[int, float]:
    """Iterations and seconds that a checkpoint says were learnt. Raises StoreError where it says nothing sensible."""
    try:
        own = checkpoint.state["learner"]
        done, spent = int(own["iteration"]), float(own["seconds"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unfit(checkpoint, error) from error
    if done != checkpoint.iteration or not spent >= 0:
        raise StoreError(f"{checkpoint.directory}: its state is of iteration {done} and {spent:g} seconds")
    return done, spent


def take_up(learner: Learner, checkpoint: Checkpoint) -> None:
    """Go on from a checkpoint. Raises StoreError, the trace file untouched, where the job cannot take its state."""
    try:
        learner.load(checkpoint.networks, checkpoint.state)
        learner.store.take_up(checkpoint)
    except UNFIT as error:
        raise _unfit(checkpoint, error) from error


def _unfit(checkpoint: Checkpoint, error: Exception) -> StoreError:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return StoreError(f"{checkpoint.directory}: its state is not one that this job can go on from ({what[:200]})")


def weights_of(repository: Repository) -> Callable[[Plan, Mapping[str, nn.Module]], Sequence[str]]:
    """initTag: puts the weights of another run into every network whose role it has too, and says so.

    A strategy may name the role (`learnt_role`) that takes the only network of a run without a role in common, with
    averaged weights where there are some, as it would be judged.
    """

    def take(plan: Plan, networks: Mapping[str, nn.Module]) -> Sequence[str]:
        tag = plan.job.init_tag
        learnt = plan.strategy_class.learnt_role
        if tag is None:
            return (f"the {learnt} has random weights; initTag=TAG takes those of a run",) if learnt else ()
        checkpoint = repository.find(tag).checkpoints().weights_only()
        shared = {role: role for role in networks if role in checkpoint.networks}
        weights = checkpoint.networks
        if not shared and learnt is not None and len(weights) == 1:
            shared, weights = {learnt: next(iter(weights))}, {**weights, **checkpoint.averaged}
        if not shared:
            raise ConfigError(
                f"initTag={tag}: it has the roles {', '.join(checkpoint.networks)}, this job has {', '.join(networks)}"
            )
        for role, source in shared.items():
            try:
                networks[role].load_state_dict(dict(weights[source]))
            except RuntimeError as error:
                reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
                raise ConfigError(f"initTag={tag}: its {source} is another network: {reason}") from None
        named = [role if role == source else f"{role} ({source} there)" for role, source in shared.items()]
        said = f"weights of {' and '.join(named)} taken from run '{tag}', iteration {checkpoint.iteration}"
        return (*checkpoint.notices, said)

    return take
