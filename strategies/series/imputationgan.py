"""ImputationGAN: windows with holes go in, whole windows come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ganglion.engine.api import (
    Batch,
    ConfigError,
    DataSpec,
    LearningContext,
    Loss,
    NoisePart,
    Port,
    RandomStream,
    RoleShape,
    hookimpl,
    setting,
)
from ganglion.strategies.series.drawnlabels import DrawnLabelSettings, DrawnLabelStrategy, Interval
from ganglion.strategies.series.windows import drawn_examples, example_batch, need_sequences

OBSERVED = "mask"  # the field of the data that is 1 where a value was observed


class ImputationSettings(DrawnLabelSettings):
    """Settings of ImputationGAN."""

    mode: Literal["regression", "partial", "pure"] = setting(
        "partial",
        "what the generator minimises: the absolute error of what is missing, that and the game, or the game alone",
    )
    adversarial_weight: float = setting(0.05, "multiplies the game in mode partial", gt=0, lt=1e6)
    values: int | None = setting(
        None, "the first so many features are filled in, the others are known covariates; none: all are filled in", ge=1
    )
    hole_share: float = setting(0.2, "share of a window's steps that is taken away", gt=0, lt=1)
    scattered: float = setting(
        0.25, "how likely single steps are taken away, with replacement, instead of one block", ge=0, le=1
    )
    placeholder: float = setting(-0.1, "what stands where a value is missing", ge=-1e6, le=1e6)
    real_targets: Interval = setting((0.8, 1.0), "from where to where the targets of real samples are drawn")
    fake_targets: Interval = setting((0.0, 0.2), "from where to where the targets of fake samples are drawn")

    def without_effect(self) -> Mapping[str, str]:
        reasons = dict(super().without_effect())
        reasons |= dict.fromkeys(("noise_form", "noise", "generator_dim"), "this strategy draws holes, not noise")
        if self.mode != "partial":
            reasons["adversarial_weight"] = "only mode=partial weighs error and game"
        if self.mode == "regression":
            idle = ("real_targets", "fake_targets", "penalty")
            reasons |= dict.fromkeys(idle, "in mode=regression the discriminator does not learn")
        return reasons


class ImputationGAN(DrawnLabelStrategy):
    """The generator fills in what is missing from a window; the discriminator judges completed windows.

    https://github.com/IvanBongiorni/GAN-RNN_Timeseries-imputation: 20 % of a window's steps are taken away, scattered
    (one time in four) or as one block, and replaced by -0.1; the generator is given that, a mask and the covariates;
    mean absolute error of what is missing plus 0.05 times the game (`mode=partial`), Adam 1e-3, batch 64, targets of
    the discriminator uniform in 0.8..1 and 0..0.2. Made for `Imputer,ImputationDiscriminator`.

    Where the data have a field `mask`, what was never observed is given as missing, counts in no error, and is filled
    in where the discriminator is shown real rows. Samples to look at are training windows with what was filled in.

    Deviations: the error counts what was taken away only, not the whole window, as the mean of the windows' means;
    observed values stay as they are in what the discriminator sees; its real rows are those that the fakes were made
    of, not others; labels are drawn in every mode; the generator is told by a mask what is missing.
    """

    Settings = ImputationSettings
    lasting = ("_examples", "_unseen")
    retells = True
    preset = {
        "objective": "labelled",
        "labelled.generatorTarget": 1.0,
        "scoreForm": "window",
        "method": "ADAM",
        "learningRate": 1e-3,
        "batchSize": 64,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        steps, features = need_sequences(spec, "ImputationGAN")
        filled = value_count(settings, features)
        judged = super().shapes(settings, spec)["discriminator"]
        seen = Port("sequence", (steps, features + filled))
        return {"generator": RoleShape(seen, Port("sequence", (steps, filled))), "discriminator": judged}

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._steps, features = context.spec.shape
        self._values = value_count(context.settings, features)

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        assert context.sampler is not None
        batch = example_batch(context.sampler.dataset)
        self._examples = batch.input
        self._unseen = self.never_seen(batch)
        mode: str = context.settings.mode
        self._error_weight = 0.0 if mode == "pure" else 1.0
        self._game_weight = {"regression": 0.0, "partial": context.settings.adversarial_weight, "pure": 1.0}[mode]

    def reads_real(self) -> bool:
        return True

    def draw_noise(self, count: int) -> Tensor:
        """What is taken away: (count, steps, 1), 1 where a step is missing."""
        self._last_noise = self.holes(count, self._noise_stream)
        return self._last_noise

    def holes(self, count: int, stream: RandomStream) -> Tensor:
        """Missing steps (count, steps, 1) drawn from `stream`."""
        steps, settings = self._steps, self.context.settings
        width = max(1, round(settings.hole_share * steps))
        start = stream.integers(steps - width + 1, count).unsqueeze(1)
        place = torch.arange(steps, device=stream.device)
        block = ((place >= start) & (place < start + width)).float()
        single = torch.zeros(count, steps, device=stream.device)
        single.scatter_(1, stream.integers(steps, count, width), 1.0)
        chosen = stream.uniform(count, 1) < settings.scattered
        return torch.where(chosen, single, block).unsqueeze(2)

    def fake(self, noise: Tensor, batch: Batch | None) -> Tensor:
        assert batch is not None
        return self.completed(batch.input, self.missing_of(noise, batch))

    def missing_of(self, holes: Tensor, batch: Batch) -> Tensor:
        """1 where a value (batch, steps, values) is to be filled in: taken away, or never observed."""
        missing, observed = self._known_of(holes, batch)
        return missing if observed is None else torch.maximum(missing, 1.0 - observed)

    def never_seen(self, batch: Batch) -> Tensor:
        """1 where a value (batch, steps, values) was never observed, whatever is taken away."""
        return self.missing_of(batch.input.new_zeros(len(batch), self._steps, 1), batch)

    def judged_values(self, batch: Batch, holes: Tensor) -> Tensor:
        """1 where a value (batch, steps, values) was taken away and is known, so that an error can be told."""
        missing, observed = self._known_of(holes, batch)
        return missing if observed is None else missing * observed

    def _known_of(self, holes: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What was taken away and, where the data say so, what was observed, (batch, steps, values) each."""
        missing = holes.to(batch.input).expand(-1, -1, self._values)
        observed = batch.fields.get(OBSERVED)
        return missing, None if observed is None else observed[..., : self._values].to(missing)

    def completed(self, windows: Tensor, missing: Tensor) -> Tensor:
        """Windows (batch, steps, features) whose missing values are those of the generator."""
        known, beside = windows[..., : self._values], windows[..., self._values :]
        shown = known * (1.0 - missing) + missing * self.context.settings.placeholder
        given = torch.cat((shown, missing, beside), 2).to(self._generator_device)
        made: Tensor = self._generator(given).to(windows.device)
        return torch.cat((known * (1.0 - missing) + made * missing, beside), 2)

    def train_discriminator(self, batch: Batch) -> Mapping[str, Tensor]:
        if not self._game_weight:
            return {}
        if OBSERVED in batch.fields:  # fillers would tell real rows from made ones
            with torch.no_grad():
                batch = batch.with_input(self.completed(batch.input, self.never_seen(batch)))
        return super().train_discriminator(batch)

    def generator_loss(self, noise: Tensor, batch: Batch | None, blur: Tensor | None = None) -> Loss:
        assert batch is not None
        made = self.fake(noise, batch)
        error = self.error(made, batch, noise)
        total, terms = error.mean() * self._error_weight, {"imputationError": error.mean()}
        if self._game_weight:
            terms["generatorScore"] = self.played(self.scores(made if blur is None else made + blur, batch), batch)
            total = total + terms["generatorScore"] * self._game_weight
        return Loss(total, terms)

    def error(self, made: Tensor, batch: Batch, holes: Tensor) -> Tensor:
        """Mean absolute error (batch,) of the values that were taken away and are known."""
        counted = self.judged_values(batch, holes).to(made)
        errors = (made - batch.input.to(made))[..., : self._values].abs() * counted
        return errors.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1.0)

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        holes = self.holes(len(batch), self.random("validation", "generator"))
        return {"loss": self.error(self.fake(holes, batch), batch, holes)}

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        windows, chosen = drawn_examples(self._examples, count, stream)
        unseen = self._unseen[chosen.to(self._unseen.device)].to(windows)
        return torch.cat((windows, torch.maximum(self.holes(count, stream).to(windows), unseen)), 2)

    def noise_parts(self) -> tuple[NoisePart, ...]:
        windows = "windows, with any finite number where a value is missing"
        return (
            NoisePart("windows", self.context.spec.shape[1], windows, rows=True),
            NoisePart("missing", self._values, "1 where a value is to be filled in, 0 where it is known"),
        )

    def generate(self, noise: Tensor) -> Tensor:
        return self.completed(noise[..., : -self._values], noise[..., -self._values :])


def value_count(settings: ImputationSettings, features: int) -> int:
    """How many features are filled in. Raises ConfigError where the data have fewer."""
    if settings.values is not None and settings.values > features:
        raise ConfigError(f"values={settings.values}: the data have {features} features; give at most {features}")
    return settings.values or features


@hookimpl
def register_strategies(register: Any) -> None:
    """ImputationGAN."""
    register("ImputationGAN", ImputationGAN)
