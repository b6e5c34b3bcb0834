"""The networks for sequences: shapes, what depends on what, first weights, sizes, second derivatives, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import call, refused, tiny
from torch import Tensor, nn

from ganglion.engine.api import ConfigError, DataSpec, NetworkContext, NetworkError, Port
from ganglion.engine.job import read_job, request
from ganglion.engine.registry import Registry
from ganglion.engine.resolution import Resolver
from ganglion.engine.testing import check_network
from ganglion.networks.definition import parse_definition
from ganglion.networks.series.crnn import logit_of_mean
from ganglion.networks.series.fingan import Branches, stages
from ganglion.networks.series.recurrentlayers import FreeRunningNetwork, RecurrentNetwork
from ganglion.networks.series.sequences import Transposed, padding, second_derivatives
from ganglion.strategies.adversarial import batch_coupled

REGISTRY = Registry().load()
STEP_GENERATORS = ("Generator", "Recurrent", "RecurrentGenerator", "TCNGenerator", "CRNNGenerator")
WINDOW_GENERATORS = ("SmartGridGenerator", "FinGANGenerator", "TimeVAEDecoder")
STEP_JUDGES = ("Discriminator", "Recurrent", "RecurrentDiscriminator", "TCNDiscriminator", "CRNNDiscriminator")
WINDOW_JUDGES = ("SmartGridDiscriminator", "FinGANDiscriminator", "ImputationDiscriminator", "TimeVAEEncoder")
FILLING = ("Imputer",)
ALL = tuple(dict.fromkeys((*STEP_GENERATORS, *WINDOW_GENERATORS, *STEP_JUDGES, *WINDOW_JUDGES, *FILLING)))
SMALL: dict[str, Any] = {"hidden": 3}


def make(name: str, given: tuple[int, ...], made: tuple[int, ...], kind: Any = "sequence", **settings: Any) -> Any:
    """A network from `given` to `made`, an output of that kind; settings by their names in Python."""
    factory = REGISTRY.get("network", name).thing
    steps, features = max((shape for shape in (given, made) if len(shape) == 2), default=(1, 1))
    takes = Port("noise" if len(given) == 1 else "sequence", given)
    context = NetworkContext(
        "role",
        takes,
        Port(kind, made),
        DataSpec("sequence", (steps, features)),
        factory.Settings(**settings),
    )
    return factory(context)


def count(network: nn.Module) -> int:
    """Numbers that learn."""
    return sum(parameter.numel() for parameter in network.parameters())


def zeroed(network: nn.Module) -> nn.Module:
    """The same with all parameters 0."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


def score(output: Any) -> Tensor:
    """The tensor, or the score of several."""
    found: Tensor = output if isinstance(output, Tensor) else output.score
    return found


# --- shapes and kinds of data -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "steps", "features"), [*product(STEP_GENERATORS, (1, 9), (1, 3))])
def test_generators_of_steps_take_noise_in_every_step_or_one_vector(name: str, steps: int, features: int) -> None:
    for given in ((steps, 4), (4,)):
        assert make(name, given, (steps, features))(torch.randn(2, *given)).shape == (2, steps, features)


@pytest.mark.parametrize(("name", "steps", "features"), [*product(WINDOW_GENERATORS, (1, 9, 96), (1, 3))])
def test_generators_of_windows_take_one_vector(name: str, steps: int, features: int) -> None:
    assert make(name, (4,), (steps, features))(torch.randn(2, 4)).shape == (2, steps, features)
    with pytest.raises(NetworkError, match=f"^{name} makes a window of one vector.*noiseForm=window$"):
        make(name, (steps, 4), (steps, features))


@pytest.mark.parametrize(("name", "steps"), [*product((*STEP_JUDGES, *WINDOW_JUDGES), (1, 9))])
def test_judges_give_what_the_port_asks_for(name: str, steps: int) -> None:
    x = torch.randn(2, steps, 3)
    for kind, made in (("score", (1,)), ("score", (steps, 1)), ("classes", (5,)), ("classes", (steps, 5))):
        assert score(make(name, (steps, 3), made, kind)(x)).shape == (2, *made)


