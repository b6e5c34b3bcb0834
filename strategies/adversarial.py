"""The one adversarial loop that every two-player strategy shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganglion.engine.api import (
    Batch,
    ConfigError,
    Dataset,
    DataSpec,
    Gate,
    LearningContext,
    LearningStrategy,
    LearnProgress,
    Loss,
    NoisePart,
    Objective,
    Penalty,
    Port,
    RandomStream,
    RoleShape,
    Settings,
    WithoutGradient,
)
from ganglion.strategies.charges import Drawn, due, exchange, exposed, terms_of
from ganglion.strategies.playing import AdversarialSettings, PlayerSettings
from ganglion.strategies.schedule import Phase, Schedule, Turn, parse_schedule

SHOWN = "shown"
NOTHING = Drawn()
DEFAULT_LATENT = {"image": 100, "vector": 2, "sequence": 100}


class AdversarialStrategy(LearningStrategy):
    """Generator against discriminator: a schedule of updates, each of which minimises one player's loss.

    A strategy overrides the lowest rung that suffices: `preset` (an objective, a penalty, a processor link by name);
    `fake` and `scores` (conditions), `blur_deviation` (instance noise); `generator_contest`, `contest`, and a step
    earlier `generator_loss`, `discriminator_loss`; `train_discriminator`, `train_generator`.
    """

    roles: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    Settings: ClassVar[type[Settings]] = AdversarialSettings
    parts: ClassVar[Mapping[str, str]] = {"objective": "objective", "penalty": "penalty"}
    narrowed: ClassVar[Mapping[str, str]] = {"clamp": "discriminator"}

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        data = Port(spec.kind, spec.shape)
        latent = settings.generator_dim or DEFAULT_LATENT[spec.kind]
        noise = Port("noise", (*per_step(settings, spec, "noise_form"), latent))
        return {
            "generator": RoleShape(noise, data),
            "discriminator": RoleShape(data, Port("score", (*per_step(settings, spec, "score_form"), 1))),
        }

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._latent = self.shapes(context.settings, context.spec)["generator"].input.shape
        self._seen: tuple[int, ...] = context.spec.shape  # of what `fake` gives and `scores` takes, per row
        self._generator = context.networks["generator"]
        self._generator_device = context.devices["generator"]

    def setup(self, context: LearningContext) -> None:
        settings = context.settings
        self._objective: Objective | None = context.parts.get("objective")
        self._penalties: tuple[Penalty, ...] = context.parts.get("penalty", ())
        self._schedule = _schedule(settings)
        self._discriminator = context.networks["discriminator"]
        self._discriminator_device = context.devices["discriminator"]
        self._together = self._discriminator_device == self._generator_device
        self._joint = one_pass(settings.joint_pass, self._discriminator)
        self._conditional = type(self).scores is not AdversarialStrategy.scores
        self._noise_stream = self.random("noise", "generator")
        # Whether gradients of the discriminator travel between processes while the generator makes samples for its own
        # update: only where nothing in between is another's, which could read weights that are still to be updated.
        own = ("process_iteration", "train_discriminator", "train_generator", "generator_loss", "seen_fake", "fake")
        alike = all(getattr(type(self), name) is getattr(AdversarialStrategy, name) for name in own)
        self._overlaps = alike and self._noise_stream.part.count > 1
        self._last_noise: Tensor | None = None
        self._iteration = 0
        self._updates = 0  # of the discriminator
        self._last_charges: dict[str, Tensor] = {}  # lazy penalties are reported in between too
        fades = type(self).blur_deviation is not AdversarialStrategy.blur_deviation  # in a way of its own
        self._blurs: bool = settings.instance_noise > 0 or fades
        self._label_noise: float = getattr(settings, "label_noise", 0.0)
        weights_fall = any(penalty.settings.final_weight is not None for penalty in self._penalties)
        falls = weights_fall or (self._blurs and not fades)
        if falls and not context.span.end:
            context.notify("in a run without end instanceNoise and finalWeight never fall; give decayIterations")
        if self._penalties and batch_coupled(self._discriminator):
            context.notify(
                "the discriminator has batch statistics, which couple the samples of a batch: a penalty on each "
                "sample's gradient then holds the wrong thing; a discriminator without BatchNorm is meant"
            )

    def process_iteration(self, i: int) -> LearnProgress:
        self._iteration = i
        values: dict[str, Tensor] = {}
        batch: Batch | None = None
        for player, count in self._schedule.turns(i):
            for _ in range(count):
                if player == "generator":
                    values.update(self.train_generator())
                else:
                    batch = batch if batch is not None and self.context.settings.reuse_batch else self.real_batch()
                    values.update(self.train_discriminator(batch))
        if self._overlaps:
            self.context.processors["discriminator"].finish()
        return LearnProgress(i, values)

    # --- rung 4: how a player is updated

    def train_discriminator(self, batch: Batch) -> Mapping[str, Tensor]:
        """One update of the discriminator on real rows and as many fakes."""
        chain, noise = self.context.processors["discriminator"], self.draw_noise(len(batch))
        shown, blur = batch, None
        if self._blurs:
            shown, blur = batch.with_input(batch.input + self._blur(len(batch))), self._blur(len(batch))
        gate, rest = self.gate("discriminator"), self.draw_rest(shown)
        if chain.settings.accumulate > 1:  # one pass of the generator, not one per part
            loss = chain.update(self.discriminator_loss, shown, self.fixed_fake(noise, batch, blur), rest, gate=gate)
        else:
            later = self._overlaps
            loss = chain.update(self.discriminator_round, batch, shown, noise, blur, rest, gate=gate, later=later)
        self._updates += 1
        if self._penalties:
            names = [self._charge_name(penalty) for penalty in self._penalties]
            self._last_charges.update((name, loss.terms[name]) for name in names if name in loss.terms)
        return {"discriminatorLoss": loss.total, **loss.terms, **self._last_charges}

    def train_generator(self) -> Mapping[str, Tensor]:
        """One update of the generator, from fresh noise."""
        batch = self.real_batch() if self.reads_real() else None
        if batch is not None and self._blurs:
            shown = batch.input + self._blur(len(batch))
            batch = replace(batch, fields={**batch.fields, SHOWN: shown})
        chain = self.context.processors["generator"]
        reuse = self.context.settings.reuse_noise and self._last_noise is not None
        noise = self._last_noise if reuse else self.draw_noise(self._batch_size())
        blur = (self._blur(self._batch_size()),) if self._blurs else ()
        loss = chain.update(self.generator_loss, noise, batch, *blur, gate=self.gate("generator"))
        return {"generatorLoss": loss.total, **loss.terms}

    def gate(self, player: str) -> Gate | None:
        """Says from the loss of an update of `player` whether it counts, on the device; None: always."""
        return None

    def discriminator_round(self, batch: Batch, shown: Batch, noise: Tensor, blur: Tensor | None, drawn: Drawn) -> Loss:
        """The discriminator's loss on `shown` and on samples made of `noise`; conditions are those of `batch`."""
        return self.discriminator_loss(shown, self.fixed_fake(noise, batch, blur), drawn)

    # --- rung 3: what a player minimises

    def discriminator_loss(self, batch: Batch, fake: Tensor, drawn: Drawn) -> Loss:
        """The objective's two halves and the penalties; `fake` (batch, *shape) carries no gradient."""
        if drawn.charges:
            batch, fake = exposed(batch, fake, drawn.charges)
        return self.contest(*self.score_both(batch, fake), batch, fake, drawn)

    def contest(self, real_scores: Tensor, fake_scores: Tensor, batch: Batch, fake: Tensor, drawn: Drawn) -> Loss:
        """The loss from scores that are there already, of the rows that `exposed` gave."""
        assert self._objective is not None
        judged = real_scores, fake_scores
        if drawn.exchanged is not None:
            judged = exchange(*judged, drawn.exchanged)
        real, false = self.halves(*judged, drawn)
        terms: dict[str, Tensor] = {}
        total = real
        if false is not None:
            total = real + false if self.context.settings.halves == "sum" else (real + false) * 0.5
            terms = {"discriminatorReal": real, "discriminatorFake": false}
        if drawn.charges:
            costs = terms_of(
                drawn.charges, real_scores, fake_scores, batch.input, fake, lambda rows: self.scores(rows, batch)
            )
            names = [self._charge_name(charge.penalty) for charge in drawn.charges]
            terms.update(zip(names, costs, strict=True))
            total = total + torch.stack(costs).sum()
        return Loss(total, terms)

    def halves(self, real_scores: Tensor, fake_scores: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor | None]:
        """The objective's two halves of the discriminator's loss."""
        assert self._objective is not None
        return self._objective.discriminator(real_scores, fake_scores)

    def generator_loss(self, noise: Tensor, batch: Batch | None, blur: Tensor | None = None) -> Loss:
        """The objective on fakes made from `noise` (and on real scores, where the objective reads them).

        `blur` is instance noise for the fakes, where there is any: `seen_fake` adds it.
        """
        fake = self.fake(noise, batch) if blur is None else self.seen_fake(noise, batch, blur)
        if self._overlaps:  # it has learnt from all processes' rows only now
            self.context.processors["discriminator"].finish()
        return self.generator_contest(fake, batch)

    def generator_contest(self, fake: Tensor, batch: Batch | None) -> Loss:
        """The objective on samples that carry the generator's gradient."""
        assert self._objective is not None
        return Loss(self.played(self.scores(fake, batch), batch))

    def played(self, fake_scores: Tensor, batch: Batch | None) -> Tensor:
        """The objective of the generator from scores that are there already."""
        assert self._objective is not None
        real_scores = None
        if batch is not None and self._objective.reads_real:
            with torch.no_grad():
                real_scores = self.scores(shown_rows(batch), batch)
        return self._objective.generator(real_scores, fake_scores)

    def fixed_fake(self, noise: Tensor, batch: Batch | None, blur: Tensor | None) -> Tensor:
        """What the discriminator is shown in its own update: samples without a gradient, with instance noise."""
        with WithoutGradient():
            return self.fake(noise, batch) if blur is None else self.seen_fake(noise, batch, blur)

    def seen_fake(self, noise: Tensor, batch: Batch | None, blur: Tensor | None) -> Tensor:
        """What the discriminator is shown in the generator's update: samples made from `noise`, with instance noise."""
        fake = self.fake(noise, batch)
        return fake if blur is None else fake + blur

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        """Samples made from `noise`, on the discriminator's device; conditions are read from `batch`."""
        samples: Tensor = self._generator(noise)
        return samples if self._together else samples.to(self._discriminator_device)

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        """Raw scores of `samples`: (batch, 1), or (batch, steps, 1) of a discriminator that judges every step."""
        output = self._discriminator(samples)
        return output if isinstance(output, Tensor) else score_of(output)

    def score_both(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of real and fake rows: one pass over both where that mixes nothing, two passes otherwise."""
        if not self._joint:
            return self.scores(batch.input, batch), self.scores(fake, batch)
        scores = self.scores(torch.cat((batch.input, fake)), _twice(batch) if self._conditional else batch)
        real_scores, fake_scores = scores.chunk(2)
        return real_scores, fake_scores

    def pair(self, judge: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What `judge` makes of real and fake rows, in one pass over both where that mixes nothing."""
        if not self._joint:
            return judge(real), judge(fake)
        real_output, fake_output = judge(torch.cat((real, fake))).chunk(2)
        return real_output, fake_output

    # --- what is drawn

    def reads_real(self) -> bool:
        """Whether the generator's update needs real rows too."""
        return self._objective is not None and self._objective.reads_real

    def draw_rest(self, batch: Batch) -> Drawn:
        """What one discriminator update draws for its penalties and its label noise."""
        if not self._penalties and not self._label_noise:
            return NOTHING
        exchanged = self._noise_stream.uniform(len(batch)) < self._label_noise if self._label_noise else None
        done = self._done()
        return Drawn(due(self._penalties, self._updates, done, self._noise_stream, batch.input), exchanged)

    def _charge_name(self, penalty: Penalty) -> str:
        """Under what a penalty is reported: one alone as `penalty`, several by their names."""
        if len(self._penalties) == 1:
            return "penalty"
        name: str = self.context.settings.penalty[self._penalties.index(penalty)]
        return name

    def real_batch(self) -> Batch:
        """The next batch of real rows."""
        assert self.context.sampler is not None
        return self.context.sampler.next_batch()

    def draw_noise(self, count: int) -> Tensor:
        """Noise (count, generatorDim), or (count, steps, generatorDim), from the stream `noise`."""
        self._last_noise = self._draw(count, self._noise_stream)
        return self._last_noise

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return self._draw(count, stream)

    def appraise(self, batch: Batch, stream: RandomStream) -> tuple[Tensor, Tensor] | None:
        """Scores as in an update of the discriminator, whose rows and noise are drawn from what is given instead."""
        kept = self.context, self._noise_stream, self._last_noise
        assert self.context.sampler is not None
        self.context = replace(self.context, sampler=_Given(batch, self.context.sampler.dataset))
        self._noise_stream = stream
        try:
            rows = self.real_batch()
            return self.score_both(rows, self.fixed_fake(self.draw_noise(len(rows)), rows, None))
        finally:
            self.context, self._noise_stream, self._last_noise = kept

    def noise_parts(self) -> tuple[NoisePart, ...]:
        return (NoisePart("noise", self._latent[-1], "random numbers", drawn=self.context.settings.noise),)

    def generate(self, noise: Tensor) -> Tensor:
        samples: Tensor = self._generator(noise.to(self._generator_device))
        return samples

    def _draw(self, count: int, stream: RandomStream) -> Tensor:
        kind = self.context.settings.noise
        if kind == "normal":
            return stream.normal(count, *self._latent)
        return stream.uniform(count, *self._latent, low=-1.0 if kind == "uniform" else 0.0, high=1.0)

    def _done(self) -> float:
        """The share of the way from `decayStart` to `decayIterations` that is over; 0 in a run without end."""
        return self.context.span.done(self._iteration)

    def blur_deviation(self, iteration: int) -> float:
        """The standard deviation of instance noise: it falls from `instanceNoise` to 0 over the span of what falls.

        A strategy that overrides it has instance noise in every iteration, with whatever deviation it says.
        """
        deviation: float = self.context.settings.instance_noise * (1.0 - self.context.span.done(iteration))
        return deviation

    def _blur(self, count: int) -> Tensor:
        """Instance noise for so many rows, on the discriminator's device."""
        drawn = self._noise_stream.normal(count, *self._seen).to(self._discriminator_device)
        return drawn * self.blur_deviation(self._iteration)

    def _batch_size(self) -> int:
        """How many rows one update of the generator is about, in this process."""
        assert self.context.sampler is not None
        return self.context.sampler.batch_size

    def _whole_batch_size(self) -> int:
        """The same, counted over all processes."""
        assert self.context.sampler is not None
        return self.context.sampler.whole_batch_size


class _Given:
    """In the place of a sampler: the same rows every time."""

    def __init__(self, batch: Batch, dataset: Dataset) -> None:
        self.batch = batch
        self.dataset = dataset
        self.batch_size = self.whole_batch_size = len(batch)

    def next_batch(self, size: int | None = None) -> Batch:
        return self.batch


def shown_rows(batch: Batch) -> Tensor:
    """The real rows as the discriminator is shown them in the generator's update: with instance noise, if there is any.

    Conditions and targets are read from the rows as they are.
    """
    return batch.fields.get(SHOWN, batch.input)


def score_of(output: Any) -> Tensor:
    """The scores of a discriminator's output: the tensor itself, the field `score` of a named tuple, or the first."""
    if isinstance(output, Tensor):
        return output
    score: Tensor = output.score if hasattr(output, "score") else output[0]
    return score


def per_step(settings: PlayerSettings, spec: DataSpec, name: str) -> tuple[int, ...]:
    """(steps,) where the form that the setting `name` names is one per step of a sequence, () where it is one at all.

    Raises ConfigError where the setting is given for data without steps.
    """
    form = getattr(settings, name)
    if spec.kind == "sequence":
        return () if form == "window" else spec.shape[:1]
    if form is not None:
        key = name.replace("_f", "F")
        raise ConfigError(
            f"{key}={form}: only sequences have steps, and the data are of kind {spec.kind}; leave it out"
        )
    return ()


def _schedule(settings: PlayerSettings) -> Schedule:
    if settings.schedule is not None:
        return parse_schedule(settings.schedule)
    generator = Turn("generator", settings.generator_iterations)
    usual = Phase((Turn("discriminator", settings.discriminator_iterations), generator), None)
    if settings.init_iterations == 0:
        return Schedule((usual,))
    warm_up = Phase(
        (Turn("discriminator", settings.init_discriminator_iterations), generator), settings.init_iterations
    )
    return Schedule((warm_up, usual))


def batch_coupled(network: nn.Module) -> bool:
    """Whether a network has layers that compute with the statistics of a batch."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    alone = nn.modules.instancenorm._InstanceNorm  # normalises every sample by itself, unless it keeps statistics
    return any(not isinstance(module, alone) or module.track_running_stats for module in norms)


def spectrally_normalised(network: nn.Module) -> bool:
    """Whether a network has weights that every pass divides anew, in torch's newer or older way."""
    return any(hasattr(module, "parametrizations") or hasattr(module, "weight_u") for module in network.modules())


def _twice(batch: Batch) -> Batch:
    """The conditions of a batch twice: its target and fields, without the rows, of which no condition is read."""
    return batch.with_input(batch.input[:0]).map(lambda rows: torch.cat((rows, rows)))


def one_pass(choice: str, discriminator: nn.Module) -> bool:
    """Whether real and fake rows share one pass, given `jointPass`. Raises ConfigError where that would mix them."""
    coupled = batch_coupled(discriminator) or spectrally_normalised(discriminator)
    if choice == "yes" and coupled:
        raise ConfigError(
            "jointPass=yes: the discriminator has batch statistics or spectral normalisation, to which one pass over "
            "both is something else than two; use jointPass=auto"
        )
    return choice != "no" and not coupled
