"""All checks of a gradient processor, in their order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ganglion.engine.conformance.declared import DECLARED
from ganglion.engine.conformance.processortrial import FIXED, ROWS, Bench, ProcessorTrial, rows_of
from ganglion.engine.conformance.results import Check, Failed, Finding, Skipped, Unusable, carry_out
from ganglion.engine.conformance.subjects import Subject
from ganglion.engine.conformance.watching import SharedGenerators, contained, default_type, watching
from ganglion.engine.contracts import GradientProcessor, Method
from ganglion.engine.errors import ConfigError, StoreError
from ganglion.engine.processors import is_wanted
from ganglion.engine.resolution import settings_of
from ganglion.engine.trees import flatten, same_bytes, unflatten

CLOSE = 1e-5


def examine_processor(subject: Subject, keys: Mapping[str, Any], skip: Sequence[str] = ()) -> list[Finding]:
    """The findings of every check. Raises ConfigError for a wrong key."""
    with contained():
        return carry_out(CHECKS, ProcessorTrial(subject, keys), skip)


def _place(trial: ProcessorTrial) -> None:
    """It has its place in a chain, and takes part only where it is asked for."""
    kind = trial.subject.thing
    if not trial.is_method and is_wanted(kind, settings_of(kind)()):
        raise Failed(f"its key '{kind.key}' has a value by default, so it is part of every chain: make that None")
    before, after = (getattr(kind, name) is not getattr(GradientProcessor, name) for name in ("before", "after"))
    if not trial.is_method and not before and not after:
        raise Failed("it overrides neither before() nor after(), so it does nothing")
    if not trial.is_method and before != after and before == (kind.position > Method.position):
        what, side = (
            ("gradients, so its position is below", "before()") if before else ("weights, so it is above", "after()")
        )
        raise Failed(f"position = {kind.position}: {side} changes {what} the method's, {Method.position}")
    try:
        _ = trial.settings
    except ConfigError as error:
        raise Unusable from error


def _own_weights(trial: ProcessorTrial) -> None:
    """A step changes its own parameters, and neither fixed ones nor buffers."""
    bench = trial.bench()
    before = bench.weights()
    bench.learn(0, 3)
    after = bench.weights()
    learnt = [name for name in before if not name.startswith((FIXED, "statistics"))]
    for name in before:
        if name not in learnt and not same_bytes(before[name], after[name]):
            raise Failed(f"'{name}' is not one of its parameters, and it changes: keep to self.parameters")
    still = next((name for name in learnt if same_bytes(before[name], after[name])), None)
    if still is not None:
        raise Failed(f"'{still}' stays the same in three updates: every parameter with a gradient is updated")
    if any(not bool(value.isfinite().all()) for value in after.values()):
        raise Failed("weights are not finite after three ordinary updates")


def _rate(trial: ProcessorTrial) -> None:
    """The learning rate is the chain's, and the steps go downhill."""
    if not trial.is_method:
        raise Skipped("it is a link: the method has the learning rate")
    bench = trial.bench()
    before, loss = bench.weights(), float(bench.loss(rows_of(0)).detach())
    _step(bench, 0.0)
    changed = next((name for name, value in bench.weights().items() if not same_bytes(value, before[name])), None)
    if changed is not None:
        raise Failed(
            f"with a learning rate of 0 '{changed}' changes: use the learning_rate that update() is given, which falls"
        )
    bench = trial.bench()
    for _ in range(5):
        _step(bench, 0.01)
    if not float(bench.loss(rows_of(0)).detach()) < loss:
        raise Failed("five small steps do not lower the loss: weights go against the gradient, p -= rate * g")


def _step(bench: Bench, rate: float) -> None:
    """One step of the method alone, at this rate."""
    bench.chain.zero()
    bench.loss(rows_of(0)).backward()
    assert isinstance(bench.processor, Method)
    with torch.no_grad():
        bench.processor.update(0, rate)


def _no_gradients(trial: ProcessorTrial) -> None:
    """Parameters without a gradient are left out, and a step without any gradient is no error."""
    bench = trial.bench()
    before = bench.weights()
    bench.chain.update(lambda rows: bench.network(rows, both=False).square().mean(), rows_of(0))
    names = ("second.weight", "second.bias")
    if trial.is_method and any(not same_bytes(before[name], bench.weights()[name]) for name in names):
        raise Failed("a parameter whose grad is None changes: leave it alone, what is remembered of it too")
    bench.chain.zero()
    bench.chain.apply()
    bench.learn(1, 2)


