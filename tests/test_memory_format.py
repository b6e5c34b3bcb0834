"""Channels last in memory: the same numbers but for rounding, the same files, resumed exactly, refused without use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import PAIR, refused, tiny
from safetensors.torch import load_file
from test_cuda_graphs import CalledAgain
from tiny import QUIET, weights_of

from ganglion.engine import execution
from ganglion.engine.assembly import assemble
from ganglion.engine.folders import data_context
from ganglion.engine.job import JobRequest
from ganglion.engine.launch import Learnt, learn
from ganglion.engine.opening import open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.engine.session import Session

CONVOLUTIONS = ("ConvGenerator", "ConvDiscriminator")
KEYS = {"batchSize": 8, "channelsLast": True}
REGISTRY = Registry().load()


def session(**keys: Any) -> Session:
    asked = JobRequest(CONVOLUTIONS, "Digits", "NSGAN", {**KEYS, "iterations": 8, **keys})
    return assemble(REGISTRY, asked, data_context(lambda sentence: None))


def run(runs: Path, tag: str, **keys: Any) -> Learnt:
    return learn(
        ",".join(CONVOLUTIONS), "Digits", {**QUIET, **KEYS, "strategy": "NSGAN", "tag": tag, **keys}, runs=runs
    )


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return run(tmp_path_factory.mktemp("runs"), "whole", iterations=4, execution="eager")


def test_weights_and_pictures_have_their_channels_last() -> None:
    made = session()
    seen = []
    for network in made.networks.values():
        for module in network.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
                assert module.weight.is_contiguous(memory_format=torch.channels_last)
                module.register_forward_hook(lambda module, given, output: seen.append(output))
    made.strategy.process_iteration(0)
    assert len(seen) >= 8
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in seen)
    rows = torch.ones(4, 3, 8, 8)
    made.networks["discriminator"].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with pytest.raises(RuntimeError):  # three channels, as a single one lies the same in either format
        made.networks["discriminator"](rows)
    assert seen[-1].is_contiguous(memory_format=torch.channels_last)


def test_a_recording_has_them_too_bit_for_bit() -> None:
    weights = []
    for recorder in (None, CalledAgain()):
        made = session()
        capture = None if recorder is None else execution.use_recordings(made, recorder)
        for number in range(3):
            made.strategy.process_iteration(number)
        weights.append([parameter for network in made.networks.values() for parameter in network.parameters()])
    assert capture is not None and capture.refused == {} and capture.graphs() == 2
    assert all(map(torch.equal, *weights))
    assert [each.stride() for each in weights[0]] == [each.stride() for each in weights[1]]


def test_it_goes_on_exactly(learnt: Learnt) -> None:
    runs = learnt.directory.parent
    run(runs, "parts", iterations=2, decayIterations=4, execution="eager")
    assert weights_of(run(runs, "parts", iterations=4)) == weights_of(learnt)


def test_files_and_samples_are_those_of_ordinary_networks(learnt: Learnt) -> None:
    runs = learnt.directory.parent
    plain = run(runs, "plain", iterations=4, execution="eager", channelsLast=False)
    for name in ("generator", "discriminator"):
        mine, theirs = (
            load_file(each.directory / "checkpoints" / "4" / f"{name}.safetensors") for each in (learnt, plain)
        )
        assert mine.keys() == theirs.keys()
        for key, tensor in mine.items():
            assert tensor.is_contiguous()
            torch.testing.assert_close(tensor, theirs[key], rtol=0.0, atol=2e-3)
    noise = torch.randn(3, 100, generator=torch.Generator().manual_seed(1))
    pictures = [
        open_run(REGISTRY, Repository(runs).run(each.directory.name)).strategy.generate(noise)
        for each in (learnt, plain)
    ]
    torch.testing.assert_close(*pictures, rtol=0.0, atol=1e-2)
    assert pictures[0].is_contiguous()


def test_without_convolutions_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys,
        tiny("channelsLast=true", names=(PAIR, "Circle")),
        "channelsLast=true: it is for 2-d convolutions, and none of the networks (generator, discriminator) has one; "
        "leave it out",
    )