def test_the_imputer_gives_the_values_of_every_step_and_learns_with_all_it_has() -> None:
    network = make("Imputer", (128, 17), (128, 1))
    assert count(network) == 4 * 64 * (17 + 64 + 2) + 17 * 3 * 32 + 32 + 32 * 3 * 32 + 32 + 4 * 64 * (96 + 66) + 65
    network(torch.randn(2, 128, 17)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("name", ALL)
def test_the_conformance_kit_finds_nothing(name: str) -> None:
    findings = check_network(name, data=DataSpec("sequence", (7, 3)))
    assert {found.check for found in findings if found.result == "skipped"} <= {"cuda"}


@pytest.mark.parametrize(
    ("name", "role", "keys"),
    [
        ("Recurrent", "generator", {"freeRunning": "true", "hidden": "5", "activation": "sigmoid"}),
        ("Recurrent", "generator", {"head": "window", "cell": "gru", "hidden": "5", "activation": "tanh"}),
        ("Recurrent", "discriminator", {"batchMean": "true", "bidirectional": "true", "hidden": "5"}),
        ("FinGANGenerator", None, {"form": "plus", "width": "4"}),
        ("FinGANGenerator", None, {"form": "mlp", "hidden": "9"}),
        ("TimeVAEDecoder", None, {"channels": "4,5", "trend": "2", "seasons": "3", "seasonSteps": "2"}),
        ("Imputer", None, {"activation": "sigmoid"}),
        ("TCNGenerator", None, {"weightNorm": "false", "blocks": "2", "activation": "none"}),
        ("CRNNDiscriminator", None, {"decision": "end", "bidirectional": "false", "hidden": "4"}),
    ],
)
def test_the_conformance_kit_finds_nothing_with_other_settings(name: str, role: str | None, keys: Any) -> None:
    check_network(name, role, DataSpec("sequence", (7, 3)), **keys)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("Generator", "Discriminator")])
@pytest.mark.parametrize("data", [DataSpec("image", (1, 8, 8)), DataSpec("vector", (2,))], ids=["image", "points"])
def test_images_and_points_are_refused(name: str, data: DataSpec) -> None:
    own, noise = Port(data.kind, data.shape), Port("noise", (4,))
    for ports in ((noise, own), (own, Port("score", (1,)))):
        with pytest.raises(NetworkError, match=rf"^{name} is for sequences of shape \(steps, features\), not for"):
            REGISTRY.get("network", name).thing(NetworkContext("role", *ports, data))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"TCNGenerator gives as many steps as it takes: 5 are wanted of 4;"):
        make("TCNGenerator", (4, 2), (5, 1))
    with pytest.raises(NetworkError, match=r"Recurrent gives as many steps as it takes: 5 are wanted of 4;"):
        make("Recurrent", (4, 2), (5, 1), free_running=True)
    with pytest.raises(NetworkError, match="CRNNDiscriminator takes a sequence"):
        make("CRNNDiscriminator", (4,), (5, 1), "score")
    with pytest.raises(NetworkError, match="CRNNGenerator makes a sequence"):
        make("CRNNGenerator", (4, 2), (1,), "score")
    for other in ({"bidirectional": True}, {"batch_mean": True}, {"head": "window"}):
        settings: dict[str, Any] = {"free_running": True, **other}
        with pytest.raises(ConfigError, match=r"freeRunning=true goes from step to step and cannot be used with"):
            make("Recurrent", (4, 2), (4, 1), "sequence", **settings)
    with pytest.raises(ConfigError, match=r"activation=sigmoid: losses take raw numbers as score"):
        make("Recurrent", (4, 2), (4, 1), "score", activation="sigmoid")
    with pytest.raises(ConfigError, match=r"channels=4,0: expects one number above 0"):
        make("TimeVAEEncoder", (4, 2), (6,), "vector", channels=(4, 0))


# --- what depends on what -----------------------------------------------------------------------------------------

CAUSAL: dict[str, dict[str, Any]] = {
    "RecurrentGenerator": {},
    "RecurrentDiscriminator": {"layers": 2, "cell": "gru"},
    "Recurrent": {"free_running": True},
    "CRNNGenerator": {},
    "TCNGenerator": {},
    "TCNDiscriminator": {"weight_norm": False},
}
SEEING: dict[str, dict[str, Any]] = {"Recurrent": {"bidirectional": True}, "CRNNDiscriminator": {}, "Imputer": {}}


