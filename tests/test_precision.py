"""Networks that compute in bfloat16: weights, losses and updates stay float32; a person hears where it is slow."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from test_capture import assembled, captured, furthest, iterate
from tiny import learn_tiny, weights_of
from torch.utils._pytree import tree_leaves

from ganglion.engine import precision
from ganglion.engine.errors import ConfigError
from ganglion.engine.precision import Bf16Forward, compute_in_bf16, lstm_in_bf16, slower_in_bf16


def test_only_what_is_between_is_bfloat16() -> None:
    session = assembled("R3GAN", precision="bf16")
    network, seen = session.networks["discriminator"], []
    layer = next(module for module in network.modules() if isinstance(module, torch.nn.Linear))
    layer.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    output = network(torch.ones(3, 2))
    assert seen == [torch.bfloat16]
    assert output.dtype == torch.float32
    values = iterate(session, 3)
    assert all(torch.isfinite(torch.tensor(list(each.values()))).all() for each in values)
    assert {weights.dtype for each in session.networks.values() for weights in each.parameters()} == {torch.float32}


def test_it_stays_near_float32_and_is_not_float32() -> None:
    plain = assembled("NSGAN")
    iterate(plain, 5)
    half = assembled("NSGAN", precision="bf16")
    iterate(half, 5)
    assert 0 < furthest(plain, half) < 0.02


def test_a_graph_computes_in_bfloat16_too() -> None:
    written = assembled("WGAN_GP", precision="bf16")
    iterate(written, 5)
    graphs = assembled("WGAN_GP", precision="bf16")
    capture = captured(graphs)
    iterate(graphs, 5)
    assert capture.graphs() == 2
    assert capture.refused == {}
    assert furthest(written, graphs) < 0.01


def test_recurrent_networks_learn_too() -> None:
    values = iterate(assembled("RGAN", precision="bf16"), 2)
    assert all(torch.isfinite(torch.tensor(list(each.values()))).all() for each in values)


def test_an_lstm_is_float32_where_the_processor_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "lstm_in_bf16", lambda: False)
    session = assembled("RGAN", precision="bf16")
    network, seen = session.networks["discriminator"], {}
    for kind in (torch.nn.LSTM, torch.nn.Linear):
        layer = next(module for module in network.modules() if isinstance(module, kind))
        layer.register_forward_hook(lambda layer, given, made: seen.update({type(layer): tree_leaves(made)[0].dtype}))
    iterate(session, 1)
    assert seen == {torch.nn.LSTM: torch.float32, torch.nn.Linear: torch.bfloat16}


def test_whether_there_is_such_an_lstm_is_found_by_a_trial_that_draws_nothing() -> None:
    lstm_in_bf16.cache_clear()
    before = torch.get_rng_state()
    found = lstm_in_bf16()
    assert torch.equal(torch.get_rng_state(), before)
    lstm = torch.nn.LSTM(2, 3)
    with contextlib.nullcontext() if found else pytest.raises(RuntimeError), torch.autocast("cpu", torch.bfloat16):
        lstm(torch.ones(1, 1, 2))


def test_a_person_is_told_where_it_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    session = assembled("NSGAN", precision="bf16")
    forward = session.networks["generator"].forward
    assert isinstance(forward, Bf16Forward)
    monkeypatch.setattr(precision, "seconds_per_iteration", lambda session: 0.002 if forward.on else 0.001)
    assert slower_in_bf16(session) == [
        "precision=bf16 takes 2.00 ms per iteration here and fp32 1.00 ms: fp32 is the better choice"
    ]
    assert forward.on
    monkeypatch.setattr(precision, "seconds_per_iteration", lambda session: 0.001 if forward.on else 0.002)
    assert slower_in_bf16(session) == []
    assert slower_in_bf16(assembled("NSGAN")) == []


def test_a_run_says_what_it_computed_in_and_goes_on_exactly(tmp_path: Path) -> None:
    keys = {"precision": "bf16", "threads": 1}
    whole = learn_tiny("NSGAN", tmp_path / "whole", iterations=6, **keys)
    learn_tiny("NSGAN", tmp_path / "parts", iterations=3, decayIterations=6, **keys)
    again = learn_tiny("NSGAN", tmp_path / "parts", iterations=6)
    assert weights_of(again) == weights_of(whole)
    assert json.loads((again.directory / "record.json").read_text())["precision"] == "bf16"


def test_other_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="the generator is on mps; bfloat16 is for cpu and cuda here, use fp32"):
        compute_in_bf16({"generator": torch.nn.Linear(1, 1)}, {"generator": torch.device("mps")})
