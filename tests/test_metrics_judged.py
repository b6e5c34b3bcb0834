"""Metrics in which a classifier judges, against hand-computed numbers and a classifier whose answers are known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ganglion.datasets.stacked_mnist import TRIPLES, StackedRows
from ganglion.engine.api import (
    ConfigError,
    DataError,
    DataSpec,
    EvaluationContext,
    LearningStrategy,
    Splits,
    TensorDataset,
)
from ganglion.strategies.metrics import judge as judging
from ganglion.strategies.metrics.agreement import Agreement, confusion_of
from ganglion.strategies.metrics.frechet import score
from ganglion.strategies.metrics.judge import Judge
from ganglion.strategies.metrics.precision import Coverage, balls, copy_figures, manifold_figures
from ganglion.strategies.metrics.stacked import Stacked, unevenness

DIGITS = tuple("0123456789")
EVERY = torch.arange(1000)


class Reader(nn.Module):
    """Names the digit that stands, divided by ten, in the first pixel; its features are all pixels, times `factor`."""

    def __init__(self, factor: float = 1.0, wrong: int | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.wrong = wrong
        self.last = nn.Linear(1, 1)
        self.passes = 0

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1) * self.factor

    def predict(self, images: Tensor) -> Tensor:
        self.passes += 1
        self.last.weight.data = torch.zeros(1, images[0].numel())
        self.last(images.flatten(1))  # a last Linear, which is given the pixels
        digits = (images.flatten(1)[:, 0] * 10).round().to(torch.int64)
        if self.wrong is not None:
            digits = torch.where(digits == self.wrong, 0, digits)
        return nn.functional.one_hot(digits, 10) * 50.0


def digit_images(digits: Tensor, shape: tuple[int, ...] = (1, 28, 28)) -> Tensor:
    return (digits.float() / 10).view(-1, *[1] * len(shape)).expand(-1, *shape).clone()


def digit_triples(numbers: Tensor) -> Tensor:
    return torch.cat([digit_images(numbers // place % 10) for place in (100, 10, 1)], dim=1)


def reader_run(network: Reader, shape: tuple[int, ...], classes: tuple[str, ...] = DIGITS) -> Any:
    strategy = SimpleNamespace(predict=network.predict, context=SimpleNamespace(networks={"network": network}))
    return SimpleNamespace(strategy=strategy, spec=DataSpec("image", shape, classes=classes), device="cpu")


class Unconditional(LearningStrategy):
    """Makes samples; nothing else is asked of it here."""

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Any:
        raise NotImplementedError

    def process_iteration(self, i: int) -> Any:
        raise NotImplementedError

    def generate(self, noise: Tensor) -> Tensor:
        return noise


class Conditional(Unconditional):
    """The same, with classes to ask for."""

    def requested(self, noise: Tensor) -> Tensor | None:
        return noise


def context(
    splits: Splits, judge: Any, samples: Any = None, labelled: Any = None, strategy: type = Conditional
) -> EvaluationContext:
    return EvaluationContext(
        strategy=strategy(),
        spec=splits.train.spec,
        device=torch.device("cpu"),
        seed=0,
        own_scale=lambda rows: rows,
        splits=lambda: splits,
        factory=cast("Any", None),
        samples=samples,
        labelled=labelled,
        run=lambda tag: judge,
    )


def labelled_images(digits: Tensor) -> TensorDataset:
    spec = DataSpec("image", (1, 28, 28), (0.0, 1.0), DIGITS)
    return TensorDataset(spec, digit_images(digits), digits)


# --- the judge ----------------------------------------------------------------------------------------------------


def test_one_pass_gives_features_and_probabilities_where_that_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "ROWS", 7)
    images = digit_images(torch.arange(20) % 10, (1, 2, 2)) + 0.01 * torch.rand(20, 1, 2, 2)
    for factor in (1.0, 2.0):
        network = Reader(factor)
        asked: list[int] = []
        own = network.features
        network.features = lambda rows, own=own, asked=asked: (asked.append(len(rows)), own(rows))[1]  # type: ignore
        judged = Judge(reader_run(network, (1, 2, 2)), "judge")(images)
        assert torch.equal(judged.features, images.flatten(1).double() * factor)
        assert torch.equal(judged.probabilities.argmax(1), torch.arange(20) % 10)
        assert judged.probabilities.sum(1).allclose(torch.ones(20).double())
        assert network.passes == 3 and asked == ([7] if factor == 1.0 else [7, 7, 6])


def test_score_by_hand() -> None:
    assert score(torch.eye(4).double()) == pytest.approx(4.0)
    assert score(torch.full((6, 2), 0.5).double()) == pytest.approx(1.0)
    assert score(torch.tensor([[0.0, 1.0, 0.0]]).double().repeat(5, 1)) == pytest.approx(1.0)
    apart = math.log(1 / 0.875), 0.75 * math.log(0.75 / 0.875) + 0.25 * math.log(0.25 / 0.125)
    probabilities = torch.tensor([[1.0, 0.0], [0.75, 0.25]]).double()
    assert score(probabilities) == pytest.approx(math.exp(sum(apart) / 2))


@pytest.mark.parametrize("metric", [Agreement, Coverage, Stacked])
def test_a_classifier_must_be_named_and_fit(metric: Any) -> None:
    splits = Splits(*[labelled_images(EVERY[:20] % 10)] * 3)
    if metric is Stacked:
        splits = stacked_splits(20)
    with pytest.raises(ConfigError, match=r"-v1 needs classifier=TAG; 'learn --job mnist-classifier"):
        metric().evaluate(context(splits, None))
    assert not metric().applies(context(splits, None))
    other = reader_run(Reader(), (1, 8, 8))
    with pytest.raises(ConfigError, match=r"classifier=judge: it takes data of shape \(1, 8, 8\), and metric "):
        metric(metric.Settings(classifier="judge")).evaluate(context(splits, other))
    generator = SimpleNamespace(
        strategy=SimpleNamespace(context=SimpleNamespace(networks={})), spec=splits.train.spec, device="cpu"
    )
    with pytest.raises(ConfigError, match="classifier=judge: it is not a classifier"):
        metric(metric.Settings(classifier="judge")).evaluate(context(splits, generator))


# --- agreement ----------------------------------------------------------------------------------------------------


def test_agreement_by_hand() -> None:
    asked = torch.tensor([0, 0, 1, 1, 1, 1, 7, 7])
    shown = torch.tensor([0, 3, 1, 1, 1, 1, 7, 7])
    splits = Splits(*[labelled_images(EVERY[:50] % 10)] * 3)
    drawn: list[int] = []
    given = context(
        splits,
        reader_run(Reader(wrong=9), (1, 28, 28)),
        labelled=lambda count: (drawn.append(count), (digit_images(shown), asked))[1],
    )
    metric = Agreement(Agreement.Settings(classifier="judge", count=8))
    assert metric.applies(given)
    judged = metric.evaluate(given)
    assert drawn == [8]
    assert judged.values == {
        "agreement": 7 / 8,
        "lowestAgreement": 0.5,
        "classifierAccuracy": pytest.approx(0.9),  # it calls every 9 a 0
        "samples": 8.0,
    }
    table = judged.details["confusion"]
    assert table["columns"] == ["asked \\ named", *DIGITS]
    assert table["rows"][0] == ["0", 1, 0, 0, 1, 0, 0, 0, 0, 0, 0] and table["rows"][1][1:3] == [0, 4]


def test_confusion_has_a_row_for_each_class_asked_for() -> None:
    found = confusion_of(torch.tensor([0, 0, 2]), torch.tensor([1, 1, 0]), 3)
    assert found.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_agreement_is_for_strategies_that_take_classes_and_judges_that_know_them() -> None:
    splits = Splits(*[labelled_images(EVERY[:20] % 10)] * 3)
    metric = Agreement(Agreement.Settings(classifier="judge"))
    assert metric.applies(context(splits, None)) and not metric.applies(context(splits, None, strategy=Unconditional))
    letters = reader_run(Reader(), (1, 28, 28), tuple("abcdefghij"))
    with pytest.raises(ConfigError, match=r"it knows the classes a, b, .*, and the data have 0, 1"):
        metric.evaluate(context(splits, letters))


# --- precision, recall, density, coverage, copies -------------------------------------------------------------------


def test_neighbourhoods_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]]).double()
    made = torch.tensor([[0.5], [5.0], [30.0], [31.0]]).double()
    assert balls(real, 1).radii.tolist() == [1, 1, 1, 8] and balls(real, 2).radii.tolist() == [2, 1, 2, 9]
    assert balls(made, 1).radii.tolist() == [4.5, 4.5, 1, 1]
    assert manifold_figures(real, made, 1, 2) == {
        "precision": 0.5,  # 0.5, and 5 in the ball around 10
        "recall": 0.75,  # 10 is 5 from the nearest sample, whose ball reaches 4.5
        "density": 0.5,  # 0.5 lies in three balls, 5 in one; over 2 x 4
        "coverage": 1.0,
    }
    assert manifold_figures(real, made, 1, 1)["coverage"] == 0.75  # nothing is within 1 of 2
    assert manifold_figures(real, made, 1, 1)["density"] == 0.75
    assert balls(real, 3).radii.tolist() == [10, 9, 8, 10]
    with pytest.raises(DataError, match="needs more than 4 rows, and there are 4"):
        balls(real, 4)


def test_collapsed_samples_are_precise_and_cover_nothing() -> None:
    real = torch.randn(300, 4).double()
    collapsed = manifold_figures(real, real[:1].repeat(300, 1), 3, 5)
    assert collapsed["precision"] == 1.0
    assert collapsed["recall"] <= 1 / 300 and collapsed["coverage"] < 0.1
    far = manifold_figures(real, real + 100, 3, 5)
    assert set(far.values()) == {0.0}


def test_copies_by_hand() -> None:
    unseen = torch.arange(1.0, 102.0)  # 1 % lies below 2, the median is 51
    found = copy_figures(torch.tensor([1.0, 1.5, 2.0, 2.5, 60.0]), unseen)
    assert found == {"nearestRatio": pytest.approx(2 / 51), "copies": 0.4}


def test_coverage_of_copies_and_of_unseen_images() -> None:
    generator = torch.Generator().manual_seed(0)
    spec = DataSpec("image", (1, 4, 4), (0.0, 1.0), DIGITS)
    images, labels = 0.9 * torch.rand(700, 1, 4, 4, generator=generator), torch.zeros(700, dtype=torch.int64)
    train, test = TensorDataset(spec, images[:500], labels[:500]), TensorDataset(spec, images[500:], labels[500:])
    splits, judge = Splits(train, None, test), reader_run(Reader(), (1, 4, 4))
    metric = Coverage(Coverage.Settings(classifier="judge", copy_count=200))
    unseen = metric.evaluate(context(splits, judge, samples=lambda count: images[500 : 500 + count])).values
    assert unseen["samples"] == 200
    for name in ("precision", "recall", "density", "coverage"):
        assert unseen[name] == unseen[f"{name}Real"] > 0
    assert unseen["nearestRatio"] == 1.0 and unseen["copies"] == pytest.approx(0.01)
    copied = metric.evaluate(context(splits, judge, samples=lambda count: images[:count].clone())).values
    assert copied["copies"] == 1.0 and copied["nearestRatio"] < 0.01
    assert metric.evaluate(context(splits, judge, samples=lambda count: images[:count].clone())).values == copied
    assert copied["classifierAccuracy"] == pytest.approx(float((images[500:, 0, 0, 0] < 0.05).double().mean()))


# --- stacked digits -----------------------------------------------------------------------------------------------


def stacked_splits(rows: int) -> Splits:
    spec = DataSpec("image", (3, 28, 28), (0.0, 1.0), TRIPLES)
    digits = torch.arange(10)
    images = (digit_images(digits) * 255).round().to(torch.uint8)
    numbers = torch.arange(rows)
    part = StackedRows(spec, images, digits, torch.stack([numbers // place % 10 for place in (100, 10, 1)], 1))
    return Splits(part, None, part)


def test_unevenness_by_hand() -> None:
    assert unevenness(EVERY) == pytest.approx(0.0, abs=1e-12)
    assert unevenness(torch.full((50,), 123)) == pytest.approx(math.log(1000))
    assert unevenness(EVERY[:500].repeat(3)) == pytest.approx(math.log(2))


def test_every_triple_once_is_perfect_and_one_alone_is_collapse() -> None:
    splits, judge = stacked_splits(1000), reader_run(Reader(), (1, 28, 28))
    metric = Stacked(Stacked.Settings(classifier="judge", count=1000))
    perfect = context(splits, judge, samples=lambda count: digit_triples(EVERY[:count]))
    assert metric.applies(perfect)
    assert metric.evaluate(perfect).values == {
        "modes": 1000.0,
        "reverseKL": pytest.approx(0.0, abs=1e-12),
        "modesReal": 1000.0,
        "floorKL": pytest.approx(0.0, abs=1e-12),
        "classifierAccuracy": 1.0,
        "samples": 1000.0,
    }
    collapsed = context(splits, judge, samples=lambda count: digit_triples(torch.full((count,), 407)))
    values = metric.evaluate(collapsed).values
    assert (values["modes"], values["reverseKL"]) == (1.0, pytest.approx(math.log(1000)))
    channels = context(splits, judge, samples=lambda count: digit_triples(torch.tensor([12, 21, 102, 12])))
    assert metric.evaluate(channels).values["modes"] == 3.0  # the order of the channels counts


def test_stacked_digits_want_a_good_judge_and_enough_rows() -> None:
    settings = Stacked.Settings(classifier="judge", count=1000)
    errs = reader_run(Reader(wrong=4), (1, 28, 28))
    with pytest.raises(ConfigError, match=r"judge: 90\.00% of the test digits are right, 99\.0 % are needed"):
        Stacked(settings).evaluate(context(stacked_splits(1000), errs))
    good = reader_run(Reader(), (1, 28, 28))
    with pytest.raises(DataError, match="have 999 test rows to compare 1000 samples with; choose count=999 or less"):
        Stacked(settings).evaluate(context(stacked_splits(999), good))
    flat = Splits(*[labelled_images(EVERY[:20] % 10)] * 3)
    with pytest.raises(DataError, match=r"for data of shape \(3, 28, 28\), and these have \(1, 28, 28\)"):
        Stacked(settings).evaluate(context(flat, good))
    plain = TensorDataset(DataSpec("image", (3, 28, 28)), torch.zeros(4, 3, 28, 28))
    with pytest.raises(DataError, match="these have 10 and 0; use the data set StackedMNIST"):
        Stacked(settings).evaluate(context(Splits(plain, None, plain), good))
