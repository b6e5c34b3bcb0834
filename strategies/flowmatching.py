"""Flow matching: samples move from noise to data along the mean direction of straight lines."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

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
    hookimpl,
    setting,
)
from ganglion.strategies.whitening import WhitenedRows, WhiteningSettings


class FlowMatchingSettings(WhiteningSettings):
    """Settings of FlowMatching."""

    solver_steps: int = setting(25, "steps of Heun's method from noise to a sample, two passes each", ge=1)


class FlowMatching(WhitenedRows):
    """One network learns the velocity that carries noise x0 to data x1: E[x1 - x0 | x_t, t], x_t = (1 - t) x0 + t x1.

    Lipman et al. 2022, https://arxiv.org/abs/2210.02747, equation 23 with no deviation left at t = 1; also Liu et al.
    2022 (rectified flow, https://arxiv.org/abs/2209.03003, equation 1). Times are drawn as a sigmoid of normal numbers
    (Esser et al. 2024, https://arxiv.org/abs/2403.03206, section 3.1). Samples solve dx/dt = v(x, t) from 0 to 1 by
    Heun's method: no game, nothing to balance, and 2 `solverSteps` passes for a sample. `whiten=1` is for windows of
    series, whose numbers depend on each other, and for scales that are far apart.

    The network is given a row as one vector and, behind it, the time: any perceptron does; `FlowMLP` is made for it.

    Deviations: perceptrons and rows as vectors where the papers have U-Nets and pictures; averaged weights; Heun's
    method in place of an adaptive solver.
    """

    Settings: ClassVar[type[Settings]] = FlowMatchingSettings
    roles: ClassVar[tuple[str, ...]] = ("velocity",)
    preset: ClassVar[Mapping[str, Any]] = {
        "method": "ADAM",
        "learningRate": 1e-3,
        "beta2": 0.99,
        "warmUpIterations": 500,
        "decayType": "cosine",
        "batchSize": 128,
        "velocity.ema": 0.999,
    }

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        size = torch.Size(spec.shape).numel()
        return {"velocity": RoleShape(Port("vector", (size + 1,)), Port("vector", (size,)))}

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._network, self._device = context.networks["velocity"], context.devices["velocity"]
        self._size = torch.Size(context.spec.shape).numel()

    def setup(self, context: LearningContext) -> None:
        if getattr(self._network, "output_range", None) is not None:
            raise ConfigError("FlowMatching: the network's values are bounded, and velocities are not; use FlowMLP")
        self.find_directions(context.settings.whiten, self._device)
        self._noise_stream, self._time_stream = self.random("noise", "velocity"), self.random("time", "velocity")

    def process_iteration(self, i: int) -> LearnProgress:
        assert self.context.sampler is not None
        rows = self._rows(self.context.sampler.next_batch())
        draws = self._draws(rows, self._noise_stream, self._time_stream)
        loss = self.context.processors["velocity"].update(self.loss, rows, *draws)
        return LearnProgress(i, {"loss": loss.total, **loss.terms})

    def loss(self, rows: Tensor, noise: Tensor, time: Tensor) -> Loss:
        """The mean squared error of the velocity, for rows and noise (batch, size) at times (batch, 1) in 0..1."""
        return Loss(self._errors(rows, noise, time).mean())

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        rows, streams = self._rows(batch), [self.random(f"validation {name}", "velocity") for name in ("noise", "time")]
        return {"loss": self._errors(rows, *self._draws(rows, *streams))}

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return stream.normal(count, self._size)

    def noise_parts(self) -> tuple[NoisePart, ...]:
        return (NoisePart("noise", self._size, "random numbers", drawn="normal"),)

    def generate(self, noise: Tensor) -> Tensor:
        rows, steps = self.kept(noise.to(self._device)), self.context.settings.solver_steps
        times = torch.linspace(0.0, 1.0, steps + 1, device=rows.device).view(-1, 1, 1).expand(-1, len(rows), 1)
        for now, then in pairwise(times):
            velocity = self.velocity(rows, now)
            rows = rows + (velocity + self.velocity(rows + velocity / steps, then)) / (2 * steps)
        return self.restored(rows.unflatten(1, self.context.spec.shape))

    def velocity(self, rows: Tensor, time: Tensor) -> Tensor:
        """Where rows (batch, size) move at times (batch, 1)."""
        return self.kept(self._network(torch.cat((rows, time), 1)))

    def _rows(self, batch: Batch) -> Tensor:
        """Rows (batch, size) as the network is given them."""
        return self.whitened(batch.input.to(self._device)).flatten(1)

    def _draws(self, rows: Tensor, noise: RandomStream, time: RandomStream) -> tuple[Tensor, Tensor]:
        """Noise (batch, size), 0 where rows have no direction, and times (batch, 1)."""
        return self.kept(noise.normal(*rows.shape)), time.normal(len(rows), 1).sigmoid()

    def _errors(self, rows: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The squared error of every row, (batch,): the mean over its numbers."""
        return (self.velocity(noise.lerp(rows, time), time) - (rows - noise)).square().mean(1)


@hookimpl
def register_strategies(register: Any) -> None:
    """FlowMatching."""
    register("FlowMatching", FlowMatching, aliases=("RectifiedFlow",))
