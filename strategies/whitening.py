"""Rows in a basis in which every direction counts the same, for networks that compare rows with samples."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ganglion.engine.api import Batch, ConfigError, Dataset, LearningContext, LearningStrategy, Settings, setting
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.playing import AdversarialSettings

WIDEST = 4096  # numbers per row: the basis holds twice their square
STILL = 1e-9  # directions with less of the largest variance are constant
AT_ONCE = 8192  # rows that are read together


class WhiteningSettings(Settings):
    """Settings of a strategy that may whiten its data."""

    whiten: float | None = setting(
        None,
        "networks are given rows in the directions of the training rows' variance, each divided by its deviation to "
        "this power (1: all have variance 1, less: large differences keep some of their weight); samples are brought "
        "back",
        gt=0,
        le=1,
    )


class WhitenedGameSettings(WhiteningSettings, AdversarialSettings):
    """Settings of a two-player strategy that may whiten its data."""


class Whitening(NamedTuple):
    """What rows of n numbers are brought to k uncorrelated ones with, and back: (n,), (n, k), (k, n)."""

    centre: Tensor
    inward: Tensor
    outward: Tensor


class WhitenedRows(LearningStrategy):
    """A base of strategies that learn in a whitened space with `whiten=1`, or part of the way there.

    PCA whitening (Kessy, Lewin and Strimmer 2018, https://doi.org/10.1080/00031305.2016.1277159): the k principal
    directions u of the training rows that are not constant, each divided by its deviation s: (x - mean) u / s^whiten.
    What is a small difference in the data's own scale, but never seen there, is then a large one, and what holds
    exactly between values of all training rows (two columns that agree, a sum) holds in all samples. With less than 1
    the directions in which rows differ most still count for more, so that samples lie where rows do.

    Rows keep their shape: the first k numbers are the directions, largest variance first, the others 0, in samples too.
    Made for networks that see a row as a whole (perceptrons), as the order of steps and channels is gone.
    """

    lasting: ClassVar[tuple[str, ...]] = ("_centre", "_inward", "_outward")
    _centre: Tensor | None = None
    _inward: Tensor | None = None
    _outward: Tensor | None = None

    def find_directions(self, power: float | None, device: torch.device) -> None:
        """The training rows' whitening, for set-up; none: rows stay as they are."""
        if power is not None:
            assert self.context.sampler is not None
            whitening = whitening_of(self.context.sampler.dataset, power)
            self._centre, self._inward, self._outward = (each.to(device) for each in whitening)

    def directions(self) -> int | None:
        """The k numbers of a whitened row; None where rows are not whitened."""
        return None if self._inward is None else self._inward.shape[1]

    def whitened(self, rows: Tensor) -> Tensor:
        """Rows (batch, *shape) of the data as the networks are given them."""
        if self._centre is None or self._inward is None:
            return rows
        return self._filled((rows.flatten(1) - self._centre) @ self._inward, rows)

    def kept(self, samples: Tensor) -> Tensor:
        """Whitened samples (batch, *shape) with 0 where there is no direction."""
        count = self.directions()
        return samples if count is None else self._filled(samples.flatten(1)[:, :count], samples)

    def restored(self, samples: Tensor) -> Tensor:
        """Whitened samples (batch, *shape) as rows of the data."""
        if self._centre is None or self._outward is None:
            return samples
        made = samples.flatten(1)[:, : len(self._outward)] @ self._outward.to(samples) + self._centre.to(samples)
        return made.view_as(samples)

    def _filled(self, directions: Tensor, rows: Tensor) -> Tensor:
        """Directions (batch, k) in the shape of `rows`, zeros behind them."""
        width = rows[0].numel() - directions.shape[1]
        return torch.nn.functional.pad(directions, (0, width)).view_as(rows)


class WhitenedStrategy(WhitenedRows, AdversarialStrategy):
    """A base of two-player strategies that may play in a whitened space."""

    Settings = WhitenedGameSettings

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        power = context.settings.whiten
        if power is not None and getattr(self._generator, "output_range", None) is not None:
            raise ConfigError("whiten: the generator's values are bounded, and whitened ones are not")
        self.find_directions(power, self._discriminator_device)

    def real_batch(self) -> Batch:
        batch = super().real_batch()
        return batch if self.directions() is None else batch.with_input(self.whitened(batch.input))

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        return self.kept(super().fake(noise, batch))

    def generate(self, noise: Tensor) -> Tensor:
        return self.restored(super().generate(noise))


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
