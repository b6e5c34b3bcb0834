"""What every registered strategy must do; each is one row of `tiny.TINY`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny import TINY, learn_tiny, weights_of

from ganglion.engine import threads
from ganglion.engine.registry import Registry
from ganglion.engine.testing import check_strategy

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
def test_passes_the_conformance_kit(strategy: str) -> None:
    """But for its graphs, which test_capture.py makes of the same jobs, and compares for longer than the kit does."""
    row = TINY[strategy]
    findings = check_strategy(strategy, row.networks, row.dataset, skip=["graphs"], **row.keys)
    skipped = {found.check for found in findings if found.result == "skipped"}
    assert skipped <= {"cuda", "unseen rows", "samples", "graphs"}


@pytest.mark.parametrize("strategy", [name for name, row in TINY.items() if row.fixed_roles])
def test_networks_that_do_not_learn_stay_as_they_are(strategy: str, tmp_path: Path) -> None:
    checkpoints = learn_tiny(strategy, tmp_path, iterations=4).directory / "checkpoints"
    for role in TINY[strategy].fixed_roles:
        before, after = ((checkpoints / when / f"{role}.safetensors").read_bytes() for when in ("0", "4"))
        assert before == after


@every_strategy
def test_stopped_and_resumed_is_never_having_stopped(strategy: str, tmp_path: Path) -> None:
    straight = learn_tiny(strategy, tmp_path, "straight", iterations=9)
    learn_tiny(strategy, tmp_path, "resumed", iterations=4, decayIterations=9)
    torch.randn(17)  # whatever happens in between
    resumed = learn_tiny(strategy, tmp_path, "resumed", iterations=9, decayIterations=9)
    assert weights_of(straight) == weights_of(resumed)
    assert _trace(straight.directory) == _trace(resumed.directory)


@pytest.mark.parametrize("strategy", ["NSGAN", "VAE"])
def test_drawn_pictures_leave_the_weights_alone(strategy: str, tmp_path: Path) -> None:
    """As the conformance kit says of every strategy, with pictures that are drawn and checkpoints that are written."""
    plain = weights_of(learn_tiny(strategy, tmp_path, "plain", iterations=6))
    busy = learn_tiny(
        strategy, tmp_path, "busy", iterations=6, traceInterval=1, sampleInterval=1, storeInterval=2,
        validationInterval=1, traces="lines,pictures", samples=4,
    )  # fmt: skip
    assert len(list((busy.directory / "samples").glob("*.png"))) == 7
    assert plain.keys() == weights_of(busy).keys()
    for name in plain:
        if name != "state.safetensors":
            assert plain[name] == weights_of(busy)[name]


@every_strategy
def test_measuring_threads_leaves_the_run_alone(strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MARGIN", 0.0)  # several threads are never chosen, only tried
    monkeypatch.setattr(threads, "SECONDS", 0.0)
    monkeypatch.setattr(threads, "ROUNDS", 1)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    given = learn_tiny(strategy, tmp_path, "given", iterations=4, threads=1)
    tried: list[int] = []
    if strategy != "GAN":  # one really tries them: small networks in two threads wait for each other, and burn minutes
        monkeypatch.setattr(torch, "set_num_threads", tried.append)
    measured = learn_tiny(strategy, tmp_path, "measured", iterations=4, threads=None)
    assert tried == ([] if strategy == "GAN" else [1, 2, 1])
    assert weights_of(given) == weights_of(measured)


def _trace(directory: Path) -> list[dict[str, object]]:
    timing = ("seconds", "iterationsPerSecond")
    lines = (json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in timing} for line in lines]
