"""The backward pass of a loss, and work without one: without what torch's own ways in look at first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import Variable


class WithoutGradient:
    """What `torch.no_grad()` does in a `with` statement, at less than half its cost: for what every iteration runs."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)

    def __exit__(self, *error: object) -> None:
        torch._C._set_grad_enabled(self._before)


_one: dict[tuple[torch.device, torch.dtype], Tensor] = {}  # what every backward pass begins with


def backward(loss: Tensor, parameters: Sequence[Tensor]) -> None:
    """Add the gradients of one number to those of the parameters.

    Work and gradients are confined to these parameters; unused ones keep None, and torch sees to it that no two
    gradients share memory, which links that change them in place rely on. A plain number goes to torch's engine
    directly: the checks before it take as long as a small network's pass. Everything else goes the usual way.
    Raises RuntimeError, as torch does, where the loss is not one number or depends on none of the parameters.
    """
    if type(loss) is not Tensor or loss.dim():
        torch.autograd.backward(loss, inputs=parameters)
        return
    one = _one.get((loss.device, loss.dtype))
    if one is None:
        one = _one[loss.device, loss.dtype] = torch.ones_like(loss, requires_grad=False)
    Variable._execution_engine.run_backward(
        (loss,), (one,), False, False, tuple(parameters), allow_unreachable=True, accumulate_grad=True
    )
