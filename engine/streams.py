"""Named random streams: the only randomness that strategies, samplers and adapters use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ganglion.engine.errors import ConfigError
from ganglion.engine.processes import ALONE, Part


def stream_seed(seed: int, *names: object) -> int:
    """A 63-bit seed from the job's seed and names: stable over processes and Python versions."""
    text = "/".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class RandomStream:
    """One named stream of random numbers on one device.

    The first dimension of what is drawn counts rows of a batch: where several processes share a job, all draw for the
    whole batch, of which each takes its `part`, so that their number changes nothing.
    """

    def __init__(self, seed: int, name: str, device: torch.device, part: Part = ALONE) -> None:
        self.name = name
        self.part = part
        self.device = device
        if torch.device(device).type == "meta":
            raise ConfigError("device=meta: it holds no numbers, so nothing can be drawn or learnt on it")
        self.generator = torch.Generator(device=device)
        self.generator.manual_seed(stream_seed(seed, name))
        self._start = self.generator.get_state()

    @property
    def used(self) -> bool:
        """Whether anything was drawn: until then a stream is what its name and the seed say."""
        return not torch.equal(self.generator.get_state(), self._start)

    def restart(self) -> None:
        """Begin again."""
        self.generator.set_state(self._start)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of `shape`."""
        if self.part.count == 1:
            return torch.randn(shape, generator=self.generator, device=self.device)
        return self.part.rows(torch.randn(self._whole(shape), generator=self.generator, device=self.device))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high) of `shape`."""
        numbers = self.part.rows(torch.rand(self._whole(shape), generator=self.generator, device=self.device))
        return numbers if (low, high) == (0.0, 1.0) else numbers.mul_(high - low).add_(low)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Whole numbers 0..high-1 (int64) of `shape`."""
        return self.part.rows(torch.randint(high, self._whole(shape), generator=self.generator, device=self.device))

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self.part.count, *shape[1:])

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.set_state(state["generator"].cpu())


class Streams:
    """All random streams of a job, one per name and device, made when first asked for.

    `network` and `init.<role>` are torch's own default generators, which the engine seeds.
    """

    def __init__(self, seed: int, device: torch.device, part: Part = ALONE) -> None:
        self.seed = seed
        self.device = device
        self.part = part
        self._streams: dict[str, RandomStream] = {}
        self._pending: dict[str, Any] = {}  # states of streams that nothing has asked for yet

    def __call__(self, name: str, device: torch.device | None = None) -> RandomStream:
        device = device or self.device
        key = self._own_key(f"{name}@{device}")
        if key not in self._streams:
            self._streams[key] = RandomStream(self.seed, name, device, self.part)
            if key in self._pending:
                self._streams[key].load_state_dict(self._pending.pop(key))
        return self._streams[key]

    def _own_key(self, key: str) -> str:
        """A key, stored or not, as this process says it: of several, each has its own GPU, and leaves its number out.

        Alone, the GPU of a key without a number is this one's.
        """
        name, _, device = key.rpartition("@")
        kind = device.partition(":")[0]
        if self.part.count > 1:
            return f"{name}@{kind}"
        return f"{name}@{self.device}" if device == kind == torch.device(self.device).type else key

    def install(self, name: str) -> None:
        """Seed torch's default generators (dropout, initialisation) as stream `name`."""
        torch.manual_seed(stream_seed(self.seed, name))

    def install_own(self, name: str) -> None:
        """The same with another start in every process but the first: masks of dropout cannot be sliced."""
        self.install(name if self.part.rank == 0 else f"{name}/{self.part.rank}")

    def state_dict(self) -> dict[str, Any]:
        """States of the streams that were drawn from, and of torch's default generators.

        Others are left out: whether a stream was asked for already must not be seen in a checkpoint.
        """
        state = {key: stream.state_dict() for key, stream in self._streams.items() if stream.used}
        default = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            default.update({f"cuda{i}": value for i, value in enumerate(torch.cuda.get_rng_state_all())})
        return {"streams": {**self._pending, **state}, "default": default}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; a stream that it does not have starts anew."""
        saved = {self._own_key(key): value for key, value in state["streams"].items()}
        for key, stream in self._streams.items():
            if key in saved:
                stream.load_state_dict(saved.pop(key))
            else:
                stream.restart()
        self._pending = saved
        for name, value in state["default"].items():
            if name == "cpu":
                torch.set_rng_state(value.cpu())
            elif torch.cuda.is_available() and int(name.removeprefix("cuda")) < torch.cuda.device_count():
                torch.cuda.set_rng_state(value.cpu(), int(name.removeprefix("cuda")))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run something that may draw from torch's default generators, and leave them as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield
