"""Rows in a basis in which every direction counts the same, for players that compare rows with samples."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import Batch, ConfigError, Dataset, LearningContext, setting
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.playing import AdversarialSettings

WIDEST = 4096  # numbers per row: the basis holds twice their square
STILL = 1e-9  # directions with less of the largest variance are constant
AT_ONCE = 8192  # rows that are read together


class WhiteningSettings(AdversarialSettings):
    """Settings of a two-player strategy that may whiten its data."""

    whiten: float | None = setting(
        None,
        "the players are given rows in the directions of the training rows' variance, each divided by its deviation to "
        "this power (1: all have variance 1, less: large differences keep some of their weight); samples are brought "
        "back",
        gt=0,
        le=1,
    )


class Whitening(NamedTuple):
    """What rows of n numbers are brought to k uncorrelated ones with, and back: (n,), (n, k), (k, n)."""

    centre: Tensor
    inward: Tensor
    outward: Tensor


class WhitenedStrategy(AdversarialStrategy):
    """A base of two-player strategies that play in a whitened space with `whiten=1`, or part of the way there.

    PCA whitening (Kessy, Lewin and Strimmer 2018, https://doi.org/10.1080/00031305.2016.1277159): the k principal
    directions u of the training rows that are not constant, each divided by its deviation s: (x - mean) u / s^whiten.
    What is a small difference in the data's own scale, but never seen there, is then a large one, and what holds
    exactly between values of all training rows (two columns that agree, a sum) holds in all samples. With less than 1
    the directions in which rows differ most still count for more, so that samples lie where rows do.

    Rows keep their shape: the first k numbers are the directions, largest variance first, the others 0, in samples too.
    Made for networks that see a row as a whole (perceptrons), as the order of steps and channels is gone.
    """

    Settings = WhiteningSettings
    lasting: ClassVar[tuple[str, ...]] = ("_centre", "_inward", "_outward")
    _centre: Tensor | None = None
    _inward: Tensor | None = None
    _outward: Tensor | None = None

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        if context.settings.whiten is not None:
            assert context.sampler is not None
            if getattr(self._generator, "output_range", None) is not None:
                raise ConfigError("whiten: the generator's values are bounded, and whitened ones are not")
            whitening = whitening_of(context.sampler.dataset, context.settings.whiten)
            device = self._discriminator_device
            self._centre, self._inward, self._outward = (each.to(device) for each in whitening)

    def real_batch(self) -> Batch:
        batch = super().real_batch()
        if self._centre is None or self._inward is None:
            return batch
        rows = (batch.input.flatten(1) - self._centre) @ self._inward
        return batch.with_input(self._filled(rows, batch.input))

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        samples = super().fake(noise, batch)
        if self._inward is None:
            return samples
        return self._filled(samples.flatten(1)[:, : self._inward.shape[1]], samples)

    def generate(self, noise: Tensor) -> Tensor:
        samples = super().generate(noise)
        if self._centre is None or self._outward is None:
            return samples
        made = samples.flatten(1)[:, : len(self._outward)] @ self._outward.to(samples) + self._centre.to(samples)
        return made.view_as(samples)

    def _filled(self, directions: Tensor, rows: Tensor) -> Tensor:
        """Directions (batch, k) in the shape of `rows`, zeros behind them."""
        width = rows[0].numel() - directions.shape[1]
        return torch.nn.functional.pad(directions, (0, width)).view_as(rows)


def whitening_of(dataset: Dataset, power: float = 1.0) -> Whitening:
    """The whitening of all rows of a data set, in torch's default precision, on the CPU.

    The k numbers have the deviation s^(1 - power) where the rows have s in their direction. Raises ConfigError for rows
    that are streamed, too wide or all the same.
    """
    if dataset.streamed() is not None:
        raise ConfigError("whiten: it needs all rows before it begins, and these are streamed")
    width = torch.Size(dataset.spec.shape).numel()
    if width > WIDEST:
        raise ConfigError(f"whiten: rows have {width:,} numbers each; at most {WIDEST:,} can be whitened")
    total, products = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    centre = _rows(dataset, 0, 1)[0].clone()  # near the rows, so that little is lost in the products
    for start in range(0, len(dataset), AT_ONCE):
        rows = _rows(dataset, start, min(start + AT_ONCE, len(dataset))) - centre
        total += rows.sum(0)
        products += rows.T @ rows
    mean = total / len(dataset)
    variances, directions = torch.linalg.eigh(products / len(dataset) - mean.outer(mean))
    kept = (variances > STILL * variances.max()) & (variances > 0)
    if not bool(kept.any()):
        raise ConfigError("whiten: all training rows are the same")
    variances, directions = variances[kept].flip(0), directions[:, kept].flip(1)
    heads = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()  # one of two signs, the same anywhere
    directions, deviations, own = directions * heads, variances.pow(power / 2), torch.get_default_dtype()
    return Whitening(
        (centre + mean).to(own), (directions / deviations).to(own), (directions * deviations).T.contiguous().to(own)
    )


def _rows(dataset: Dataset, start: int, end: int) -> Tensor:
    return dataset.rows(torch.arange(start, end)).input.flatten(1).to("cpu", torch.float64)
