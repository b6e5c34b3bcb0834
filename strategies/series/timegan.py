"""TimeGAN: a game in the space of step-wise codes, held to the data's dynamics by a supervisor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    LearnProgress,
    Loss,
    NoisePart,
    Port,
    RandomStream,
    RoleShape,
    Settings,
    averaged,
    equal_parts,
    hookimpl,
    setting,
    update_together,
)
from ganglion.strategies.masking import (
    MASK,
    generator_of,
    halves_of,
    hidden,
    mask_of,
    mean_of,
    moments_of,
    squared_error,
    steps_of,
)
from ganglion.strategies.objectives import NonSaturating
from ganglion.strategies.series.windows import PaddedStrategy, need_sequences

ROOT = 1e-12  # added under a square root, whose gradient is not a number at 0 otherwise
VARIANCE = 1e-6  # added to a variance, as published
GAME = NonSaturating()


class TimeganSettings(Settings):
    """Settings of TimeGAN."""

    hidden_dim: int = setting(24, "numbers of a step's code; the paper has 4 per feature", unit="numbers", ge=1)
    generator_dim: int | None = setting(
        None,
        "numbers of noise in each step; none: as many as the data have features",
        unit="numbers",
        also=("latentDim", "latentDims"),
        ge=1,
    )
    noise: Literal["unit", "normal"] = setting("unit", "uniform in [0, 1), as the code has it, or normal")
    autoencoder_iterations: int | None = setting(
        None, "length of the first phase; none: a third of decayIterations", unit="iterations", ge=0
    )
    supervisor_iterations: int | None = setting(
        None, "length of the second phase; none: a third of decayIterations", unit="iterations", ge=0
    )
    generator_iterations: int = setting(2, "updates of generator and embedder per joint iteration", ge=1)
    gamma: float = setting(1.0, "multiplies the game on codes that did not pass the supervisor", ge=0)
    supervised_weight: float = setting(
        100.0, "eta: multiplies the root of the supervised loss in the generator's", ge=0
    )
    moment_weight: float = setting(100.0, "multiplies the difference of means and deviations", ge=0)
    gate: float = setting(0.15, "the discriminator learns only while its loss is above this", ge=0)


class TimeGAN(PaddedStrategy):
    """Embedder and recovery make codes of steps, a generator makes codes, a supervisor foretells the next code.

    Yoon, Jarrett and van der Schaar 2019, "Time-series Generative Adversarial Networks",
    https://papers.nips.cc/paper/8789, equations 7 to 9, in the form of the authors' code: three phases of equal length
    (50,000 iterations each as published). First embedder and recovery learn to reconstruct, 10 * sqrt(MSE); then the
    supervisor learns to foretell the code of the next step, by its squared error against the code one step later; then
    all play: twice generator and supervisor (cross-entropies with and without the supervisor, 100 times the root of the
    supervised loss, 100 times the differences of the means and deviations of each step and feature) and embedder and
    recovery (with a tenth of the supervised loss), then the discriminator, only while its loss is above 0.15. Adam
    1e-3, batch 128, uniform noise. Roles: embedder, recovery, generator, supervisor, discriminator; `learn --job
    timegan` has their networks.

    Where the data have a field `mask`, padding counts in no loss and what is missing between in no error, codes that
    are made are as long as the real windows beside them, and samples as training windows.

    Deviations: torch's GRU, whose reset gate acts behind the product, and torch's start of dense layers instead of
    Glorot's; one Adam per role keeps its moments through the phases, where the source has five optimisers; the moment
    loss is in the code but not in the paper; a window's errors are averaged over its own steps, in the source over all
    that the longest has.
    """

    Settings = TimeganSettings
    roles: ClassVar[tuple[str, ...]] = ("embedder", "recovery", "generator", "supervisor", "discriminator")
    data_role: ClassVar[str | None] = "embedder"
    preset: ClassVar[Mapping[str, Any]] = {
        "method": "ADAM",
        "learningRate": 1e-3,
        "batchSize": 128,
        "iterations": 150000,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        steps, features = need_sequences(spec, "TimeGAN")
        data, code = Port(spec.kind, spec.shape), Port("noise", (steps, settings.hidden_dim))
        noise = Port("noise", (steps, settings.generator_dim or features))
        return {
            "embedder": RoleShape(data, code),
            "recovery": RoleShape(code, data),
            "generator": RoleShape(noise, code),
            "supervisor": RoleShape(code, code),
            "discriminator": RoleShape(code, Port("score", (steps, 1))),
        }

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._latent = self.shapes(context.settings, context.spec)["generator"].input.shape

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        settings, chains = context.settings, context.processors
        self._noise_stream = self.random("noise", "generator")
        self._autoencoder = [chains["embedder"], chains["recovery"]]
        self._players = [chains["generator"], chains["supervisor"]]
        for pair in (self._autoencoder, self._players):
            equal_parts(pair)
        third = context.span.end // 3
        if not context.span.end and None in (settings.autoencoder_iterations, settings.supervisor_iterations):
            raise ConfigError(
                "iterations: a run without end has no thirds; give autoencoderIterations and supervisorIterations"
            )
        self._first: int = third if settings.autoencoder_iterations is None else settings.autoencoder_iterations
        second: int = third if settings.supervisor_iterations is None else settings.supervisor_iterations
        self._second = self._first + second

    def process_iteration(self, i: int) -> LearnProgress:
        if i < self._first:
            loss = update_together(self._autoencoder, self.reconstruction_loss, *self._windows())
            return LearnProgress(i, {"reconstruction": loss.total})
        if i < self._second:
            loss = self.context.processors["supervisor"].update(self.supervised_loss, *self._windows())
            return LearnProgress(i, {"supervised": loss.total})
        return LearnProgress(i, self._joint())

    def _joint(self) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for _ in range(self.context.settings.generator_iterations):
            windows, mask = self._windows()
            played = update_together(self._players, self.generator_loss, windows, self._noise(len(windows)), mask)
            coded = update_together(self._autoencoder, self.embedder_loss, windows, mask)
            values.update({"generatorLoss": played.total, **played.terms, "embedderLoss": coded.total})
        windows, mask = self._windows()
        noise = self._noise(len(windows))
        codes = self._judged_codes(windows, noise, mask)
        level: float = self.context.settings.gate
        chain = self.context.processors["discriminator"]
        lost = chain.update(self.discriminator_loss, *codes, steps_of(mask), gate=lambda loss: loss.total > level)
        return {**values, "discriminatorLoss": lost.total}

    def reconstruction_loss(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """10 * sqrt(MSE) of windows (batch, steps, features) that went through embedder and recovery."""
        made = self._through(hidden(windows, mask), "embedder", "recovery")
        return root_of(squared_error(made, windows, mask)) * 10.0

    def supervised_loss(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """The squared error of the code that the supervisor foretells, against the code one step later."""
        with torch.no_grad():
            codes = self._through(hidden(windows, mask), "embedder")
        return next_step_error(codes, self._through(codes, "supervisor"), steps_of(mask))

    def embedder_loss(self, windows: Tensor, mask: Tensor | None = None) -> Loss:
        """The reconstruction, and a tenth of the supervised loss, through the codes too."""
        codes = self._through(hidden(windows, mask), "embedder")
        supervised = next_step_error(codes, self._through(codes, "supervisor"), steps_of(mask))
        made = self._through(codes, "recovery")
        reconstruction = root_of(squared_error(made, windows, mask)) * 10.0
        return Loss(reconstruction + supervised.to(made.device) * 0.1)

    def generator_loss(self, windows: Tensor, noise: Tensor, mask: Tensor | None = None) -> Loss:
        """The game, the supervised loss on real codes, and the moments of the windows made."""
        settings = self.context.settings
        direct = self._through(noise, "generator")
        supervised, steps = self._through(direct, "supervisor"), steps_of(mask)
        game, beside = (generator_of(GAME, None, self._scores(codes, steps), steps) for codes in (supervised, direct))
        foretold = root_of(self.supervised_loss(windows, mask))
        moments = moment_distance(self._through(supervised, "recovery"), windows, mask)
        total = game + settings.gamma * beside + settings.supervised_weight * foretold.to(game.device)
        total = total + settings.moment_weight * moments.to(game.device)
        return Loss(total, {"generatorScore": game, "supervised": foretold, "moments": moments})

    def discriminator_loss(
        self, real: Tensor, supervised: Tensor, direct: Tensor, steps: Tensor | None = None
    ) -> Tensor:
        """Cross-entropy of real codes, of codes that passed the supervisor, and of those that did not."""
        gamma: float = self.context.settings.gamma
        scores = [self._scores(codes, steps) for codes in (real, supervised, direct)]
        (real_half, fake_half), (_, beside) = (halves_of(GAME, scores[0], fake, steps) for fake in scores[1:])
        assert fake_half is not None and beside is not None
        return real_half + fake_half + beside * gamma

    def _scores(self, codes: Tensor, steps: Tensor | None) -> Tensor:
        """Scores of every step of codes that are as long as the windows: nothing behind their ends tells them apart."""
        return self._through(hidden(codes, steps), "discriminator")

    @torch.no_grad()
    def _judged_codes(self, windows: Tensor, noise: Tensor, mask: Tensor | None) -> Sequence[Tensor]:
        direct = self._through(noise, "generator")
        return self._through(hidden(windows, mask), "embedder"), self._through(direct, "supervisor"), direct

    def _through(self, rows: Tensor, *roles: str) -> Tensor:
        """What the networks of these roles make of `rows`, one after the other, each on its own device."""
        for role in roles:
            rows = self.context.networks[role](rows.to(self.context.devices[role]))
        return rows

    def _next(self) -> Batch:
        assert self.context.sampler is not None
        return self.context.sampler.next_batch()

    def _windows(self) -> tuple[Tensor, Tensor | None]:
        """The next real windows, and what counts of them."""
        batch = self._next()
        return batch.input, mask_of(batch)

    def _noise(self, count: int) -> Tensor:
        return self._drawn(count, self._noise_stream)

    def _drawn(self, count: int, stream: RandomStream) -> Tensor:
        if self.context.settings.noise == "normal":
            return stream.normal(count, *self._latent)
        return stream.uniform(count, *self._latent)

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return self.with_lengths(self._drawn(count, stream), stream)

    def noise_parts(self) -> tuple[NoisePart, ...]:
        drawn = NoisePart("noise", self._latent[-1], "random numbers", drawn=self.context.settings.noise)
        return (drawn, *super().noise_parts())

    def generate(self, noise: Tensor) -> Tensor:
        made = self._through(self.without_lengths(noise), "generator", "supervisor", "recovery")
        return self.cut(made, noise)


def next_step_error(codes: Tensor, foretold: Tensor, steps: Tensor | None = None) -> Tensor:
    """The squared error of what was foretold in each step but the last, against the code of the step behind it."""
    return squared_error(foretold[:, :-1], codes[:, 1:], None if steps is None else steps[:, 1:])


def moment_distance(made: Tensor, windows: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference of the batches' deviations and of their means, per step and feature.

    The deviation is the root of the biased variance + 1e-6, as in the authors' code. With a mask what is made counts as
    far as the real windows beside it reach, and a step and feature does where it was observed in any.
    """
    fields = {} if mask is None else {MASK: mask.to(made).expand_as(made)}
    rows, real = Batch(made).gather().input, Batch(windows.to(made.device), None, fields).gather()
    observed = mask_of(real)
    moments = moments_of(rows, steps_of(observed)), moments_of(real.input, observed)
    deviations = [(variance + VARIANCE).sqrt() for _, variance in moments]
    counted = None if observed is None else observed.amax(0, keepdim=True)
    apart = deviations[0] - deviations[1], moments[0][0] - moments[1][0]
    return mean_of(apart[0].abs().unsqueeze(0), counted) + mean_of(apart[1].abs().unsqueeze(0), counted)


def root_of(error: Tensor) -> Tensor:
    """The square root of an error of the whole batch, 0-d, with a finite gradient at 0."""
    return (averaged(error) + ROOT).sqrt()


@hookimpl
def register_strategies(register: Any) -> None:
    """TimeGAN."""
    register("TimeGAN", TimeGAN)
