"""Every objective against numbers computed by hand, and against the divergence that its best discriminator measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import log
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from ganglion.engine.contracts import Objective
from ganglion.engine.registry import Registry
from ganglion.strategies.objectives import (
    Divergence,
    DivergenceSettings,
    Hinge,
    Labelled,
    LabelledSettings,
    LeastSquares,
    LeastSquaresSettings,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticLeastSquares,
    RelativisticPaired,
    Wasserstein,
)

E = math.e
RELATIVISTIC = [RelativisticPaired(), RelativisticAverage(), RelativisticLeastSquares()]
KINDS: list[Any] = ["KL", "reverseKL", "pearson", "hellinger", "JS"]


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def divergence(kind: Any, saturating: bool = False) -> Divergence:
    return Divergence(DivergenceSettings(divergence=kind, saturating=saturating))


def least_squares(a: float, b: float, c: float) -> LeastSquares:
    return LeastSquares(LeastSquaresSettings(fake_target=a, real_target=b, generator_target=c))


def total(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's whole loss, its halves summed."""
    first, second = objective.discriminator(real, fake)
    return first if second is None else first + second


# --- by hand --------------------------------------------------------------------------------------------------------


class Hand(NamedTuple):
    """An objective, scores of two real and two fake samples, and what both players lose."""

    objective: Objective
    real: Tensor
    fake: Tensor
    discriminator: tuple[float, float | None]
    generator: float


