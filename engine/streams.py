"""Named random streams: the only randomness that strategies, samplers and adapters use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def stream_seed(seed: int, *names: object) -> int:
    """A 63-bit seed from the job's seed and names: stable over processes and Python versions."""
    text = "/".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class RandomStream:
    """One named stream of random numbers on one device."""

    def __init__(self, seed: int, name: str, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.generator = torch.Generator(device=device)
        self.generator.manual_seed(stream_seed(seed, name))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of `shape`."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high) of `shape`."""
        numbers = torch.rand(shape, generator=self.generator, device=self.device)
        return numbers if (low, high) == (0.0, 1.0) else numbers.mul_(high - low).add_(low)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Whole numbers 0..high-1 (int64) of `shape`."""
        return torch.randint(high, shape, generator=self.generator, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.set_state(state["generator"].cpu())


class Streams:
    """All random streams of a job, made when first asked for; `network` is torch's own default generator."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self._streams: dict[str, RandomStream] = {}

    def __call__(self, name: str, device: torch.device | None = None) -> RandomStream:
        if name not in self._streams:
            self._streams[name] = RandomStream(self.seed, name, device or self.device)
        return self._streams[name]

    def install(self, name: str) -> None:
        """Seed torch's default generators (dropout, initialisation) as stream `name`."""
        torch.manual_seed(stream_seed(self.seed, name))

    def state_dict(self) -> dict[str, Any]:
        """States of all streams, torch's default generators included."""
        state = {name: stream.state_dict() for name, stream in self._streams.items()}
        default = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            default.update({f"cuda{i}": value for i, value in enumerate(torch.cuda.get_rng_state_all())})
        return {"streams": state, "default": default}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, saved in state["streams"].items():
            self(name).load_state_dict(saved)
        for name, saved in state["default"].items():
            if name == "cpu":
                torch.set_rng_state(saved.cpu())
            elif torch.cuda.is_available():
                torch.cuda.set_rng_state(saved.cpu(), int(name.removeprefix("cuda")))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run something that may draw from torch's default generators, and leave them as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield
