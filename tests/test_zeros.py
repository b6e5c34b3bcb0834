"""Graphs without what is multiplied by zeros: the same numbers, and nothing computed for naught."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_capture import assembled, made_graphs
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ganglion.engine import tracing
from ganglion.engine.zeros import leave_out_zeros

ATEN = torch.ops.aten
ROWS, WEIGHT = torch.arange(6.0).view(2, 3), torch.ones(3, 3)
NOTHING = torch.zeros


def targets(graph: torch.fx.GraphModule) -> list[str]:
    return [str(node.target).removeprefix("aten.") for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(
    ("loss_of", "left"),
    [
        (lambda x, w: x + NOTHING(2, 3) @ w, []),
        (lambda x, w: NOTHING(2, 3) @ w + x, []),
        (lambda x, w: x - (NOTHING(2, 3) @ w).neg(), []),
        (lambda x, w: NOTHING(2, 3) @ w - x, ["full.default", "sub.Tensor"]),
        (lambda x, w: (x * NOTHING(3)) @ w, ["full.default"]),
        (
            lambda x, w: torch.where(x > 1, NOTHING(2, 3), w[:2]),
            ["gt.Scalar", "full.default", "slice.Tensor", "where.self"],
        ),
        (lambda x, w: torch.where(x > 1, NOTHING(2, 3), NOTHING(2, 3)), ["full.default"]),
        (lambda x, w: torch.where(x > 1, x, NOTHING(2, 3)), ["gt.Scalar", "full.default", "where.self"]),
        (lambda x, w: torch.add(NOTHING(2, 3), x, alpha=2), ["full.default", "add.Tensor"]),
        (lambda x, w: x.t() + NOTHING(3, 2) @ w[:2, :2], ["t.default"]),
        (lambda x, w: x + NOTHING(2, 2, 3).sum(0) + (NOTHING(2, 3) + NOTHING(2, 3)), []),
        (lambda x, w: x + NOTHING(2, 3).double(), ["full.default", "_to_copy.default", "add.Tensor"]),
        (lambda x, w: x + NOTHING(3, 2).t() + NOTHING(2, 1).expand(2, 3) + NOTHING(4, 3)[1:3], []),
        (lambda x, w: x + torch.nn.grad.conv1d_input((1, 2, 3), w[:2, :2, None], NOTHING(1, 2, 3)).view(2, 3), []),
        (lambda x, w: x[0] + NOTHING(2, 3), ["select.int", "full.default", "add.Tensor"]),
        (lambda x, w: torch.cat([x, NOTHING(2, 3) @ w]), ["full.default", "cat.default"]),
    ],
)
def test_zeros_go_where_that_changes_nothing(loss_of: Callable[[Tensor, Tensor], Tensor], left: list[str]) -> None:
    graph = make_fx(loss_of, tracing_mode="fake")(ROWS, WEIGHT)
    wanted = graph(ROWS, WEIGHT)
    leave_out_zeros(graph)
    found = graph(ROWS, WEIGHT)
    assert torch.equal(found, wanted) and found.stride() == wanted.stride() and found.dtype == wanted.dtype
    assert targets(graph) == left


def test_what_changes_or_draws_stays() -> None:
    def changes(x: Tensor, w: Tensor) -> Tensor:
        torch.rand(2)
        w.copy_(w + 1)
        return x + NOTHING(2, 3)

    graph = make_fx(changes, tracing_mode="fake")(ROWS, WEIGHT)
    leave_out_zeros(graph)
    assert targets(graph) == ["rand.default", "add.Tensor", "copy_.default"]


def products_of_the_critic(monkeypatch: pytest.MonkeyPatch, leave_out: Callable[..., None]) -> int:
    monkeypatch.setattr(tracing, "leave_out_zeros", leave_out)
    session = assembled("WGAN_GP")
    capture, made = made_graphs(session)
    session.strategy.process_iteration(0)
    assert capture.refused == {}
    return sum(node.target in {ATEN.mm.default, ATEN.addmm.default} for node in made[0].graph.nodes)


def test_a_penalty_has_no_products_with_second_derivatives_that_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the critic's ReLUs would go back through the three layers below its last one once more.

    These are two products for each, one for the lowest; and without them nobody asks for the last one's output.
    """
    whole = products_of_the_critic(monkeypatch, lambda graph: None)
    assert products_of_the_critic(monkeypatch, leave_out_zeros) == whole - 6