def changed_steps(name: str, settings: dict[str, Any]) -> Tensor:
    """Which steps of the output change with step 4 of the input."""
    network = make(name, (8, 2), (8, 2), "sequence", **settings).eval()
    x = torch.randn(3, 8, 2)
    other = x.clone()
    other[:, 4] += 1.0
    with torch.no_grad():
        return (score(network(x)) != score(network(other))).flatten(2).any(2).any(0)


@pytest.mark.parametrize("name", CAUSAL)
def test_no_step_depends_on_a_later_one(name: str) -> None:
    changed = changed_steps(name, CAUSAL[name])
    assert not changed[:4].any() and changed[4:].all()


@pytest.mark.parametrize("name", SEEING)
def test_every_step_depends_on_later_ones_where_both_directions_are_read(name: str) -> None:
    assert changed_steps(name, SEEING[name]).all()


def test_the_tcn_looks_back_as_far_as_its_blocks_reach() -> None:
    network = make("TCNGenerator", (9, 1), (9, 1), blocks=2, kernel=2, channels=30, dropout=0.0)
    x = torch.randn(1, 9, 1, requires_grad=True)
    network(x)[0, 8].sum().backward()
    assert x.grad is not None
    assert x.grad[0, :, 0].bool().tolist() == [False, False, *[True] * 7]  # 2 * (2 - 1) * (1 + 2) steps back


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_free_running_network_is_given_its_own_output(cell: str) -> None:
    network = make("Recurrent", (5, 2), (5, 3), free_running=True, activation="tanh", cell=cell, hidden=4, layers=2)
    assert isinstance(network, FreeRunningNetwork)
    seen: list[Tensor] = []
    network.entry.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    noise = torch.randn(2, 5, 2)
    made = network(noise)
    assert torch.equal(torch.stack(seen, 1)[:, :, :2], noise)
    assert not seen[0][:, 2:].any() and made.abs().max() < 1
    assert torch.equal(torch.stack(seen[1:], 1)[:, :, 2:], made[:, :-1])
    before = torch.cat((torch.zeros(2, 1, 3), made[:, :-1]), 1)
    assert torch.allclose(network(noise, previous=before), made)
    assert not torch.allclose(network(noise, previous=before + 1), made)
    hidden = zeroed(network.entry)
    assert isinstance(hidden, nn.Linear)
    with torch.no_grad():
        hidden.weight[0, 2] = 5.0  # nothing but the output before reaches the cells
    made = network(noise)
    assert not torch.equal(made[:, 0], made[:, 2]) and torch.equal(made, network(torch.zeros(2, 5, 2)))


def test_the_window_head_makes_all_steps_of_the_last_state() -> None:
    network = make("Recurrent", (4, 2), (6, 3), head="window", hidden=5, bidirectional=True)
    x = torch.randn(2, 4, 2)
    _, last = network.states(x)
    assert torch.allclose(network(x), network.output(last).reshape(2, 6, 3))
    assert count(network) == 2 * 4 * 5 * (2 + 5 + 2) + (10 + 1) * 18
    continued = make("RecurrentGenerator", (4, 2), (6, 3))  # where the steps differ there is no other way
    assert not continued.by_step and continued(x).shape == (2, 6, 3)
    sequence, _ = network.states(x)
    assert torch.equal(last, torch.cat((sequence[:, -1, :5], sequence[:, 0, 5:]), 1))  # the end of each direction


def test_the_batch_mean_stands_behind_the_features_and_couples_the_batch() -> None:
    network = make("RecurrentDiscriminator", (3, 2), (3, 1), "score", batch_mean=True, hidden=4)
    seen: list[Tensor] = []
    network.recurrent.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = torch.arange(12.0).reshape(2, 3, 2)
    network(x)
    assert torch.equal(seen[0][:, :, :2], x)
    assert seen[0][1, :, 2:].tolist() == [[3, 4], [5, 6], [7, 8]]
    network.eval()(x)
    assert torch.allclose(seen[1][0, :, 2:], torch.tensor([[0.3, 0.4], [0.5, 0.6], [0.7, 0.8]]))  # a tenth of the way
    assert batch_coupled(network) and not batch_coupled(make("RecurrentDiscriminator", (3, 2), (3, 1), "score"))


