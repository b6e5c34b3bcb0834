"""Penalties of one discriminator update: which are due, what is drawn for them, and their terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import Batch, Penalty, RandomStream
from ganglion.strategies.penalties import GradientPenalty, gradients, per_sample


class Charge(NamedTuple):
    """A penalty that is due in one update: what multiplies it, and what was drawn for it."""

    penalty: Penalty
    factor: float
    drawn: Tensor | None


class Drawn(NamedTuple):
    """What one discriminator update draws besides noise and rows: due penalties, scores to exchange, targets."""

    charges: tuple[Charge, ...] = ()
    exchanged: Tensor | None = None
    targets: tuple[Tensor, Tensor] | None = None  # for real and for fake scores, where a strategy draws them
    counted: Tensor | None = None  # which scores (batch, steps, 1) count, where a strategy says so; None: all


def due(
    penalties: Sequence[Penalty], update: int, done: float, stream: RandomStream, rows: Tensor
) -> tuple[Charge, ...]:
    """The penalties that count in discriminator update number `update`, with what they need drawn."""
    factors = [(penalty, penalty.factor(update, done)) for penalty in penalties]
    return tuple(Charge(penalty, factor, penalty.draw(stream, rows)) for penalty, factor in factors if factor)


def own_points(penalty: Penalty) -> str | None:
    """`real` or `fake` where a penalty is on the gradient at those very samples."""
    return penalty.own if isinstance(penalty, GradientPenalty) else None


def exposed(batch: Batch, fake: Tensor, charges: Sequence[Charge]) -> tuple[Batch, Tensor]:
    """Real and fake rows of which scores can be differentiated, where a penalty that is due asks for that."""
    where = {own_points(charge.penalty) for charge in charges}
    if "real" in where:
        batch = batch.with_input(batch.input.detach().requires_grad_())
    return batch, fake.detach().requires_grad_() if "fake" in where else fake


def terms_of(
    charges: Sequence[Charge],
    real_scores: Tensor,
    fake_scores: Tensor,
    real: Tensor,
    fake: Tensor,
    scores: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """The weighted terms, each 0-d. Those at the samples themselves use the pass that gave their scores."""
    both = {"real": (real_scores, real), "fake": (fake_scores, fake)}
    own = sorted({where for charge in charges if (where := own_points(charge.penalty)) is not None})
    found: dict[str | None, Tensor] = {}
    if own:
        total = torch.stack([per_sample(both[where][0]).sum() for where in own]).sum()
        found = dict(zip(own, gradients(total, *(both[where][1] for where in own)), strict=True))
    terms = []
    for penalty, factor, drawn in charges:
        if isinstance(penalty, GradientPenalty) and penalty.own is not None:
            term = penalty.of_gradient(found[penalty.own])
        else:
            term = penalty.penalty(scores, real.detach(), fake.detach(), drawn)
        terms.append(term * factor)
    return terms


def exchange(real_scores: Tensor, fake_scores: Tensor, exchanged: Tensor) -> tuple[Tensor, Tensor]:
    """Real and fake scores, those of the pairs marked in `exchanged` (batch,) having changed places: wrong labels."""
    marked = exchanged.to(real_scores.device).view(-1, *[1] * (real_scores.dim() - 1))
    return torch.where(marked, fake_scores, real_scores), torch.where(marked, real_scores, fake_scores)