# softplus of these: ln 10, ln 2 and ln 5, ln 2; of their negatives: ln 10/9, ln 2 and ln 5/4, ln 2
LOGS = column(log(9), 0), column(log(4), 0)
NUMBERS = column(2, -1), column(0.5, -3)
HAND = {
    "labelled": Hand(
        Labelled(LabelledSettings(real_target=0.9, fake_target=0.2, generator_target=0.7)), *LOGS,
        ((log(20) - 0.9 * log(9)) / 2, (log(10) - 0.2 * log(4)) / 2), (log(10) - 0.7 * log(4)) / 2,
    ),
    "nonsaturating": Hand(NonSaturating(), *LOGS, (log(20 / 9) / 2, log(10) / 2), log(2.5) / 2),
    "minimax": Hand(Minimax(), *LOGS, (log(20 / 9) / 2, log(10) / 2), -log(10) / 2),
    "leastSquares": Hand(LeastSquares(), *NUMBERS, (1.25, 2.3125), 4.0625),
    "leastSquares of -1, 1, 0": Hand(least_squares(-1, 1, 0), *NUMBERS, (1.25, 1.5625), 2.3125),
    "wasserstein": Hand(Wasserstein(), *NUMBERS, (-0.5, -1.25), 1.25),
    "hinge": Hand(Hinge(), *NUMBERS, (1.0, 0.75), 1.25),
    "relativisticPaired": Hand(RelativisticPaired(), *LOGS, (log(26 / 9) / 2, None), log(6.5) / 2),
    # the means are ln 3 and ln 2: real against it 9/2 and 1/2, fake against it 4/3 and 1/3
    "relativisticAverage": Hand(
        RelativisticAverage(), *LOGS, (log(11 / 9 * 3) / 2, log(7 / 3 * 4 / 3) / 2),
        (log(7 / 4 * 4) / 2 + log(11 / 2 * 3 / 2) / 2) / 2,
    ),
    "relativisticLeastSquares": Hand(RelativisticLeastSquares(), *NUMBERS, (2.8125, 3.625), 10.21875),
    "divergence KL": Hand(divergence("KL"), *NUMBERS, (-0.5, (E**-0.5 + E**-4) / 2), 1.25),
    "divergence reverseKL": Hand(divergence("reverseKL"), *NUMBERS, ((E**-2 + E) / 2, -2.25), (E**-0.5 + E**3) / 2),
    "divergence pearson": Hand(divergence("pearson"), *NUMBERS, (-0.5, -0.09375), 1.25),
    "divergence hellinger": Hand(
        divergence("hellinger"), *NUMBERS, ((E**-2 + E) / 2 - 1, (E**0.5 + E**-3) / 2 - 1), (E**-0.5 + E**3) / 2 - 1
    ),
    "divergence JS": Hand(
        divergence("JS"), *LOGS, (log(20 / 9) / 2 - log(2), log(10) / 2 - log(2)), log(2.5) / 2 - log(2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND)
@pytest.mark.parametrize("steps", [1, 3])
def test_both_players_lose_what_is_computed_by_hand(name: str, steps: int) -> None:
    """Also of discriminators that judge every step: the scores (batch, steps, 1) of equal steps change nothing."""
    case = HAND[name]
    real, fake = case.real[:, None].expand(2, steps, 1), case.fake[:, None].expand(2, steps, 1)
    for found, wanted in zip(case.objective.discriminator(real, fake), case.discriminator, strict=True):
        assert (None if found is None else float(found)) == (
            None if wanted is None else pytest.approx(wanted, abs=1e-14)
        )
    loss = case.objective.generator(real if case.objective.reads_real else None, fake)
    assert loss.dim() == 0 and float(loss) == pytest.approx(case.generator, abs=1e-14)


def test_every_registered_objective_is_computed_by_hand() -> None:
    classes = {entry.thing for entry in Registry().load().all("objective") if entry.origin == "built-in"}
    assert classes == {type(case.objective) for case in HAND.values()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_saturating_generator_of_a_divergence_loses_minus_the_fake_half(kind: str) -> None:
    fake_half = divergence(kind, saturating=True).discriminator(*NUMBERS)[1]
    assert fake_half is not None
    assert float(divergence(kind, saturating=True).generator(None, NUMBERS[1])) == -float(fake_half)


@pytest.mark.parametrize("objective", RELATIVISTIC, ids=lambda each: type(each).__name__)
def test_relativistic_games_see_differences_only_and_treat_both_sides_alike(objective: Objective) -> None:
    real, fake = column(2.0, -1.0, 0.3), column(0.5, -3.0, 1.0)
    generator = objective.generator(real, fake)
    halves = 1.0 if isinstance(objective, RelativisticPaired) else 0.5
    torch.testing.assert_close(generator, total(objective, fake, real) * halves)
    torch.testing.assert_close(total(objective, real + 7, fake + 7), total(objective, real, fake))
    torch.testing.assert_close(objective.generator(real + 7, fake + 7), generator)
    even = {RelativisticPaired: log(2), RelativisticAverage: 2 * log(2), RelativisticLeastSquares: 2.0}
    assert float(total(objective, column(3, 3), column(3, 3))) == pytest.approx(even[type(objective)])


def test_where_the_gradients_die_and_where_they_stay() -> None:
    """Minimax saturates where the discriminator wins clearly, the non-saturating form does not; hinge stops at 1."""
    slopes = {}
    for objective in (Minimax(), NonSaturating(), Hinge(), Wasserstein()):
        fake = column(-10.0).requires_grad_()
        slopes[type(objective)] = float(torch.autograd.grad(objective.generator(None, fake), fake)[0])
    sigmoid = 1 / (1 + E**10)
    wanted = {Minimax: -sigmoid, NonSaturating: -1 + sigmoid, Hinge: -1.0, Wasserstein: -1.0}
    assert slopes == {kind: pytest.approx(slope, rel=1e-9) for kind, slope in wanted.items()}
    scores = column(1.5, 0.5, -2.0).requires_grad_()
    real_half, fake_half = Hinge().discriminator(scores, -scores)
    assert torch.autograd.grad(real_half, scores, retain_graph=True)[0].flatten().tolist() == [0.0, -1 / 3, -1 / 3]
    assert torch.autograd.grad(fake_half, scores)[0].flatten().tolist() == [0.0, -1 / 3, -1 / 3]


# --- by theory: two distributions over four places, whose expectations are exact sums --------------------------------

REAL_COUNTS, FAKE_COUNTS = torch.tensor([4, 1, 1, 4]), torch.tensor([1, 2, 4, 3])
P, Q = REAL_COUNTS.double() / 10, FAKE_COUNTS.double() / 10


def scored(table: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of ten real and ten fake samples at the four places, whose scores are `table`."""
    return table.repeat_interleave(REAL_COUNTS)[:, None], table.repeat_interleave(FAKE_COUNTS)[:, None]


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


def js(p: Tensor, q: Tensor) -> Tensor:
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "KL": kl,
    "reverseKL": lambda p, q: kl(q, p),
    "pearson": lambda p, q: ((p - q).square() / q).sum(),
    "hellinger": lambda p, q: (p.sqrt() - q.sqrt()).square().sum(),
    "JS": lambda p, q: 2 * js(p, q),
}
# the score at which T is f'(p / q)
BEST: dict[str, Callable[[Tensor], Tensor]] = {
    "KL": lambda ratio: 1 + ratio.log(),
    "reverseKL": lambda ratio: ratio.log(),
    "pearson": lambda ratio: 2 * (ratio - 1),
    "hellinger": lambda ratio: ratio.log() / 2,
    "JS": lambda ratio: ratio.log(),
}
HALF_PEARSON = ((P - Q).square() / (P + Q)).sum() / 2  # chi-square of p + q against 2 q, halved
VALUES: dict[str, tuple[Objective, Tensor, float]] = {
    "minimax": (Minimax(), (P / Q).log(), 2 * log(2) - 2 * float(js(P, Q))),
    "nonsaturating": (NonSaturating(), (P / Q).log(), 2 * log(2) - 2 * float(js(P, Q))),
    "leastSquares": (LeastSquares(), P / (P + Q), float((P * Q / (P + Q)).sum()) / 2),
    "leastSquares of -1, 1, 0": (least_squares(-1, 1, 0), (P - Q) / (P + Q), 1 - float(HALF_PEARSON)),
    "hinge": (Hinge(), (P - Q).sign(), 2 - float((P - Q).abs().sum())),
    **{
        kind: (divergence(kind), BEST[kind](P / Q), -float(DIVERGENCES[kind](P, Q))) for kind in KINDS
    },
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_the_best_discriminators_loss_is_the_divergence(name: str) -> None:
    objective, best, value = VALUES[name]
    table = best.clone().requires_grad_()
    loss = total(objective, *scored(table))
    assert float(loss.detach()) == pytest.approx(value, abs=1e-12)
    if name != "hinge":  # it has a corner there
        assert float(torch.autograd.grad(loss, table)[0].abs().max()) < 1e-12
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = best + 0.5 * torch.randn(4, generator=generator, dtype=torch.float64)
        assert float(total(objective, *scored(other))) > value - 1e-12


def test_equal_distributions_leave_the_discriminator_with_the_known_losses() -> None:
    """0.5 everywhere: 2 ln 2 of cross-entropy, 1/4 of least squares, 2 of hinge, nothing of a divergence."""
    nothing, half = column(0, 0, 0), column(0.5, 0.5, 0.5)
    assert float(total(NonSaturating(), nothing, nothing)) == pytest.approx(2 * log(2))
    assert float(total(LeastSquares(), half, half)) == pytest.approx(0.25)
    assert float(total(Hinge(), nothing, nothing)) == 2.0
    for kind in KINDS:
        best = BEST[kind](torch.ones(3, 1, dtype=torch.float64))
        assert float(total(divergence(kind), best, best)) == pytest.approx(0.0, abs=1e-12)


def test_the_generator_of_least_squares_minimises_half_of_pearsons_chi_square() -> None:
    """With a, b, c = -1, 1, 0 and the constant real half added, as in the paper's section 3.2."""
    objective, (real, fake) = least_squares(-1, 1, 0), scored((P - Q) / (P + Q))
    both = objective.generator(None, real) + objective.generator(None, fake)
    assert float(both) == pytest.approx(float((2 * Q - P - Q).square().div(P + Q).sum()) / 2, abs=1e-12)
    assert float(both) == pytest.approx(float(HALF_PEARSON), abs=1e-12)


def test_hinge_scores_at_the_optimum_are_twice_the_total_variation_apart() -> None:
    real, fake = scored((P - Q).sign())
    assert float(real.mean() - fake.mean()) == pytest.approx(float((P - Q).abs().sum()), abs=1e-12)


def test_the_best_lipschitz_critic_gives_the_wasserstein_distance() -> None:
    """Places 0, 1, 2, 3: W1 is the area between the distribution functions, and the critic's slope the sign of it."""
    apart = (P.cumsum(0) - Q.cumsum(0))[:3]
    critic = torch.cat([torch.zeros(1, dtype=torch.float64), (-apart.sign()).cumsum(0)])
    assert -float(total(Wasserstein(), *scored(critic))) == pytest.approx(float(apart.abs().sum()), abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):  # any other function with slopes of at most 1 gives less
        slopes = torch.rand(3, generator=generator, dtype=torch.float64) * 2 - 1
        other = torch.cat([torch.zeros(1, dtype=torch.float64), slopes.cumsum(0)])
        assert -float(total(Wasserstein(), *scored(other))) < float(apart.abs().sum())


def descended(objective: Objective, best: Tensor) -> Tensor:
    """Where the generator's loss pushes a distribution softmax(logits) at q, past a fixed discriminator."""
    logits = Q.log().requires_grad_()
    losses = torch.stack([objective.generator(None, score[None, None]) for score in best])
    return torch.autograd.grad((logits.softmax(0) * losses).sum(), logits)[0]


def pushed(value: Callable[[Tensor], Tensor]) -> Tensor:
    """Where a divergence itself pushes it."""
    logits = Q.log().requires_grad_()
    return torch.autograd.grad(value(logits.softmax(0)), logits)[0]


def test_what_the_generator_descends_past_the_best_discriminator() -> None:
    """Minimax 2 JS; non-saturating KL(q, p) - 2 JS (Arjovsky and Bottou 2017, theorem 2.5); f-GAN its divergence."""
    ratio = (P / Q).log()
    torch.testing.assert_close(descended(Minimax(), ratio), pushed(lambda q: 2 * js(P, q)))
    torch.testing.assert_close(descended(NonSaturating(), ratio), pushed(lambda q: kl(q, P) - 2 * js(P, q)))
    for kind in KINDS:
        found = descended(divergence(kind, saturating=True), BEST[kind](P / Q))
        torch.testing.assert_close(found, pushed(lambda q, kind=kind: DIVERGENCES[kind](P, q)))


def normal_quantiles(count: int) -> Tensor:
    """As many equally likely points of N(0, 1)."""
    places = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.special.ndtri(places)[:, None]


def test_two_gaussians() -> None:
    """N(0, 1) and N(1, 1): the log ratio is 1/2 - x; KL 1/2 both ways, Hellinger 2 - 2 exp(-1/8), TV 2 Phi(1/2) - 1."""
    real = normal_quantiles(20001)
    fake = real + 1
    for kind, value in (("KL", 0.5), ("reverseKL", 0.5), ("hellinger", 2 - 2 * E**-0.125)):
        real_score, fake_score = (BEST[kind]((0.5 - x).exp()) for x in (real, fake))
        assert -float(total(divergence(kind), real_score, fake_score)) == pytest.approx(value, abs=1e-3)
    variation = math.erf(0.5 / math.sqrt(2))
    assert float(total(Hinge(), (0.5 - real).sign(), (0.5 - fake).sign())) == pytest.approx(2 - 2 * variation, abs=1e-3)
    grid = torch.linspace(-12, 13, 25001, dtype=torch.float64)
    p, q = ((-((grid - mean) ** 2) / 2).exp() for mean in (0, 1))
    exact = 2 * log(2) - 2 * float(js(p / p.sum(), q / q.sum()))
    for objective in (Minimax(), NonSaturating()):
        assert float(total(objective, 0.5 - real, 0.5 - fake)) == pytest.approx(exact, abs=1e-5)
    assert -float(total(Wasserstein(), -real, -fake)) == pytest.approx(1.0)  # a shift by 1


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize(
    ("kind", "reach"), [("KL", 80), ("reverseKL", 80), ("pearson", 1e3), ("hellinger", 80), ("JS", 1e3)]
)
def test_a_divergence_is_finite_at_large_scores(kind: str, reach: float, saturating: bool) -> None:
    scores = torch.tensor([[float(reach)], [-float(reach)]], requires_grad=True)
    objective = divergence(kind, saturating)
    for loss in (total(objective, scores, scores), objective.generator(None, scores)):
        (gradient,) = torch.autograd.grad(loss, scores)
        assert bool(loss.isfinite()) and bool(gradient.isfinite().all())
