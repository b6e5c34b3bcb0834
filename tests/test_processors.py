"""The processor chain: methods against independent recomputation, links by hand, order, decay, state."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ganglion.engine.averages import EMA
from ganglion.engine.contracts import Batch, GradientProcessor, Loss, Method
from ganglion.engine.decay import Span
from ganglion.engine.errors import ConfigError, RunError, StoreError
from ganglion.engine.links import L2, LINKS, Clamp, ClipNorm, ClipValue, DianneL2, DianneMomentum
from ganglion.engine.methods import METHODS, Adagrad, Adam, AdamW, RmsProp, Sgd
from ganglion.engine.processors import ChainSettings, ProcessorChain, is_wanted, order_links, update_together
from ganglion.engine.settings import Level as SettingsLevel
from ganglion.engine.settings import Owner, describe, resolve

Links = Sequence[tuple[type[GradientProcessor], Mapping[str, Any]]]


def make(
    network: nn.Module,
    method: type[Method] = Sgd,
    links: Links = (),
    *,
    parameters: Sequence[nn.Parameter] | None = None,
    chain: Mapping[str, Any] | None = None,
    iterations: int = 100,
    start: int = 0,
    **settings: Any,
) -> ProcessorChain:
    chosen = list(network.parameters()) if parameters is None else list(parameters)
    method_settings = method.Settings(**settings)
    return ProcessorChain(
        "generator",
        network,
        chosen,
        method(method_settings, network, chosen),
        [link(link.Settings(**values), network, chosen) for link, values in links],
        ChainSettings(**(chain or {})),
        method_settings.learning_rate,  # type: ignore[attr-defined]
        Span(start, iterations),
    )


class Points(nn.Module):
    """Bare parameters with chosen values."""

    def __init__(self, *values: Sequence[float], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.points = nn.ParameterList(nn.Parameter(torch.tensor(value, dtype=dtype)) for value in values)

    def pull(self, *forces: Sequence[float]) -> Callable[[], Tensor]:
        """A loss whose gradient is `forces`."""

        def loss() -> Tensor:
            pairs = zip(self.points, forces, strict=False)
            return sum(
                ((point * torch.tensor(force, dtype=point.dtype)).sum() for point, force in pairs), torch.zeros(())
            )

        return loss

    def values(self) -> list[list[float]]:
        return [point.tolist() for point in self.points]


FORCES = [(1.0, -2.0, 0.5), (0.3, 0.0, -4.0), (-1.0, 1e-3, 2.0), (5.0, -0.2, 0.0), (0.7, 3.0, 1.0)]
START = (0.5, -1.5, 2.0)


# --- every method against its formula -------------------------------------------------------------------------------

Recompute = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]


def momentum(lr: float, mu: float, nesterov: bool) -> Recompute:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
        v = np.zeros(3)
        for g in gradients:
            v = mu * v + g
            p = p - lr * (g + mu * v if nesterov else v)
        return p

    return run


def adam(lr: float, b1: float, b2: float, eps: float, decay: float = 0.0) -> Recompute:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
        m, v = np.zeros(3), np.zeros(3)
        for t, g in enumerate(gradients, 1):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            p = p * (1 - lr * decay) - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        return p

    return run


def rmsprop(lr: float, alpha: float, eps: float, mu: float) -> Recompute:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
        v, b = np.zeros(3), np.zeros(3)
        for g in gradients:
            v = alpha * v + (1 - alpha) * g * g
            b = mu * b + g / (np.sqrt(v) + eps)
            p = p - lr * b
        return p

    return run


def adagrad(lr: float, eps: float) -> Recompute:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
        s = np.zeros(3)
        for g in gradients:
            s = s + g * g
            p = p - lr * g / (np.sqrt(s) + eps)
        return p

    return run


def adadelta(lr: float, rho: float, eps: float) -> Recompute:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
        v, u = np.zeros(3), np.zeros(3)
        for g in gradients:
            v = rho * v + (1 - rho) * g * g
            d = g * np.sqrt(u + eps) / np.sqrt(v + eps)
            u = rho * u + (1 - rho) * d * d
            p = p - lr * d
        return p

    return run


FORMULAS: list[tuple[str, dict[str, float], Recompute]] = [
    ("SGD", {}, momentum(0.01, 0.0, False)),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9}, momentum(0.1, 0.9, False)),
    ("SGD", {"learning_rate": 0.1, "nesterov": 0.8}, momentum(0.1, 0.8, True)),
    ("ADAM", {}, adam(0.001, 0.9, 0.999, 1e-8)),
    ("ADAM", {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.9, "epsilon": 0.1}, adam(0.1, 0.5, 0.9, 0.1)),
    ("ADAMW", {}, adam(0.001, 0.9, 0.999, 1e-8, 0.01)),
    ("ADAMW", {"learning_rate": 0.1, "weight_decay": 0.3}, adam(0.1, 0.9, 0.999, 1e-8, 0.3)),
    ("RMSPROP", {}, rmsprop(0.001, 0.9, 1e-8, 0.0)),
    ("RMSPROP", {"learning_rate": 0.1, "alpha": 0.7, "epsilon": 0.1, "momentum": 0.5}, rmsprop(0.1, 0.7, 0.1, 0.5)),
    ("ADAGRAD", {}, adagrad(0.01, 1e-10)),
    ("ADAGRAD", {"learning_rate": 0.5, "epsilon": 0.1}, adagrad(0.5, 0.1)),
    ("ADADELTA", {}, adadelta(1.0, 0.95, 1e-8)),
    ("ADADELTA", {"learning_rate": 0.5, "rho": 0.6, "epsilon": 1e-3}, adadelta(0.5, 0.6, 1e-3)),
]


@pytest.mark.parametrize(("name", "settings", "recompute"), FORMULAS)
def test_five_steps_of_every_method_follow_its_formula(
    name: str, settings: dict[str, float], recompute: Recompute
) -> None:
    network = Points(START)
    chain = make(network, METHODS[name], **settings)
    for force in FORCES:
        chain.update(network.pull(force))
    expected = recompute(np.array(START), [np.array(force) for force in FORCES])
    np.testing.assert_allclose(network.values()[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "settings", "torch_name", "torch_settings"),
    [
        ("SGD", {"momentum": 0.9}, "SGD", {"lr": 0.01, "momentum": 0.9, "fused": True}),
        ("SGD", {"nesterov": 0.9}, "SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "fused": True}),
        ("ADAM", {}, "Adam", {"fused": True}),
        ("ADAMW", {}, "AdamW", {"fused": True}),
        ("ADAGRAD", {}, "Adagrad", {"foreach": True}),
        ("RMSPROP", {"momentum": 0.5}, "RMSprop", {"lr": 0.001, "alpha": 0.9, "momentum": 0.5, "foreach": True}),
        ("ADADELTA", {}, "Adadelta", {"lr": 1.0, "rho": 0.95, "eps": 1e-8, "foreach": True}),
    ],
)
def test_methods_give_the_numbers_of_torch_optim(
    name: str, settings: dict[str, Any], torch_name: str, torch_settings: dict[str, Any]
) -> None:
    ours, theirs = network_with_norm(), network_with_norm()
    theirs.load_state_dict(ours.state_dict())
    chain = make(ours, METHODS[name], **settings)
    optimizer = getattr(torch.optim, torch_name)(theirs.parameters(), **torch_settings)
    for _ in range(5):
        rows = torch.randn(6, 3)
        chain.update(lambda x: ours(x).square().mean(), rows)
        optimizer.zero_grad()
        theirs(rows).square().mean().backward()
        optimizer.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, other) if torch_settings.get("fused") else torch.allclose(own, other, rtol=1e-6)


def test_adagrad_takes_the_square_root_unlike_dianne() -> None:
    network = Points([1.0])
    chain = make(network, Adagrad, learning_rate=0.1)
    chain.update(network.pull([4.0]))
    assert network.values()[0][0] == pytest.approx(0.9)  # without the root: 1 - 0.1 * 4 / 16 = 0.975


def test_rmsprop_has_epsilon_outside_the_root() -> None:
    network = Points([1.0])
    make(network, RmsProp, learning_rate=1.0, alpha=0.75, epsilon=1.0).update(network.pull([2.0]))
    assert network.values()[0][0] == pytest.approx(1 - 2 / (1 + 1))  # DIANNE: 2 / sqrt(1 + 1)


def test_adam_corrects_its_bias_by_its_own_updates_not_by_the_learners_iteration() -> None:
    results = []
    for iterations in ([0, 1, 2], [500, 500, 500]):  # three updates: one per iteration, or all late in one iteration
        network = Points(START)
        chain = make(network, Adam)
        for iteration, force in zip(iterations, FORCES, strict=False):
            chain.begin(iteration)
            chain.update(network.pull(force))
        results.append(network.values())
    assert results[0] == results[1]
    np.testing.assert_allclose(
        results[0][0], adam(0.001, 0.9, 0.999, 1e-8)(np.array(START), list(map(np.array, FORCES[:3])))
    )


def test_momentum_and_nesterov_together_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"momentum=0.9 and nesterov=0.5 exclude each other; give one"):
        Sgd.Settings(momentum=0.9, nesterov=0.5)


def test_command_line_keys_reach_the_settings() -> None:
    owners = [Owner("method SGD", Sgd.Settings), Owner("chain", ChainSettings), Owner("link EMA", EMA.Settings)]
    keys = {"learningRate": "1e-3", "nesterov": "0.9", "decayType": "linear", "accumulation": "4", "emaStart": "10"}
    sgd, chain, ema = resolve(owners, [SettingsLevel("command line", {**keys, "processors": "SGD,ema"})], []).settings
    assert (sgd.learning_rate, sgd.nesterov, sgd.momentum) == (1e-3, 0.9, 0.0)  # type: ignore[attr-defined]
    assert (chain.decay_type, chain.accumulate, chain.processors) == ("linear", 4, ("SGD", "ema"))  # type: ignore[attr-defined]
    assert ema.ema_start == 10  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"momentum=0\.9 and nesterov=0\.5 exclude each other"):
        resolve(owners[:1], [SettingsLevel("command line", {"momentum": "0.9", "nesterov": "0.5"})], [])


@pytest.mark.parametrize("thing", [*METHODS.values(), *LINKS.values()])
def test_every_method_and_link_is_documented(thing: type[GradientProcessor]) -> None:
    assert thing.__doc__ and len(thing.__doc__) > 40
    assert all(info.help for info in describe(thing.Settings))


# --- update ---------------------------------------------------------------------------------------------------------


def network_with_norm() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def test_update_moves_its_own_network_only_and_leaves_no_gradients() -> None:
    generator, discriminator = nn.Linear(2, 2), nn.Linear(2, 1)
    before = [parameter.clone() for parameter in discriminator.parameters()]
    chain = make(generator)
    loss = chain.update(lambda x: Loss(discriminator(generator(x)).mean(), {"score": x.sum()}), torch.ones(4, 2))
    assert all(parameter.grad is None for parameter in (*generator.parameters(), *discriminator.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(before, discriminator.parameters(), strict=True))
    assert not loss.total.requires_grad and loss.total.dim() == 0
    assert loss.terms["score"].item() == 8.0
    assert torch.allclose(loss.total, discriminator(generator(torch.ones(4, 2))).mean(), atol=0.1)


def test_no_work_is_done_for_other_networks_weights() -> None:
    generator, discriminator = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    touched = []
    discriminator.weight.register_hook(lambda gradient: touched.append("discriminator"))
    generator.weight.register_hook(lambda gradient: touched.append("generator"))
    make(generator).update(lambda x: discriminator(generator(x)).mean(), torch.ones(4, 2))
    assert touched == ["generator"]


def test_a_gradient_left_by_somebody_else_is_not_added() -> None:
    network = Points([1.0])
    network.points[0].grad = torch.tensor([100.0], dtype=torch.float64)
    make(network, learning_rate=0.5).update(network.pull([1.0]))
    assert network.values() == [[0.5]]


@pytest.mark.parametrize("name", METHODS)
def test_an_unused_parameter_is_skipped_also_when_it_is_used_later(name: str) -> None:
    network, alone = Points([1.0], [2.0]), Points([2.0])
    settings = {"momentum": 0.9} if name == "SGD" else {}
    chain, other = make(network, METHODS[name], **settings), make(alone, METHODS[name], **settings)
    chain.update(network.pull([1.0]))
    assert network.values()[1] == [2.0] and network.values()[0] != [1.0]
    chain.update(network.pull([1.0], [3.0]))
    other.update(alone.pull([3.0]))
    assert network.values()[1] == alone.values()[0] != [2.0]


def test_fixed_parameters_have_no_state_and_do_not_move() -> None:
    network = network_with_norm()
    fixed = network[0].weight.clone()
    chain = make(network, Adam, [(Clamp, {"clamp": 0.01})], parameters=list(network[3].parameters()))
    chain.update(lambda x: network(x).square().mean(), torch.randn(5, 3))
    assert torch.equal(network[0].weight, fixed)
    assert set(chain.state_dict()["method"]["average"]) == {"3.weight", "3.bias"}


def test_a_network_that_is_fixed_as_a_whole_reports_its_loss() -> None:
    network = nn.Linear(2, 1)
    chain = make(network, Adam, [(ClipNorm, {"clip_norm": 1.0}), (Clamp, {"clamp": 0.01})], parameters=[])
    assert chain.update(lambda x: network(x).mean(), torch.zeros(3, 2)).total == network.bias[0]


def test_gradients_that_torch_could_share_are_clipped_once_each() -> None:
    network = Points([0.0, 0.0], [0.0, 0.0])
    chain = make(network, links=[(ClipNorm, {"clip_norm": 1.0})], learning_rate=1.0)
    first, second = network.points
    chain.update(lambda: 1.0 * (first + second).sum())  # both gradients are one expanded number
    assert network.values() == [[pytest.approx(-0.5, abs=1e-5)] * 2] * 2


def test_a_loss_without_a_gradient_is_answered_with_one_sentence() -> None:
    network = nn.Linear(2, 1)
    chain = make(network)
    with pytest.raises(RunError, match=r"^generator: the loss has shape \(3, 1\); one number is wanted: average it$"):
        chain.update(network, torch.ones(3, 2))
    with pytest.raises(RunError, match=r"^generator: the loss does not depend on the weights of this role's network$"):
        chain.update(lambda x: x.sum(), torch.ones(3, 2))


def test_a_strategy_may_differentiate_itself() -> None:
    network = Points([1.0])
    chain = make(network, learning_rate=0.5, chain={"decay_type": "linear"}, iterations=10)
    for iteration in range(2):
        chain.zero()
        network.pull([1.0])().backward()
        chain.step(iteration)
    assert network.values()[0][0] == pytest.approx(1 - 0.5 - 0.45)
    assert chain.updates == 2


class Synchronised(TorchDispatchMode):
    """Fails when a number is read from a tensor: on an accelerator that would wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("a number was read from a tensor")
        return func(*args, **(kwargs or {}))


