"""What the networks for sequences share: which shapes they take, Keras' padding, and second derivatives on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.api import ConfigError, NetworkContext, NetworkError, Port

ActivationName = Literal["none", "tanh", "sigmoid"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
RANGES: dict[str, tuple[float, float]] = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
KERAS_EPSILON = 1e-3
KERAS_MOMENTUM = 0.01  # Keras keeps 0.99 of its running statistics, which is 0.01 in torch's words


class Window(NamedTuple):
    """A sequence's shape."""

    steps: int
    features: int


def sequence_shapes(name: str, context: NetworkContext) -> tuple[Port, Port]:
    """Input and output. Raises NetworkError where neither is a sequence, or one is no vector either."""
    given, made = context.input, context.output
    fits = all(len(port.shape) in (1, 2) for port in (given, made))
    if not fits or 2 not in (len(given.shape), len(made.shape)) or context.data.kind in ("image", "vector"):
        raise NetworkError(
            f"{name} is for sequences of shape (steps, features), not for {given.kind} {given.shape} "
            f"to {made.kind} {made.shape}"
        )
    return given, made


def window_in(name: str, context: NetworkContext) -> Window:
    """The sequence that a network is given. Raises NetworkError where it is given something else."""
    given, _ = sequence_shapes(name, context)
    if len(given.shape) != 2:
        raise NetworkError(f"{name} takes a sequence (steps, features), not {given.kind} {given.shape}")
    return Window(*given.shape)


def window_out(name: str, context: NetworkContext) -> Window:
    """The sequence that a network makes of one vector. Raises NetworkError for noise in every step, or no sequence."""
    given, made = sequence_shapes(name, context)
    if len(given.shape) != 1:
        raise NetworkError(
            f"{name} makes a window of one vector, and {given.kind} {given.shape} is one in every step; "
            "of a two-player strategy ask for noiseForm=window"
        )
    if len(made.shape) != 2:
        raise NetworkError(f"{name} makes a sequence (steps, features), not {made.kind} {made.shape}")
    return Window(*made.shape)


def same_steps(name: str, given: Port, made: Port) -> None:
    """Raise NetworkError where a network that gives something for every step is asked for another number of steps."""
    if len(given.shape) == len(made.shape) == 2 and given.shape[0] != made.shape[0]:
        raise NetworkError(
            f"{name} gives as many steps as it takes: {made.shape[0]} are wanted of {given.shape[0]}; "
            "a network that makes all steps at once (Recurrent) can"
        )


def check_activation(name: str, context: NetworkContext) -> None:
    """Raise ConfigError for an activation behind scores or classes, which losses take raw."""
    if name != "none" and context.output.kind in ("score", "classes"):
        raise ConfigError(
            f"activation={name}: losses take raw numbers as {context.output.kind}, so the {context.role} ends without "
            "one; use activation=none"
        )


def second_derivatives(rows: Tensor) -> AbstractContextManager[Any]:
    """What a recurrent layer runs in: without cuDNN where gradients may be differentiated again, which it cannot do.

    That is where the input itself wants a gradient (gradient penalties, unrolled updates, inversion). All other
    settings of cuDNN stay as they are.
    """
    if not (torch.is_grad_enabled() and rows.requires_grad):
        return nullcontext()
    keep: Any = None
    return torch.backends.cudnn.flags(
        enabled=False, benchmark=keep, benchmark_limit=keep, deterministic=keep, allow_tf32=keep, fp32_precision=keep,
        depthwise_kernel=keep,
    )  # fmt: skip


class Repeat(nn.Module):
    """The same vector (batch, size) in every step: (batch, steps, size); a sequence stays as it is."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, rows: Tensor) -> Tensor:
        return rows if rows.dim() == 3 else rows.unsqueeze(1).expand(-1, self.steps, -1)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


def padding(steps: int, kernel: int, stride: int = 1) -> nn.Module:
    """Keras' `same` padding of (batch, channels, steps): the odd zero comes last. Results have ceil(steps / stride)."""
    total = max((-(-steps // stride) - 1) * stride + kernel - steps, 0)
    return nn.ConstantPad1d((total // 2, total - total // 2), 0.0)


class Transposed(nn.Module):
    """A transposed convolution with Keras' `same` padding: (batch, channels, steps) to `stride` times the steps."""

    def __init__(self, channels: int, wanted: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose1d(channels, wanted, kernel, stride)
        self.start, self.stride = (kernel - stride) // 2, stride

    def forward(self, rows: Tensor) -> Tensor:
        full: Tensor = self.convolution(rows)
        return full.narrow(2, self.start, rows.shape[2] * self.stride)


def batch_norm(channels: int) -> nn.BatchNorm1d:
    """BatchNorm with the constants of Keras."""
    return nn.BatchNorm1d(channels, eps=KERAS_EPSILON, momentum=KERAS_MOMENTUM)
