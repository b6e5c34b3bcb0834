"""Samplings and the batch sampler: full batches, exact positions, and errors that reach the caller."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from ganglion.engine.adapters import Adapted
from ganglion.engine.contracts import Batch, Dataset, DataSpec
from ganglion.engine.data import Subset, TensorDataset
from ganglion.engine.errors import ConfigError, DataError
from ganglion.engine.samplers import SAMPLINGS, BatchSampler, UniformClass, Weighted, WeightedSettings

CPU = torch.device("cpu")


def numbered(rows: int, classes: int = 0) -> TensorDataset:
    """Row i holds the number i; classes go round."""
    values = torch.arange(rows, dtype=torch.float32)[:, None]
    target = torch.arange(rows) % classes if classes else None
    return TensorDataset(DataSpec("vector", (1,), classes=tuple(map(str, range(classes)))), values, target)


def sampler(name: str, dataset: Dataset, size: int = 4, seed: int = 0, **keys: object) -> BatchSampler:
    kind = SAMPLINGS[name]
    return BatchSampler(dataset, kind(kind.Settings(**keys), dataset), size, seed, CPU)


def numbers(batch: Batch) -> list[int]:
    return [int(value) for value in batch.input.flatten()]


def test_sequential_goes_on_from_the_start_after_the_last_row() -> None:
    """DIANNE's gave row 0 for ever after one pass."""
    batches = sampler("SEQUENTIAL", numbered(10))
    assert [numbers(batches.next_batch()) for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]


