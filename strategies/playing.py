"""The settings of two-player strategies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from ganglion.engine.api import Settings, setting


class PlayerSettings(Settings):
    """Settings that every two-player strategy has, whatever its players minimise."""

    generator_dim: int | None = setting(
        None,
        "numbers of noise that one sample is made from; none: 100 for images and sequences, 2 for points",
        unit="numbers",
        also=("latentDim", "latentDims"),
        ge=1,
    )
    noise: Literal["normal", "uniform", "unit"] = setting(
        "normal", "the noise: standard normal, uniform in [-1, 1), or (unit) uniform in [0, 1)"
    )
    noise_form: Literal["step", "window"] | None = setting(
        None, "for sequences: fresh noise in every step, or one vector per window; none: step"
    )
    score_form: Literal["step", "window"] | None = setting(
        None, "for sequences: the discriminator scores every step, or the window as a whole; none: step"
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
    instance_noise: float = setting(
        0.0,
        "standard deviation of noise on all that the discriminator sees; from decayStart on it falls, to 0 at "
        "decayIterations",
        ge=0,
        lt=math.inf,
    )
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


class AdversarialSettings(PlayerSettings):
    """Settings of two-player strategies that play for an objective."""

    objective: str = setting("labelled", "what both players minimise ('ganglion list objective')")
    penalty: tuple[str, ...] | None = setting(
        None, "terms added to the discriminator's loss, such as R1 or R1,R2 ('ganglion list penalty')"
    )
    halves: Literal["sum", "mean"] = setting(
        "sum", "how the real and the fake half of the discriminator's loss combine"
    )
    label_noise: float = setting(
        0.0, "how likely a pair of a real and a fake score is exchanged in the discriminator's update", ge=0, lt=0.5
    )