def test_no_state_stays_behind_on_another_device() -> None:
    for name in ("RecurrentGenerator", "CRNNGenerator", "TCNGenerator", "TimeVAEDecoder", "Imputer"):
        given = (4,) if name == "TimeVAEDecoder" else (6, 4)
        settings: dict[str, Any] = {"trend": 1, "seasons": 2} if name == "TimeVAEDecoder" else {}
        network = make(name, given, (6, 2), **settings).to("meta")
        assert network(torch.empty(3, *given, device="meta")).device.type == "meta"


# --- first weights and sizes --------------------------------------------------------------------------------------


def test_the_pair_of_rgan_has_its_sizes_and_its_start() -> None:
    generator, judge = make("RecurrentGenerator", (30, 5), (30, 1)), make("RecurrentDiscriminator", (30, 1), (30, 1))
    assert count(generator) == 4 * 100 * (5 + 100 + 2) + 101 and count(judge) == 4 * 100 * (1 + 100 + 2) + 101
    assert generator.output_range == (-1.0, 1.0) and judge.output_range is None
    assert isinstance(generator.activation, nn.Tanh) and isinstance(judge.activation, nn.Identity)
    lstm = generator.recurrent
    assert (lstm.bias_ih_l0 + lstm.bias_hh_l0 == 1).all() and judge.recurrent.bias_ih_l0.abs().max() <= 0.1
    for network in (generator, judge):
        weight = network.output.weight.detach()
        assert 0.5 < weight.std() < 1.2 and 1.0 < weight.abs().max() <= 2.0
    plain = make("Recurrent", (30, 5), (30, 1))
    assert plain.output.weight.abs().max() <= 0.1 and plain.output_range is None


def test_an_lstm_of_one_unit_by_hand() -> None:
    network = make("Recurrent", (2, 1), (2, 1), hidden=1)
    zeroed(network)
    with torch.no_grad():
        network.recurrent.bias_ih_l0.fill_(1.0)
        network.output.weight.fill_(2.0)
        network.output.bias.fill_(0.5)
    gate, value = 1 / (1 + math.exp(-1)), math.tanh(1)
    first = gate * value
    second = gate * first + gate * value
    wanted = [2 * gate * math.tanh(cell) + 0.5 for cell in (first, second)]
    assert network(torch.randn(1, 2, 1))[0, :, 0].tolist() == pytest.approx(wanted)


def test_forget_bias_reaches_every_lstm_and_no_gru() -> None:
    deep = make("Recurrent", (4, 2), (4, 1), forget_bias=0.5, layers=2, bidirectional=True)
    names = [name for name in dict(deep.recurrent.named_parameters()) if name.startswith("bias_ih")]
    assert len(names) == 4
    for name in names:
        own = deep.recurrent.get_parameter(name) + deep.recurrent.get_parameter(name.replace("_ih", "_hh"))
        assert (own == 0.5).all()
    free = make("Recurrent", (4, 2), (4, 1), forget_bias=0.5, free_running=True)
    assert all((cell.bias_ih + cell.bias_hh == 0.5).all() for cell in free.cells)
    gru = make("RecurrentGenerator", (4, 2), (4, 1), cell="gru").recurrent
    assert gru.bias_ih_l0.std() > 0 and gru.bias_hh_l0.std() > 0


def test_settings_without_effect_say_so() -> None:
    settings = REGISTRY.get("network", "Recurrent").thing.Settings
    assert set(settings(dropout=0.2).without_effect()) == {"dropout"}
    assert set(settings(layers=2, cell="gru").without_effect()) == {"forget_bias"}


def test_the_tcn_has_the_published_sizes() -> None:
    network = make("TCNGenerator", (96, 101), (96, 1), weight_norm=False)
    first = 101 * 8 * 10 + 10 + 10 * 8 * 10 + 10 + 101 * 10 + 10
    assert count(network) == first + 7 * 2 * (10 * 8 * 10 + 10) + 11
    dilations = [module.dilation[0] for module in network.modules() if isinstance(module, nn.Conv1d)]
    assert sorted(set(dilations)) == [2**place for place in range(8)]
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {0.2}
    judge = make("TCNDiscriminator", (96, 1), (96, 1), "score")
    assert {module.p for module in judge.modules() if isinstance(module, nn.Dropout)} == {0.0}
    convolutions = [module for module in judge.modules() if isinstance(module, nn.Conv1d)]
    assert sum(hasattr(module, "parametrizations") for module in convolutions) == 16