def test_permutation_gives_every_row_once_per_epoch_in_a_new_order() -> None:
    batches = sampler("PERMUTATION", numbered(12))
    epochs = [[number for _ in range(3) for number in numbers(batches.next_batch())] for _ in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_remainder_is_carried_over_and_batches_are_always_full() -> None:
    batches = sampler("PERMUTATION", numbered(10), size=4)
    drawn = [numbers(batches.next_batch()) for _ in range(5)]
    assert all(len(batch) == 4 for batch in drawn)
    assert Counter(number for batch in drawn for number in batch) == Counter({number: 2 for number in range(10)})


def test_uniform_draws_every_row_about_equally_with_replacement() -> None:
    batches = sampler("UNIFORM", numbered(10), size=10)
    counts = Counter(number for _ in range(400) for number in numbers(batches.next_batch()))
    assert len(counts) == 10
    assert all(300 < count < 500 for count in counts.values())
    assert any(len(set(numbers(batches.next_batch()))) < 10 for _ in range(5))


def test_uniform_class_takes_classes_in_turn_and_knows_no_empty_bucket() -> None:
    """DIANNE's failed on any class without rows, and on MNIST always."""
    dataset = numbered(30, 3)
    dataset.target = torch.where(dataset.target == 1, 5, dataset.target)
    batch = sampler("UNIFORMCLASS", dataset, size=9).next_batch()
    assert batch.target is not None
    assert batch.target.tolist() == [0, 2, 5] * 3


def test_uniform_class_without_labels_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no class labels"):
        UniformClass(None, numbered(5))


def test_weighted_draws_ranges_by_their_shares_even_when_they_cover_everything() -> None:
    """DIANNE's gave row -1 where the ranges covered the whole set."""
    batches = sampler("WEIGHTED", numbered(10), size=10, weighted_ranges=(0, 2, 2, 10), probabilities=(0.8, 0.2))
    drawn = [number for _ in range(400) for number in numbers(batches.next_batch())]
    assert min(drawn) >= 0
    assert 0.77 < sum(number < 2 for number in drawn) / len(drawn) < 0.83


def test_weighted_gives_what_is_left_to_the_other_rows() -> None:
    batches = sampler("WEIGHTED", numbered(10), size=10, weighted_ranges=(0, 5), probabilities=(0.9,))
    drawn = [number for _ in range(400) for number in numbers(batches.next_batch())]
    assert 0.08 < sum(number >= 5 for number in drawn) / len(drawn) < 0.12


@pytest.mark.parametrize(
    ("ranges", "shares", "words"),
    [
        ((), (), "start,end pairs"),
        ((0, 5, 7), (0.5,), "start,end pairs"),
        ((0, 5), (1.5,), "sum to at most 1"),
        ((0, 50), (0.5,), "does not lie in the 10 rows"),
        ((0, 5, 4, 8), (0.5, 0.5), "overlaps"),
    ],
)
def test_wrong_weights_are_one_sentence(ranges: tuple[int, ...], shares: tuple[float, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Weighted(WeightedSettings(weighted_ranges=ranges, probabilities=shares), numbered(10))


@pytest.mark.parametrize("name", ["UNIFORM", "SEQUENTIAL", "PERMUTATION"])
@pytest.mark.parametrize("before", [0, 1, 3, 7])
def test_position_is_three_integers_and_resuming_is_exact(name: str, before: int) -> None:
    straight, stopped = sampler(name, numbered(10)), sampler(name, numbered(10))
    for _ in range(before):
        straight.next_batch(), stopped.next_batch()
    state = stopped.state_dict()
    assert all(isinstance(value, int) for value in state.values()) and len(state) == 3
    resumed = sampler(name, numbered(10))
    resumed.load_state_dict(state)
    assert [numbers(straight.next_batch()) for _ in range(8)] == [numbers(resumed.next_batch()) for _ in range(8)]


def test_other_sizes_in_between_lose_and_repeat_nothing() -> None:
    batches = sampler("SEQUENTIAL", numbered(100), size=4)
    drawn = [number for size in (None, 7, None, 30, 1, None) for number in numbers(batches.next_batch(size))]
    assert drawn == list(range(len(drawn)))


def test_seed_decides_the_order() -> None:
    one, same, other = (numbers(sampler("PERMUTATION", numbered(50), 50, seed).next_batch()) for seed in (1, 1, 2))
    assert one == same != other


def test_data_smaller_than_a_batch_is_an_error() -> None:
    with pytest.raises(ConfigError, match="batchSize=4 is more than the 3 rows"):
        sampler("UNIFORM", numbered(3))


class Streamed(Dataset):
    """Data that are not resident; rows from `broken` on cannot be read."""

    resident = False
    spec = DataSpec("vector", (1,))

    def __init__(self, rows: int, broken: int | None = None) -> None:
        self.count, self.broken = rows, broken

    def __len__(self) -> int:
        return self.count

    def rows(self, indices: Tensor) -> Batch:
        if self.broken is not None and int(indices.max()) >= self.broken:
            raise DataError(f"row {int(indices.max())} cannot be read")
        return Batch(indices[:, None].float())


def test_streamed_rows_come_in_the_same_order_as_resident_ones() -> None:
    resident, streamed = sampler("PERMUTATION", numbered(20)), sampler("PERMUTATION", Streamed(20))
    try:
        assert [numbers(resident.next_batch()) for _ in range(12)] == [
            numbers(streamed.next_batch()) for _ in range(12)
        ]
    finally:
        streamed.close()


def test_rows_of_several_batches_are_asked_for_at_once_where_the_data_say_so() -> None:
    """The same rows in the same order, from the middle of a block as well; through what stands around the data, too."""
    asked: list[int] = []

    class Handed(Streamed):
        batches_at_once = 3

        def rows(self, indices: Tensor) -> Batch:
            asked.append(len(indices))
            return super().rows(indices)

    around = Adapted(Subset(Handed(40), torch.arange(40)), ())
    assert around.batches_at_once == 3
    resident, blocks = sampler("PERMUTATION", numbered(40)), sampler("PERMUTATION", around)
    later = sampler("PERMUTATION", around)
    try:
        for _ in range(25):
            later.load_state_dict(blocks.state_dict())
            expected = numbers(resident.next_batch())
            assert numbers(blocks.next_batch()) == expected == numbers(later.next_batch())
        assert set(asked) == {12}
    finally:
        blocks.close()
        later.close()


def test_an_error_while_fetching_reaches_the_batch_that_needed_the_rows() -> None:
    """DIANNE's batch sampler waited for ever."""
    batches = sampler("SEQUENTIAL", Streamed(20, broken=10))
    try:
        assert numbers(batches.next_batch()) == [0, 1, 2, 3]
        assert numbers(batches.next_batch()) == [4, 5, 6, 7]
        with pytest.raises(DataError, match="cannot be read"):
            batches.next_batch()
    finally:
        batches.close()
