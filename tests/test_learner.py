"""When things happen in a run: exact iterations, intervals, stopping, retries, signals."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from tiny import TINY, learn_tiny, weights_of

from ganglion.engine.errors import ConfigError, DivergedError
from ganglion.engine.learner import read_values
from ganglion.engine.repository import Repository
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.feedforward import FeedForward


def trace(directory: Path, key: str = "generatorLoss") -> list[int]:
    points = (json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines())
    return [point["iteration"] for point in points if key in point]


def checkpoints(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.parametrize("total", [1, 7, 10])
def test_iterations_are_exact_whatever_the_trace_interval(total: int, tmp_path: Path) -> None:
    """DIANNE looked at the limit at trace points only, and ran over it."""
    learnt = learn_tiny("GAN", tmp_path, iterations=total, traceInterval=4)
    assert learnt.outcome.iteration == total
    assert trace(learnt.directory) == [n for n in range(1, total + 1) if n % 4 == 0 or n == total]
    state = json.loads((learnt.directory / "checkpoints" / str(total) / "state.json").read_text())
    assert f'"updates": {total}' in json.dumps(state)


def test_checkpoints_at_the_store_interval_are_kept_for_good_and_others_pruned(tmp_path: Path) -> None:
    learnt = learn_tiny("GAN", tmp_path, iterations=20, storeInterval=5, keep=1)
    assert checkpoints(learnt.directory) == [5, 10, 15, 20]
    plain = learn_tiny("GAN", tmp_path, "plain", iterations=20, keep=1)
    assert checkpoints(plain.directory) == [20]


def test_pictures_at_ten_moments_or_as_told(tmp_path: Path) -> None:
    def moments(directory: Path) -> list[int]:
        return sorted(int(path.stem) for path in (directory / "samples").glob("*.png"))

    default = learn_tiny(
        "GAN", tmp_path, "default", iterations=20, sampleInterval=None, traces="lines,pictures", samples=4
    )
    assert moments(default.directory) == list(range(0, 21, 2))
    told = learn_tiny("GAN", tmp_path, "told", iterations=20, sampleInterval=8, traces="lines,pictures", samples=4)
    assert moments(told.directory) == [0, 8, 16, 20]


def test_validation_chooses_the_best_checkpoint(tmp_path: Path) -> None:
    learnt = learn_tiny("FeedForward", tmp_path, iterations=20, validationInterval=4, keep=1)
    points = [json.loads(line) for line in (learnt.directory / "trace.jsonl").read_text().splitlines()]
    losses = {point["iteration"]: point["validation"]["loss"] for point in points if "validation" in point}
    assert sorted(losses) == [4, 8, 12, 16, 20]
    best = min(losses, key=lambda iteration: losses[iteration])
    assert Repository(tmp_path).run("tiny").checkpoints().best() == best


def test_validation_counts_every_row_once_with_a_smaller_last_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganglion.engine import validation

    figures = []
    for rows in (7, 100):
        monkeypatch.setattr(validation, "ROWS", rows)
        learnt = learn_tiny("FeedForward", tmp_path, f"rows{rows}", iterations=2)
        last = json.loads((learnt.directory / "trace.jsonl").read_text().splitlines()[-1])
        figures.append(last["validation"]["loss"])
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def test_validation_of_a_strategy_that_has_nothing_to_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no loss on unseen rows"):
        learn_tiny("GAN", tmp_path, validationSet="0,10")
    assert not (tmp_path / "tiny").exists()


def test_early_stop_compares_with_the_window(tmp_path: Path) -> None:
    """DIANNE compared the window with the number of learners, so that it never fired."""
    learnt = learn_tiny("GAN", tmp_path, iterations=1000, lossThreshold=1e9, thresholdWindow=3, traceInterval=2)
    assert learnt.outcome.iteration == 8  # the fourth reading is the first that has one three back
    assert "less than 1e+09" in learnt.outcome.reason
    improving = learn_tiny("GAN", tmp_path, "other", iterations=30, lossThreshold=-1e9, thresholdWindow=3)
    assert improving.outcome.iteration == 30
    by_validation = learn_tiny(
        "FeedForward", tmp_path, "validated", iterations=100, validationLossThreshold=1e9, thresholdWindow=2
    )
    assert by_validation.outcome.iteration == 6


class _Poison:
    """Makes the generator's loss infinite at one iteration, as often as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, iteration: int, times: int) -> None:
        self.left = times
        original = AdversarialStrategy.process_iteration

        def process(strategy: AdversarialStrategy, i: int) -> Any:
            progress = original(strategy, i)
            if i == iteration and self.left:
                self.left -= 1
                with torch.no_grad():
                    next(iter(strategy.context.networks["generator"].parameters())).fill_(math.nan)
                progress.values["generatorLoss"].fill_(math.inf)  # type: ignore[union-attr]
            return progress

        monkeypatch.setattr(AdversarialStrategy, "process_iteration", process)


