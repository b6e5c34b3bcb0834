"""State of a strategy: what is gathered, that it comes back in place, and exact trees."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from enum import IntEnum
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import nn

from ganglion.engine.errors import StoreError
from ganglion.engine.state import ObjectState, copied, flatten, gather, restore, unflatten, unsaved


class Pair(NamedTuple):
    mean: torch.Tensor
    count: int


class Mode(IntEnum):
    WARM = 1


class Stateful:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Strategy:
    """Holds one attribute of each sort."""

    def __init__(self) -> None:
        network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        part, plain_part = Stateful(), SimpleNamespace(scale=torch.ones(2), settings=object())
        self.context = SimpleNamespace(
            networks={"generator": network},
            processors={"generator": Stateful(7)},
            sampler=Stateful(8),
            parts={"penalty": part, "criterion": plain_part, "empty": SimpleNamespace(settings=object())},
            devices={"generator": torch.device("cpu")},
        )
        self.network = network
        self.layer = network[0]
        self.weights = list(network.parameters())
        self.statistic = network[1].running_mean
        self.chain = self.context.processors["generator"]
        self.sampler = self.context.sampler
        self.penalty = part
        self.settings = SimpleNamespace(rate=0.5)
        self.center = torch.zeros(2, 2)
        self.counter = 0
        self.name: str | None = None
        self.ready = False
        self.history: list[Any] = []
        self.recent: deque[float] = deque(maxlen=2)
        self.pair = Pair(torch.zeros(1), 0)
        self.mixed = {"network": network, "extra": torch.zeros(1), "call": print}
        self.helper = nn.Linear(1, 1)
        self.optimizer = torch.optim.Adam(self.helper.parameters(), lr=0.1)
        self.mode = Mode.WARM


def advance(strategy: Strategy) -> None:
    strategy.optimizer.zero_grad()
    strategy.helper(torch.ones(1, 1)).sum().backward()
    strategy.optimizer.step()
    strategy.center += 1.5
    strategy.counter = 3
    strategy.name = "warm"
    strategy.ready = True
    strategy.history += [1, (2, "x"), {"a": torch.arange(2)}]
    strategy.recent.extend([1.0, 2.0, 3.0])
    strategy.pair = Pair(torch.ones(1), 4)
    strategy.mixed["extra"] = torch.full((1,), 9.0)
    strategy.penalty.value = 5
    strategy.context.parts["criterion"].scale.mul_(4)


def through_files(tree: Any) -> Any:
    plain, tensors = flatten(tree)
    return unflatten(json.loads(json.dumps(plain, allow_nan=False)), tensors)


def test_gathers_what_is_state_and_leaves_out_what_the_engine_saves() -> None:
    strategy = Strategy()
    assert set(gather(strategy)) == {
        *("center", "counter", "name", "ready", "history", "recent", "pair", "mixed", "helper", "optimizer"),
        *("parts.penalty", "parts.criterion"),
    }
    assert set(gather(strategy)["mixed"]) == {"extra"}
    assert set(gather(strategy)["parts.criterion"]) == {"scale"}
    assert unsaved(strategy) == ["settings", "mixed.call", "mode"]


def test_restores_everything_in_place() -> None:
    learned = Strategy()
    advance(learned)
    state = through_files(gather(learned))
    fresh = Strategy()
    center, history, call = fresh.center, fresh.history, fresh.mixed["call"]
    restore(fresh, state)
    assert fresh.center is center and torch.equal(center, torch.full((2, 2), 1.5))
    assert fresh.history is history and history[:2] == [1, (2, "x")] and torch.equal(history[2]["a"], torch.arange(2))
    assert (fresh.counter, fresh.name, fresh.ready) == (3, "warm", True)
    assert fresh.recent == deque([2.0, 3.0]) and fresh.recent.maxlen == 2
    assert type(fresh.pair) is Pair and fresh.pair.count == 4 and fresh.pair.mean.item() == 1.0
    assert fresh.mixed["extra"].item() == 9.0 and fresh.mixed["call"] is call
    assert fresh.mixed["network"] is fresh.network
    assert fresh.penalty.value == 5
    assert fresh.context.parts["criterion"].scale.tolist() == [4.0, 4.0]
    assert torch.equal(fresh.helper.weight, learned.helper.weight)
    assert fresh.optimizer.param_groups[0]["params"][0] is fresh.helper.weight
    for strategy in (learned, fresh):
        advance(strategy)
    assert torch.equal(fresh.helper.weight, learned.helper.weight)  # Adam's moments came back too


def test_restored_state_shares_nothing_with_what_was_given() -> None:
    learned = Strategy()
    advance(learned)
    learned.grown = torch.ones(3)  # type: ignore[attr-defined]
    state = through_files(gather(learned))
    before = copied(state)
    fresh = Strategy()
    restore(fresh, state)
    fresh.grown.add_(1)  # type: ignore[attr-defined]
    advance(fresh)
    assert flatten(state)[0] == flatten(before)[0]
    for name, tensor in flatten(state)[1].items():
        assert torch.equal(tensor, flatten(before)[1][name]), name


def test_a_tensor_of_another_shape_replaces() -> None:
    strategy = Strategy()
    restore(strategy, {"center": torch.ones(5)})
    assert strategy.center.shape == (5,)


def test_expanded_tensors_are_replaced() -> None:
    strategy = Strategy()
    strategy.center = torch.zeros(1).expand(3)
    restore(strategy, {"center": torch.arange(3.0)})
    assert strategy.center.tolist() == [0.0, 1.0, 2.0]


def test_parameters_stay_parameters() -> None:
    strategy = SimpleNamespace(scale=nn.Parameter(torch.zeros(2)))
    scale = strategy.scale
    restore(strategy, through_files({"scale": torch.ones(2)}))
    assert strategy.scale is scale and scale.requires_grad and scale.tolist() == [1.0, 1.0]


def test_entries_that_were_removed_are_removed_again() -> None:
    strategy = SimpleNamespace(table={"old": 1, "call": print})
    restore(strategy, {"table": {"new": 2}})
    assert strategy.table == {"new": 2, "call": print}


def test_compiled_wrappers_of_networks_are_left_out() -> None:
    network = nn.Linear(1, 1)
    wrapper = nn.Module()
    wrapper._orig_mod = network
    strategy = SimpleNamespace(context=SimpleNamespace(networks={"a": network}), wrapper=wrapper)
    assert gather(strategy) == {}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"late": ObjectState(value=1)}, "'late' held an object with state"),
        ({"thing": ObjectState(other=1)}, "'thing' does not take its stored state"),
        ({"parts.gone": ObjectState()}, "has no such part"),
        ({"__class__": 1}, "not an attribute with state"),
        ({"context": 1}, "not an attribute with state"),
        ({"state_dict": 1}, "not an attribute with state"),
    ],
)
def test_state_that_does_not_fit_is_refused(state: dict[str, Any], words: str) -> None:
    class Holder(Stateful):
        thing = None

    strategy = Holder()
    strategy.thing = Stateful()  # type: ignore[assignment]
    with pytest.raises(StoreError, match=words) as caught:
        restore(strategy, state)
    assert "\n" not in str(caught.value)


DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16),
    *(torch.float32, torch.float64, torch.complex64, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn),
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3)], ids=str)
def test_tensors_of_every_type_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    value = torch.ones(shape).to(dtype)
    back = through_files([value])[0]
    assert back.dtype == dtype and back.shape == shape
    assert back.reshape(-1).view(torch.uint8).tolist() == value.reshape(-1).view(torch.uint8).tolist()


def test_values_come_back_exactly() -> None:
    tree = {
        "": None,
        "a.b": [True, 1, 1.0, -0.0, 0.1, 2**80, "é\n\ud800", (), [], {}],
        "a": {"b": (1, [2, (3,)])},
        "dict": {"tensor": "not a tensor", "tuple": [1]},
        "keys": {0: "int", "0": "text", 1.5: "float", None: "none", (1, "x"): "tuple"},
        "limits": [float("inf"), float("-inf")],
        "object": ObjectState(state={0: {"step": 1}}, param_groups=[{"betas": (0.9, 0.999), "params": [0]}]),
    }
    back = through_files(tree)
    assert back == tree
    assert repr(back["a.b"]) == repr(tree["a.b"])  # True is not 1, -0.0 is not 0.0
    assert type(back["object"]) is ObjectState and type(back["a"]) is dict
    assert math.isnan(through_files([float("nan")])[0])
    assert through_files(OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}
    assert list(through_files({"b": 1, "a": 2})) == ["b", "a"]


def test_paths_that_look_alike_are_told_apart() -> None:
    tree = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, "__metadata__": torch.tensor(3), "": torch.tensor(4)}
    tree |= {"x" * 300: torch.tensor(5), "y" + "x" * 300: torch.tensor(6), "é": torch.tensor(7)}
    plain, tensors = flatten(tree)
    assert len(tensors) == 7 and "__metadata__" not in tensors and all(name.isascii() for name in tensors)
    back = unflatten(plain, tensors)
    assert [back["a.b"].item(), back["a"]["b"].item(), back["__metadata__"].item(), back[""].item()] == [1, 2, 3, 4]
    assert [back["x" * 300].item(), back["y" + "x" * 300].item(), back["é"].item()] == [5, 6, 7]


def test_shared_and_strided_tensors_become_contiguous_copies() -> None:
    base = torch.arange(6.0).reshape(2, 3)
    _, tensors = flatten({"base": base, "turned": base.T, "again": base, "row": base[1]})
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == 4
    assert tensors["turned"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    base.zero_()
    assert tensors["base"][1, 2].item() == 5.0


class Custom:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (numpy.float64(1.0), "numpy.float64"),
        (numpy.int64(1), "numpy.int64"),
        (numpy.ones(2), "numpy.ndarray"),
        (Mode.WARM, "Mode"),
        (Custom(), "Custom"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        ({Custom: 1}, "the key"),
        (torch.ones(2, device="meta"), "meta"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.ones(1, dtype=torch.complex128), "complex128"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        flatten({"strategy": {"list": [0, value]}})
    assert "strategy.list.1" in str(caught.value) and "\n" not in str(caught.value)


def test_a_tree_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(StoreError, match="holds itself"):
        flatten(loop)


@pytest.mark.parametrize(
    "tree", [{"tensor": "x"}, {}, {"a": 1, "b": 2}, {"exec": []}, {"float": []}, {"dict": 3}, {"dict pairs": [[[], 1]]}]
)
def test_foreign_trees_are_refused(tree: Any) -> None:
    with pytest.raises(StoreError, match="not one that this version writes"):
        unflatten(tree, {})
