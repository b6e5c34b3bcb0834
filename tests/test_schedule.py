"""Schedules as data."""

from __future__ import annotations

import pytest

from ganglion.engine.errors import ConfigError
from ganglion.strategies.schedule import Turn, parse_schedule


def test_phases_end_where_they_say() -> None:
    schedule = parse_schedule("discriminator*100 generator until 25, critic*5 generator*2")
    assert schedule.turns(0) == schedule.turns(24) == (Turn("discriminator", 100), Turn("generator", 1))
    assert schedule.turns(25) == schedule.turns(10**9) == (Turn("discriminator", 5), Turn("generator", 2))
    assert parse_schedule(str(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("discriminater*5 generator", "did you mean 'discriminator'"),
        ("discriminator*0 generator", "is not PLAYER"),
        ("discriminator until 5", "every phase but the last"),
        ("discriminator, generator", "every phase but the last"),
        ("generator until 9, discriminator until 3, generator", "must increase"),
        ("", "names no player"),
    ],
)
def test_wrong_schedules_are_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("*", r"\*")):
        parse_schedule(text)
