"""Random streams: named, per device, and back where they were."""

from __future__ import annotations

import pytest
import torch

from ganglion.engine.processes import Part
from ganglion.engine.streams import RandomStream, Streams, stream_seed, undisturbed

CPU = torch.device("cpu")


def test_seeds_are_stable_over_processes_and_differ_by_name() -> None:
    assert stream_seed(0, "noise") == 5127903134280592399
    assert len({stream_seed(seed, name) for seed in (0, 1) for name in ("noise", "sampling")}) == 4


def test_a_stream_goes_on_from_its_state() -> None:
    stream = RandomStream(0, "noise", CPU)
    stream.normal(3)
    state = stream.state_dict()
    following = stream.normal(4)
    other = RandomStream(5, "noise", CPU)
    other.load_state_dict(state)
    assert torch.equal(other.normal(4), following)


def test_a_stream_that_a_state_does_not_have_starts_anew() -> None:
    streams = Streams(0, CPU)
    streams("noise")
    state = streams.state_dict()
    first = streams("jitter").normal(5)
    streams.load_state_dict(state)
    assert torch.equal(streams("jitter").normal(5), first)


def test_a_state_waits_for_the_stream_that_is_asked_for_later() -> None:
    streams = Streams(0, CPU)
    streams("jitter").normal(5)
    state = streams.state_dict()
    expected = streams("jitter").normal(5)
    fresh = Streams(0, CPU)
    fresh.load_state_dict(state)
    assert fresh.state_dict()["streams"].keys() == state["streams"].keys()
    assert torch.equal(fresh("jitter").normal(5), expected)


def test_a_stream_that_was_asked_for_and_not_used_is_in_no_state() -> None:
    asked, never = Streams(0, CPU), Streams(0, CPU)
    asked("jitter").normal(3)
    asked.load_state_dict(never.state_dict())  # as after a measurement
    assert asked.state_dict()["streams"] == {}
    first = asked("jitter").normal(3)
    assert list(asked.state_dict()["streams"]) == ["jitter@cpu"]
    assert torch.equal(never("jitter").normal(3), first)


def test_one_name_on_two_devices_is_two_streams() -> None:
    streams = Streams(0, CPU)
    assert streams("noise", CPU) is streams("noise")
    streams("noise").normal(1)
    assert len(streams.state_dict()["streams"]) == 1


def test_each_process_reads_the_streams_of_its_own_gpu() -> None:
    first, second, alone = Streams(0, CPU, Part(0, 2)), Streams(0, CPU, Part(1, 2)), Streams(0, CPU)
    first.device, second.device, alone.device = (torch.device(name) for name in ("cuda:0", "cuda:1", "cuda:3"))
    state = {"generator": torch.Generator().manual_seed(5).get_state()}
    stored = {"streams": {"noise@cuda:0": state, "sampling@cpu": state}, "default": {}}
    for streams in (first, second):
        streams.load_state_dict(stored)
        assert set(streams.state_dict()["streams"]) == {"noise@cuda", "sampling@cpu"}
        assert streams._own_key(f"noise@{streams.device}") == "noise@cuda"
    alone.load_state_dict(second.state_dict())
    assert set(alone.state_dict()["streams"]) == {"noise@cuda:3", "sampling@cpu"}
    alone.load_state_dict(stored)
    assert set(alone.state_dict()["streams"]) == {"noise@cuda:0", "sampling@cpu"}


def test_the_state_of_a_gpu_that_is_not_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, number: restored.append(number))
    default = {f"cuda{number}": torch.zeros(16, dtype=torch.uint8) for number in range(3)}
    Streams(0, CPU).load_state_dict({"streams": {}, "default": default})
    assert restored == [0]


def test_undisturbed_leaves_torchs_own_generator_as_it_was() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with undisturbed():
        torch.randn(10)
    assert torch.equal(torch.get_rng_state(), before)


def test_uniform_numbers_lie_in_their_interval() -> None:
    numbers = RandomStream(0, "noise", CPU).uniform(2000, low=-2, high=3)
    assert -2 <= float(numbers.min()) < -1.9 and 2.9 < float(numbers.max()) < 3