ALL_LINKS: Links = [
    (ClipNorm, {"clip_norm": 0.1}),
    (ClipValue, {"clip_value": 0.05}),
    (L2, {"l2": 0.01}),
    (DianneL2, {"dianne_l2": 0.01}),
    (DianneMomentum, {"dianne_momentum": 0.9}),
    (Clamp, {"clamp": 0.3}),
    (EMA, {"ema": 0.9}),
]


@pytest.mark.parametrize("method", METHODS.values())
def test_no_update_waits_for_the_device(method: type[Method]) -> None:
    network = network_with_norm()
    chain = make(network, method, ALL_LINKS, chain={"accumulate": 2})
    rows = torch.randn(4, 3)
    with Synchronised():
        for iteration in range(3):
            chain.begin(iteration)
            chain.update(lambda x: Loss(network(x).square().mean(), {"a": x.sum()}), rows)
        with pytest.raises(AssertionError, match="a number was read"):
            rows.sum().item()


# --- accumulation ---------------------------------------------------------------------------------------------------


def test_accumulation_equals_the_full_batch_up_to_rounding() -> None:
    whole, parts = Points([1.0, 2.0]), Points([1.0, 2.0])
    rows = Batch(torch.randn(6, 2, dtype=torch.float64), None, {"weight": torch.rand(6, dtype=torch.float64)})
    losses = []
    for network, chain in ((whole, make(whole)), (parts, make(parts, chain={"accumulate": 3}))):

        def loss_of(batch: Batch, extra: Tensor, absent: None, network: Points = network) -> Loss:
            assert absent is None and len(batch) == len(extra)
            scores = (batch.input @ network.points[0]) * batch.fields["weight"]
            return Loss((scores - extra).square().mean(), {"score": scores.mean()})

        losses.append(chain.update(loss_of, rows, torch.arange(6.0), None))
    assert whole.values()[0] == pytest.approx(parts.values()[0], rel=1e-14)
    assert losses[0].total.item() == pytest.approx(losses[1].total.item())
    assert losses[0].terms["score"].item() == pytest.approx(losses[1].terms["score"].item())
    assert parts.values()[0] != [1.0, 2.0]


