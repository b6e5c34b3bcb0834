"""A plugin for tests, with every kind of thing in it, that fails where the variable FRAIL says: PLACE or PLACE@CALL.

FRAIL_HOW chooses how: an exception (the default), `exit`, `nan` (a value that is not finite) or `hang`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine import api
from ganglion.engine.api import Batch, DataSpec, LearnProgress, NoSettings, Port, RoleShape

CALLS: Counter[str] = Counter()
PLACES = (
    "register", "settings", "defaults", "shapes", "factory", "forward", "dataset", "load", "rows", "worker", "sampling",
    "order", "method", "update", "method state", "before", "after", "setup", "process_iteration", "validate", "noise",
    "generate", "state_dict", "load_state_dict", "criterion", "trace", "receive", "close",
)  # fmt: skip


def frail(place: str) -> bool:
    """Fail here, if it is the time for it; True where a value should be spoilt."""
    wanted, _, call = os.environ.get("FRAIL", "").partition("@")
    CALLS[place] += 1
    if wanted != place or (call and CALLS[place] != int(call)):
        return False
    how = os.environ.get("FRAIL_HOW", "raise")
    if how == "exit":
        raise SystemExit(0)
    if how == "hang":
        time.sleep(1000)
    if how == "raise":
        raise RuntimeError(f"boom in {place}\x1b[31m")
    return how == "nan"


class FrailSettings(api.Settings):
    """Settings."""

    criterion: str = api.setting("FrailLoss", "the loss")

    def without_effect(self) -> dict[str, str]:
        frail("settings")
        return {}


class Frail(api.LearningStrategy):
    """Learns to give back points."""

    roles = ("network",)
    Settings = FrailSettings
    parts = {"criterion": "criterion"}

    @classmethod
    def defaults(cls, spec: DataSpec) -> dict[str, Any]:
        frail("defaults")
        return {}

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> dict[str, RoleShape]:
        frail("shapes")
        return {"network": RoleShape(Port("vector", spec.shape), Port("vector", spec.shape))}

    def setup(self, context: Any) -> None:
        frail("setup")

    def process_iteration(self, i: int) -> LearnProgress:
        batch = self.context.sampler.next_batch()
        loss = self.context.parts["criterion"].loss(self.context.networks["network"](batch.input), batch.input).mean()
        chain = self.context.processors["network"]
        chain.zero()
        loss.backward()
        chain.step(i)
        spoilt = frail("process_iteration")
        return LearnProgress(i, {"loss\x1b[31m": loss.detach() * (float("nan") if spoilt else 1.0)})

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        frail("validate")
        return {"loss": batch.input.square().mean(1)}

    def noise(self, count: int, stream: Any) -> Tensor:
        frail("noise")
        return stream.normal(count, 2)

    def generate(self, noise: Tensor) -> Tensor:
        frail("generate")
        return self.context.networks["network"](noise)

    def state_dict(self) -> dict[str, Any]:
        frail("state_dict")
        return super().state_dict()

    def load_state_dict(self, state: Any) -> None:
        frail("load_state_dict")
        super().load_state_dict(state)


class Net(nn.Module):
    """One layer, of which FRAIL may spoil a weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        if frail("forward"):
            with torch.no_grad():
                self.layer.weight[0, 0] = float("inf")
        return self.layer(x)


def frail_net(context: Any) -> nn.Module:
    """One layer."""
    frail("factory")
    return Net(context.input.size)


class Rows(api.Dataset):
    """Points that do not fit in memory, as it were: workers fetch them."""

    resident = False
    spec = DataSpec("vector", (2,))

    def __len__(self) -> int:
        return 64

    def rows(self, indices: Tensor) -> Batch:
        frail("worker" if threading.current_thread().name.startswith("fetch") else "rows")
        shift = float(os.environ.get("FRAIL_DATA", "0"))
        return Batch(torch.stack([indices.sin(), indices.cos()], 1) + shift)


class FrailData(api.DatasetFactory):
    """Points."""

    Settings = NoSettings

    def __init__(self, settings: Any, context: Any) -> None:
        frail("dataset")
        super().__init__(settings, context)

    def load(self) -> api.Splits:
        frail("load")
        return api.Splits(Rows())


class FrailOrder(api.Sampling):
    """From first to last."""

    def __init__(self, settings: Any, dataset: api.Dataset) -> None:
        frail("sampling")
        super().__init__(settings, dataset)

    def order(self, generator: torch.Generator) -> Tensor:
        frail("order")
        return torch.arange(len(self.dataset))


class FrailMethod(api.Method):
    """Plain descent."""

    def __init__(self, *arguments: Any) -> None:
        frail("method")
        super().__init__(*arguments)

    def update(self, step: int, learning_rate: float) -> None:
        frail("update")
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.data.add_(parameter.grad, alpha=-0.01)

    def state_dict(self) -> dict[str, Any]:
        frail("method state")
        return {}


class FrailLink(api.GradientProcessor):
    """Does nothing."""

    def before(self, step: int) -> None:
        frail("before")

    def after(self, step: int) -> None:
        frail("after")


class FrailLoss(api.Criterion):
    """The mean square."""

    def loss(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        frail("criterion")
        return (output - target).square().mean(1)


class FrailTrace(api.Trace):
    """Listens."""

    def __init__(self, settings: Any, context: Any) -> None:
        frail("trace")

    def receive(self, event: Any) -> None:
        frail("receive")

    def close(self) -> None:
        frail("close")


class FrailMetric(api.Metric):
    """Judges nothing."""

    def applies(self, context: Any) -> bool:
        frail("applies")
        return True

    def evaluate(self, context: Any) -> api.Evaluation:
        frail("evaluate")
        return api.Evaluation(os.environ.get("FRAIL_NAME", "frail-v1"), {"figure\x1b]0;x\x07": 1.0})


THINGS: dict[str, dict[str, Any]] = {
    "strategies": {"Frail": Frail},
    "networks": {"FrailNet": frail_net},
    "datasets": {"FrailData": FrailData},
    "samplers": {"FrailOrder": FrailOrder},
    "criteria": {"FrailLoss": FrailLoss},
    "processors": {"FrailMethod": FrailMethod, "FrailLink": FrailLink},
    "traces": {"frail": FrailTrace},
    "metrics": {"frail-v1": FrailMetric},
}


def _hook(kind: str) -> Any:
    def hook(register: Any) -> None:
        frail("register")
        for name, thing in THINGS[kind].items():
            register(name, thing)

    return api.hookimpl(hook, specname=f"register_{kind}")


register_strategies, register_networks, register_datasets = map(_hook, ("strategies", "networks", "datasets"))
register_samplers, register_criteria, register_processors = map(_hook, ("samplers", "criteria", "processors"))
register_traces, register_metrics = map(_hook, ("traces", "metrics"))
