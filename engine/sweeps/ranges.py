"""Ranges in place of a key's value: `log(1e-5,1e-2)`, `choice(16,64,256)`, each with the conditions that it has."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ganglion.engine.errors import ConfigError, fold, nearest, suggestion
from ganglion.engine.settings import format_value, parse_value

KINDS = ("uniform", "log", "int", "choice")
WRITTEN = re.compile(r"\s*([A-Za-z]+)\s*\((.*)\)\s*(?:if\s+(.+))?\s*", re.DOTALL)
CONDITION = re.compile(r"\s*([^=!\s]+)\s*(!?=)\s*(.+?)\s*")
FORMS = "uniform(low,high), log(low,high), int(low,high) or choice(a,b,...)"
WITHIN = 0.381966  # where between its ends a range is tried, too: no whole number and no round one

Drawn = float | int | str


class Condition(NamedTuple):
    """A range is drawn where the value of another one is, or is not, among some."""

    key: str
    values: tuple[str, ...]
    equal: bool = True

    def holds(self, drawn: Mapping[str, Drawn]) -> bool:
        """Whether it does for what has been drawn; a key that was not drawn has no value."""
        if self.key not in drawn:
            return False
        return (fold(format_value(drawn[self.key])) in map(fold, self.values)) is self.equal


class Range(NamedTuple):
    """What a key may be: between two numbers, or one of several texts."""

    key: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def probes(self) -> tuple[Drawn, ...]:
        """Values that must all be right, so that every one is: both ends and one between them, or every choice."""
        if self.kind == "choice":
            return self.choices
        if self.kind == "int":
            return int(self.low), int(self.high)
        if self.kind == "log":
            between = math.exp(math.log(self.low) + WITHIN * (math.log(self.high) - math.log(self.low)))
        else:
            between = self.low + WITHIN * (self.high - self.low)
        return self.low, between, self.high

    def __str__(self) -> str:
        numbers = (int(self.low), int(self.high)) if self.kind == "int" else (self.low, self.high)
        inner = self.choices if self.kind == "choice" else map(format_value, numbers)
        signs = {True: "=", False: "!="}
        conditions = " and ".join(f"{each.key}{signs[each.equal]}{'|'.join(each.values)}" for each in self.conditions)
        return f"{self.kind}({','.join(inner)}){f' if {conditions}' if conditions else ''}"


def is_range(text: str) -> bool:
    """Whether a value is written as a range is, be it right or not."""
    found = WRITTEN.fullmatch(text)
    return found is not None and nearest(found[1], KINDS) is not None


def parse_range(key: str, text: str) -> Range:
    """The range that a key is given. Raises ConfigError with what is wrong."""
    found = WRITTEN.fullmatch(text)
    if found is None or fold(found[1]) not in KINDS:
        raise ConfigError(f"{key}={text}: expected {FORMS}")
    kind, inner = fold(found[1]), split(found[2])
    conditions = tuple(_condition(key, text, part) for part in re.split(r"\s+and\s+", found[3])) if found[3] else ()
    if kind == "choice":
        if not inner or not all(inner) or len({fold(each) for each in inner}) < len(inner):
            raise ConfigError(f"{key}={text}: expected different choices with commas between them")
        return Range(key, kind, choices=tuple(inner), conditions=conditions)
    with suppress(ValueError, OverflowError):
        low, high = (parse_value(int if kind == "int" else float, each) for each in inner)
        if math.isfinite(low) and math.isfinite(high) and low < high and (kind != "log" or low > 0):
            return Range(key, kind, low, high, conditions=conditions)
    numbers = {"int": "two whole numbers", "log": "two numbers above 0"}.get(kind, "two numbers")
    raise ConfigError(f"{key}={text}: expected {numbers}, the smaller first, e.g. {kind}(1,5)")


def split(text: str) -> list[str]:
    """The parts between commas, but those in brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([") - (sign in ")]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts] if text.strip() else []


def _condition(key: str, text: str, part: str) -> Condition:
    found = CONDITION.fullmatch(part)
    if found is None or not all(value.strip() for value in found[3].split("|")):
        raise ConfigError(f"{key}={text}: expected 'if KEY=VALUE', 'if KEY=A|B' or 'if KEY!=VALUE', got 'if {part}'")
    return Condition(found[1], tuple(value.strip() for value in found[3].split("|")), found[2] == "=")


def ordered(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """The order in which they are drawn: choices first, and each after those that its conditions name.

    Raises ConfigError for a condition on a key without a range or on a value outside it, and for a circle of them.
    """
    known = {fold(each.key): each for each in ranges}
    left = [_with_known(each, known) for each in ranges]
    deciding = {one.key for each in left for one in each.conditions}
    left.sort(key=lambda each: each.kind != "choice" and each.key not in deciding)
    found: list[Range] = []
    while left:
        done = {each.key for each in found}
        free = next((each for each in left if all(one.key in done for one in each.conditions)), None)
        if free is None:
            raise ConfigError(f"the conditions of {' and '.join(each.key for each in left)} wait for each other")
        found.append(free)
        left.remove(free)
    return tuple(found)


def _with_known(given: Range, known: Mapping[str, Range]) -> Range:
    """The range with the keys of its conditions as they are spelt where they are given a range."""
    conditions = []
    for each in given.conditions:
        other = known.get(fold(each.key))
        if other is None or other.kind not in ("choice", "int"):
            choices = [one.key for one in known.values() if one.kind in ("choice", "int") and one.key != given.key]
            raise ConfigError(
                f"{given.key}={given}: 'if' names a key that is given a choice(...) or an int(...), "
                f"and {each.key} is not{suggestion(each.key, choices)}"
            )
        for value in each.values:
            _refuse_never(given, other, value)
        conditions.append(each._replace(key=other.key))
    return given._replace(conditions=tuple(conditions))


def _refuse_never(given: Range, other: Range, value: str) -> None:
    """Raise ConfigError for a condition on a value that the other range never has."""
    with suppress(ValueError, OverflowError):
        if other.kind == "int" and other.low <= parse_value(int, value) <= other.high:
            return
    if fold(value) not in map(fold, other.choices):
        hint = suggestion(value, other.choices)
        raise ConfigError(f"{given.key}={given}: {other.key}={other} is never {value}{hint}")