def test_accumulation_is_one_update() -> None:
    network = Points([1.0])
    chain = make(network, Adam, chain={"accumulate": 4})
    chain.update(lambda x: (network.points[0] * x).sum(), torch.ones(8, dtype=torch.float64))
    assert chain.updates == 1
    assert chain.method.state_dict()["step"]["points.0"].item() == 1.0


def test_a_batch_that_cannot_be_parted_is_refused() -> None:
    network = Points([1.0])
    chain = make(network, chain={"accumulate": 4})
    message = r"^generator: accumulate=4 cannot part batches of 6 rows; the batch size must be a multiple of 4$"
    with pytest.raises(ConfigError, match=message):
        chain.update(lambda x: x.sum(), torch.ones(6))


# --- links ----------------------------------------------------------------------------------------------------------


def test_clip_norm_scales_the_whole_gradient() -> None:
    network = Points([0.0], [0.0, 0.0])
    chain = make(network, links=[(ClipNorm, {"clip_norm": 1.0})], learning_rate=1.0)
    chain.update(network.pull([3.0], [0.0, 4.0]))
    assert network.values()[0] == pytest.approx([-0.6], abs=1e-5)
    assert network.values()[1] == pytest.approx([0.0, -0.8], abs=1e-5)
    chain.update(network.pull([0.1], [0.0, 0.0]))  # shorter than the bound: as it is
    assert network.values()[0] == pytest.approx([-0.7], abs=1e-5)