def test_a_run_that_diverges_keeps_its_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DIANNE stored the NaN weights over the tag, and did not look for infinities."""
    _Poison(monkeypatch, 7, 99)
    with pytest.raises(DivergedError, match=r"generatorLoss is inf at iteration 8; the last good state is kept"):
        learn_tiny("GAN", tmp_path, iterations=20, storeInterval=3)
    assert checkpoints(tmp_path / "tiny") == [0, 3, 6]
    record = json.loads((tmp_path / "tiny" / "record.json").read_text())
    assert record["status"] == "failed" and "inf" in record["reason"]


def test_nan_retry_goes_back_lowers_the_rate_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _Poison(monkeypatch, 7, 2)
    learnt = learn_tiny("GAN", tmp_path, iterations=12, storeInterval=3, nanRetry=2, nanFactor=0.5)
    assert learnt.outcome.status == "finished" and learnt.outcome.iteration == 12
    assert trace(learnt.directory) == [2, 4, 6, 8, 10, 12]
    checkpoint = Repository(tmp_path).run("tiny").checkpoints().load()
    assert checkpoint.state["session"]["chains"]["generator"]["factor"] == 0.25
    assert checkpoint.state["learner"]["retries"] == 2


def test_nan_retry_gives_up_after_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _Poison(monkeypatch, 7, 99)
    with pytest.raises(DivergedError):
        learn_tiny("GAN", tmp_path, iterations=12, storeInterval=3, nanRetry=2)


def test_weights_that_are_not_finite_are_never_stored_even_where_the_losses_look_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FeedForward.process_iteration

    def process(strategy: FeedForward, i: int) -> Any:
        progress = original(strategy, i)
        if i == 3:
            with torch.no_grad():
                next(iter(strategy.context.networks["network"].parameters())).view(-1)[0] = math.nan
            progress.values["loss"].fill_(0.5)  # type: ignore[union-attr]
        return progress

    monkeypatch.setattr(FeedForward, "process_iteration", process)
    with pytest.raises(DivergedError):
        learn_tiny("FeedForward", tmp_path, iterations=4, validationSet=None, traceInterval=100)
    assert checkpoints(tmp_path / "tiny") == [0]


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[tuple[Forked, Path]]:
    """A run without an end in a process of its own, past its first trace point."""
    row = TINY["GAN"]
    keys = {
        **row.keys,
        "strategy": "GAN",
        "tag": "endless",
        "iterations": -1,
        "execution": "eager",  # graphs would be tried for so long a run
        "threads": 1,
        "traceInterval": 5,
        "sampleInterval": 0,
    }
    words = [*(row.networks, row.dataset), *(f"{key}={value}" for key, value in keys.items())]
    process = Forked("learn", *words, "--runs", str(tmp_path))
    file = tmp_path / "endless" / "trace.jsonl"
    until = time.monotonic() + 120
    while not (file.exists() and file.stat().st_size) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    yield process, tmp_path / "endless"
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_store_and_stop(endless: tuple[Forked, Path], number: signal.Signals, code: int) -> None:
    process, directory = endless
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    record = json.loads((directory / "record.json").read_text())
    assert record["status"] == "stopped" and record["iteration"] == max(checkpoints(directory)) > 0
    resumed = learn_tiny("GAN", directory.parent, "endless", iterations=record["iteration"] + 3, traceInterval=1)
    assert resumed.outcome.iteration == record["iteration"] + 3


def test_a_second_run_of_a_tag_is_refused_while_it_learns(endless: tuple[Forked, Path]) -> None:
    from ganglion.engine.errors import StoreError

    _, directory = endless
    with pytest.raises(StoreError, match="endless"):
        learn_tiny("GAN", directory.parent, "endless", iterations=5)


def test_decay_is_frozen_at_the_first_start(tmp_path: Path) -> None:
    """Going on with more iterations does not stretch the decay: the last value is held."""
    decay = {"decayType": "cosine", "validationSet": None}
    learn_tiny("FeedForward", tmp_path, "a", iterations=4, **decay)
    longer = learn_tiny("FeedForward", tmp_path, "a", iterations=8, **decay)
    straight = learn_tiny("FeedForward", tmp_path, "b", iterations=8, decayIterations=4, **decay)
    assert weights_of(longer) == weights_of(straight)


def test_epochs_are_turned_into_iterations(tmp_path: Path) -> None:
    learnt = learn_tiny("GAN", tmp_path, epochs=0.25)  # 256 rows, 8 per batch
    assert learnt.outcome.iteration == 8
    with pytest.raises(ConfigError, match="both given"):
        learn_tiny("GAN", tmp_path, "two", epochs=1, iterations=4)


def test_values_are_read_in_one_transfer() -> None:
    assert read_values({"a": torch.tensor(1.5), "b": torch.tensor(2.0, dtype=torch.float64)}) == {"a": 1.5, "b": 2.0}
    assert read_values({}) == {}
