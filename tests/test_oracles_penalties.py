"""Penalties against closed forms: where it looks, when it counts, and the distance that a penalised critic finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ganglion.engine.assembly import assemble
from ganglion.engine.contracts import Penalty
from ganglion.engine.errors import ConfigError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session
from ganglion.engine.streams import RandomStream
from ganglion.strategies.objectives import Wasserstein
from ganglion.strategies.penalties import (
    GP,
    LP,
    R1,
    R2,
    Consistency,
    ConsistencySettings,
    Dragan,
    DraganSettings,
    NormSettings,
)

REGISTRY = Registry().load()
ALL = ["R1", "R2", "GP", "LP", "DRAGAN", "consistency"]
CPU = torch.device("cpu")


def stream() -> RandomStream:
    return RandomStream(3, "noise", CPU)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def value(penalty: Penalty, scores: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> float:
    return float(penalty.penalty(scores, real, fake, penalty.draw(stream(), real)).detach())


def session(penalty: str, strategy: str = "NSGAN", **keys: Any) -> Session:
    given = {"size": 64, "testSize": 8, "batchSize": 8, "iterations": 10, "penalty": penalty, **keys}
    asked = request("Generator,PerceptronDiscriminator", "Circle", {**given, "strategy": strategy})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def assert_same(network: nn.Module, weights: Iterable[Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), weights, strict=True))


# --- closed forms ---------------------------------------------------------------------------------------------------

LINEAR: dict[str, tuple[Penalty, Callable[[float], float]]] = {
    "R1": (R1(), lambda norm: norm**2 / 2),
    "R2": (R2(), lambda norm: norm**2 / 2),
    "GP": (GP(), lambda norm: (norm - 1) ** 2),
    "GP of target 0": (GP(NormSettings(norm=0.0)), lambda norm: norm**2),
    "LP": (LP(), lambda norm: max(0.0, norm - 1) ** 2),
    "LP of target 3": (LP(NormSettings(norm=3.0)), lambda norm: max(0.0, norm - 3) ** 2),
    "DRAGAN": (Dragan(), lambda norm: (norm - 1) ** 2),
    "DRAGAN two-sided": (Dragan(DraganSettings(two_sided=True, norm=2.0)), lambda norm: (norm - 2) ** 2),
}


def linear(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: (x * weight).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 3, 5)], ids=str)
def test_a_linear_discriminator_pays_for_the_norm_of_its_weights_whatever_the_batch(
    name: str, shape: tuple[int, ...]
) -> None:
    """The norm is one per sample, over all of its numbers: of vectors, sequences, images alike."""
    penalty, wanted = LINEAR[name]
    for norm in (0.25, 1.0, 5.0):
        weight = normal(*shape)
        scores = linear(weight * norm / weight.norm())
        for rows in (1, 2, 9):
            found = value(penalty, scores, *normal(2, rows, *shape))
            assert found == pytest.approx(wanted(norm), abs=1e-9)


def test_consistency_of_a_linear_discriminator() -> None:
    """The score moves by w . noise, whose square is |w|^2 std^2 on average."""
    weight, real = torch.tensor([3.0, 4.0], dtype=torch.float64)[:, None], normal(2, 2)
    drawn = torch.tensor([[1.0, 0.0], [-1.0, 2.0]])
    found = Consistency().penalty(lambda x: x @ weight, real, real, drawn)
    assert float(found) == pytest.approx(((3 * 0.05) ** 2 + (5 * 0.05) ** 2) / 2)
    many = value(Consistency(ConsistencySettings(noise_std=0.2)), lambda x: x @ weight, normal(20000, 2), real)
    assert many == pytest.approx(25 * 0.04, rel=0.05)


def test_a_quadratic_discriminator_at_given_points() -> None:
    """score = (x1^2 + 2 x2^2) / 2, whose gradient is (x1, 2 x2)."""
    real = torch.tensor([[1.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    fake = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def found(penalty: Penalty, drawn: Tensor | None = None) -> float:
        return float(penalty.penalty(lambda x: (x * x * scale).sum(1, keepdim=True) / 2, real, fake, drawn).detach())

    assert found(R1()) == pytest.approx((5 + 4) / 4)
    assert found(R2()) == pytest.approx((0 + 16) / 4)
    # places 1/2 and 1/4 of the way to the real sample: (0.5, 0.5) and (0.5, 1.5), gradients (0.5, 1) and (0.5, 3)
    norms, place = (math.sqrt(1.25), math.sqrt(9.25)), torch.tensor([0.5, 0.25])
    assert found(GP(), place) == pytest.approx(sum((norm - 1) ** 2 for norm in norms) / 2)
    assert found(LP(NormSettings(norm=2.0)), place) == pytest.approx((norms[1] - 2) ** 2 / 2)
    # the standard deviation of the values 1, 1, 2, 0 is sqrt(1/2), half of it sqrt(1/8)
    step = math.sqrt(1 / 8)
    moved = (math.hypot(1 + step, 2), math.hypot(2, 2 * step * 0.5))
    drawn = torch.tensor([[1.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    assert found(Dragan(), drawn) == pytest.approx(sum((norm - 1) ** 2 for norm in moved) / 2)


# --- where it looks -------------------------------------------------------------------------------------------------


def seen(penalty: Penalty, real: Tensor, fake: Tensor) -> Tensor:
    """The points at which a penalty asks for scores."""
    points: list[Tensor] = []

    def scores(x: Tensor) -> Tensor:
        points.append(x.detach())
        return x.flatten(1).sum(1, keepdim=True)

    penalty.penalty(scores, real, fake, penalty.draw(stream(), real))
    return points[-1]


def test_r1_and_r2_look_at_the_samples_themselves() -> None:
    real, fake = normal(2, 6, 3)
    assert torch.equal(seen(R1(), real, fake), real)
    assert torch.equal(seen(R2(), real, fake), fake)


@pytest.mark.parametrize("penalty", [GP(), LP()], ids=["GP", "LP"])
def test_line_penalties_look_between_a_real_and_a_fake_sample_at_one_uniform_place_each(penalty: Penalty) -> None:
    real, fake = normal(2, 4000, 1, 2, 3)
    places = ((seen(penalty, real, fake) - fake) / (real - fake)).flatten(1)
    assert float((places - places[:, :1]).abs().max()) < 1e-6  # one number for all values of a sample
    assert 0 <= float(places.min()) < 0.01 and 0.99 < float(places.max()) <= 1
    assert float(places[:, 0].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(places[:, 0].var()) == pytest.approx(1 / 12, abs=0.004)


def test_dragan_looks_around_the_real_samples_in_one_direction_unless_told_otherwise() -> None:
    real, fake = 3 * normal(2, 4000, 2)
    reach = 0.5 * float(real.std(correction=0))
    ways = seen(Dragan(), real, fake) - real
    assert float(ways.min()) >= -1e-12 and 0.9 * reach < float(ways.max()) <= reach + 1e-12
    assert float((ways[:, 0] - ways[:, 1]).abs().mean()) > 0.1 * reach  # not along the diagonal only
    assert float(ways.mean()) == pytest.approx(reach / 4, rel=0.05)  # a uniform length times a uniform direction
    both = seen(Dragan(DraganSettings(two_sided=True, spread=2.0)), real, fake) - real
    assert float(both.mean()) == pytest.approx(0.0, abs=0.1) and float(both.min()) < -2 * reach
    assert float(both.abs().max()) <= 4 * reach + 1e-12


@pytest.mark.parametrize("name", LINEAR)
def test_a_flat_discriminator_gets_a_finite_gradient(name: str) -> None:
    """The gradient of a norm is not a number at 0 without a little under the root."""
    weight = torch.zeros(2, 1, requires_grad=True)
    rows = torch.ones(4, 2)
    penalty = LINEAR[name][0]
    penalty.penalty(lambda x: x @ weight, rows, rows * 2, penalty.draw(stream(), rows)).backward()
    assert weight.grad is not None and bool(weight.grad.isfinite().all())


# --- when it counts ---------------------------------------------------------------------------------------------------


def factors(live: Session, iterations: Sequence[int]) -> list[float]:
    """What multiplied the one penalty in every discriminator update of these iterations; 0 where it was not due."""
    strategy: Any = live.strategy
    found: list[float] = []
    original = type(strategy).draw_rest

    def draw_rest(batch: Any) -> Any:
        drawn = original(strategy, batch)
        found.append(drawn.charges[0].factor if drawn.charges else 0.0)
        return drawn

    strategy.draw_rest = draw_rest
    for i in iterations:
        strategy.process_iteration(i)
    del strategy.draw_rest
    return found


def test_a_lazy_penalty_counts_in_every_nth_update_n_times_as_much_and_goes_on_after_a_stop() -> None:
    keys = {"R1.every": 3, "R1.weight": 2, "discriminatorIterations": 2}
    wanted = [6.0, 0.0, 0.0] * 3 + [6.0]
    live = session("R1", **keys)
    assert factors(live, range(5)) == wanted
    stopped, resumed = session("R1", **keys), session("R1", **keys)
    before = factors(stopped, range(2))
    resumed.load_weights(stopped.weights())
    resumed.load_state_dict(stopped.state_dict())
    assert before + factors(resumed, range(2, 5)) == wanted
    assert_same(live.networks["discriminator"], resumed.networks["discriminator"].parameters())


def test_the_weight_falls_along_half_a_cosine() -> None:
    live = session("R1", **{"R1.weight": 2, "R1.finalWeight": 1, "decayIterations": 4, "iterations": 6})
    half = math.sqrt(0.5) / 2
    assert factors(live, range(6)) == pytest.approx([2.0, 1.5 + half, 1.5, 1.5 - half, 1.0, 1.0])


def test_the_weight_falls_by_the_same_factor_and_not_before_its_start() -> None:
    keys = {"R1.weight": 8, "R1.finalWeight": 1, "R1.fall": "exponential", "decayStart": 2, "decayIterations": 5}
    assert factors(session("R1", **keys), range(7)) == pytest.approx([8, 8, 8, 4, 2, 1, 1])
    with pytest.raises(ConfigError, match="R1: fall=exponential never reaches 0"):
        session("R1", **{**keys, "R1.finalWeight": 0})
    with pytest.raises(ConfigError, match="decayStart=5: what falls ends at iteration 5"):
        session("R1", **{**keys, "decayStart": 5})


# --- in the loop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", ["yes", "no"])
@pytest.mark.parametrize("penalty", [*ALL, "R1,R2", ",".join(ALL)])
def test_the_loops_terms_are_those_of_the_penalties_by_themselves(penalty: str, joint: str) -> None:
    """Penalties at the samples themselves share the pass that scores them: terms and gradients stay the same."""
    names = penalty.split(",")
    live = session(penalty, jointPass=joint, **{f"{name}.weight": 1 + ALL.index(name) for name in names})
    strategy: Any = live.strategy
    own = list(live.networks["discriminator"].parameters())
    batch = strategy.real_batch()
    with torch.no_grad():
        fake = strategy.fake(strategy.draw_noise(8), batch)
    drawn = strategy.draw_rest(batch)
    loss = strategy.discriminator_loss(batch, fake, drawn)
    assert [type(charge.penalty).__name__.lower() for charge in drawn.charges] == [name.lower() for name in names]
    parts = []
    for name, charge in zip(names, drawn.charges, strict=True):
        reported = loss.terms["penalty" if len(names) == 1 else name]
        alone = charge.penalty.penalty(lambda x: strategy.scores(x, batch), batch.input, fake, charge.drawn)
        parts.append(alone * (1 + ALL.index(name)))
        torch.testing.assert_close(reported, parts[-1], rtol=1e-4, atol=1e-7)
    halves = loss.terms["discriminatorReal"] + loss.terms["discriminatorFake"]
    wanted = halves / 2 + torch.stack(parts).sum()  # this strategy averages the halves
    torch.testing.assert_close(loss.total, wanted, rtol=1e-4, atol=1e-6)
    found = torch.autograd.grad(loss.total, own, retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(wanted, own), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("penalty", ALL)
def test_the_generators_update_knows_no_penalty(penalty: str) -> None:
    live = session(penalty)
    strategy: Any = live.strategy
    touched: list[Tensor] = []
    for parameter in live.networks["discriminator"].parameters():
        parameter.register_hook(touched.append)
    before = [parameter.detach().clone() for parameter in live.networks["discriminator"].parameters()]
    noise = strategy.draw_noise(8)
    wanted = nn.functional.softplus(-strategy.scores(strategy.fake(noise, None), None)).mean().detach()
    strategy.draw_noise = lambda count: noise
    values = strategy.train_generator()
    assert set(values) == {"generatorLoss"} and touched == []
    torch.testing.assert_close(values["generatorLoss"], wanted)
    assert_same(live.networks["discriminator"], before)


def test_a_penalty_moves_the_discriminator_and_never_the_generator() -> None:
    """With nothing but the penalty in its loss, the discriminator's gradient shrinks towards the target."""
    live = session("R2", **{"R2.weight": 1000, "method": "SGD", "learningRate": 1e-3})
    strategy: Any = live.strategy
    before = [parameter.detach().clone() for parameter in live.networks["generator"].parameters()]
    first = float(strategy.train_discriminator(strategy.real_batch())["penalty"])
    for _ in range(30):
        last = float(strategy.train_discriminator(strategy.real_batch())["penalty"])
    assert last < first / 2
    assert_same(live.networks["generator"], before)


