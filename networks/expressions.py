"""The `${...}` expressions of a network definition: names and whole-number arithmetic, read by walking a parse tree."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ganglion.engine.api import suggestion

LENGTH_LIMIT = 200
VALUE_LIMIT = 2**53  # beyond it a size is a mistake, and floats would stop being exact

_WHOLE = re.compile(r"\$\{(.*)\}", re.DOTALL)
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"max": max, "min": min}


def substitute(value: Any, names: Mapping[str, Any]) -> Any:
    """`value` with every `${...}` text in it, lists included, replaced by what it stands for. Raises ValueError."""
    if isinstance(value, (list, tuple)):
        return [substitute(item, names) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    match = _WHOLE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"'{value}': ${{...}} must be the whole value")
    return evaluate(match[1], names)


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """The value of an expression of numbers, names, `+ - * //`, parentheses, `max` and `min`. Raises ValueError."""
    if len(text) > LENGTH_LIMIT:
        raise ValueError(f"${{...}} of {len(text)} characters; {LENGTH_LIMIT} is the limit")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _value(tree.body, names)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"'${{{text}}}' is not an expression of names, numbers, + - * // ( ) max min") from None


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name):
            return _lookup(name, names)
        case ast.Attribute(value=ast.Name(id=head), attr=tail):
            return _lookup(f"{head}.{tail}", names)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](_number(operand, names))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATORS:
            return _apply(_OPERATORS[type(operation)], _number(left, names), _number(right, names))
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as arguments, keywords=[]) if name in _FUNCTIONS:
            numbers = [_number(argument, names) for argument in arguments]
            return _FUNCTIONS[name](numbers)
    raise ValueError(f"'{ast.unparse(node)}' is not allowed in ${{...}}: only names, numbers, + - * // ( ) max min are")


def _number(node: ast.expr, names: Mapping[str, Any]) -> int | float:
    value = _value(node, names)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"'{ast.unparse(node)}' is not a number, so nothing can be calculated with it")
    return value


def _lookup(name: str, names: Mapping[str, Any]) -> Any:
    if name not in names:
        raise ValueError(f"unknown value '{name}' in ${{...}}{suggestion(name, names)}")
    return names[name]


def _apply(function: Callable[[Any, Any], Any], left: float, right: float) -> Any:
    try:
        return _bounded(function(left, right))
    except ZeroDivisionError:
        raise ValueError(f"division of {left} by zero in ${{...}}") from None


def _bounded(value: float) -> float:
    if not abs(value) <= VALUE_LIMIT:
        raise ValueError(f"a value beyond {VALUE_LIMIT} in ${{...}}")
    return value
