"""Objectives and penalties against numbers computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ganglion.strategies.objectives import (
    Hinge,
    Labelled,
    LabelledSettings,
    Minimax,
    NonSaturating,
    Wasserstein,
    cross_entropy,
)
from ganglion.strategies.penalties import R1, input_gradient

REAL, FAKE = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [1.0]])
SP = {x: math.log1p(math.exp(x)) for x in (-2.0, -1.0, 0.0, 1.0, 2.0)}


def test_cross_entropy_of_a_logit_against_a_constant() -> None:
    probability = 1 / (1 + math.exp(-0.7))
    expected = -(0.85 * math.log(probability) + 0.15 * math.log(1 - probability))
    assert float(cross_entropy(torch.tensor([[0.7]]), 0.85)) == pytest.approx(expected, rel=1e-6)
    reference = torch.nn.functional.binary_cross_entropy_with_logits(REAL, torch.full_like(REAL, 0.3))
    assert float(cross_entropy(REAL, 0.3)) == pytest.approx(float(reference), rel=1e-6)


def test_labelled_has_diannes_targets() -> None:
    real, fake = Labelled().discriminator(REAL, FAKE)
    assert float(real) == pytest.approx((SP[2.0] - 0.85 * 2 + SP[0.0]) / 2, rel=1e-6)
    assert float(fake) == pytest.approx((SP[-1.0] + 0.15 + SP[1.0] - 0.15) / 2, rel=1e-6)
    assert float(Labelled().generator(None, FAKE)) == pytest.approx((SP[-1.0] + 0.85 + SP[1.0] - 0.85) / 2, rel=1e-6)
    # the least that smoothed losses can be: the entropy of the label
    entropy = -(0.85 * math.log(0.85) + 0.15 * math.log(0.15))
    best = torch.tensor([[math.log(0.85 / 0.15)]])
    assert (
        float(Labelled().generator(None, best)) == pytest.approx(entropy, rel=1e-5) == pytest.approx(0.4227, abs=1e-4)
    )


def test_labels_are_settings() -> None:
    hard = Labelled(LabelledSettings(real_target=1.0, fake_target=0.0, generator_target=1.0))
    for ours, theirs in zip(hard.discriminator(REAL, FAKE), NonSaturating().discriminator(REAL, FAKE), strict=True):
        assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    assert float(hard.generator(None, FAKE)) == pytest.approx(float(NonSaturating().generator(None, FAKE)), rel=1e-6)


def test_minimax_generator_loss_is_minus_the_fake_half() -> None:
    real, fake = Minimax().discriminator(REAL, FAKE)
    assert float(real) == pytest.approx((SP[-2.0] + SP[0.0]) / 2, rel=1e-6)
    assert float(Minimax().generator(None, FAKE)) == -float(fake)


def test_wasserstein_signs() -> None:
    real, fake = Wasserstein().discriminator(REAL, FAKE)
    assert (float(real), float(fake)) == (-1.0, 0.0)
    assert float(Wasserstein().generator(None, FAKE + 3)) == -3.0


def test_hinge() -> None:
    real, fake = Hinge().discriminator(REAL, FAKE)
    assert (float(real), float(fake)) == (0.5, 1.0)  # relu(1-2)=0, relu(1-0)=1; relu(1-1)=0, relu(1+1)=2


def test_r1_of_a_linear_discriminator_is_half_the_squared_weight_norm_whatever_the_batch() -> None:
    weight = torch.tensor([3.0, 4.0])
    for rows in (1, 7):
        value = R1().penalty(lambda x: x @ weight[:, None], torch.randn(rows, 2), torch.randn(rows, 2), None)
        assert float(value) == pytest.approx(12.5, rel=1e-6)


def test_input_gradient_can_be_differentiated_again() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    gradient = input_gradient(lambda x: (weight * x**2).sum(1, keepdim=True), torch.tensor([[1.5]]))
    gradient.square().sum().backward()
    assert float(gradient.detach()) == pytest.approx(6.0)  # 2 w x
    assert weight.grad is not None and float(weight.grad) == pytest.approx(36.0)  # d (2 w x)^2 / dw = 8 w x^2
