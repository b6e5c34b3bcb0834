"""What every registered strategy must do; each is one row of `tiny.TINY`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, learn_tiny, weights_of
from torch.utils._python_dispatch import TorchDispatchMode

from ganglion.engine import threads
from ganglion.engine.assembly import assemble
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.registry import Registry

BUILTIN = [entry.name for entry in Registry().load().all("strategy") if entry.origin == "built-in"]
every_strategy = pytest.mark.parametrize("strategy", BUILTIN)


def test_every_strategy_has_a_row() -> None:
    assert set(BUILTIN) == set(TINY)


@every_strategy
def test_learns_and_reports_finite_numbers(strategy: str, tmp_path: Path) -> None:
    learnt = learn_tiny(strategy, tmp_path, iterations=6)
    points = [json.loads(line) for line in (learnt.directory / "trace.jsonl").read_text().splitlines()]
    assert [point["iteration"] for point in points if "validation" not in point] == [2, 4, 6]
    values = [value for point in points for value in point.values() if isinstance(value, float)]
    assert values and all(math.isfinite(value) for value in values)
    assert learnt.outcome.status == "finished" and learnt.outcome.iteration == 6


@every_strategy
def test_every_network_changes(strategy: str, tmp_path: Path) -> None:
    learnt = learn_tiny(strategy, tmp_path, iterations=4)
    before = learnt.directory / "checkpoints" / "0"
    after = learnt.directory / "checkpoints" / "4"
    roles = [
        path.name
        for path in before.glob("*.safetensors")
        if path.name != "state.safetensors" and ".ema." not in path.name
    ]
    assert len(roles) == len(Registry().load().get("strategy", strategy).thing.roles)
    for role in roles:
        fixed = role.removesuffix(".safetensors") in TINY[strategy].fixed_roles
        assert ((before / role).read_bytes() == (after / role).read_bytes()) is fixed


@every_strategy
def test_stopped_and_resumed_is_never_having_stopped(strategy: str, tmp_path: Path) -> None:
    straight = learn_tiny(strategy, tmp_path, "straight", iterations=9)
    learn_tiny(strategy, tmp_path, "resumed", iterations=4, decayIterations=9)
    torch.randn(17)  # whatever happens in between
    resumed = learn_tiny(strategy, tmp_path, "resumed", iterations=9, decayIterations=9)
    assert weights_of(straight) == weights_of(resumed)
    assert _trace(straight.directory) == _trace(resumed.directory)


@every_strategy
def test_same_seed_same_weights_other_seed_others(strategy: str, tmp_path: Path) -> None:
    one, same, other = (
        learn_tiny(strategy, tmp_path, tag, iterations=3, seed=seed) for tag, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert weights_of(one) == weights_of(same)
    assert weights_of(one).keys() == weights_of(other).keys()
    assert weights_of(one) != weights_of(other)


@every_strategy
def test_intervals_leave_the_weights_alone(strategy: str, tmp_path: Path) -> None:
    """Pictures, traces, validation and checkpoints draw from streams of their own."""
    plain = learn_tiny(strategy, tmp_path, "plain", iterations=6)
    busy = learn_tiny(
        strategy, tmp_path, "busy", iterations=6, traceInterval=1, sampleInterval=1, storeInterval=2,
        validationInterval=1, traces="lines,pictures", samples=4,
    )  # fmt: skip
    assert weights_of(plain).keys() == weights_of(busy).keys()
    for name in weights_of(plain):
        if name != "state.safetensors":
            assert weights_of(plain)[name] == weights_of(busy)[name]


@every_strategy
def test_measuring_threads_leaves_the_run_alone(strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MARGIN", 0.0)  # several threads are never chosen, only tried
    monkeypatch.setattr(threads, "SECONDS", 0.01)
    given = learn_tiny(strategy, tmp_path, "given", iterations=4, threads=1)
    measured = learn_tiny(strategy, tmp_path, "measured", iterations=4, threads=None)
    assert weights_of(given) == weights_of(measured)


def _trace(directory: Path) -> list[dict[str, object]]:
    timing = ("seconds", "iterationsPerSecond")
    lines = (json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in timing} for line in lines]


@every_strategy
def test_an_iteration_never_waits_for_the_host(strategy: str) -> None:
    """A dispatch mode sees every scalar that is read from a tensor, so that this fails on a CPU too."""
    row = TINY[strategy]
    asked = request(row.networks, row.dataset, {"iterations": 10, **row.keys, "strategy": strategy})
    live = assemble(Registry().load(), asked, data_context(lambda sentence: None))
    live.strategy.process_iteration(0)
    reads = Reads()
    with reads:
        progress = live.strategy.process_iteration(1)
        assert reads.count == 0
        torch.ones(()).item()
    assert reads.count == 1
    assert all(value.dim() == 0 and not value.requires_grad for value in progress.values.values())


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "_local_scalar_dense" in str(function)
        return function(*args, **(kwargs or {}))