def test_clip_value_limits_each_element() -> None:
    network = Points([0.0, 0.0, 0.0])
    make(network, links=[(ClipValue, {"clip_value": 0.5})], learning_rate=1.0).update(network.pull([3.0, -4.0, 0.1]))
    assert network.values()[0] == pytest.approx([-0.5, 0.5, -0.1])


def test_l2_is_torchs_weight_decay() -> None:
    ours, theirs = Points(START), Points(START)
    chain = make(ours, links=[(L2, {"l2": 0.1})], learning_rate=0.1, momentum=0.9)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for force in FORCES:
        chain.update(ours.pull(force))
        optimizer.zero_grad()
        theirs.pull(force)().backward()
        optimizer.step()
    assert ours.values()[0] == pytest.approx(theirs.values()[0], rel=1e-14)


def test_dianne_l2_is_not_multiplied_by_the_learning_rate() -> None:
    network = Points([2.0])
    make(network, links=[(DianneL2, {"dianne_l2": 0.1})], learning_rate=0.5).update(network.pull([1.0]))
    assert network.values()[0][0] == pytest.approx(2.0 - 0.5 * 1.0 - 0.1 * 2.0)


@pytest.mark.parametrize("nesterov", [False, True])
def test_dianne_momentum_adds_up_steps_that_the_learning_rate_already_scaled(nesterov: bool) -> None:
    network = Points([1.0])
    links: Links = [
        (DianneL2, {"dianne_l2": 0.01}),
        (DianneMomentum, {"dianne_momentum": 0.9, "dianne_nesterov": nesterov}),
    ]
    chain = make(network, links=links, learning_rate=0.5, chain={"decay_type": "linear"}, iterations=4)
    position, velocity = 1.0, 0.0
    for iteration in range(4):
        chain.begin(iteration)
        chain.update(network.pull([1.0 + iteration]))
        rate = 0.5 * (1 - iteration / 4)
        before, velocity = velocity, (-rate * (1.0 + iteration) - 0.01 * position) + 0.9 * velocity
        position += 1.9 * velocity - 0.9 * before if nesterov else velocity
    assert network.values()[0][0] == pytest.approx(position, rel=1e-12)


