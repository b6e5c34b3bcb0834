"""Metrics against numbers computed by hand, and `evaluate_run` as a whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tiny import learn_tiny

from ganglion.engine.errors import ConfigError
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.opening import draw_samples, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Repository
from ganglion.strategies.metrics.classification import class_figures
from ganglion.strategies.metrics.frechet import Moments, divergence, frechet_distance, moments

REGISTRY = Registry().load()


def evaluate(runs: Path, metric: str | None = None, **keys: str) -> dict[str, dict[str, float]]:
    run = Repository(runs).find("tiny")
    found = evaluate_run(REGISTRY, run, metric, "latest", "cpu", 0, keys, lambda sentence: None)
    return {evaluation.metric: dict(evaluation.values) for evaluation in found}


def test_frechet_distance_of_two_gaussians() -> None:
    one = Moments(torch.zeros(2).double(), torch.diag(torch.tensor([1.0, 4.0])).double())
    other = Moments(torch.tensor([3.0, 0.0]).double(), torch.diag(torch.tensor([9.0, 4.0])).double())
    assert frechet_distance(one, other) == pytest.approx(9 + (1 - 3) ** 2 + 0)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_does_not_mind_features_that_never_fire() -> None:
    features = torch.randn(50, 3).double()
    features[:, 2] = 0
    assert frechet_distance(moments(features), moments(features)) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_rotated_covariances_agrees_with_the_matrix_root() -> None:
    from scipy.linalg import sqrtm

    torch.manual_seed(1)
    one, other = (moments(torch.randn(40, 4).double() @ torch.randn(4, 4).double()) for _ in range(2))
    root = torch.tensor(sqrtm((one.covariance @ other.covariance).numpy()).real)
    expected = (one.mean - other.mean).square().sum() + (one.covariance + other.covariance - 2 * root).trace()
    assert frechet_distance(one, other) == pytest.approx(float(expected), rel=1e-6)


def test_divergence_of_histograms() -> None:
    assert divergence(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])) == pytest.approx(
        0.5 * math.log(2)
    )


def test_class_figures_from_a_confusion_matrix() -> None:
    confusion = torch.tensor([[8, 2], [1, 9]])  # rows: true class
    figures = class_figures(confusion, 0)
    assert (figures["tp"], figures["fn"], figures["fp"], figures["tn"]) == (8, 2, 1, 9)
    assert figures["sensitivity"] == pytest.approx(0.8) and figures["precision"] == pytest.approx(8 / 9)
    assert figures["f1"] == pytest.approx(16 / 19)
    assert figures["mcc"] == pytest.approx((8 * 9 - 1 * 2) / math.sqrt(9 * 10 * 10 * 11))
    empty = class_figures(torch.zeros(2, 2), 0)
    assert all(value == 0 for value in empty.values())


def test_a_classifier_is_judged_on_its_test_rows(tmp_path: Path) -> None:
    learn_tiny("FeedForward", tmp_path, iterations=150)
    values = evaluate(tmp_path)
    assert set(values) == {"classification", "loss"}
    accuracy = values["classification"]
    assert 0.7 < accuracy["accuracy"] <= accuracy["top2"] <= accuracy["top3"] <= 1
    assert values["loss"]["accuracy"] == pytest.approx(accuracy["accuracy"])
    kept = json.loads((tmp_path / "tiny" / "evaluation" / "classification.json").read_text())
    confusion = kept["details"]["confusion"]["rows"]
    assert sum(sum(row[1:]) for row in confusion) == accuracy["rows"]
    assert sum(row[1 + index] for index, row in enumerate(confusion)) / accuracy["rows"] == pytest.approx(
        accuracy["accuracy"]
    )


def test_test_rows_can_be_named(tmp_path: Path) -> None:
    learn_tiny("FeedForward", tmp_path, iterations=4)
    assert evaluate(tmp_path, "classification", testSet="0,40")["classification"]["rows"] == 40


def test_a_generator_of_points_is_judged_by_their_distribution(tmp_path: Path) -> None:
    learn_tiny("Minimax", tmp_path, iterations=4)
    values = evaluate(tmp_path)
    assert set(values) == {"points-v1", "transport-v1"}
    assert set(values["points-v1"]) >= {"withinTenth", "arcsHit"}
    assert values["points-v1"]["samples"] == 2500


def test_a_generator_of_pictures_is_judged_by_distances(tmp_path: Path) -> None:
    _picture_run(tmp_path)
    values = evaluate(tmp_path)["spread-v1"]
    assert 0 <= values["spread"] < 0.5  # an untrained generator makes much the same picture every time
    assert values["nearestReal"] > 1


def _picture_run(runs: Path) -> None:
    from ganglion.engine.launch import learn

    learn(
        "Generator,Discriminator",
        "Digits",
        {"strategy": "GAN", "tag": "tiny", "iterations": 2, "threads": 1, "traces": "lines"},
        runs=runs,
    )


def test_samples_come_in_the_datas_own_scale(tmp_path: Path) -> None:
    _picture_run(tmp_path)
    samples = draw_samples(open_run(REGISTRY, Repository(tmp_path).find("tiny")), 10, 0)
    assert samples.shape == (10, 1, 8, 8)
    assert 0.3 < float(samples.mean()) < 0.7  # tanh around 0 is the middle of 0..1
    again, other = (draw_samples(open_run(REGISTRY, Repository(tmp_path).find("tiny")), 10, seed) for seed in (0, 1))
    assert torch.equal(samples, again) and not torch.equal(samples, other)


def test_averaged_weights_are_used_where_there_are_some(tmp_path: Path) -> None:
    learn_tiny("NSGAN", tmp_path, iterations=5)
    checkpoint = Repository(tmp_path).find("tiny").checkpoints().load()
    opened = open_run(REGISTRY, Repository(tmp_path).find("tiny"))
    own = dict(opened.networks["generator"].state_dict())
    assert set(checkpoint.averaged) == {"generator"}
    for name, value in own.items():
        assert torch.equal(value, checkpoint.averaged["generator"][name])
        assert not torch.equal(value, checkpoint.networks["generator"][name])


def test_the_frechet_metric_wants_a_judge(tmp_path: Path) -> None:
    learn_tiny("Minimax", tmp_path, iterations=1)
    with pytest.raises(ConfigError, match="needs classifier=TAG"):
        evaluate(tmp_path, "mnist-frechet-v1")


@pytest.mark.data
def test_a_judge_that_errs_too_often_is_refused(tmp_path: Path, real_data: Path) -> None:
    from ganglion.engine.launch import learn

    quick = {"threads": 1, "traces": "lines", "sampleInterval": 0}
    learn("MLP", "MNIST", {"strategy": "FeedForward", "tag": "judge", "iterations": 1, **quick}, runs=tmp_path)
    learn(
        "DianneGenerator,DianneDiscriminator",
        "MNIST",
        {"strategy": "GAN", "tag": "tiny", "iterations": 1, "batchSize": 4, **quick},
        runs=tmp_path,
    )
    with pytest.raises(ConfigError, match=r"99.0 % are needed"):
        evaluate(tmp_path, "mnist-frechet-v1", classifier="judge")
