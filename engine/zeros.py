"""Left out of a graph: what is multiplied by nothing but zeros, and what that is added to."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

ATEN = torch.ops.aten
CONSTANTS = {ATEN.full.default: 1, ATEN.full_like.default: 1, ATEN.scalar_tensor.default: 0}  # where their number is
MADE_OF_ZEROS = {ATEN.zeros.default, ATEN.zeros_like.default}
PRODUCTS = {ATEN.mm.default, ATEN.bmm.default, ATEN.mul.Tensor, ATEN.mul.Scalar}  # zero where one factor is
FOLLOW_THE_FIRST = {  # zero where what they are made of first is, as views are, too
    ATEN.clone.default,
    ATEN.convolution_backward.default,
    ATEN.neg.default,
    ATEN.sum.default,
    ATEN.sum.dim_IntList,
    operator.getitem,
}
SUMS = {ATEN.add.Tensor, ATEN.sub.Tensor}


def leave_out_zeros(graph: GraphModule) -> None:
    """Replace what is all zeros by a constant, and sums with it by their other part; nothing may be changed in place.

    The second derivatives of ReLU and LeakyReLU are zero, and torch takes them through the layers below, by products:
    an eighth of the multiplications of a critic of perceptrons with a gradient penalty. Zero times infinity is zero
    then, and not NaN.
    """
    zeros: set[Node] = set()
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        if _is_zero(node, zeros):
            zeros.add(node)
        elif node.target in SUMS and (rest := _rest(node, zeros)) is not None:
            node.replace_all_uses_with(rest)
    for node in zeros:
        _replace(graph, node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _is_zero(node: Node, zeros: set[Node]) -> bool:
    target, given = node.target, node.args
    if target in CONSTANTS:
        return bool(given[CONSTANTS[target]] == 0)
    if target in MADE_OF_ZEROS:
        return True
    if target in PRODUCTS:
        return given[0] in zeros or given[1] in zeros
    if target in FOLLOW_THE_FIRST or getattr(target, "is_view", False):
        return given[0] in zeros
    if target is ATEN.where.self:
        return given[1] in zeros and given[2] in zeros
    return target in SUMS and given[0] in zeros and given[1] in zeros


def _rest(node: Node, zeros: set[Node]) -> Node | None:
    """What a sum with zeros is: its other part, where that has the same layout; else None."""
    first, second = node.args[:2]
    rest = first if second in zeros else second if first in zeros and node.target is ATEN.add.Tensor else None
    if not isinstance(rest, Node) or node.kwargs:  # a factor: alpha
        return None
    return rest if _layout(rest) == _layout(node) else None


def _layout(node: Node) -> Any:
    value = node.meta.get("val")
    return (value.shape, value.stride(), value.dtype, value.device) if isinstance(value, Tensor) else node


def _replace(graph: GraphModule, node: Node) -> None:
    """A constant in the place of what was computed, where it lies in memory as constants do."""
    value = node.meta.get("val")
    if node.target in CONSTANTS or not isinstance(value, Tensor) or not value.is_contiguous():
        return
    with graph.graph.inserting_before(node):
        kind: dict[str, Any] = {"dtype": value.dtype, "device": value.device}
        constant = graph.graph.call_function(ATEN.full.default, (list(value.shape), 0), kind)
    constant.meta["val"] = value
    node.replace_all_uses_with(constant)
