"""The type that networks compute in: weights, losses and updates stay float32, what is between may be bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.errors import ConfigError
from ganglion.engine.processes import this_process
from ganglion.engine.session import Session
from ganglion.engine.streams import undisturbed
from ganglion.engine.threads import left_alone, seconds_per_iteration

GAIN = 0.95  # bfloat16 must take less than this share of the time, or a person is told


class Bf16Forward:
    """A network's `forward` under autocast; what it gives is float32 (the default type) again."""

    def __init__(self, inner: Callable[..., Any], device: torch.device) -> None:
        self.inner = inner
        self.device = device
        self.on = True

    def __call__(self, *rows: Any, **conditions: Any) -> Any:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on):
            output = self.inner(*rows, **conditions)
        return _widened(output)


class Fp32Forward:
    """A layer's `forward` that computes in float32 under autocast: for layers that the processor has in no other."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self.inner = inner

    def __call__(self, *rows: Any, **keywords: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return self.inner(*_widened(rows), **{name: _widened(value) for name, value in keywords.items()})


@cache
def lstm_in_bf16() -> bool:
    """Whether this processor's LSTM computes in bfloat16; without AVX-512 or AMX torch has none and raises."""
    try:
        with undisturbed(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


def _widened(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.to(torch.get_default_dtype()) if output.dtype == torch.bfloat16 else output
    if isinstance(output, tuple):
        parts = [_widened(each) for each in output]
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    return output


def compute_in_bf16(networks: Mapping[str, nn.Module], devices: Mapping[str, torch.device]) -> None:
    """Let networks compute in bfloat16 from now on. Raises ConfigError where that is for other devices.

    LSTMs stay float32 on a processor that has none in bfloat16.
    """
    for role, network in networks.items():
        device = devices[role]
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"precision=bf16: the {role} is on {device}; bfloat16 is for cpu and cuda here, use fp32")
        if device.type == "cpu":
            layers: list[nn.Module] = [layer for layer in network.modules() if isinstance(layer, nn.LSTM)]
            for layer in layers if layers and not lstm_in_bf16() else []:
                layer.forward = Fp32Forward(layer.forward)
        network.forward = Bf16Forward(network.forward, device)


def allow_tf32(allowed: bool) -> None:
    """Let NVIDIA GPUs round the factors of float32 products to 10 bits, for speed; torch's setting for the process."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")


def slower_in_bf16(session: Session) -> list[str]:
    """A sentence where a short measurement shows that bfloat16 does not pay here; the session is left as it was."""
    forwards = [network.forward for network in session.networks.values()]
    halves = [forward for forward in forwards if isinstance(forward, Bf16Forward)]
    if not halves or any(device.type != "cpu" for device in session.devices.values()):
        return []
    if this_process().count > 1:  # only the first asks, and an iteration takes all of them
        return []
    times = {}
    for name, on in (("bf16", True), ("fp32", False)):
        with _switched(halves, on), left_alone(session):
            times[name] = seconds_per_iteration(session)
    if times["bf16"] < GAIN * times["fp32"]:
        return []
    half, whole = 1e3 * times["bf16"], 1e3 * times["fp32"]
    return [f"precision=bf16 takes {half:.2f} ms per iteration here and fp32 {whole:.2f} ms: fp32 is the better choice"]


@contextmanager
def _switched(halves: list[Bf16Forward], on: bool) -> Iterator[None]:
    for each in halves:
        each.on = on
    try:
        yield
    finally:
        for each in halves:
            each.on = True
