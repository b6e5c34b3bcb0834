"""Checks of strategies: what they declare, that an iteration runs, and what it reports, reads and draws."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.conformance.courses import ITERATIONS
from ganglion.engine.conformance.networktrial import output_of
from ganglion.engine.conformance.results import Check, Failed, Skipped, Unusable, several
from ganglion.engine.conformance.strategytrial import StrategyTrial
from ganglion.engine.contracts import LearnProgress, NetworkContext, RoleShape
from ganglion.engine.errors import InputError, NetworkError

RESERVED = ("iteration", "seconds", "iterationsPerSecond", "validation")  # entries of a trace point


def check_roles(trial: StrategyTrial) -> None:
    """It names its roles, and says what shapes their networks have."""
    roles = getattr(trial.strategy, "roles", None)
    if not isinstance(roles, tuple) or not roles or not all(isinstance(role, str) for role in roles):
        raise Failed(f"roles is {roles!r}: it must be a tuple of names, such as ('generator', 'discriminator')")
    if len(set(roles)) < len(roles):
        raise Failed(f"roles names one twice: {', '.join(roles)}")
    try:
        shapes, _ = trial.job.declared()
    except InputError as error:
        raise Unusable from error
    several([problem for role in roles if (problem := _role_problem(role, shapes)) is not None])
    unknown = [role for role in shapes if role not in roles]
    if unknown:
        raise Failed(f"shapes() gives a shape for '{unknown[0]}', which is not one of the roles {', '.join(roles)}")


def _role_problem(role: str, shapes: Any) -> str | None:
    if role not in shapes:
        return f"shapes() says nothing of the {role}: it must give a RoleShape for every role"
    if not isinstance(shapes[role], RoleShape):
        return f"shapes() gives a {type(shapes[role]).__name__} for the {role}: it must be a RoleShape(input, output)"
    return None


def check_job(trial: StrategyTrial) -> None:
    """The job is understood: its keys are known, its networks and data fit the strategy."""
    try:
        with trial.job.session():
            pass
    except InputError as error:
        raise Unusable from error


def check_wrong_networks(trial: StrategyTrial) -> None:
    """A network whose output has another shape is refused before anything is learnt."""
    registry = trial.subject.registry
    for place, role in enumerate(trial.strategy.roles):
        networks = list(trial.job.networks)
        entry = registry.get("network", networks[place])
        networks[place] = f"too long {role}"
        registry.lend("network", networks[place], TooLongFactory(entry.thing), entry.name)
        try:
            with trial.job.session(networks):
                pass
        except NetworkError:
            continue
        raise Failed(f"a network whose output is one too long is accepted as the {role}: shapes() must be exact")


class TooLongFactory:
    """Makes what another factory makes, with an output that is one too long."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        for name in ("Settings", "layer_arguments"):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    def __call__(self, context: NetworkContext) -> nn.Module:
        return _TooLong(self.inner(context))


class _TooLong(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: Tensor) -> Tensor:
        return nn.functional.pad(output_of(self.inner, rows), (0, 1))


def check_iteration(trial: StrategyTrial) -> None:
    """Iterations run on the networks and data of the job."""
    for number, progress in enumerate(trial.straight.progress):
        if not isinstance(progress, LearnProgress):
            raise Failed(f"process_iteration returns a {type(progress).__name__}: return LearnProgress(i, values)")
        if progress.iteration != number:
            raise Failed(
                f"process_iteration({number}) reports iteration {progress.iteration!r}: it must report {number}"
            )


def check_fed_shapes(trial: StrategyTrial) -> None:
    """Networks are given, and give, what shapes() says."""
    straight = trial.straight
    if not straight.referee.fed:
        raise Skipped("no call of a network with a tensor was seen")
    for fed in sorted(straight.referee.fed):
        shape = straight.shapes[fed.role]
        for what, port, seen in (("is given", shape.input, fed.given), ("gives", shape.output, fed.gave)):
            # The number of steps may vary, a score may be one per step, and noise too.
            steps = port.kind in ("sequence", "score") or (port.kind == "noise" and len(port.shape) == 2)
            same = seen[-1:] == port.shape[-1:] if steps else seen == port.shape
            if not same:
                raise Failed(f"the {fed.role} {what} rows of shape {seen}, and shapes() says {port.shape}")


