"""Rows that are not whole: what the data's field `mask` calls 0 is hidden from networks and counts in no loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganglion.engine.api import Batch, Objective

MASK = "mask"  # the field of the data that is 1 where a value was observed


def mask_of(batch: Batch | None) -> Tensor | None:
    """1 where a value of the windows was observed, (batch, steps, features or 1); None where all were."""
    mask = None if batch is None else batch.fields.get(MASK)
    if batch is None or mask is None or batch.input.dim() != 3:
        return None
    return mask if mask.dim() == 3 else mask.unsqueeze(2)


def lengths_of(mask: Tensor) -> Tensor:
    """Up to which step, (batch,), something was observed: the steps behind it are padding."""
    seen = mask.flatten(2).amax(2) != 0
    return (seen * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)


def within(lengths: Tensor, steps: int) -> Tensor:
    """Which steps (batch, steps, 1) lie before the ends of windows of these lengths."""
    return (torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)).unsqueeze(2)


def steps_of(mask: Tensor | None) -> Tensor | None:
    """Which steps (batch, steps, 1) are no padding; None where all are."""
    return None if mask is None else within(lengths_of(mask), mask.shape[1])


def hidden(rows: Tensor, mask: Tensor | None) -> Tensor:
    """The rows with 0 for all that the mask calls 0."""
    return rows if mask is None else rows.masked_fill(mask.to(rows.device) == 0, 0.0)


def shown(network: nn.Module, rows: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
    """What a network is given: the rows without what is hidden and, where it takes `lengths`, theirs."""
    if mask is None:
        return (rows,)
    takes = "lengths" in inspect.signature(network.forward).parameters
    return (hidden(rows, mask), lengths_of(mask.to(rows.device))) if takes else (hidden(rows, mask),)


def mean_of(values: Tensor, counted: Tensor | None) -> Tensor:
    """The mean over the rows of each row's mean of what counts, so that a short series weighs as much as a long one."""
    if counted is None:
        return values.mean()
    weights = counted.to(values).expand_as(values)
    return ((values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1.0)).mean()


def moments_of(rows: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the batch, (steps, features) each, of what counts (1, and not 0)."""
    if counted is None:
        return rows.mean(0), rows.var(0, correction=0)
    weights = counted.to(rows)
    count = weights.sum(0).clamp(min=1.0)
    mean = hidden(rows, weights).sum(0) / count
    return mean, (hidden(rows - mean, weights).square()).sum(0) / count


def squared_error(made: Tensor, wanted: Tensor, counted: Tensor | None) -> Tensor:
    """The mean squared error of what counts."""
    wanted = wanted.to(made.device)
    if counted is None:
        return mse_loss(made, wanted)
    return mean_of((made - hidden(wanted, counted)).square(), counted)


# --- objectives of scores of which not all count ------------------------------------------------------------------


def halves_of(objective: Objective, real: Tensor, fake: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both halves of the discriminator's loss, of the scores (batch, steps, 1) that count."""
    if counted is None:
        return objective.discriminator(real, fake)
    halves = _one_by_one(lambda *scores: _present(objective.discriminator(*scores)), real, fake)
    means = [mean_of(half, counted) for half in halves]
    return means[0], means[1] if len(means) > 1 else None


def generator_of(objective: Objective, real: Tensor | None, fake: Tensor, counted: Tensor | None) -> Tensor:
    """The generator's loss, of the scores (batch, steps, 1) that count."""
    if counted is None:
        return objective.generator(real, fake)
    if real is None:
        values = _one_by_one(lambda score: (objective.generator(None, score),), fake)
    else:
        values = _one_by_one(lambda *scores: (objective.generator(*scores),), real, fake)
    return mean_of(values[0], counted)


def mixes_scores(objective: Objective) -> bool:
    """Whether a loss is more than the mean of what each pair of scores loses alone."""
    real, fake = torch.tensor([1.0, -2.0, 0.5, 4.0]), torch.tensor([0.5, 3.0, -1.0, 0.0])
    real, fake = real.view(2, 2, 1), fake.view(2, 2, 1)
    everything = torch.ones_like(real)
    together = _present(objective.discriminator(real, fake))
    alone = _present(halves_of(objective, real, fake, everything))
    return not all(torch.allclose(one, other) for one, other in zip(together, alone, strict=True))


def _one_by_one(loss: Callable[..., tuple[Tensor, ...]], *scores: Tensor) -> list[Tensor]:
    """Losses of single scores, each as if it were a batch of one, in the shape of the scores."""
    values = torch.vmap(loss)(*(each.reshape(-1, 1, 1) for each in scores))
    return [value.view(scores[0].shape) for value in values]


def _present(halves: tuple[Tensor, Tensor | None]) -> tuple[Tensor, ...]:
    return tuple(half for half in halves if half is not None)