def test_a_block_of_the_tcn_adds_its_input() -> None:
    network = make("TCNGenerator", (5, 2), (5, 1), channels=2, blocks=2, weight_norm=False, activation="none")
    zeroed(network)
    nn.init.ones_(network.output.weight)
    x = torch.randn(3, 5, 2)
    assert torch.allclose(network(x), x.relu().sum(2, keepdim=True))


def test_one_score_of_the_tcn_is_the_mean_over_the_steps() -> None:
    whole, steps = (make("TCNDiscriminator", (9, 2), made, "score") for made in ((1,), (9, 1)))
    steps.load_state_dict(whole.state_dict())
    x = torch.randn(3, 9, 2)
    assert torch.allclose(whole(x), steps(x).mean(1))


def test_same_seed_same_weights() -> None:
    for name in ("RecurrentGenerator", "TCNGenerator", "FinGANGenerator"):
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(make(name, (4,), (9, 2)).state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# --- C-RNN-GAN ----------------------------------------------------------------------------------------------------


def test_the_decision_is_the_mean_probability_and_never_infinite() -> None:
    scores = torch.tensor([[[0.0], [math.log(3.0)]], [[1000.0], [1000.0]], [[-1000.0], [-1000.0]]])
    logits = logit_of_mean(scores)[:, 0].tolist()
    assert logits == pytest.approx([math.log(5 / 3), 1000.0, -1000.0])  # the mean of 1/2 and 3/4 is 5/8
    scores.requires_grad_()
    (gradient,) = torch.autograd.grad(logit_of_mean(scores).sum(), scores)
    assert gradient.isfinite().all()


def test_the_hidden_states_of_the_crnn_discriminator_can_be_read() -> None:
    x = torch.randn(3, 5, 4)
    judge = make("CRNNDiscriminator", (5, 4), (5, 1), "score").eval()
    nn.init.normal_(judge.network.output.weight, std=5.0)  # where the mean of logits would be something else
    assert judge(x).score.shape == (3, 5, 1) and judge(x).features.shape == (3, 5, 200)
    assert torch.equal(judge.network.output(judge(x).features), judge(x).score)
    end, mean = (make("CRNNDiscriminator", (5, 4), (1,), "score", decision=way).eval() for way in ("end", "mean"))
    for other in (end, mean):
        other.load_state_dict(judge.state_dict())
    assert torch.equal(end(x).score, judge(x).score[:, -1])
    assert torch.allclose(mean(x).score.sigmoid(), judge(x).score.sigmoid().mean(1))
    assert count(judge) == 2 * 400 * (4 + 102) + 2 * 400 * (200 + 102) + 201


# --- convolutional pairs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "kernel", "stride", "wanted"),
    [(96, 4, 2, (1, 1)), (7, 4, 2, (1, 2)), (8192, 10, 1, (4, 5)), (24, 3, 2, (0, 1)), (5, 3, 2, (1, 1))],
)
def test_padding_is_that_of_keras(steps: int, kernel: int, stride: int, wanted: tuple[int, int]) -> None:
    assert padding(steps, kernel, stride).padding == wanted


def test_transposed_convolutions_start_where_those_of_keras_do() -> None:
    for kernel, wanted in ((3, [1, 2, 3, 0]), (4, [2, 3, 4, 0])):
        layer = Transposed(1, 1, kernel, 2)
        zeroed(layer)
        with torch.no_grad():
            layer.convolution.weight.copy_(torch.arange(1.0, kernel + 1).reshape(1, 1, -1))
        assert layer(torch.tensor([[[1.0, 0.0]]]))[0, 0].tolist() == wanted