def test_dianne_momentum_works_after_any_method_and_skips_unused_parameters() -> None:
    network = Points([1.0], [2.0])
    chain = make(network, Adam, [(DianneMomentum, {"dianne_momentum": 0.5})], learning_rate=0.1)
    chain.update(network.pull([1.0], [1.0]))
    chain.update(network.pull([1.0]))
    assert network.values()[0][0] == pytest.approx(1 - 0.1 - (0.1 + 0.05), rel=1e-6)
    assert network.values()[1][0] == pytest.approx(1.9, rel=1e-6)


def test_clamp_and_l2_never_touch_running_statistics_as_dianne_did() -> None:
    network = network_with_norm()
    network[1].running_mean.fill_(5.0)
    network[1].running_var.fill_(7.0)
    network[1].momentum = 0.0  # keeps the statistics where they are, so that any change is the chain's
    chain = make(network, links=[(L2, {"l2": 0.5}), (DianneL2, {"dianne_l2": 0.5}), (Clamp, {"clamp": 0.01})])
    chain.update(lambda x: network(x).square().mean(), torch.randn(5, 3))
    assert torch.equal(network[1].running_mean, torch.full((4,), 5.0))
    assert torch.equal(network[1].running_var, torch.full((4,), 7.0))
    assert all(parameter.abs().max() <= 0.01 for parameter in network.parameters())
    assert network[1].weight.abs().max().item() == pytest.approx(0.01)  # trainable, so clamped like the rest


def test_the_average_follows_its_formula() -> None:
    network = Points([1.0])
    chain = make(network, links=[(EMA, {"ema": 0.5, "ema_ramp": False})], learning_rate=1.0)
    assert chain.averaged() == network.state_dict()
    for _ in range(3):
        chain.update(network.pull([1.0]))  # 0, -1, -2
    averaged = chain.averaged()
    assert averaged is not None
    assert averaged["points.0"].tolist() == [(0.0 * 0.5 + -1.0 * 0.5) * 0.5 + -2.0 * 0.5]
    assert network.values() == [[-2.0]]


def test_the_average_starts_late_and_ramps_up() -> None:
    network = Points([1.0])
    chain = make(network, links=[(EMA, {"ema": 0.999, "ema_start": 2})], learning_rate=1.0)
    expected = 0.0
    for step in range(5):
        chain.update(network.pull([1.0]))
        weight, count = -float(step), step - 2
        decay = min(0.999, (1 + count) / (10 + count))
        expected = weight if count <= 0 else decay * expected + (1 - decay) * weight
        averaged = chain.averaged()
        assert averaged is not None and averaged["points.0"].item() == pytest.approx(expected)


def test_the_average_holds_buffers_and_fits_the_network() -> None:
    network, other = network_with_norm(), network_with_norm()
    chain = make(network, links=[(EMA, {"ema": 0.5, "ema_ramp": False})])
    means = []
    for _ in range(2):
        chain.update(lambda x: network(x).square().mean(), torch.randn(5, 3))
        means.append(network[1].running_mean.clone())
    averaged = chain.averaged()
    assert averaged is not None
    other.load_state_dict(averaged)
    assert torch.allclose(other[1].running_mean, (means[0] + means[1]) / 2)
    assert other[1].num_batches_tracked.item() == 2  # whole numbers are copied
    assert not torch.equal(other[0].weight, network[0].weight)


def test_a_chain_without_an_average_has_none() -> None:
    assert make(nn.Linear(1, 1)).averaged() is None


# --- learning rate --------------------------------------------------------------------------------------------------


def rates(iterations: Sequence[int], start: int = 0, **settings: Any) -> list[float]:
    chain = make(nn.Linear(1, 1), learning_rate=0.5, chain=settings, iterations=100, start=start)
    found = []
    for iteration in iterations:
        chain.begin(iteration)
        found.append(chain.learning_rate)
    return found


