"""The one adversarial loop that every two-player strategy shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    LearningStrategy,
    LearnProgress,
    Loss,
    Objective,
    Penalty,
    Port,
    RandomStream,
    RoleShape,
    Settings,
    setting,
)
from ganglion.strategies.schedule import Phase, Schedule, Turn, parse_schedule

DEFAULT_LATENT = {"image": 100, "vector": 2, "sequence": 100}
BATCH_COUPLED = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class AdversarialSettings(Settings):
    """Settings that every two-player strategy has."""

    generator_dim: int | None = setting(
        None,
        "numbers of noise that one sample is made from; none: 100 for images and sequences, 2 for points",
        unit="numbers",
        also=("latentDim", "latentDims"),
        ge=1,
    )
    noise: Literal["normal", "uniform"] = setting("normal", "the noise: standard normal, or uniform in [-1, 1)")
    objective: str = setting("labelled", "what both players minimise ('ganglion list objective')")
    penalty: str | None = setting(None, "a term added to the discriminator's loss ('ganglion list penalty')")
    halves: Literal["sum", "mean"] = setting(
        "sum", "how the real and the fake half of the discriminator's loss combine"
    )
    discriminator_iterations: int = setting(
        1, "discriminator updates per iteration", also=("Diterations", "criticIterations"), ge=1
    )
    generator_iterations: int = setting(1, "generator updates per iteration", also=("Giterations",), ge=1)
    init_discriminator_iterations: int = setting(
        1, "discriminator updates per iteration during the warm-up", also=("initDiterations",), ge=1
    )
    init_iterations: int = setting(0, "length of the warm-up", unit="iterations", ge=0)
    schedule: str | None = setting(
        None,
        "the order of updates in full, e.g. 'discriminator*100 generator until 25, discriminator*5 generator'; "
        "none: from the four settings above",
    )
    reuse_batch: bool = setting(False, "all discriminator updates of one iteration see the same real batch")
    reuse_noise: bool = setting(False, "the generator's update starts from the noise of the last discriminator update")
    joint_pass: Literal["auto", "yes", "no"] = setting(
        "auto",
        "real and fake go through the discriminator in one pass; auto: unless it has batch statistics or "
        "spectral normalisation",
    )

    def without_effect(self) -> Mapping[str, str]:
        if self.schedule is not None:
            counts = ("discriminator_iterations", "generator_iterations")
            warm_up = ("init_discriminator_iterations", "init_iterations")
            return dict.fromkeys((*counts, *warm_up), "schedule= says the order of updates in full; give one of them")
        if self.init_iterations == 0:
            return {"init_discriminator_iterations": "it has no effect without initIterations, the warm-up's length"}
        return {}


class AdversarialStrategy(LearningStrategy):
    """Generator against discriminator: a schedule of updates, each of which minimises one player's loss.

    A strategy overrides the lowest rung that suffices: `preset` (an objective, a penalty, a processor link by name);
    `fake` and `scores` (conditions); `discriminator_loss`, `generator_loss`; `train_discriminator`, `train_generator`.
    """

    roles: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    Settings: ClassVar[type[Settings]] = AdversarialSettings
    parts: ClassVar[Mapping[str, str]] = {"objective": "objective", "penalty": "penalty"}
    narrowed: ClassVar[Mapping[str, str]] = {"clamp": "discriminator"}

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        data = Port(spec.kind, spec.shape)
        latent = settings.generator_dim or DEFAULT_LATENT[spec.kind]
        return {
            "generator": RoleShape(Port("noise", (latent,)), data),
            "discriminator": RoleShape(data, Port("score", (1,))),
        }

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._latent = self.shapes(context.settings, context.spec)["generator"].input.shape
        self._generator = context.networks["generator"]
        self._generator_device = context.devices["generator"]

    def setup(self, context: LearningContext) -> None:
        settings = context.settings
        self._objective: Objective = context.parts["objective"]
        self._penalty: Penalty | None = context.parts.get("penalty")
        self._schedule = _schedule(settings)
        self._discriminator = context.networks["discriminator"]
        self._discriminator_device = context.devices["discriminator"]
        self._joint = one_pass(settings.joint_pass, self._discriminator)
        self._conditional = type(self).scores is not AdversarialStrategy.scores
        self._noise_stream = self.random("noise", "generator")
        self._last_noise: Tensor | None = None

    def process_iteration(self, i: int) -> LearnProgress:
        values: dict[str, Tensor] = {}
        batch: Batch | None = None
        for player, count in self._schedule.turns(i):
            for _ in range(count):
                if player == "generator":
                    values.update(self.train_generator())
                else:
                    batch = batch if batch is not None and self.context.settings.reuse_batch else self.real_batch()
                    values.update(self.train_discriminator(batch))
        return LearnProgress(i, values)

    # --- rung 4: how a player is updated

    def train_discriminator(self, batch: Batch) -> Mapping[str, Tensor]:
        """One update of the discriminator on real rows and as many fakes."""
        noise = self.draw_noise(len(batch))
        with torch.no_grad():
            fake = self.fake(noise, batch)
        mix = self._noise_stream.uniform(len(batch)).to(fake.device) if self._penalty is not None else None
        loss = self.context.processors["discriminator"].update(self.discriminator_loss, batch, fake, mix)
        return {"discriminatorLoss": loss.total, **loss.terms}

    def train_generator(self) -> Mapping[str, Tensor]:
        """One update of the generator, from fresh noise."""
        batch = self.real_batch() if self._objective.reads_real else None
        chain = self.context.processors["generator"]
        reuse = self.context.settings.reuse_noise and self._last_noise is not None
        noise = self._last_noise if reuse else self.draw_noise(self._batch_size())
        loss = chain.update(self.generator_loss, noise, batch)
        return {"generatorLoss": loss.total, **loss.terms}

    # --- rung 3: what a player minimises

    def discriminator_loss(self, batch: Batch, fake: Tensor, mix: Tensor | None) -> Loss:
        """The objective's two halves and the penalty; `fake` (batch, *shape) carries no gradient."""
        real_scores, fake_scores = self.score_both(batch, fake)
        real, false = self._objective.discriminator(real_scores, fake_scores)
        total = real + false if self.context.settings.halves == "sum" else (real + false) * 0.5
        terms = {"discriminatorReal": real, "discriminatorFake": false}
        if self._penalty is not None and mix is not None:
            terms["penalty"] = self._penalty.penalty(lambda x: self.scores(x, batch), batch.input, fake, mix)
            total = total + terms["penalty"]
        return Loss(total, terms)

    def generator_loss(self, noise: Tensor, batch: Batch | None) -> Loss:
        """The objective on fakes made from `noise` (and on real scores, where the objective reads them)."""
        fake_scores = self.scores(self.fake(noise, batch), batch)
        real_scores = None
        if batch is not None and self._objective.reads_real:
            with torch.no_grad():
                real_scores = self.scores(batch.input, batch)
        return Loss(self._objective.generator(real_scores, fake_scores))

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        """Samples made from `noise`, on the discriminator's device; conditions are read from `batch`."""
        samples: Tensor = self._generator(noise)
        return samples.to(self._discriminator_device)

    def scores(self, samples: Tensor, batch: Batch | None) -> Tensor:
        """Raw scores of `samples`: (batch, 1), or (batch, steps, 1) of a discriminator that judges every step."""
        return score_of(self._discriminator(samples))

    def score_both(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of real and fake rows: one pass over both where that mixes nothing, two passes otherwise."""
        if not self._joint:
            return self.scores(batch.input, batch), self.scores(fake, batch)
        twice = batch.map(lambda rows: torch.cat((rows, rows))) if self._conditional else None
        real_scores, fake_scores = self.scores(torch.cat((batch.input, fake)), twice).chunk(2)
        return real_scores, fake_scores

    # --- what is drawn

    def real_batch(self) -> Batch:
        """The next batch of real rows."""
        assert self.context.sampler is not None
        return self.context.sampler.next_batch()

    def draw_noise(self, count: int) -> Tensor:
        """Noise (count, generatorDim) from the stream `noise`."""
        self._last_noise = self._draw(count, self._noise_stream)
        return self._last_noise

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return self._draw(count, stream)

    def generate(self, noise: Tensor) -> Tensor:
        samples: Tensor = self._generator(noise.to(self._generator_device))
        return samples

    def _draw(self, count: int, stream: RandomStream) -> Tensor:
        if self.context.settings.noise == "normal":
            return stream.normal(count, *self._latent)
        return stream.uniform(count, *self._latent, low=-1.0, high=1.0)

    def _batch_size(self) -> int:
        assert self.context.sampler is not None
        return self.context.sampler.batch_size


def score_of(output: Any) -> Tensor:
    """The scores of a discriminator's output: the tensor itself, or the field `score` of a named tuple."""
    return output if isinstance(output, Tensor) else output.score


def _schedule(settings: AdversarialSettings) -> Schedule:
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


def one_pass(choice: str, discriminator: nn.Module) -> bool:
    """Whether real and fake rows share one pass, given `jointPass`. Raises ConfigError where that would mix them."""
    coupled = any(
        isinstance(module, BATCH_COUPLED) or hasattr(module, "parametrizations") for module in discriminator.modules()
    )
    if choice == "yes" and coupled:
        raise ConfigError(
            "jointPass=yes: the discriminator has batch statistics or spectral normalisation, which one pass would "
            "mix; use jointPass=auto"
        )
    return choice != "no" and not coupled