def test_the_smart_grid_pair_has_its_sizes() -> None:
    generator = make("SmartGridGenerator", (64 + 12 + 7,), (96, 2))
    norms = 2 * (64 + 32 + 16)
    assert count(generator) == 84 * 12 * 64 + norms + (64 * 4 + 1) * 32 + (32 * 4 + 1) * 16 + (16 * 4 + 1) * 2
    made = generator(torch.randn(4, 83))
    assert generator.output_range == (0.0, 1.0) and made.min() > 0 and made.max() < 1
    judge = make("SmartGridDiscriminator", (96, 2), (1 + 12 + 7,), "classes")
    assert count(judge) == 9 * 16 + 65 * 32 + 64 + 129 * 64 + 128 + (12 * 64 + 1) * 20
    norm = next(module for module in judge.modules() if isinstance(module, nn.BatchNorm1d))
    assert (norm.eps, norm.momentum, norm.num_features) == (1e-3, 0.01, 32)


def test_fingan_has_its_sizes_at_8192_steps() -> None:
    with torch.device("meta"):
        mlp = make("FinGANGenerator", (100,), (8192, 1), form="mlp")
        plain = make("FinGANGenerator", (100,), (8192, 1), form="cnn")
        plus = make("FinGANGenerator", (100,), (8192, 1), form="plus")
        judge = make("FinGANDiscriminator", (8192, 1), (1,), "score")
    assert count(mlp) == 101 * 128 + 129 * 2048 + 2049 * 8192
    convolutions = (35 + 1) * 64 + sum(64 * 64 * kernel + 64 for kernel in (25, 15, 15, 15, 15, 7, 4)) + 65
    assert count(plain) == 101 * 128 + convolutions + 6 * 128
    assert count(plus) == count(plain) + 129 * 8192 + 101
    convolutions = 11 * 64 + (64 * 10 + 1) * 128 + (128 * 10 + 1) * 128
    assert count(judge) == convolutions + (128 * 8192 + 1) * 32 + 33
    slopes = {module.negative_slope for module in plain.modules() if isinstance(module, nn.LeakyReLU)}
    assert slopes == {0.3} and {m.negative_slope for m in judge.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert [stages(steps) for steps in (1, 7, 24, 500, 512, 8192, 10000)] == [1, 1, 1, 5, 6, 6, 6]


def test_the_forms_of_fingan_are_products_of_each_other() -> None:
    plus = make("FinGANGenerator", (100,), (48, 2), form="plus", width=4).eval()
    masked = make("FinGANGenerator", (100,), (48, 2), width=4).eval()
    plain = make("FinGANGenerator", (100,), (48, 2), form="cnn", width=4).eval()
    zeroed(plus.size)
    for network in (masked, plain):
        network.load_state_dict(plus.state_dict(), strict=False)
    z = torch.randn(3, 100)
    mask = plain.code(z)
    mask = plus.mask(mask).tanh().unflatten(1, (48, 2))
    assert torch.allclose(masked(z), plain(z) * mask) and torch.allclose(plus(z), 0.5 * masked(z))
    assert plain.code.out_features >= 128  # as many numbers as there are at 8192 steps
    uniform = make("FinGANGenerator", (100,), (48, 2), form="mlp").layers[0]
    assert uniform.weight.abs().max() <= 0.05 and uniform.weight.std() > 0.025 and not uniform.bias.any()


def test_the_last_convolutions_of_fingan_by_hand() -> None:
    branches = Branches(1, 1, 20)
    for parameter in branches.parameters():
        nn.init.constant_(parameter, 1.0 if parameter.dim() > 1 else 0.0)
    impulse = torch.zeros(1, 1, 20)
    impulse[0, 0, 0] = 1.0
    # 1 in steps 0..7 of the longest one; the others sum 3 steps to each side, and 1 before to 2 after
    wanted = [1 + 4 + 3, 1 + 5 + 4, 1 + 6 + 4, 1 + 7 + 4, 1 + 7 + 4, 1 + 6 + 4, 1 + 5 + 3, 1 + 4 + 2, 3 + 1, 2, 1, 0]
    assert branches(impulse)[0, 0, :12].tolist() == wanted


def test_timevae_has_its_sizes() -> None:
    encoder, decoder = make("TimeVAEEncoder", (24, 6), (16,), "vector"), make("TimeVAEDecoder", (8,), (24, 6))
    assert count(encoder) == 19 * 50 + 151 * 100 + 301 * 200 + (3 * 200 + 1) * 16
    up = (200 * 3 + 0) * 100 + 100 + 300 * 50 + 50 + 150 * 6 + 6
    assert count(decoder) == 9 * 6 + 7 * 6 + 9 * 600 + up + (24 * 6 + 1) * 144


def test_trend_and_seasons_of_timevae_by_hand() -> None:
    network = make("TimeVAEDecoder", (3,), (5, 1), trend=2, seasons=2, season_steps=2, channels=(4,))
    zeroed(network)
    trend, seasons = network.parts
    with torch.no_grad():
        trend.coefficients[2].bias.copy_(torch.tensor([1.0, 2.0]))
        seasons.values.bias.copy_(torch.tensor([10.0, 20.0]))
        network.level[2].bias.fill_(100.0)
    times = [step / 5 for step in range(5)]
    wanted = [100 + t + 2 * t * t + season for t, season in zip(times, (10, 10, 20, 20, 10), strict=True)]
    assert network(torch.randn(2, 3))[1, :, 0].tolist() == pytest.approx(wanted)


# --- gradients of gradients ---------------------------------------------------------------------------------------

TWICE: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("RecurrentDiscriminator", {**SMALL, "layers": 2, "bidirectional": True}),
    "gru": ("RecurrentDiscriminator", {**SMALL, "cell": "gru", "batch_mean": True}),
    "window": ("Recurrent", {**SMALL, "head": "window", "activation": "tanh"}),
    "free": ("Recurrent", {**SMALL, "free_running": True, "layers": 2}),
    "free gru": ("Recurrent", {**SMALL, "free_running": True, "cell": "gru", "activation": "sigmoid"}),
    "crnn": ("CRNNDiscriminator", {**SMALL, "dropout": 0.0}),
    "imputer": ("Imputer", {**SMALL, "filters": 2}),
    "judge": ("ImputationDiscriminator", {**SMALL, "filters": 2}),
}