def _resumed(trial: ProcessorTrial) -> None:
    """Its state_dict is all that it remembers: gone on with, the weights are the same to the last bit."""
    straight, stopped, resumed = trial.bench(), trial.bench(), trial.bench()
    straight.learn(0, 6)
    stopped.learn(0, 3)
    try:
        plain, tensors = flatten(stopped.chain.state_dict())
    except StoreError as error:
        raise Failed(f"its state_dict() cannot be stored: {error}") from error
    resumed.network.load_state_dict(stopped.weights())
    resumed.chain.load_state_dict(unflatten(json.loads(json.dumps(plain)), tensors))
    resumed.learn(3, 6)
    _same(straight, resumed, "stopped after 3 of 6 updates and gone on with, it ends otherwise", "save in state_dict() "
          "what it remembers, and put it back in load_state_dict()")  # fmt: skip


def _same(one: Bench, other: Bench, what: str, advice: str) -> None:
    """Both networks, and all that is remembered, agree to the last bit."""
    first, second = (({**bench.weights(), **flatten(bench.chain.state_dict())[1]}) for bench in (one, other))
    name = next(
        (name for name, value in first.items() if name not in second or not same_bytes(value, second[name])), None
    )
    if name is not None:
        raise Failed(f"{what}, first in '{name}': {advice}")


def _repeatable(trial: ProcessorTrial) -> None:
    """The same gradients give the same weights, and nothing is drawn from generators that belong to nobody."""
    shared, one, other = SharedGenerators(), trial.bench(), trial.bench()
    state = torch.get_rng_state()
    one.learn(0, 3)
    used = [*shared.changed(), *([] if torch.equal(state, torch.get_rng_state()) else ["torch's default generator"])]
    if used:
        raise Failed(f"{' and '.join(used)} is used: keep a torch.Generator seeded by a setting, and its state")
    torch.randn(7)
    other.learn(0, 3)
    _same(one, other, "the same gradients give other weights", "let nothing depend on time or on what was before")


def _host(trial: ProcessorTrial) -> None:
    """No update after the first waits for the host."""
    bench = trial.bench()
    bench.learn(0, 1)
    with watching() as watch:
        bench.learn(1, 4)
    if watch.reads:
        raise Failed(
            f"an update waits for the device: {watch.reads[0]}; keep numbers as tensors (torch.where, clamp), and "
            "count by the step that it is given"
        )


def _accumulated(trial: ProcessorTrial) -> None:
    """Gradients of two halves are those of the whole batch, and make one update."""
    steps: list[int] = []

    def count(processor: GradientProcessor) -> None:
        name = "update" if isinstance(processor, Method) else "before" if _overrides(processor, "before") else "after"
        inner = getattr(processor, name)

        def counted(step: int, *rest: Any) -> None:
            steps.append(step)
            inner(step, *rest)

        setattr(processor, name, counted)

    whole, halves = trial.bench(), trial.bench(accumulate=2, wrap=count)
    whole.learn(0, 2)
    halves.learn(0, 2)
    if halves.chain.updates != 2 or (steps and steps != [0, 1]):
        raise Failed(f"two batches of {ROWS} rows in halves are updates {steps}: one per batch is meant")
    for name, value in whole.weights().items():
        if not torch.allclose(value, halves.weights()[name], atol=CLOSE, rtol=1e-4):
            raise Failed(
                f"in halves of the batch '{name}' ends otherwise: act on the gradient when a step is made only"
            )


def _overrides(processor: GradientProcessor, name: str) -> bool:
    return getattr(type(processor), name) is not getattr(GradientProcessor, name)


def _double(trial: ProcessorTrial) -> None:
    """It works in double precision."""
    with default_type(torch.float64):
        bench = trial.bench()
        bench.learn(0, 2)
        for name, value in bench.weights().items():
            if value.dtype != torch.float64:
                raise Failed(f"'{name}' is {value.dtype} after an update where it was float64: keep the type")


def _average(trial: ProcessorTrial) -> None:
    """What it offers as averaged weights fits the network."""
    bench = trial.bench()
    if not hasattr(bench.processor, "averaged"):
        raise Skipped("it keeps no averaged weights")
    bench.learn(0, 2)
    averaged = bench.chain.averaged()
    own = bench.network.state_dict()
    if averaged is None or averaged.keys() != own.keys():
        raise Failed("averaged() must give a tensor for every name of the network's state_dict")
    wrong = next((name for name, value in averaged.items() if value.shape != own[name].shape), None)
    if wrong is not None:
        raise Failed(f"averaged() gives '{wrong}' in another shape than the network has")


CHECKS: tuple[Check, ...] = (
    *DECLARED,
    Check("place", _place, ("settings",)),
    Check("own weights", _own_weights, ("place",)),
    Check("learning rate", _rate, ("own weights",)),
    Check("no gradients", _no_gradients, ("own weights",)),
    Check("repeatable", _repeatable, ("own weights",)),
    Check("resume", _resumed, ("repeatable",)),
    Check("no host synchronisation", _host, ("own weights",)),
    Check("accumulation", _accumulated, ("own weights",)),
    Check("float64", _double, ("own weights",)),
    Check("averaged weights", _average, ("own weights",)),
)
