"""Ranges, splits and adapters: half-open, in the published order, random ones on training rows only; and scales."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ganglion.engine import geometry
from ganglion.engine.adapterchain import ORDER
from ganglion.engine.adapters import Adapted, AdapterSettings, scale_splits, scale_to, split_and_adapt, unscale
from ganglion.engine.contracts import Batch, Dataset, DataSpec, Splits
from ganglion.engine.data import Subset, TensorDataset
from ganglion.engine.errors import ConfigError
from ganglion.engine.settings import Level, Owner, describe, resolve
from ganglion.engine.streams import RandomStream
from ganglion.engine.transforms import Crop, Rescale


def keys(**given: Any) -> AdapterSettings:
    """Settings from keys as they stand on the command line."""
    settings = resolve([Owner("the adapters", AdapterSettings)], [Level("command line", given)], ()).settings[0]
    assert isinstance(settings, AdapterSettings)
    return settings


def images(count: int, shape: tuple[int, ...] = (1, 4, 4)) -> TensorDataset:
    """Every value of row i is i."""
    spec = DataSpec("image", shape, value_range=(0.0, 255.0), classes=("even", "odd"))
    values = torch.arange(count, dtype=torch.uint8)
    target = (values % 2).to(torch.int64)
    return TensorDataset(spec, values.view(-1, 1, 1, 1).expand(count, *shape).contiguous(), target)


def numbers(dataset: Dataset | None) -> list[int]:
    """Which rows of `images` a part holds."""
    assert dataset is not None
    return [int(value) for value in dataset.rows(torch.arange(len(dataset))).input.flatten(1)[:, 0]]


def splits(train: int = 10, test: int | None = 5) -> Splits:
    return Splits(train=images(train), test=None if test is None else images(test))


def stream(seed: int = 0) -> RandomStream:
    return RandomStream(seed, "augmentation", torch.device("cpu"))


# --- ranges ---------------------------------------------------------------------------------------------------------


def test_without_keys_nothing_changes() -> None:
    parts = splits()
    adapted = split_and_adapt(parts, keys())
    assert adapted.train is parts.train and adapted.test is parts.test and adapted.validation is None
    assert adapted.augmentations == [] and adapted.notices == [] and adapted.spec == parts.train.spec


@pytest.mark.parametrize(
    ("value", "rows"),
    [("3", [0, 1, 2]), ("2,5", [2, 3, 4]), ("0,10", list(range(10))), ("7,1,4", [7, 1, 4]), ("1,1,1", [1, 1, 1])],
)
@pytest.mark.parametrize("key", ["range", "trainSet"])
def test_ranges_are_half_open_and_lists_are_lists(key: str, value: str, rows: list[int]) -> None:
    assert numbers(split_and_adapt(splits(), keys(**{key: value})).train) == rows


@pytest.mark.parametrize("key", ["range", "validationSet", "testSet"])
@pytest.mark.parametrize("value", ["5,5", "6,5", "0", "-1,3", "0,11", "11", "0,1,10", "0,-1,2", "[]"])
def test_ranges_that_are_empty_or_out_of_bounds(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}=.*the \w+ part has 10 rows") as caught:
        split_and_adapt(splits(10, 10), keys(**{key: value}))
    assert "\n" not in str(caught.value)


def test_held_out_rows_are_taken_from_the_training_rows() -> None:
    adapted = split_and_adapt(splits(), keys(validationSet="8,10"))
    assert numbers(adapted.train) == list(range(8)) and numbers(adapted.validation) == [8, 9]
    assert numbers(adapted.test) == [0, 1, 2, 3, 4]
    assert adapted.notices == ["validationSet: 2 of 10 training rows are held out, 8 are learnt from"]
    middle = split_and_adapt(splits(), keys(validationSet="3,5,9"))
    assert numbers(middle.train) == [0, 1, 2, 4, 6, 7, 8]


def test_the_test_set_counts_the_test_part_or_the_training_part_without_one() -> None:
    adapted = split_and_adapt(splits(), keys(testSet="3,5"))
    assert numbers(adapted.test) == [3, 4] and numbers(adapted.train) == list(range(10))
    alone = split_and_adapt(splits(10, None), keys(testSet="8,10", validationSet="6,8"))
    assert (numbers(alone.train), numbers(alone.validation), numbers(alone.test)) == (list(range(6)), [6, 7], [8, 9])


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"range": "0,6", "validationSet": "5,8"}, "range and validationSet share 1 rows"),
        ({"range": "0,6", "testSet": "4,8"}, "range and testSet share 2 rows"),
        ({"validationSet": "0,6", "testSet": "5,8"}, "validationSet and testSet share 1 rows"),
        ({"validationSet": "0,6", "testSet": "6,10"}, "validationSet and testSet hold all 10 rows"),
    ],
)
def test_overlapping_parts_are_refused(given: dict[str, str], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        split_and_adapt(splits(10, None), keys(**given))


def test_an_end_that_leaves_out_the_last_row_is_told() -> None:
    assert split_and_adapt(splits(), keys(range="0,9")).notices == [
        "range: the end is not included, so the last row, 9, is left out"
    ]
    assert split_and_adapt(splits(), keys(range="0,10")).notices == []


def test_consecutive_parts_are_not_copied() -> None:
    parts = splits()
    train = split_and_adapt(parts, keys(range="2,7")).train
    assert isinstance(train, TensorDataset) and train.input.data_ptr() == parts.train.input[2:].data_ptr()


# --- adapters -------------------------------------------------------------------------------------------------------

PICTURE = torch.arange(12.0).view(1, 1, 3, 4)


def one(**given: Any) -> Any:
    spec = DataSpec("image", (1, 3, 4), value_range=(0.0, 11.0))
    return split_and_adapt(Splits(train=TensorDataset(spec, PICTURE.repeat(64, 1, 1, 1))), keys(**given))


def drawn(adapted: Any, seed: int = 0) -> Batch:
    batch = adapted.train.rows(torch.arange(len(adapted.train)))
    for adapter in adapted.augmentations:
        batch = adapter.apply(batch, stream(seed))
    assert tuple(batch.input.shape[1:]) == adapted.spec.shape
    return batch


def test_the_order_is_published_and_is_that_of_the_keys() -> None:
    named = [info.key for info in describe(AdapterSettings)]
    assert [name for name, _ in ORDER] == [name for name in named if name in dict(ORDER)]
    adapted = one(
        encoderNoise="0.1", autoencode="true", binarize="true", frame="3,4", cropWidth="3", rotationTheta="1",
        hflip="0.5", vflip="0.5",
    )  # fmt: skip
    names = [type(adapter).__name__ for adapter in adapted.augmentations]
    assert names == ["Flip", "Flip", "Rotate", "Crop", "Frame", "Binarize", "Autoencode", "Corrupt"]


def test_flips() -> None:
    assert torch.equal(drawn(one(vflip="1")).input[0], PICTURE[0].flip(-2))
    assert torch.equal(drawn(one(hflip="1")).input[0], PICTURE[0].flip(-1))
    some = drawn(one(hflip="0.25")).input
    flipped = (some == PICTURE.flip(-1)).flatten(1).all(1)
    assert ((some == PICTURE).flatten(1).all(1) ^ flipped).all() and 6 <= int(flipped.sum()) <= 28
    assert one(vflip="0", hflip="0").augmentations == []


def test_random_adapters_draw_anew_and_leave_their_input_as_it_was() -> None:
    adapted = one(hflip="0.5", vflip="0.5", rotationTheta="0.3", cropWidth="2", cropPadding="1")
    assert not torch.equal(drawn(adapted, 0).input, drawn(adapted, 1).input)
    assert torch.equal(drawn(adapted, 0).input, drawn(adapted, 0).input)
    state = torch.get_rng_state()
    drawn(adapted)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(adapted.train.input, PICTURE.repeat(64, 1, 1, 1))


def test_rotation_is_counter_clockwise_about_the_middle() -> None:
    square = torch.arange(9.0).view(1, 1, 3, 3)
    quarter = geometry.rotate(square, torch.tensor([math.pi / 2]), (1.0, 1.0), 0.0)
    assert quarter.allclose(torch.rot90(square, 1, (-2, -1)), atol=1e-5)
    half = drawn(one(rotationTheta=f"{math.pi},{math.pi}")).input[:1]
    assert half.allclose(PICTURE.flip(-1).flip(-2), atol=1e-4)
    corner = geometry.rotate(square, torch.tensor([math.pi / 2]), (0.0, 0.0), -5.0)
    assert corner[0, 0, 0, 0].item() == pytest.approx(0.0, abs=1e-5)
    assert corner[0, 0, 2, 2].item() == pytest.approx(-5.0)


def test_rotation_angles_lie_in_the_range() -> None:
    square = torch.zeros(1, 1, 41, 41)
    square[0, 0, 20, 21:] = 1.0  # a ray to the right
    spec = DataSpec("image", (1, 41, 41), value_range=(0.0, 1.0))
    data = Splits(train=TensorDataset(spec, square.repeat(200, 1, 1, 1)))
    for value, low, high in (("0.5", -0.5, 0.5), ("0.2,0.4", 0.2, 0.4), ("-0.3", -0.3, 0.3)):
        turned = drawn(split_and_adapt(data, keys(rotationTheta=value))).input[:, 0]
        x = (turned.sum(1) * (torch.arange(41) - 20)).sum(1)
        y = (turned.sum(2) * (20 - torch.arange(41))).sum(1)
        angles = torch.atan2(y, x)
        assert low - 0.02 <= float(angles.min()) < low + 0.1 and high - 0.1 < float(angles.max()) <= high + 0.02


@pytest.mark.parametrize("given", [{"rotationTheta": "15"}, {"rotationTheta": "1,0.5"}, {"rotationTheta": "0,1,2"}])
def test_angles_in_degrees_or_nonsense(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="in radians"):
        one(**given)


def test_rotation_centers() -> None:
    one(rotationTheta="1", rotationCenter="true")
    assert one(rotationTheta="1", rotationCenter="0,2").augmentations[0].center == (0.0, 2.0)
    for wrong in ("false", "1,2,3"):
        with pytest.raises(ConfigError, match="rotationCenter: expected true"):
            one(rotationTheta="1", rotationCenter=wrong)


def test_what_comes_from_outside_is_the_lowest_value() -> None:
    spec = DataSpec("image", (1, 3, 3), value_range=(-1.0, 1.0))
    data = Splits(train=TensorDataset(spec, torch.ones(8, 1, 3, 3)))
    padded = drawn(split_and_adapt(data, keys(cropWidth="7", cropHeight="7", cropPadding="2"))).input
    assert padded[0, 0].sum() == 9 - 40
    wide = Splits(train=TensorDataset(DataSpec("image", (1, 9, 9), value_range=(-1.0, 1.0)), torch.ones(8, 1, 9, 9)))
    turned = drawn(split_and_adapt(wide, keys(rotationTheta="0.785,0.785"))).input
    assert float(turned[0, 0, 0, 0]) == pytest.approx(-1.0) and float(turned[0, 0, 4, 4]) == pytest.approx(1.0)


def test_crops_start_anywhere_and_one_side_may_be_left_out() -> None:
    narrow = drawn(one(cropWidth="2")).input
    assert {row[0, 0, 0].item() for row in narrow} == {0.0, 1.0, 2.0}
    assert all(torch.equal(row, PICTURE[0, :, :, int(row[0, 0, 0]) :][..., :2]) for row in narrow)
    low = drawn(one(cropHeight="1")).input
    assert {row[0, 0, 0].item() for row in low} == {0.0, 4.0, 8.0} and low.shape[-1] == 4


def test_padding_adds_places_on_every_side() -> None:
    padded = torch.nn.functional.pad(PICTURE, (1, 1, 1, 1))
    found = {tuple(row.flatten().tolist()) for row in drawn(one(cropWidth="5", cropHeight="5", cropPadding="1")).input}
    assert found == {tuple(padded[..., x : x + 5].flatten().tolist()) for x in (0, 1)}


def test_random_sizes_reach_both_ends_and_give_one_shape() -> None:
    crop = Crop((1, 3), (4, 4), 0, 0.0)
    sizes, starts = Crop._place(crop.heights, 3, Batch(PICTURE.repeat(500, 1, 1, 1)), stream())
    assert set(sizes.tolist()) == {1, 2, 3} and int((sizes + starts).max()) == 3 and int(starts.min()) == 0
    batch = drawn(one(cropHeight="1,3", cropWidth="2,4"))
    assert batch.input.shape == (64, 1, 3, 4) and float(batch.input.min()) >= 0.0 and float(batch.input.max()) <= 11.0
    top, left = torch.tensor([0]), torch.tensor([1])
    whole = geometry.cut_resized(PICTURE, top, left, (torch.tensor([3]), torch.tensor([3])), (3, 3))
    assert whole.allclose(PICTURE[..., 1:], atol=1e-5)
    enlarged = geometry.cut_resized(PICTURE, top, left, (torch.tensor([1]), torch.tensor([2])), (2, 4))
    assert enlarged[0, 0, :, 1].tolist() == pytest.approx([1.25, 2.25])  # rows at -0.25 and 0.25, columns at 1.25


@pytest.mark.parametrize(
    "given", [{"cropWidth": "5"}, {"cropHeight": "3,2"}, {"cropWidth": "0"}, {"cropWidth": "1,2,3"}]
)
def test_crops_that_do_not_fit(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(given))}=.*from 1 to \d"):
        one(**given)
    with pytest.raises(ConfigError, match="cropPadding=2 needs cropWidth or cropHeight"):
        one(cropPadding="2")


def test_validation_and_test_rows_get_the_middle_and_nothing_random() -> None:
    spec = DataSpec("image", (1, 3, 4), value_range=(0.0, 11.0))
    part = TensorDataset(spec, PICTURE.repeat(4, 1, 1, 1))
    given = keys(vflip="1", hflip="1", rotationTheta="3", cropWidth="2", cropHeight="1", binarize="5.5")
    adapted = split_and_adapt(Splits(part, part, part), given)
    for other in (adapted.validation, adapted.test):
        assert other is not None and other.spec == adapted.spec
        assert other.rows(torch.tensor([0])).input.tolist() == [[[[0.0, 1.0]]]]  # of 5 and 6


def test_frame_keeps_proportions_and_cuts_the_middle() -> None:
    framed = one(frame="3,2")
    assert torch.equal(framed.train.rows(torch.tensor([0])).input, PICTURE[..., 1:3])
    assert framed.train.spec.shape == (1, 3, 2) and framed.augmentations == []
    assert one(frame="1,6,8").train.rows(torch.tensor([0])).input.shape == (1, 1, 6, 8)
    flat = geometry.frame(torch.full((1, 1, 5, 9), 3.0), 28, 17)
    assert flat.shape == (1, 1, 28, 17) and flat.allclose(torch.tensor(3.0))
    for wrong in ("3,3,3", "3", "0,3"):
        with pytest.raises(ConfigError, match=f"frame={wrong}: expected HEIGHT,WIDTH, or 1,HEIGHT,WIDTH"):
            one(frame=wrong)


@pytest.mark.parametrize(("value", "ones"), [("true", 11), ("0.5", 11), ("7", 4), ("0.0", 11), ("5.5", 6)])
def test_binarize(value: str, ones: int) -> None:
    binary = one(binarize=value)
    row = binary.train.rows(torch.tensor([0])).input
    assert set(row.flatten().tolist()) == {0.0, 1.0} and int(row.sum()) == ones
    assert binary.spec.value_range == (0.0, 1.0)


def test_false_is_false() -> None:
    adapted = one(binarize="false", autoencode="false")
    assert isinstance(adapted.train, TensorDataset) and adapted.spec.target_shape is None
    assert adapted.train.rows(torch.tensor([0])).target is None


def test_autoencode_with_clean_targets() -> None:
    parts = splits()
    clean = split_and_adapt(parts, keys(autoencode="true"))
    batch = clean.train.rows(torch.arange(3))
    assert batch.target is not None and torch.equal(batch.target, batch.input)
    assert clean.spec.target_shape == (1, 4, 4) and clean.spec.classes == () and clean.train.targets() is None
    noisy = split_and_adapt(parts, keys(autoencode="true", encoderNoise="0.5", encoder_drop="0.25"))
    batch = noisy.train.rows(torch.arange(10))
    for adapter in noisy.augmentations:
        batch = adapter.apply(batch, stream())
    plain = parts.train.rows(torch.arange(10)).input
    assert batch.target is not None and torch.equal(batch.target, plain)
    dropped = batch.input == 0
    assert 20 <= int(dropped.sum()) <= 60
    assert 0.35 < float((batch.input - plain)[~dropped].std()) < 0.65
    assert noisy.test is not None and torch.equal(noisy.test.rows(torch.arange(5)).input, plain[:5])
    for key in ("encoderNoise", "encoderDrop"):
        with pytest.raises(ConfigError, match="need autoencode=true"):
            split_and_adapt(parts, keys(**{key: "0.1"}))


@pytest.mark.parametrize(
    "given",
    [{"vflip": "1"}, {"hflip": "1"}, {"rotationTheta": "1"}, {"cropWidth": "1"}, {"cropHeight": "1"}, {"frame": "1,1"}],
)
def test_geometry_is_for_images(given: dict[str, str]) -> None:
    points = TensorDataset(DataSpec("vector", (2,)), torch.zeros(4, 2))
    with pytest.raises(ConfigError, match=f"{next(iter(given))} is for images, and these data are of kind vector"):
        split_and_adapt(Splits(points), keys(**given))
    assert len(split_and_adapt(Splits(points), keys(binarize="true")).train) == 4


def test_targets_that_are_images_follow() -> None:
    spec = DataSpec("image", (1, 3, 4), value_range=(0.0, 11.0), target_shape=(2, 3, 4))
    data = TensorDataset(spec, PICTURE.repeat(16, 1, 1, 1), PICTURE.repeat(16, 2, 1, 1))
    adapted = split_and_adapt(Splits(data), keys(hflip="0.5", cropWidth="2"))
    batch = drawn(adapted)
    assert batch.target is not None and torch.equal(batch.target, batch.input.repeat(1, 2, 1, 1))
    assert adapted.spec.target_shape == (2, 3, 2)


# --- scales ---------------------------------------------------------------------------------------------------------


def test_scales_reach_through_views_and_adapters() -> None:
    source = images(200)
    subset = Subset(source, torch.tensor([0, 51, 199]))
    adapted = Adapted(source, [])
    for data in (source, subset, adapted):
        scaled = scale_to(data, (-1.0, 1.0))
        rows = scaled.rows(torch.tensor([0, 1])).input[:, 0, 0, 0]
        second = 51 if data is subset else 1
        assert rows.tolist() == pytest.approx([-1.0, 2 * second / 255 - 1], abs=1e-6)
        assert scaled.spec.value_range == (-1.0, 1.0) and scaled.resident
    assert scale_to(source, (0.0, 255.0)) is source
    points = TensorDataset(DataSpec("vector", (2,)), torch.zeros(4, 2))
    assert scale_to(points, (-1.0, 1.0)) is points


def test_data_sets_of_others_are_scaled_by_a_wrapper() -> None:
    class Other(Dataset):
        spec = DataSpec("vector", (2,), value_range=(0.0, 10.0))
        resident = False

        def __len__(self) -> int:
            return 3

        def rows(self, indices: torch.Tensor) -> Batch:
            return Batch(torch.full((len(indices), 2), 5.0))

    scaled = scale_to(Other(), (-1.0, 1.0))
    assert scaled.rows(torch.tensor([0])).input.tolist() == [[0.0, 0.0]] and not scaled.resident


@pytest.mark.parametrize("augmented", [True, False])
def test_adapters_work_on_the_data_s_own_values_before_they_are_scaled(augmented: bool) -> None:
    given = {"binarize": "100", "autoencode": "true", **({"hflip": "0.5"} if augmented else {})}
    adapted = scale_splits(split_and_adapt(Splits(images(200), test=images(200)), keys(**given)), (-1.0, 1.0))
    batch = adapted.train.rows(torch.tensor([100, 101]))
    for adapter in adapted.augmentations:
        batch = adapter.apply(batch, stream())
    assert adapted.test is not None
    for found in (batch, adapted.test.rows(torch.tensor([100, 101]))):
        assert found.input[:, 0, 0, 0].tolist() == [-1.0, 1.0]
        assert found.target is not None and torch.equal(found.target, found.input)
    assert adapted.spec.value_range == adapted.test.spec.value_range == (-1.0, 1.0)
    assert bool(adapted.augmentations) == augmented
    assert not augmented or isinstance(adapted.augmentations[-1], Rescale)


def test_scale_splits_without_adapters_costs_nothing_per_batch() -> None:
    adapted = scale_splits(split_and_adapt(splits(), keys()), (-1.0, 1.0))
    assert isinstance(adapted.train, TensorDataset) and isinstance(adapted.test, TensorDataset)
    assert adapted.augmentations == [] and adapted.spec.value_range == (-1.0, 1.0)


def test_class_targets_are_not_scaled() -> None:
    adapted = scale_splits(split_and_adapt(splits(), keys(hflip="1")), (-1.0, 1.0))
    batch = adapted.train.rows(torch.arange(2))
    for adapter in adapted.augmentations:
        batch = adapter.apply(batch, stream())
    assert batch.target is not None and batch.target.tolist() == [0, 1]


def test_unscale_goes_there_and_back() -> None:
    values = torch.tensor([-1.0, 0.0, 1.0])
    assert unscale(values, (-1.0, 1.0), (0.0, 10.0)).tolist() == [0.0, 5.0, 10.0]
    assert unscale(unscale(values, (-1.0, 1.0), (3.0, 7.0)), (3.0, 7.0), (-1.0, 1.0)).allclose(values)
