"""Inputs that once crashed, mutations of valid ones, and properties: whatever is read is accepted or refused.

`scripts/fuzz` gives each target 100,000 inputs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.filetargets import clear
from fuzz.mutation import mutated
from fuzz.running import Target, answer, corpus, is_command, run
from fuzz.targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from ganglion.engine.errors import EngineError, InputError
from ganglion.engine.job import parse_tokens
from ganglion.engine.settings import format_value, parse_value
from ganglion.engine.tables import clean_lines, clean_text, one_line
from ganglion.engine.tags import check_tag
from ganglion.engine.trees import flatten, unflatten

INPUTS = {"documents": 60, "suites": 120, "tokens": 150, "networks": 150}  # 300 of the others
SEEDED = settings(
    derandomize=True, max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module", autouse=True)
def inputs_in_memory() -> Iterator[None]:
    """What the targets write is removed in the end."""
    yield
    clear()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_changed_is_valid_to_begin_with(name: str) -> None:
    """Some are of use in part only: a table of words, say, has classes but no inputs."""
    refused = [said for data in TARGETS[name].seeds() if (said := answer(TARGETS[name], data)) is not None]
    assert len(refused) <= len(list(TARGETS[name].seeds())) // 2, refused


@pytest.mark.parametrize(
    "path", [path for name in TARGETS for path in corpus(name)], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_an_input_that_once_crashed_is_answered(path: Path) -> None:
    answer(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_accepted_or_refused_in_one_sentence(name: str) -> None:
    tally = run(TARGETS[name], INPUTS.get(name, 300), seed=1)
    assert not tally.crashes, tally.crashes
    assert tally.refused > 0


def test_a_crash_is_counted_and_kept() -> None:
    """The fuzzer itself: it must see what it is for."""

    def read(data: bytes) -> None:
        if b"\0" in data:
            raise KeyError("nul")
        if b"9" in data:
            raise InputError("a nine")

    tally = run(Target("broken", lambda: [b"1234 abcd", b"99"], read), 2000)
    assert tally.accepted > 100 and tally.refused > 100
    (crash,) = tally.crashes.values()
    assert b"\0" in crash.data and crash.reason.startswith("KeyError") and tally.crashed >= 1


def test_the_same_seed_gives_the_same_inputs() -> None:
    one, two = ([mutated([b"abc: 1", b"x"], random.Random(seed)) for seed in range(200)] for _ in range(2))
    assert one == two and len(set(one)) > 100


@SEEDED
@given(some.text())
def test_nothing_that_is_cleaned_reaches_a_terminal_as_a_command(text: str) -> None:
    for cleaned in (clean_text(text), one_line(text)):
        assert not any(map(is_command, cleaned))
    assert not any(map(is_command, clean_lines(text).replace("\n", "")))
    assert len(one_line(text * 50)) <= 2000


@SEEDED
@given(some.one_of(some.text(), some.binary().map(lambda data: data.decode("latin-1"))))
def test_any_text_is_a_value_or_none(text: str) -> None:
    for kind in (int, float, bool, str, int | None, tuple[float, ...], tuple[str, ...]):
        try:
            value = parse_value(kind, text)
        except ValueError:
            continue
        assert repr(parse_value(kind, value)) == repr(value)


@SEEDED
@given(some.one_of(some.integers(), some.floats(allow_nan=False), some.booleans()))
def test_values_come_back_from_their_text(value: float) -> None:
    assert parse_value(type(value), format_value(value)) == value


@SEEDED
@given(some.lists(some.text(), max_size=5))
def test_any_tokens_are_keys_or_refused(tokens: list[str]) -> None:
    try:
        keys = parse_tokens(tokens)
    except EngineError:
        return
    assert len(keys) == len(tokens)


@SEEDED
@given(some.text(max_size=120))
def test_a_tag_stays_in_its_folder(text: str) -> None:
    try:
        tag = check_tag(text)
    except EngineError:
        return
    assert (Path("/runs") / tag).resolve().parent == Path("/runs") and tag.isascii()


LEAVES = some.one_of(some.none(), some.booleans(), some.integers(), some.floats(allow_nan=False), some.text(max_size=9))
KEYS = some.one_of(
    some.text(max_size=9), some.integers(), some.none(), some.tuples(some.integers(), some.text(max_size=3))
)
TREES = some.recursive(
    LEAVES,
    lambda inner: some.one_of(
        some.lists(inner, max_size=4),
        some.lists(inner, max_size=4).map(tuple),
        some.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=20,
)


@SEEDED
@given(TREES)
def test_state_comes_back(tree: object) -> None:
    assert repr(unflatten(*flatten(tree))) == repr(tree)