def test_learning_rate_decay_by_hand() -> None:
    at = [0, 50, 100, 1000]
    assert rates(at) == [0.5] * 4
    exponential = [0.1 + 0.4 * math.exp(-0.01 * i) for i in at]
    low = {"min_learning_rate": 0.1}
    assert rates(at, decay_type="exponential", decay_rate=0.01, **low) == pytest.approx(exponential)
    assert rates(at, decay_rate=0.01, **low) == pytest.approx(exponential)  # DIANNE's form needs no type
    assert rates(at, decay_type="linear", decay_rate=0.002, **low) == pytest.approx([0.5, 0.4, 0.3, 0.1])
    assert rates(at, decay_type="linear", **low) == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert rates(at, decay_type="cosine", **low) == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert rates([25], decay_type="cosine") == pytest.approx([0.5 * (1 + math.sqrt(0.5)) / 2])


def test_the_learning_rate_rises_while_it_warms_up() -> None:
    assert rates([0, 4, 9, 50], warm_up_iterations=10) == pytest.approx([0.05, 0.25, 0.5, 0.5])
    half = 0.5 * (1 - 0.05)
    warm = {"warm_up_iterations": 10, "decay_type": "linear"}
    assert rates([4, 5, 50], **warm) == pytest.approx([0.5 * 0.96 * 0.5, half * 0.6, 0.25])


def test_nothing_falls_before_its_start() -> None:
    at, low = [0, 60, 80, 100, 200], {"min_learning_rate": 0.1}
    assert rates(at, 60, decay_type="linear", **low) == pytest.approx([0.5, 0.5, 0.3, 0.1, 0.1])
    assert rates(at, 60, decay_type="cosine", **low) == pytest.approx([0.5, 0.5, 0.3, 0.1, 0.1])
    assert rates(at, 60, decay_type="linear", decay_rate=0.01) == pytest.approx([0.5, 0.5, 0.3, 0.1, 0.0])
    assert rates(at, 60, decay_rate=0.01)[:3] == pytest.approx([0.5, 0.5, 0.5 * math.exp(-0.2)])


def test_the_learning_rate_follows_the_iteration_not_the_updates() -> None:
    network = Points([0.0])
    chain = make(network, learning_rate=1.0, chain={"decay_type": "linear"}, iterations=10)
    chain.begin(5)
    for _ in range(3):
        chain.update(network.pull([1.0]))
    assert network.values()[0][0] == pytest.approx(-1.5)


@pytest.mark.parametrize(("name", "key"), [("RMSPROP", "alpha"), ("ADADELTA", "rho")])
def test_diannes_other_meaning_of_decay_rate_is_explained(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"DIANNE's decayRate of this method is '{key}' here.*give decayType too"):
        make(nn.Linear(1, 1), METHODS[name], chain={"method": name, "decay_rate": 0.9})
    make(nn.Linear(1, 1), METHODS[name], chain={"method": name, "decay_rate": 0.9, "decay_type": "exponential"})