def penalty(network: nn.Module, x: Tensor, create_graph: bool) -> Tensor:
    """The squared gradients of the scores, as R1 has them."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(network(x)).square().sum(), x, create_graph=create_graph)
    return gradient.square().sum()


def penalty_gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    parameters = list(network.parameters())
    found = torch.autograd.grad(penalty(network, x, True), parameters, allow_unused=True, materialize_grads=True)
    return list(found)


@pytest.mark.parametrize("which", TWICE)
def test_the_gradient_of_a_gradient_penalty_is_that_of_finite_differences(which: str) -> None:
    name, settings = TWICE[which]
    network = make(name, (4, 2), (4, 1), **settings).double()
    x = torch.randn(3, 4, 2, dtype=torch.float64)
    directions = [torch.randn_like(parameter) for parameter in network.parameters()]
    analytic = sum(float((g * d).sum()) for g, d in zip(penalty_gradients(network, x), directions, strict=True))
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for parameter, direction in zip(network.parameters(), directions, strict=True):
                parameter.add_(direction, alpha=step)
        values.append(float(penalty(network, x, False)))
    assert analytic == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5) and abs(analytic) > 1e-6


@pytest.mark.parametrize("which", TWICE)
def test_single_precision_takes_another_way_to_the_same_gradients(which: str) -> None:
    name, settings = TWICE[which]
    network = make(name, (4, 2), (4, 1), **settings)
    x = torch.randn(3, 4, 2)
    single = penalty_gradients(network, x)
    double = penalty_gradients(network.double(), x.double())
    scale = max(float(gradient.abs().max()) for gradient in double)
    for one, other in zip(single, double, strict=True):
        assert torch.allclose(one.double(), other, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["RecurrentDiscriminator", "CRNNDiscriminator", "Imputer", "ImputationDiscriminator"])
def test_cudnn_is_left_out_where_the_input_wants_a_gradient_only(name: str) -> None:
    network = make(name, (4, 2), (4, 1))
    seen: list[bool] = []
    layers = [module for module in network.modules() if isinstance(module, nn.RNNBase)]
    for layer in layers:
        layer.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    x = torch.randn(2, 4, 2)
    network(x)
    network(x.requires_grad_())
    with torch.no_grad():
        network(x)
    assert seen == [way for way in (True, False, True) for _ in layers] and torch.backends.cudnn.enabled


def test_leaving_cudnn_out_leaves_its_other_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("benchmark", "deterministic", "allow_tf32")
    before = [getattr(torch.backends.cudnn, name) for name in names]
    other = [not value for value in before]
    for name, value in zip(names, other, strict=True):
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    with second_derivatives(torch.zeros(1, requires_grad=True)):
        assert not torch.backends.cudnn.enabled
        assert [getattr(torch.backends.cudnn, name) for name in names] == other
    assert torch.backends.cudnn.enabled


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")
def test_gradients_of_gradients_on_a_gpu() -> None:
    for name, settings in TWICE.values():
        network = make(name, (4, 2), (4, 1), **settings).double()
        x = torch.randn(3, 4, 2, dtype=torch.float64)
        wanted = penalty_gradients(network, x)
        for one, other in zip(penalty_gradients(network.to("cuda"), x.to("cuda")), wanted, strict=True):
            assert torch.allclose(one.cpu(), other)


# --- the definitions Generator and Discriminator ------------------------------------------------------------------

SERIES = DataSpec("sequence", (7, 3))


def test_generator_and_discriminator_are_the_pair_of_rgan_for_sequences() -> None:
    generator, judge = make("Generator", (7, 4), (7, 3)), make("Discriminator", (7, 3), (7, 1), "score")
    assert isinstance(generator, RecurrentNetwork) and isinstance(judge, RecurrentNetwork)
    assert generator.recurrent.hidden_size == judge.recurrent.hidden_size == 100
    assert generator.output_range == (-1.0, 1.0) and generator.by_step and judge.by_step


def test_their_settings_are_reached_from_a_job() -> None:
    given = {"strategy": "NSGAN", "generator.hidden": "7", "cell": "gru", "discriminator.batchMean": "true"}
    plan = Resolver(REGISTRY, request("Generator,Discriminator", "Circle", given, None), SERIES).plan()
    own = [plan.roles[role].network_settings for role in ("generator", "discriminator")]
    assert [settings.hidden for settings in own] == [7, 100] and {settings.cell for settings in own} == {"gru"}
    assert own[1].batch_mean
    network = REGISTRY.get("network", "Generator").thing(
        NetworkContext("generator", Port("noise", (7, 4)), Port("sequence", (7, 3)), SERIES, own[0])
    )
    assert isinstance(network.recurrent, nn.GRU) and network.recurrent.hidden_size == 7


def test_for_other_data_their_settings_are_refused_and_a_job_can_be_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    refused(capsys, tiny("generator.hidden=7"), "unknown key 'generator.hidden'")
    refused(capsys, tiny("generator.hiddn=7"), "unknown key 'generator.hiddn'")
    assert call(capsys, *tiny("tag=first")).code == 0
    job = tmp_path / "runs" / "first" / "job.yaml"
    assert read_job(job)["networks"] == ["Generator", "Discriminator"]
    assert "hidden" not in job.read_text()
    assert call(capsys, "learn", "--job", str(job)).code == 0


def test_what_is_shown_of_generator_names_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    shown = call(capsys, "ganglion", "show", "network", "Generator").out
    assert "RecurrentGenerator" in shown and "hidden" in shown and "truncatedNormal" in shown


@pytest.mark.parametrize(
    ("variants", "sentence"),
    [
        ("  sequence:\n    network: Recurent\n", "network: a variant cannot be 'Recurent'"),
        ("  sequence:\n    network: 3\n", "'network' names a registered network and stands alone"),
        ("  sequence:\n    network: RecurrentGenerator\n    outputs: probability\n", "stands alone"),
        (
            "  sequence:\n    network: RecurrentGenerator\n  vector:\n    network: RecurrentDiscriminator\n",
            "they are several networks",
        ),
    ],
)
def test_a_variant_is_a_known_network_alone(variants: str, sentence: str) -> None:
    with pytest.raises(NetworkError, match=sentence):
        parse_definition(f"name: N\ndoc: A test.\nvariants:\n{variants}", "n.yaml")


def test_a_variant_that_is_a_network_has_no_layers_to_override() -> None:
    definition = REGISTRY.get("network", "Generator").thing
    context = NetworkContext("generator", Port("noise", (7, 4)), Port("sequence", (7, 3)), SERIES)
    assert definition.layer_arguments(context) == {}
    with pytest.raises(ConfigError, match=r"Dropout.p: no layer of Generator for sequence data takes it"):
        definition(replace(context, overrides={"Dropout.p": "0.3"}))
