"""The direct backward pass against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ganglion.engine import backward as module
from ganglion.engine.backward import backward


def gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """Torch's own answer, for the same graph."""
    return list(torch.autograd.grad(loss, parameters, retain_graph=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float32])
def test_gradients_are_torchs(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(dtype)
    parameters: list[Tensor] = list(network.parameters())
    loss = network(torch.rand(5, 3, dtype=dtype)).mean()
    expected = gradients(loss, parameters)
    backward(loss, parameters)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)


def test_gradients_are_added_and_only_to_what_was_named() -> None:
    mine, other, unused = (torch.tensor(value, requires_grad=True) for value in (2.0, 3.0, 5.0))
    for _ in range(2):
        backward(mine * other, [mine, unused])
    assert mine.grad == 6.0
    assert other.grad is None
    assert unused.grad is None


def test_no_two_gradients_share_memory() -> None:
    mine, other = (torch.zeros(3, requires_grad=True) for _ in range(2))
    backward((mine + other).sum(), [mine, other])
    assert mine.grad is not None
    assert other.grad is not None
    mine.grad.zero_()
    assert other.grad.tolist() == [1.0, 1.0, 1.0]


def test_a_leaf_that_is_the_loss_leaves_the_next_pass_as_it_was() -> None:
    """Its gradient is what the pass begins with, which must not be changed through it."""
    leaf = torch.tensor(2.0, requires_grad=True)
    for _ in range(2):
        leaf.grad = None
        backward(leaf, [leaf])
        assert leaf.grad == 1.0
        leaf.grad.zero_()


class Marked(Tensor):
    """A kind of tensor of its own, as torch's distributed ones are."""


@pytest.mark.parametrize("change", [lambda loss: loss.as_subclass(Marked), lambda loss: loss.reshape(1)])
def test_other_kinds_of_losses_go_the_usual_way(change: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(change)
    monkeypatch.setattr(module, "Variable", None)
    leaf = torch.tensor(2.0, requires_grad=True)
    backward(change(leaf * 3), [leaf])
    assert leaf.grad == 3.0


@pytest.mark.parametrize("loss", [torch.zeros(3, requires_grad=True) * 2, torch.tensor(1.0)])
def test_what_has_no_gradient_is_refused(loss: Tensor) -> None:
    leaf = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(RuntimeError):
        backward(loss, [leaf])