@pytest.mark.parametrize(
    ("settings", "iterations", "message"),
    [
        ({"decay_type": "exponential"}, 100, "decayType=exponential needs decayRate"),
        ({"decay_type": "cosine", "decay_rate": 0.1}, 100, "decayRate=0.1 means nothing to decayType=cosine"),
        ({"decay_type": "cosine"}, -1, "decayType=cosine in a run without end needs decayIterations"),
        ({"decay_type": "linear"}, 0, "decayType=linear in a run without end needs decayIterations"),
        ({"decay_rate": 1e-3, "min_learning_rate": 0.1}, 100, "minLearningRate=0.1 lies above learningRate=0.01"),
    ],
)
def test_decays_that_cannot_be_are_refused(settings: dict[str, Any], iterations: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^generator: {message}"):
        make(nn.Linear(1, 1), chain=settings, iterations=iterations)


def test_a_lowered_learning_rate_stays_lowered_after_a_resume() -> None:
    network = nn.Linear(1, 1)
    chain, resumed = make(network, learning_rate=0.4), make(network, learning_rate=0.4)
    chain.lower_learning_rate(0.5)
    chain.lower_learning_rate(0.5)
    assert chain.learning_rate == pytest.approx(0.1)
    resumed.load_state_dict(chain.state_dict())
    assert resumed.learning_rate == pytest.approx(0.1)
    resumed.begin(7)
    assert resumed.learning_rate == pytest.approx(0.1)


# --- order ----------------------------------------------------------------------------------------------------------


class Other(GradientProcessor):
    """A third-party link that changes gradients and, as it says by its position, acts first."""

    position = 5

    def before(self, step: int) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.neg_()


def test_the_published_order() -> None:
    chosen = {name: LINKS[name] for name in reversed(LINKS)} | {"ADAM": Adam, "Other": Other}
    expected = "Other ClipNorm ClipValue L2 ADAM DianneL2 DianneMomentum Clamp EMA"
    assert order_links("generator", chosen) == expected.split()


def test_a_listed_order_is_the_order_run() -> None:
    chosen = {"SGD": Sgd, "L2": L2, "ClipNorm": ClipNorm}
    assert order_links("generator", chosen, ["l2", "clip-norm", "method"]) == ["L2", "ClipNorm", "SGD"]
    network = Points([10.0])
    chain = make(network, links=[(L2, {"l2": 1.0}), (ClipNorm, {"clip_norm": 1.0})], learning_rate=1.0)
    chain.update(network.pull([1.0]))
    assert network.values()[0][0] == pytest.approx(9.0)  # the other way round: 10 - (1 + 10)
    network = Points([10.0])
    make(network, links=[(Other, {})], learning_rate=1.0).update(network.pull([1.0]))
    assert network.values() == [[11.0]]


@pytest.mark.parametrize(
    ("chosen", "listed", "message"),
    [
        ({"L2": L2}, None, "a chain has exactly one method, and this one has no method"),
        ({"SGD": Sgd, "ADAM": Adam}, ["SGD", "ADAM"], r"exactly one method, and this one has 2 methods \(SGD, ADAM\)"),
        ({"SGD": Sgd, "L2": L2}, ["SGD"], "processors=SGD leaves out 'L2' of this chain; list it or drop its key"),
        ({"SGD": Sgd, "L2": L2}, ["L2"], "processors=L2 leaves out 'SGD'"),
        ({"SGD": Sgd, "L2": L2}, ["L2", "l2", "SGD"], "processors=L2,l2,SGD names 'L2' twice"),
        ({"SGD": Sgd, "Clamp": Clamp}, ["clmp", "SGD"], "'clmp' is no link of this chain; did you mean 'Clamp'?"),
        ({"SGD": Sgd, "L2": L2}, ["SGD", "L2"], "'L2' changes gradients, so it stands before the method 'SGD'"),
        ({"SGD": Sgd, "Clamp": Clamp}, ["Clamp", "SGD"], "'Clamp' changes weights, so it stands after the method"),
    ],
)
def test_chains_that_cannot_be_are_refused(
    chosen: dict[str, type[GradientProcessor]], listed: list[str] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^generator: .*{message.replace('?', '.')}"):
        order_links("generator", chosen, listed)


def test_a_link_takes_part_when_its_key_has_a_value() -> None:
    for link in LINKS.values():
        assert not is_wanted(link, link.Settings())
    assert is_wanted(EMA, EMA.Settings(ema=0.5))
    assert is_wanted(ClipNorm, ClipNorm.Settings(clip_norm=1.0))
    assert not is_wanted(Other, Other.Settings())


# --- state ----------------------------------------------------------------------------------------------------------


def through_files(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state as it comes back from a tensor file and a JSON file."""
    tensors: dict[str, Tensor] = {}

    def part(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {name: part(item, f"{path}/{name}") for name, item in value.items()}
        if isinstance(value, Tensor):
            tensors[path] = value.contiguous()
            return {"tensor": path}
        return value

    def join(value: Any) -> Any:
        if isinstance(value, dict):
            return read[value["tensor"]] if set(value) == {"tensor"} else {k: join(v) for k, v in value.items()}
        return value

    plain = json.loads(json.dumps(part(state, "")))
    read = load(save(tensors))
    result: dict[str, Any] = join(plain)
    return result


@pytest.mark.parametrize("links", [[], *([link] for link in ALL_LINKS), ALL_LINKS], ids=lambda links: str(len(links)))
@pytest.mark.parametrize("name", METHODS)
def test_after_a_resume_the_next_updates_are_the_same_to_the_last_bit(name: str, links: Links) -> None:
    settings = {"momentum": 0.9} if name in ("SGD", "RMSPROP") else {}
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(4, 3, generator=generator) for _ in range(6)]
    decay = {"decay_type": "cosine"}

    def learn(network: nn.Module, chain: ProcessorChain, first: int, last: int) -> None:
        for i in range(first, last):
            chain.begin(i)
            chain.update(lambda x: network(x).square().mean(), batches[i])

    network = network_with_norm()
    chain = make(network, METHODS[name], links, chain=decay, **settings)
    learn(network, chain, 0, 3)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    saved = through_files(chain.state_dict())
    learn(network, chain, 3, 6)

    resumed = network_with_norm()
    other = make(resumed, METHODS[name], links, chain=decay, **settings)
    learn(resumed, other, 0, 1)  # a used chain must forget what it had
    resumed.load_state_dict(weights)
    other.load_state_dict(saved)
    learn(resumed, other, 3, 6)
    assert other.updates == chain.updates == 6
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in network.state_dict().items())
    average, other_average = chain.averaged() or {}, other.averaged() or {}
    assert all(torch.equal(value, other_average[key]) for key, value in average.items())


def test_a_restored_state_is_a_copy() -> None:
    network = Points([1.0])
    chain = make(network, momentum=0.9)
    chain.update(network.pull([1.0]))
    saved = through_files(chain.state_dict())
    chain.load_state_dict(saved)
    chain.update(network.pull([1.0]))
    assert saved["method"]["velocity"]["points.0"].item() == 1.0


def test_state_follows_names_when_other_parameters_are_fixed_after_a_resume() -> None:
    network = network_with_norm()
    chain = make(network, Adam)
    chain.update(lambda x: network(x).square().mean(), torch.randn(5, 3))
    fewer = make(network, Adam, parameters=list(network[3].parameters()))
    fewer.load_state_dict(chain.state_dict())
    assert torch.equal(
        fewer.state_dict()["method"]["square"]["3.bias"], chain.state_dict()["method"]["square"]["3.bias"]
    )


def test_what_a_state_does_not_hold_starts_from_zero() -> None:
    network = Points([1.0], [1.0])
    chain = make(network, momentum=0.5, links=[(DianneMomentum, {"dianne_momentum": 0.5})])
    fewer = make(
        network, momentum=0.5, links=[(DianneMomentum, {"dianne_momentum": 0.5})], parameters=[network.points[0]]
    )
    chain.update(network.pull([1.0], [1.0]))
    chain.load_state_dict(fewer.state_dict())
    assert chain.state_dict()["method"]["velocity"]["points.1"].item() == 0.0
    assert chain.state_dict()["links"]["0.DianneMomentum"]["velocity"]["points.1"].item() == 0.0


def test_state_of_another_network_is_refused() -> None:
    chain, other = make(nn.Linear(2, 1), AdamW), make(nn.Linear(3, 1), AdamW)
    message = r"average of 'weight': the stored shape is \(1, 3\), the network's is \(1, 2\)"
    with pytest.raises(StoreError, match=message):
        chain.load_state_dict(other.state_dict())


def test_a_link_that_is_new_after_a_resume_starts_afresh() -> None:
    network = Points([1.0])
    chain, more = make(network), make(network, links=[(EMA, {"ema": 0.5})])
    more.load_state_dict(chain.state_dict())
    more.update(network.pull([1.0]))
    assert more.averaged() == network.state_dict()


# --- several networks, one loss -------------------------------------------------------------------------------------


def _product(one: Points, other: Points) -> Callable[[], Loss]:
    def loss() -> Loss:
        total = (one.points[0] * other.points[0]).sum()
        return Loss(total, {"half": total / 2})

    return loss


def test_two_networks_are_updated_from_the_same_weights_by_one_loss() -> None:
    """d(a b)/da = b and d(a b)/db = a: the second update does not see the first one's new weights."""
    one, other = Points((2.0,)), Points((3.0,))
    chains = [make(one, learning_rate=0.1), make(other, learning_rate=0.01)]
    loss = update_together(chains, _product(one, other))
    assert (loss.total.item(), loss.terms["half"].item()) == (6.0, 3.0)
    assert not loss.total.requires_grad and not loss.terms["half"].requires_grad
    assert one.values()[0][0] == pytest.approx(2.0 - 0.1 * 3.0)
    assert other.values()[0][0] == pytest.approx(3.0 - 0.01 * 2.0)
    assert [chain.updates for chain in chains] == [1, 1]
    assert one.points[0].grad is None and other.points[0].grad is None


def test_one_of_two_networks_may_be_fixed_and_strangers_get_no_gradient() -> None:
    one, other, stranger = Points((2.0,)), Points((3.0,)), Points((5.0,))
    product = _product(one, other)
    touched: list[Tensor] = []
    for fixed in (other.points[0], stranger.points[0]):
        fixed.register_hook(touched.append)
    chains = [make(one, learning_rate=0.125), make(other, parameters=[], learning_rate=0.125)]
    update_together(chains, lambda: product().total * stranger.points[0].sum())
    assert (one.values(), other.values(), stranger.values()) == ([[2.0 - 0.125 * 15.0]], [[3.0]], [[5.0]])
    assert touched == []


def test_left_over_gradients_do_not_reach_a_common_update() -> None:
    one, other = Points((2.0,)), Points((3.0,))
    one.points[0].grad = torch.full((1,), 100.0, dtype=torch.float64)
    update_together([make(one, learning_rate=0.1), make(other, learning_rate=0.1)], _product(one, other))
    assert one.values()[0][0] == pytest.approx(1.7)


def test_parts_of_a_common_update_are_averaged_and_must_be_equal() -> None:
    rows = torch.tensor([1.0, 2.0, 6.0, 7.0], dtype=torch.float64)
    results = []
    for parts in (1, 2):
        one, other = Points((2.0,)), Points((3.0,))
        chains = [make(network, chain={"accumulate": parts}, learning_rate=0.125) for network in (one, other)]
        loss = update_together(chains, lambda x, a=one, b=other: Loss((a.points[0] * b.points[0] * x).mean()), rows)
        results.append((loss.total.item(), one.values(), other.values()))
    assert results[0] == results[1] == (24.0, [[2.0 - 0.125 * 12.0]], [[3.0 - 0.125 * 8.0]])
    unequal = [make(one, chain={"accumulate": parts}) for parts in (1, 2)]
    unequal[1].role = "discriminator"
    with pytest.raises(ConfigError, match=r"generator.accumulate=1 and discriminator.accumulate=2: generator and disc"):
        update_together(unequal, _product(one, other))


def test_a_common_loss_without_gradient_names_both_roles() -> None:
    chains = [make(Points((2.0,))), make(Points((3.0,)))]
    chains[1].role = "discriminator"
    with pytest.raises(RunError, match=r"generator and discriminator: the loss does not depend on the weights"):
        update_together(chains, lambda: torch.ones(()))
