"""The DiracGAN: which methods come to rest, circle or drift away in the smallest game there is, to known digits.

The real data are the point 0, the fakes the point theta, the discriminator's score is psi x (Mescheder et al. 2018,
arXiv:1801.04406, section 2). Both start at 1; in turns, the discriminator first, they take gradient steps of 0.1;
penalties have the weight 1. The figures are the distances from (0, 0), where the game rests, after 200 and 2000 turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import NetworkContext, Objective, Penalty
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.strategies.objectives import Minimax, NonSaturating, RelativisticPaired, Wasserstein
from ganglion.strategies.penalties import GP, LP, R1, R2, NormSettings

REAL, PLACE = torch.zeros(1, 1, dtype=torch.float64), torch.full((1,), 0.5)
RATE = 0.1
UNIT = NormSettings(weight=1.0)


class Method(NamedTuple):
    """What is played, and the two distances; `tolerance` is half of their last digit."""

    objective: Objective
    penalties: tuple[Penalty, ...]
    after: tuple[float, float]
    tolerance: float = 0.005
    clip: float = math.inf


METHODS = {
    "NS + R1": Method(NonSaturating(), (R1(),), (0.0018, 0.0), 0.00005),
    "RpGAN + R1": Method(RelativisticPaired(), (R1(),), (0.0018, 0.0), 0.00005),
    "minimax + R1": Method(Minimax(), (R1(),), (0.0036, 0.0), 0.00005),
    "WGAN + R1": Method(Wasserstein(), (R1(),), (0.0001, 0.0), 0.00005),
    "NS": Method(NonSaturating(), (), (0.58, 0.20)),  # slower and slower
    "minimax": Method(Minimax(), (), (1.40, 1.38)),  # circles
    "WGAN": Method(Wasserstein(), (), (1.36, 1.37)),
    "WGAN, clipped to 0.5": Method(Wasserstein(), (), (0.51, 0.49), clip=0.5),
    "WGAN-GP": Method(Wasserstein(), (GP(UNIT),), (2.0, 2.0), 0.05),
    "WGAN-LP": Method(Wasserstein(), (LP(UNIT),), (0.99, 0.99)),  # circles, where nothing is penalised
}


def distances(method: Method, turns: Sequence[int] = (200, 2000)) -> list[float]:
    """How far from rest a game by our objectives and penalties is after so many turns."""
    psi, theta = (torch.ones(1, 1, dtype=torch.float64) for _ in range(2))
    found = []
    for turn in range(1, max(turns) + 1):
        psi = (psi - RATE * discriminator_slope(method, psi, theta)).clamp(-method.clip, method.clip)
        theta = theta - RATE * generator_slope(method, psi, theta)
        if turn in turns:
            found.append(math.hypot(float(psi), float(theta)))
    return found


def discriminator_slope(method: Method, psi: Tensor, theta: Tensor) -> Tensor:
    psi = psi.clone().requires_grad_()
    first, second = method.objective.discriminator(REAL * psi, theta * psi)
    loss = first if second is None else first + second
    for penalty in method.penalties:
        term = penalty.penalty(lambda x: x * psi, REAL, theta, PLACE)
        loss = loss + penalty.settings.weight * term
    return torch.autograd.grad(loss, psi)[0]


def generator_slope(method: Method, psi: Tensor, theta: Tensor) -> Tensor:
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad(method.objective.generator(REAL * psi, theta * psi), theta)[0]


@pytest.mark.parametrize("name", METHODS)
def test_distances_after_200_and_2000_turns(name: str) -> None:
    method = METHODS[name]
    assert distances(method) == pytest.approx(method.after, abs=method.tolerance)


def test_a_penalty_at_the_fakes_is_as_good_as_one_at_the_data() -> None:
    """The gradient psi is the same everywhere, and both penalties together weigh twice."""
    one = Method(NonSaturating(), (R1(),), (0, 0))
    assert distances(one._replace(penalties=(R2(),)), (50,)) == distances(one, (50,))
    twice = R1(R1.Settings(weight=2.0))
    assert distances(one._replace(penalties=(R1(), R2())), (50,)) == distances(one._replace(penalties=(twice,)), (50,))


# --- the same through the engine ------------------------------------------------------------------------------------


class Point(nn.Module):
    """A generator of one point, whatever the noise."""

    def __init__(self, context: NetworkContext) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1, 1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.theta.expand(len(noise), 1)


class Slope(nn.Module):
    """A discriminator of one slope."""

    def __init__(self, context: NetworkContext) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.ones(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.psi


JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "NS + R1": ("NSGAN", {"penalty": "R1", "halves": "sum"}),
    "RpGAN + R1": ("RpGAN", {"penalty": "R1"}),
    "minimax": ("Minimax", {}),
    "WGAN, clipped to 0.5": ("WGAN", {"initIterations": 0, "discriminatorIterations": 1, "clamp": 0.5}),
    "WGAN-GP": ("WGAN_GP", {"GP.weight": 1, "discriminatorIterations": 1}),
    "WGAN-LP": ("WGAN_LP", {"LP.weight": 1, "initIterations": 0, "discriminatorIterations": 1}),
}


@pytest.mark.parametrize("name", JOBS)
def test_the_loop_plays_the_same_game(name: str, tmp_path: Path) -> None:
    strategy, keys = JOBS[name]
    table = tmp_path / "zeros.csv"
    table.write_text("x\n" + "0\n" * 8)  # some of the rows are kept for testing
    networks = f"{__file__}:Point,{__file__}:Slope"
    given = {"path": str(table), "batchSize": 4, "iterations": 200, "method": "SGD", "learningRate": RATE, **keys}
    asked = request(networks, "Table", {**given, "strategy": strategy})
    live = assemble(Registry().load(), asked, data_context(lambda sentence: None))
    for turn in range(200):
        live.strategy.process_iteration(turn)
    psi, theta = (next(live.networks[role].parameters()) for role in ("discriminator", "generator"))
    method = METHODS[name]
    found = math.hypot(float(psi.detach()), float(theta.detach()))
    assert found == pytest.approx(method.after[0], abs=method.tolerance)
