"""Memory that the processes of one machine average through, and what is done where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_processes import shared
from torch import Tensor

from ganglion.engine import processes, sharedmemory
from ganglion.engine.processes import Part, average_in_place


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of this test's own in place of the machine's, with nothing in it in the end."""
    own = tmp_path / "memory"
    own.mkdir()
    monkeypatch.setattr(sharedmemory, "FOLDER", own)
    yield own
    assert not list(own.iterdir())


def numbers(part: Part, number: int, *sizes: int) -> list[Tensor]:
    """What a process brings to an exchange: of several shapes and types, one not contiguous, one empty."""
    generator = torch.Generator().manual_seed(100 * number + part.rank)
    made = [torch.randn(size, 3, generator=generator) for size in sizes]
    turned = torch.randn(3, 4, generator=generator, dtype=torch.float64).T
    return [*made, turned, torch.randn((), generator=generator), torch.zeros(0, 2)]


def means(count: int, number: int, *sizes: int) -> list[Tensor]:
    """What it has to make of them."""
    brought = [numbers(Part(rank, count), number, *sizes) for rank in range(count)]
    return [torch.stack(each).mean(0) for each in zip(*brought, strict=True)]


def in_memory() -> bool:
    """Whether the group of this process averages through memory."""
    assert processes._memory is not None
    return processes._memory.usable


@pytest.mark.parametrize("count", [2, 3])
def test_exchange_after_exchange_is_the_mean_and_the_same_in_all(count: int, tmp_path: Path) -> None:
    def work(part: Part) -> Any:
        found = []
        for number in range(40):
            sizes = (5, 7) if number % 3 else (700 * (number + 1),)  # the buffers grow, and old shapes come again
            if (number + part.rank) % 4 == 0:
                time.sleep(0.002)  # somebody is always late
            tensors = numbers(part, number, *sizes)
            average_in_place(tensors)
            found.append((sizes, tensors))
        return in_memory(), found

    results = shared(tmp_path, count, work)
    for number in range(40):
        wanted = means(count, number, *results[0][1][number][0])
        for used, found in results:
            assert used
            for value, mean, first in zip(found[number][1], wanted, results[0][1][number][1], strict=True):
                assert torch.allclose(value, mean, rtol=1e-6, atol=1e-7)
                assert torch.equal(value, first)


def test_what_is_written_is_not_read_before_all_have_written_nor_after(tmp_path: Path) -> None:
    """The late one reads long after the other has gone on to the next exchange."""
    add = torch.add

    def slowly(*given: Any, **named: Any) -> Any:
        time.sleep(0.05)
        return add(*given, **named)

    def work(part: Part) -> Any:
        found = []
        with pytest.MonkeyPatch.context() as patch:
            if part.rank:
                patch.setattr(torch, "add", slowly)
            for number in range(6):
                tensor = torch.full((3,), float(10 * number + part.rank))
                average_in_place([tensor])
                found.append(float(tensor[0]))
        return found

    assert shared(tmp_path, 2, work) == [[10 * number + 0.5 for number in range(6)]] * 2


def test_a_process_elsewhere_makes_all_of_them_use_sockets(tmp_path: Path) -> None:
    def work(part: Part) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if part.rank:
                patch.setattr(sharedmemory, "FOLDER", tmp_path / "another machine")
            tensors = numbers(part, 0, 4)
            average_in_place(tensors)
            average_in_place([torch.zeros(3)])
        return in_memory(), tensors

    for used, found in shared(tmp_path, 2, work):
        assert not used
        for value, mean in zip(found, means(2, 0, 4), strict=True):
            assert torch.allclose(value, mean, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("why", ["no room", "too large", "no folder"])
def test_too_little_memory_is_no_memory(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError("no space left")

    if why == "no room":
        monkeypatch.setattr(sharedmemory.os, "posix_fallocate", full)
    elif why == "too large":
        monkeypatch.setattr(sharedmemory, "MOST", 1000)
    else:
        monkeypatch.setattr(sharedmemory, "FOLDER", tmp_path / "nowhere")

    def work(part: Part) -> Any:
        tensor = torch.tensor([float(part.rank)])
        average_in_place([tensor])
        return in_memory(), float(tensor)

    assert shared(tmp_path, 2, work) == [(False, 0.5)] * 2
