"""StackedMNIST: triples of digits, their classes, and what is held in memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ganglion.datasets.idxpictures import TEST, TRAIN
from ganglion.datasets.mnist import MNIST
from ganglion.datasets.stacked_mnist import StackedMNIST
from ganglion.engine.adapters import scale_to
from ganglion.engine.api import ConfigError, DataContext, DataError
from ganglion.engine.data import data_digest, take
from ganglion.engine.launch import learn

LABELS = ((3, 1, 4, 1, 5), (9, 2, 6, 0, 7))


def idx(shape: tuple[int, ...], values: bytes) -> bytes:
    return bytes((0, 0, 8, len(shape))) + b"".join(length.to_bytes(4, "big") for length in shape) + values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five training and five test digits: every pixel of an image is ten times its label."""
    (tmp_path / "mnist").mkdir()
    for (images, labels), numbers in zip((TRAIN, TEST), LABELS, strict=True):
        pixels = b"".join(bytes([10 * number]) * 784 for number in numbers)
        (tmp_path / "mnist" / images).write_bytes(idx((len(numbers), 28, 28), pixels))
        (tmp_path / "mnist" / labels).write_bytes(idx((len(numbers),), bytes(numbers)))
    return tmp_path


def make(folder: Path, seed: int = 0, **settings: Any) -> Any:
    context = DataContext((folder,), folder / "cache", seed, lambda text: None)
    return StackedMNIST(StackedMNIST.Settings(**settings), context).load()


def test_channels_are_digits_and_the_class_is_the_number_they_form(folder: Path) -> None:
    train, validation, test = make(folder, size=200, test_size=50)
    assert validation is None and (len(train), len(test)) == (200, 50)
    assert (train.spec.kind, train.spec.shape, train.spec.value_range) == ("image", (3, 28, 28), (0.0, 1.0))
    assert len(train.spec.classes) == 1000 and train.spec.classes[42] == "042"
    for part, labels in ((train, LABELS[0]), (test, LABELS[1])):
        batch = part.rows(torch.arange(len(part)))
        assert batch.input.dtype == torch.float32 and bool((batch.input == batch.input[:, :, :1, :1]).all())
        digits = (batch.input[:, :, 0, 0] * 25.5).round().to(torch.int64)
        assert set(digits.flatten().tolist()) == set(labels)
        assert torch.equal(batch.target, (digits * torch.tensor([100, 10, 1])).sum(1))
        assert torch.equal(part.targets(), batch.target)
        assert float(batch.input[0, 0, 0, 0]) == pytest.approx(10 * int(digits[0, 0]) / 255)


def test_rows_come_in_the_order_asked_for_and_from_views(folder: Path) -> None:
    train = make(folder, size=20).train
    everything = train.rows(torch.arange(20))
    some = train.rows(torch.tensor([7, 0, 7]))
    assert torch.equal(some.input, everything.input[[7, 0, 7]]) and torch.equal(
        some.target, everything.target[[7, 0, 7]]
    )
    part = take(train, torch.arange(5, 9))
    assert torch.equal(part.rows(torch.tensor([0])).input, everything.input[5:6])
    assert torch.equal(part.targets(), everything.target[5:9])


def test_triples_follow_the_seed_and_not_torchs_own(folder: Path) -> None:
    state = torch.get_rng_state()
    one, same, other = (make(folder, seed, size=100) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert data_digest(one.train) == data_digest(same.train) != data_digest(other.train)
    assert torch.equal(one.test.triples, same.test.triples)
    assert not torch.equal(one.train.triples, one.test.triples[:100])


def test_single_images_are_held_once_as_bytes(folder: Path) -> None:
    train = make(folder).train
    assert len(train) == 128_000 and train.images.shape == (5, 1, 28, 28) and train.images.dtype == torch.uint8
    held = sum(tensor.nbytes for tensor in (train.images, train.labels, train.triples))
    assert held < 128_000 * 3 * 8 + 5 * 800
    moved = train.to(torch.device("cpu"))
    assert type(moved) is type(train) and torch.equal(moved.targets(), train.targets())


def test_values_are_scaled_to_a_networks_range(folder: Path) -> None:
    train = make(folder, size=10).train
    rows = torch.arange(10)
    wanted = train.rows(rows).input * 2 - 1
    assert torch.allclose(scale_to(train, (-1.0, 1.0)).rows(rows).input, wanted)
    assert torch.allclose(train.rows(rows).input * 2 - 1, wanted)  # reading changed nothing


def test_it_is_learnt_from(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_DATA", str(folder))
    keys = {"strategy": "NSGAN", "iterations": 1, "batchSize": 4, "size": 16, "testSize": 8, "threads": 1}
    learnt = learn(
        "Generator,Discriminator",
        "StackedMNIST",
        {**keys, "traces": "lines", "sampleInterval": 0},
        runs=tmp_path / "runs",
    )
    assert learnt.outcome.iteration == 1


def test_files_that_are_not_there_and_sizes_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"StackedMNIST: train-images-idx3-ubyte\.gz, .* are not all in any of"):
        make(tmp_path, download=False)
    with pytest.raises(ConfigError, match="size=0"):
        learn("Generator,Discriminator", "StackedMNIST", {"strategy": "NSGAN", "size": 0}, runs=tmp_path / "runs")


@pytest.mark.data
def test_real_triples_are_nearly_uniform(real_data: Path) -> None:
    train, _, test = make(real_data)
    single = MNIST(MNIST.Settings(), DataContext((real_data,), real_data, 0, lambda text: None)).load().train
    assert torch.equal(train.images, single.input)
    assert len(test) == 26_000 and int(test.triples.max()) < 10_000
    shares = test.targets().bincount(minlength=1000).double() / len(test)
    assert float((shares > 0).sum()) == 1000
    divergence = float((shares * (1000 * shares).log()).sum())
    assert divergence == pytest.approx(0.0237, abs=0.002)  # (modes - 1) / 2 count, and digits that are not equally many
    assert divergence < math.log(1000)