# --- the distance that a penalised critic finds -----------------------------------------------------------------------


def wasserstein(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The sum of the critic's halves."""
    real_half, fake_half = Wasserstein().discriminator(critic(real), critic(fake))
    assert fake_half is not None
    return real_half + fake_half


def estimate(
    critic: nn.Module, penalty: Penalty, real: Tensor, fake: Tensor, steps: int, rate: float, mix: bool = False
) -> float:
    """What a critic trained on fixed points says their Wasserstein distance is; `mix` pairs them anew every time."""
    noise = stream()
    method = torch.optim.Adam(critic.parameters(), rate, betas=(0.0, 0.9))
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(method, steps)
    for _ in range(steps):
        partners = fake[torch.randperm(len(fake), generator=noise.generator)] if mix else fake
        term = penalty.penalty(critic, real, partners, penalty.draw(noise, real))
        method.zero_grad()
        (wasserstein(critic, real, fake) + penalty.settings.weight * term).backward()
        method.step()
        decay.step()
    return -float(wasserstein(critic, real, fake).detach())


@pytest.mark.parametrize("kind", [GP, LP])
@pytest.mark.parametrize("weight", [1.0, 50.0])
def test_a_linear_critic_of_two_heaps_finds_their_distance_and_what_the_penalty_lets_it_exceed(
    kind: Any, weight: float
) -> None:
    """It maximises |w| d - weight (|w| - 1)^2, so |w| = 1 + d / (2 weight): d (1 + d / (2 weight)) in all."""
    critic = nn.Linear(1, 1)
    nn.init.constant_(critic.weight, 0.1)  # of the other sign, the two-sided form holds it on the wrong side
    real, fake = torch.full((4, 1), 3.0), torch.full((4, 1), 1.0)
    found = estimate(critic, kind(NormSettings(weight=weight)), real, fake, 150, 0.1)
    assert found == pytest.approx(2 * (1 + 1 / weight), rel=2e-3)


@pytest.mark.parametrize(("kind", "mix"), [(GP, False), (LP, False), (LP, True)])
def test_a_critic_of_points_in_the_plane_finds_their_exact_wasserstein_distance(kind: Any, mix: bool) -> None:
    """Within 3 per cent of what the best matching (linear assignment) costs.

    On the lines of that matching the best critic's slope is 1 (arXiv:1704.00028, proposition 1); between other pairs it
    is less, which only the one-sided form allows (arXiv:1709.08894, section 4).
    """
    real, fake = normal(2, 12, 2).float()
    fake = fake * 0.5 + torch.tensor([1.0, -1.0])
    cost = torch.cdist(real, fake)
    rows, columns = linear_sum_assignment(cost.numpy())
    exact = float(cost[rows, columns].mean())
    critic = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    found = estimate(critic, kind(NormSettings(weight=50.0)), real[rows], fake[columns], 400, 1e-2, mix)
    assert found == pytest.approx(exact, rel=0.03)
