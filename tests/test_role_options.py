"""What a role's settings do to its network: initial weights, spectral normalisation, in learning and from a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import learn_tiny, weights_of
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganglion.engine.assembly import assemble
from ganglion.engine.errors import ConfigError, NetworkError
from ganglion.engine.folders import data_context
from ganglion.engine.job import RoleSettings, request
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.roleoptions import apply_role_options, initialise
from ganglion.engine.session import Session

REGISTRY = Registry().load()
POINTS = {"size": 64, "testSize": 16, "batchSize": 8}


def session(networks: str = "Generator,Discriminator", dataset: str = "Circle", **keys: Any) -> Session:
    own = POINTS if dataset == "Circle" else {"batchSize": 8}
    asked = request(networks, dataset, {**own, "strategy": "NSGAN", **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def largest(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))


def linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


# --- spectral normalisation ---------------------------------------------------------------------------------------


def test_spectral_norm_divides_every_weight_of_that_role_only() -> None:
    live = session(**{"discriminator.spectralNorm": "true"})
    network = live.networks["discriminator"]
    for _ in range(200):  # each pass in training mode is one power iteration
        network(torch.zeros(2, 2))
    assert [largest(layer.weight) for layer in linears(network)] == pytest.approx([1.0] * 4, abs=1e-3)
    assert all(not hasattr(layer, "parametrizations") for layer in linears(live.networks["generator"]))
    assert live.strategy._joint is False  # type: ignore[attr-defined]


def test_a_layer_that_is_normalised_already_is_left_alone() -> None:
    ready, plain = spectral_norm(nn.Linear(3, 3)), nn.Conv1d(3, 2, 1)
    apply_role_options(nn.Sequential(ready, plain), RoleSettings(spectral_norm=True), "here")
    assert len(ready.parametrizations["weight"]) == len(plain.parametrizations["weight"]) == 1


def test_a_convolution_is_normalised_as_a_matrix_of_its_outputs() -> None:
    layer = nn.Conv2d(2, 3, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0], layer.weight[1, 0, 0, 1], layer.weight[2, 1, 1, 1] = 4.0, 2.0, 1.0
    apply_role_options(layer, RoleSettings(spectral_norm=True), "here")
    assert sorted(layer.weight.detach().flatten().tolist())[-3:] == pytest.approx([0.25, 0.5, 1.0], abs=1e-4)


def test_a_network_without_such_layers_is_refused() -> None:
    for options, key in ((RoleSettings(spectral_norm=True), "spectralNorm=true"), (RoleSettings(init="he"), "init=he")):
        with pytest.raises(NetworkError, match=f"here: {key} is for Linear and convolutional layers"):
            apply_role_options(nn.LSTM(2, 3), options, "here")


def test_a_run_with_spectral_norm_goes_on_bit_for_bit_and_gives_samples(tmp_path: Path) -> None:
    keys = {"spectralNorm": True, "generator.ema": 0.5, "generator.init": "orthogonal"}
    straight = learn_tiny("NSGAN", tmp_path, "straight", iterations=7, **keys)
    learn_tiny("NSGAN", tmp_path, "resumed", iterations=3, decayIterations=7, **keys)
    resumed = learn_tiny("NSGAN", tmp_path, "resumed", iterations=7, decayIterations=7, **keys)
    assert weights_of(straight) == weights_of(resumed)
    one, two = (open_run(REGISTRY, Repository(tmp_path).find(tag)) for tag in ("straight", "resumed"))
    assert torch.equal(draw_samples(one, 5, 0), draw_samples(two, 5, 0))
    assert all(hasattr(layer, "parametrizations") for layer in linears(one.networks["generator"]))


def test_a_run_does_not_go_on_with_another_choice(tmp_path: Path) -> None:
    learn_tiny("NSGAN", tmp_path, "one", iterations=2)
    with pytest.raises(ConfigError, match=r"started with discriminator\.spectralNorm=false, not true"):
        learn_tiny("NSGAN", tmp_path, "one", iterations=3, **{"discriminator.spectralNorm": True})


# --- initial weights ----------------------------------------------------------------------------------------------


def filled(kind: str, gain: float) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(300, 200), nn.BatchNorm1d(200), nn.Linear(200, 300, bias=False))
    initialise(network, kind, gain)
    return network


@pytest.mark.parametrize(
    ("kind", "gain", "deviation"),
    [
        ("normal", 0.02, 0.02),
        ("xavier", 2.0, 2.0 * math.sqrt(2 / 500)),
        ("he", 0.5, 0.5 * math.sqrt(2 / 300)),
    ],
)
def test_weights_have_the_published_spread_and_biases_are_0(kind: str, gain: float, deviation: float) -> None:
    first = filled(kind, gain)[0]
    weight = first.weight.detach()
    assert float(weight.std()) == pytest.approx(deviation, rel=0.03)
    assert float(weight.abs().max()) < (math.sqrt(3) + 1e-4 if kind == "xavier" else 6) * deviation
    assert not first.bias.any()


def test_normal_draws_the_factors_of_norms_around_1_and_others_leave_them_alone() -> None:
    drawn = filled("normal", 0.02)[1].weight.detach()
    assert float(drawn.mean()) == pytest.approx(1.0, abs=0.01) and float(drawn.std()) == pytest.approx(0.02, rel=0.2)
    assert bool((filled("orthogonal", 1.0)[1].weight == 1).all())


def test_orthogonal_rows_have_the_length_of_the_gain() -> None:
    weight = filled("orthogonal", 1.4)[0].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(200) * 1.96, rtol=1e-4, atol=1e-4)


def test_initial_weights_follow_the_seed_and_the_role() -> None:
    first, same, other = (
        session(seed=seed, **{"generator.init": "he"}).networks["generator"].layers[0].weight  # type: ignore[index]
        for seed in (1, 1, 2)
    )
    plain = session(seed=1).networks
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert not torch.equal(first, linears(plain["generator"])[0].weight)
    untouched = session(seed=1, **{"generator.init": "he"}).networks["discriminator"]
    assert torch.equal(linears(untouched)[0].weight, linears(plain["discriminator"])[0].weight)


def test_a_normalised_layer_is_initialised_too() -> None:
    layer = spectral_norm(nn.Linear(40, 30))
    initialise(layer, "normal", 5.0)
    assert float(layer.parametrizations["weight"].original.detach().std()) == pytest.approx(5.0, rel=0.1)  # type: ignore[union-attr]
    assert largest(layer.eval().weight) == pytest.approx(1.0, abs=0.1)


def test_weights_of_another_run_win_over_init(tmp_path: Path) -> None:
    first = learn_tiny("NSGAN", tmp_path, "first", iterations=2)
    keys = {"generator.init": "normal", "initTag": "first"}
    second = learn_tiny("NSGAN", tmp_path, "second", iterations=2, **keys)
    begun = second.directory / "checkpoints" / "0" / "generator.safetensors"
    assert begun.read_bytes() == weights_of(first)["generator.safetensors"]


def test_a_gain_without_init_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"initGain=0\.1: it has no effect without init"):
        session(initGain=0.1)
