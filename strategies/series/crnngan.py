"""C-RNN-GAN: events of music, made by a generator that hears what it has played."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    Gate,
    LearningContext,
    LearnProgress,
    Loss,
    RandomStream,
    hookimpl,
    setting,
)
from ganglion.strategies.adversarial import AdversarialStrategy, score_of, shown_rows
from ganglion.strategies.charges import Drawn
from ganglion.strategies.features import feature_place, with_features
from ganglion.strategies.masking import (
    generator_of,
    halves_of,
    hidden,
    mask_of,
    mean_of,
    mixes_scores,
    shown,
    squared_error,
    steps_of,
)
from ganglion.strategies.objectives import Labelled, NonSaturating
from ganglion.strategies.playing import AdversarialSettings
from ganglion.strategies.series.windows import PaddedStrategy, postponed

FREEZE = 0.7


class CrnnSettings(AdversarialSettings):
    """Settings of CRNNGAN."""

    matching: bool = setting(
        False, "the generator minimises the distance of the discriminator's hidden states instead of playing"
    )
    pretrain_iterations: int = setting(
        0,
        "iterations in which the generator alone learns to continue real events; initIterations and schedule count "
        "from their end, falling learning rates and instanceNoise from the very start",
        unit="iterations",
        ge=0,
    )
    grow_steps: int = setting(
        4, "steps by which windows grow while pretraining; they begin with so many", unit="steps", ge=1
    )
    grow_every: int | None = setting(
        None, "iterations between two growths; none: a sixth of pretrainIterations", unit="iterations", ge=1
    )
    freeze: float | None = setting(
        FREEZE,
        "a player whose cross-entropy is below this share of the other's waits; none: nobody waits",
        gt=0,
        lt=1,
    )

    def without_effect(self) -> Mapping[str, str]:
        reasons = dict(super().without_effect())
        if not self.pretrain_iterations:
            reasons.update(dict.fromkeys(("grow_steps", "grow_every"), "windows grow only during pretrainIterations"))
        return reasons


class CRNNGAN(PaddedStrategy, AdversarialStrategy):
    """A recurrent game on events: length, pitch, loudness and time since the last one.

    Mogren 2016, https://arxiv.org/abs/1611.09904: a free-running generator of two LSTM layers, uniform noise in each
    step; a discriminator that reads in both directions; cross-entropies, or features matched (`matching=true`); before,
    the generator learns to continue real events that it is given (teacher forcing), in windows that grow by 4 events;
    a player whose loss falls below 70 % of the other's waits. Gradient descent at 0.1, half of that for the
    discriminator, gradients cut to norm 5, weight decay 0.1, batch 20. Made for `CRNNGenerator,CRNNDiscriminator`.

    Where the data have a field `mask`, as songs shorter than a window have, the discriminator is shown 0 for what it
    calls 0, of real windows and of those made beside them; padding counts in no loss, and a window is judged by its
    own steps (by a network that takes `lengths`, as `CRNNDiscriminator` does). Samples are as long as training windows.

    Deviations: a player waits by the losses of the update at hand, not of the epoch before, and by the mean of the
    discriminator's two halves, whose sum is twice the generator's loss when both are even; nobody waits where the
    losses are not both cross-entropies, so with `matching` and other objectives; matched features are averaged, where
    the source adds up squares over a paired batch; the gradient is cut before the weight decay is added (`l2`), in the
    source with it; pretraining is off by default, where the source has 6 epochs; the source's code waits whenever a
    loss is below 2, by a mistake not repeated here.
    """

    Settings = CrnnSettings
    preset = {
        "objective": "nonsaturating",
        "noise": "unit",
        "scoreForm": "window",
        "method": "SGD",
        "generator.learningRate": 0.1,
        "discriminator.learningRate": 0.05,
        "clipNorm": 5.0,
        "l2": 0.1,
        "batchSize": 20,
    }

    @classmethod
    def defaults(cls, spec: DataSpec) -> Mapping[str, Any]:
        return {"generatorDim": spec.shape[-1]} if spec.kind == "sequence" else {}

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        settings = context.settings
        self._pretraining: int = settings.pretrain_iterations
        self._grow_every: int = settings.grow_every or max(1, self._pretraining // 6)
        if self._pretraining and "previous" not in inspect.signature(self._generator.forward).parameters:
            raise ConfigError(
                "pretrainIterations: the generator cannot be given real events, it takes no `previous`; use "
                "CRNNGenerator, or Recurrent with generator.freeRunning=true"
            )
        self._schedule = postponed(self._schedule, self._pretraining)
        self._place = feature_place(self._discriminator, "the discriminator") if settings.matching else None
        self._share: float | None = self._agreed_share(context)
        self._losses = torch.full((2,), math.log(2.0), device=self._generator_device)  # generator's, discriminator's
        if self._lengths is not None and settings.score_form != "window":
            self._check_steps(settings)

    def _check_steps(self, settings: Any) -> None:
        """Raises ConfigError where scores of steps that are none cannot be left out."""
        assert self._objective is not None
        reason = f"objective={settings.objective} mixes the scores of a batch" if mixes_scores(self._objective) else ""
        if self._penalties:
            reason = f"penalty={','.join(settings.penalty)} takes the mean over all steps"
        if reason:
            raise ConfigError(
                f"scoreForm={settings.score_form or 'none'}: windows of the data differ in length, and {reason}; "
                "use scoreForm=window"
            )

    def _agreed_share(self, context: LearningContext) -> float | None:
        """`freeze`, or None where losses cannot be compared. Raises ConfigError where it was asked for all the same."""
        settings = context.settings
        if settings.freeze is None or (self._place is None and isinstance(self._objective, NonSaturating | Labelled)):
            share: float | None = settings.freeze
            return share
        reason = (
            f"with {'matching=true' if settings.matching else f'objective={settings.objective}'} the players' losses "
            "have different scales"
        )
        if settings.freeze != FREEZE:
            raise ConfigError(f"freeze={settings.freeze:g}: {reason}, so that no player can wait for the other")
        context.notify(f"{reason}, so no player waits for the other; freeze=none says so")
        return None

    def process_iteration(self, i: int) -> LearnProgress:
        if i >= self._pretraining:
            return super().process_iteration(i)
        batch = self.real_batch()
        steps = min(batch.input.shape[1], self.context.settings.grow_steps * (1 + i // self._grow_every))
        noise = self.draw_noise(len(batch))
        noise = noise[:, :steps] if noise.dim() == 3 else noise  # one vector stands in all steps, however many
        mask = mask_of(batch)
        given = (noise, batch.input[:, :steps], None if mask is None else mask[:, :steps])
        loss = self.context.processors["generator"].update(self.continuing_loss, *given)
        return LearnProgress(i, {"continuing": loss.total})

    def continuing_loss(self, noise: Tensor, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """The squared error of each next event, the real ones before it being given."""
        windows = hidden(windows, mask)
        previous = torch.cat((torch.zeros_like(windows[:, :1]), windows[:, :-1]), 1)
        made: Tensor = self._generator(noise, previous=previous.to(noise))
        return squared_error(made, windows.to(made), mask)

    def gate(self, player: str) -> Gate | None:
        share = self._share
        if share is None:
            return None
        mine = self.roles.index(player)

        def learns(loss: Loss) -> Tensor:
            self._losses[mine] = cross_entropy_of(loss)
            return self._losses[mine] >= self._losses[1 - mine] * share

        return learns

    def reads_real(self) -> bool:
        return self._place is not None or self._lengths is not None or super().reads_real()

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        return score_of(self._discriminator(*shown(self._discriminator, samples, mask_of(batch))))

    def draw_rest(self, batch: Batch) -> Drawn:
        return super().draw_rest(batch)._replace(counted=steps_of(mask_of(batch)))

    def halves(self, real_scores: Tensor, fake_scores: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor | None]:
        assert self._objective is not None
        return halves_of(self._objective, real_scores, fake_scores, drawn.counted if real_scores.dim() == 3 else None)

    def played(self, fake_scores: Tensor, batch: Batch | None) -> Tensor:
        counted = steps_of(mask_of(batch))
        if counted is None or fake_scores.dim() < 3:
            return super().played(fake_scores, batch)
        assert self._objective is not None and batch is not None
        real_scores = None
        if self._objective.reads_real:
            with torch.no_grad():
                real_scores = self.scores(shown_rows(batch), batch)
        return generator_of(self._objective, real_scores, fake_scores, counted)

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        if self._place is None:
            return super().generator_contest(fake, batch)
        assert batch is not None
        mask = mask_of(batch)
        made = self._features(fake, mask)
        with torch.no_grad():
            real = self._features(shown_rows(batch), mask)
        return Loss(mean_of((real - made).square(), steps_of(mask) if made.dim() == 3 else None))

    def _features(self, rows: Tensor, mask: Tensor | None) -> Tensor:
        """What the discriminator makes of rows inside: in every step, where not all steps count."""
        assert self._place is not None
        given = shown(self._discriminator, rows, mask)
        return with_features(self._discriminator, self._place, *given, flat=mask is None).features

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return self.with_lengths(super().noise(count, stream), stream)

    def generate(self, noise: Tensor) -> Tensor:
        return self.cut(super().generate(self.without_lengths(noise)), noise)


def cross_entropy_of(loss: Loss) -> Tensor:
    """The mean of the discriminator's halves, without penalties; a generator's loss is one already."""
    halves = [loss.terms[name] for name in ("discriminatorReal", "discriminatorFake") if name in loss.terms]
    return torch.stack(halves).mean() if halves else loss.total


@hookimpl
def register_strategies(register: Any) -> None:
    """CRNNGAN."""
    register("CRNNGAN", CRNNGAN, aliases=("C-RNN-GAN",))
