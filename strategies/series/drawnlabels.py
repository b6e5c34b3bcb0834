"""The adversarial loop with labels that are drawn anew for every sample."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from ganglion.engine.api import Batch, ConfigError, LearningContext, Settings, setting
from ganglion.strategies.adversarial import AdversarialStrategy
from ganglion.strategies.charges import Drawn
from ganglion.strategies.objectives import Labelled
from ganglion.strategies.playing import AdversarialSettings

Interval = tuple[float, float]


class DrawnLabelSettings(AdversarialSettings):
    """Settings of strategies whose discriminator's targets are uniform random numbers."""

    real_targets: Interval = setting((0.9, 1.1), "from where to where the targets of real samples are drawn")
    fake_targets: Interval = setting((0.1, 0.3), "from where to where the targets of fake samples are drawn")


class DrawnLabelStrategy(AdversarialStrategy):
    """Cross-entropy against targets that are drawn for each sample; the generator's target is that of the objective.

    Where the discriminator scores every step, the steps of a sample share its target.
    """

    Settings: ClassVar[type[Settings]] = DrawnLabelSettings

    def setup(self, context: LearningContext) -> None:
        super().setup(context)
        settings = context.settings
        if not isinstance(self._objective, Labelled):
            raise ConfigError(
                f"objective={settings.objective}: {type(self).__name__} draws the targets of its discriminator, which "
                "only objective=labelled has; choose another strategy, such as NSGAN, for another objective"
            )
        usual = type(self._objective.settings)()
        for name, key in (("real_target", "realTarget"), ("fake_target", "fakeTarget")):
            given = getattr(self._objective.settings, name)
            if given != getattr(usual, name):
                raise ConfigError(f"labelled.{key}={given:g}: targets are drawn here; give {key}s, such as 0.9,1.1")
        for key, (low, high) in {"realTargets": settings.real_targets, "fakeTargets": settings.fake_targets}.items():
            if not -10 < low <= high < 10:
                raise ConfigError(f"{key}={low:g},{high:g}: expected two numbers in order, such as 0.9,1.1")

    def draw_rest(self, batch: Batch) -> Drawn:
        settings = self.context.settings
        targets = [
            self._noise_stream.uniform(len(batch), low=low, high=high)
            for low, high in (settings.real_targets, settings.fake_targets)
        ]
        return super().draw_rest(batch)._replace(targets=(targets[0], targets[1]))

    def halves(self, real_scores: Tensor, fake_scores: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor | None]:
        assert drawn.targets is not None
        real, fake = drawn.targets
        return against(real_scores, real), against(fake_scores, fake)


def against(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (batch, ...) against one target per sample (batch,)."""
    targets = targets.to(scores).view(-1, *[1] * (scores.dim() - 1))
    return (softplus(scores) - scores * targets).mean()