def check_progress(trial: StrategyTrial) -> None:
    """Progress is detached, 0-dimensional, on a device of the job, and finite."""
    devices = set(trial.straight.session.devices.values())
    for progress in trial.straight.progress:
        if not progress.values:
            raise Failed("process_iteration reports nothing: return at least one loss in LearnProgress.values")
        for name, value in progress.values.items():
            problem = _progress_problem(name, value, devices)
            if problem is not None:
                raise Failed(f"progress '{name}' {problem}")
            if not math.isfinite(float(value)):
                raise Failed(f"progress '{name}' is {float(value)} in iteration {progress.iteration} of a tiny problem")


def _progress_problem(name: str, value: Any, devices: set[torch.device]) -> str | None:
    if name in RESERVED:
        return "has the name of another entry of a trace point: call it something else"
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}: report a tensor that stays on its device, not a number read from it"
    if value.dim() != 0:
        return f"has shape {tuple(value.shape)}: report one number, such as its mean()"
    if value.requires_grad:
        return "carries its graph along: report value.detach() (chain.update returns detached losses)"
    if value.device not in devices:
        return f"is on {value.device}: it must stay on the device of its network"
    return None


def check_host(trial: StrategyTrial) -> None:
    """No iteration after the first waits for the host."""
    reads = trial.repeated.watch.reads
    if reads:
        raise Failed(
            f"an iteration waits for the device: {_counted(reads)}; keep numbers as tensors "
            "(torch.where in place of if), and leave reading to the engine"
        )


def check_random(trial: StrategyTrial) -> None:
    """Numbers are drawn from the strategy's own streams only."""
    repeated = trial.repeated
    if repeated.shared:
        raise Failed(
            f"{' and '.join(repeated.shared)} is used: draw from self.random('name'), which the engine seeds and saves"
        )
    if repeated.seeded:
        raise Failed("torch.manual_seed is called in an iteration: draw from self.random('name'), which is seeded")
    if repeated.watch.draws:
        raise Failed(
            f"torch's default generator is drawn from by {_counted(repeated.watch.draws)}: "
            "draw from self.random('name') (normal, uniform, integers), or give generator="
        )


def _counted(places: list[str]) -> str:
    others = len(set(places)) - 1
    return f"{places[0]}" + (f" and in {others} other place{'s' if others > 1 else ''}" if others else "")


def check_roles_apart(trial: StrategyTrial) -> None:
    """Each update changes its own role only, and leaves no gradients on another."""
    several(trial.straight.referee.problems)


def check_learning(trial: StrategyTrial) -> None:
    """Every role learns, but those that are fixed or in evaluation mode."""
    straight = trial.straight
    after = straight.end.weights()
    for role, network in straight.session.networks.items():
        parameters = {name for name, _ in network.named_parameters()}
        changed = any(not torch.equal(value, after[role][name]) for name, value in straight.began[role].items()
                      if name in parameters)  # fmt: skip
        fixed = not straight.session.chains[role].parameters
        if changed and fixed:
            raise Failed(f"the {role} is fixed and changes all the same: update it by context.processors['{role}']")
        updates = straight.referee.updates[role]
        if changed and not updates and network.training:
            raise Failed(
                f"the {role} learns without its processor chain, so method, learningRate, clipNorm and all the others "
                f"have no effect: update it by context.processors['{role}']"
            )
        if changed or fixed or not parameters or not network.training:
            continue
        if updates:
            raise Failed(f"the weights of the {role} are the same after {updates} updates: its loss has no gradient")
        raise Failed(
            f"the {role} is never updated in {ITERATIONS} iterations: call context.processors['{role}'].update(...), "
            "or put it into evaluation mode in setup() if it is not meant to learn"
        )


RUNNING: tuple[Check, ...] = (
    Check("roles", check_roles, ("settings",)),
    Check("job", check_job, ("settings", "roles")),
    Check("wrong networks", check_wrong_networks, ("job",)),
    Check("iteration", check_iteration, ("job",)),
    Check("shapes", check_fed_shapes, ("iteration",)),
    Check("progress", check_progress, ("iteration",)),
    Check("no host synchronisation", check_host, ("iteration",)),
    Check("random streams", check_random, ("iteration",)),
    Check("roles apart", check_roles_apart, ("iteration",)),
    Check("learning", check_learning, ("iteration",)),
)
