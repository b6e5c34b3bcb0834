"""Flow matching: its loss by hand, fields whose solutions are known, whitened data, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine.api import ConfigError, DataSpec, NetworkContext, NetworkError, Port
from ganglion.engine.conformance.courses import Job, iterate
from ganglion.engine.conformance.subjects import find_subject
from ganglion.engine.execution import use_graphs
from ganglion.engine.launch import learn
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session
from ganglion.engine.testing import check_strategy
from ganglion.engine.tracing import interpreted
from ganglion.networks.flow import FlowMLP, FlowSettings

SMALL: dict[str, Any] = {"batchSize": 16, "size": 200, "testSize": 20}


@contextmanager
def session(data: str = "Ring", **keys: Any) -> Iterator[Session]:
    """FlowMatching set up."""
    with Job(find_subject("strategy", "FlowMatching"), ["FlowMLP"], data, {**SMALL, **keys}).session() as made:
        yield made


@contextmanager
def moved_by(velocity: Any, data: str = "Ring", **keys: Any) -> Iterator[Any]:
    """The strategy with a velocity that is known in place of its own."""
    with session(data, **keys) as made:
        strategy: Any = made.strategy
        strategy.velocity = velocity
        yield strategy


def test_the_loss_is_the_squared_distance_from_the_straight_line() -> None:
    shown: list[Tensor] = []

    def velocity(*inputs: Tensor) -> Tensor:
        shown.extend(inputs)
        return torch.full((2, 2), 0.5)

    with moved_by(velocity) as strategy:
        rows, noise = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
        time = torch.tensor([[0.25], [0.5]])
        loss = strategy.loss(rows, noise, time)
        # velocities (1, 1) and (2, -2), less a half: (0.25 + 0.25 + 2.25 + 6.25) / 4
        torch.testing.assert_close(loss.total, torch.tensor(2.25))
        torch.testing.assert_close(shown, [torch.tensor([[0.25, 1.25], [2.0, 0.0]]), time])


def test_times_are_a_sigmoid_of_normal_numbers() -> None:
    with session() as made:
        strategy: Any = made.strategy
        streams = strategy._noise_stream, strategy._time_stream
        noise, time = zip(*(strategy._draws(torch.zeros(200, 2), *streams) for _ in range(50)), strict=True)
        drawn = torch.cat(time).logit()
        assert torch.cat(time).shape == (10000, 1) and abs(float(drawn.mean())) < 0.05
        assert abs(float(drawn.std()) - 1) < 0.05 and abs(float(torch.cat(noise).std()) - 1) < 0.05


@pytest.mark.parametrize("steps", [1, 4])
def test_samples_follow_the_field_by_heuns_method(steps: int) -> None:
    noise = torch.randn(6, 2)
    with moved_by(lambda rows, time: torch.ones_like(rows), solverSteps=steps) as strategy:
        torch.testing.assert_close(strategy.generate(noise), noise + 1)
    with moved_by(lambda rows, time: (2 * time).expand_as(rows), solverSteps=steps) as strategy:
        torch.testing.assert_close(strategy.generate(noise), noise + 1)  # the mean of both ends: exact for lines
    with moved_by(lambda rows, time: -rows, solverSteps=steps) as strategy:
        factor = (1 - 1 / steps + 0.5 / steps**2) ** steps
        torch.testing.assert_close(strategy.generate(noise), factor * noise)
        assert abs(factor - math.exp(-1)) < 0.3 / steps**2


def test_the_velocity_of_a_gaussian_leads_to_it() -> None:
    """Of noise N(0, 1) and data N(2, 3^2) the mean velocity is known, and so is where it leads: to 2 + 3 noise."""

    def velocity(rows: Tensor, time: Tensor) -> Tensor:
        variance = (1 - time) ** 2 + 9 * time**2
        return 2 + (9 * time - (1 - time)) / variance * (rows - 2 * time)

    noise = torch.randn(500, 2)
    with moved_by(velocity, solverSteps=100) as strategy:
        torch.testing.assert_close(strategy.generate(noise), 2 + 3 * noise, atol=0.01, rtol=0.01)


def test_whitened_rows_are_learnt_and_what_always_holds_holds_in_samples(tmp_path: Path) -> None:
    keys = {**SMALL, "iterations": 4, "threads": 1, "sampleInterval": 0, "tag": "flow", "solverSteps": 2}
    learn(["FlowMLP"], "Sine", runs=tmp_path, quiet=True, strategy="FlowMatching", whiten=1, **keys)
    opened = open_run(Registry().load(), Repository(tmp_path).find("flow"))
    strategy: Any = opened.strategy
    samples = draw_samples(opened, 50, 0)
    assert samples.shape == (50, 30, 1) and strategy.directions() < 30  # a sine of few frequencies has few directions
    off = samples.flatten(1) - strategy._centre
    torch.testing.assert_close(off @ strategy._inward @ strategy._outward, off, atol=1e-3, rtol=1e-3)


def test_numbers_without_a_direction_count_nothing() -> None:
    with session("Sine", whiten=1.0) as made:
        strategy: Any = made.strategy
        strategy._network = lambda rows: 7 * torch.ones(len(rows), 30)
        count = strategy.directions()
        rows = strategy._rows(strategy.context.sampler.next_batch())
        noise, time = strategy._draws(rows, strategy._noise_stream, strategy._time_stream)
        velocity = strategy.velocity(noise.lerp(rows, time), time)
        shown: list[Tensor] = []
        strategy._network = lambda rows: [shown.append(rows), rows[:, :-1]][1]
        strategy.generate(torch.randn(8, 30))
        for each in (rows, noise, velocity, *(each[:, :-1] for each in shown)):
            assert (each[:, count:] == 0).all() and (each[:, :count] != 0).all()


def test_the_network_is_given_rows_with_the_time_behind_them() -> None:
    with session() as made:
        strategy: Any = made.strategy
        strategy._network = lambda rows: 2 * rows[:, 1:]
        rows, time = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.25], [0.5]])
        torch.testing.assert_close(strategy.velocity(rows, time), torch.tensor([[4.0, 0.5], [8.0, 1.0]]))


def test_whitened_rows_become_graphs() -> None:
    """The whitening is no part of the loss, as graphs take nothing but what they are given."""
    with session("Sine", whiten=1.0) as made:
        capture = use_graphs(made, interpreted)
        iterate(made, 0, 3)
        assert capture.graphs() == 1 and not capture.refused


def network(size: int = 3, **settings: Any) -> nn.Module:
    """A FlowMLP for rows of two numbers and a time."""
    spec, given = DataSpec("vector", (2,)), Port("vector", (size,))
    return FlowMLP()(NetworkContext("velocity", given, Port("vector", (2,)), spec, FlowSettings(**settings)))


def test_blocks_begin_as_nothing_and_then_depend_on_the_time() -> None:
    torch.manual_seed(0)
    made: Any = network(width=16, blocks=2)
    rows = torch.randn(5, 2)
    early, late = (torch.cat((rows, torch.full((5, 1), time)), 1) for time in (0.1, 0.9))
    assert (made(early) == 0).all()
    nn.init.normal_(made.output.weight)
    torch.testing.assert_close(made(early), made.output(made.norm(made.rows(rows))))
    torch.testing.assert_close(made(early), made(late))
    for block in made.blocks:
        nn.init.normal_(block.outward.weight)
    assert (made(early) - made(late)).abs().max() > 0.01


def test_dropout_of_blocks_is_a_setting() -> None:
    made = network(width=16, blocks=1, dropout=0.5)
    assert [module.p for module in made.modules() if isinstance(module, nn.Dropout)] == [0.5]
    assert not [module for module in network().modules() if isinstance(module, nn.Dropout)]


def test_what_cannot_be_a_velocity_is_refused() -> None:
    with session() as made:
        strategy: Any = made.strategy
        strategy._network.output_range = (-1.0, 1.0)
        with pytest.raises(ConfigError, match="values are bounded, and velocities are not"):
            strategy.setup(strategy.context)
    with pytest.raises(NetworkError, match="one vector of a row and a time"):
        network(size=1)


def test_it_passes_the_conformance_kit() -> None:
    check_strategy("FlowMatching", ["FlowMLP"], "Sine", whiten=1.0, solverSteps=2, **SMALL)
