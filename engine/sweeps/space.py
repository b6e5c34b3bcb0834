"""Which of a sweep's keys one trial has: a key of what the trial has not chosen is neither drawn nor refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from ganglion.engine.errors import ConfigError, EngineError, fold
from ganglion.engine.settings import NotUsed, format_value
from ganglion.engine.sweeps.ranges import Drawn, Range

MOST = 256  # combinations of choices that are tried to find out whether a key is ever used

Resolve = Callable[[Mapping[str, str]], object]  # raises NotUsed for a key that nothing takes, ConfigError otherwise


class Space:
    """The keys of a sweep: those with a value, those with a range, and `resolve`, which tries a job with some."""

    def __init__(self, fixed: Mapping[str, str], ranges: Sequence[Range], resolve: Resolve) -> None:
        self.fixed = dict(fixed)
        self.ranges = tuple(ranges)
        self.resolve = resolve

    def draw(self, pick: Callable[[Range], Drawn]) -> dict[str, Drawn]:
        """One trial: every range that it takes, by `pick`, each after those that decide whether it is taken."""
        drawn: dict[str, Drawn] = {}
        left = list(self.ranges)
        while True:
            before = len(left)
            for each in list(left):
                if all(one.holds(drawn) for one in each.conditions) and self._takes(drawn, each):
                    drawn[each.key] = pick(each)
                    left.remove(each)
            if len(left) == before:
                break
        with suppress(ConfigError):  # a combination that is wrong is a trial that fails
            unused = self.settle(drawn)[1]
            return {key: value for key, value in drawn.items() if key not in unused}
        return drawn

    def combinations(self) -> Iterator[dict[str, Drawn]]:
        """Every trial that choices and whole numbers can make, the last key fastest; one may come several times."""
        places: list[int] = []  # of the values, in the order in which they are picked
        while True:
            sizes: list[int] = []

            def pick(each: Range, sizes: list[int] = sizes) -> Drawn:
                values = each.choices or range(int(each.low), int(each.high) + 1)
                if len(sizes) == len(places):
                    places.append(0)
                sizes.append(len(values))
                return values[places[len(sizes) - 1]]

            yield self.draw(pick)
            while places and places[-1] + 1 == sizes[len(places) - 1]:
                places.pop()
            if not places:
                return
            places[-1] += 1

    def keys(self, drawn: Mapping[str, Drawn]) -> dict[str, str]:
        """All keys of one trial, as text."""
        with suppress(ConfigError):
            return self.settle(drawn)[0]
        return {**self.fixed, **_texts(drawn)}

    def _takes(self, drawn: Mapping[str, Drawn], each: Range) -> bool:
        with suppress(ConfigError):
            return each.key not in self.settle({**drawn, each.key: each.probes()[0]})[1]
        return True  # told when the ranges are checked, or by the trial

    def settle(self, drawn: Mapping[str, Drawn]) -> tuple[dict[str, str], dict[str, NotUsed]]:
        """The keys that a job with these values takes, and those that it does not. Raises ConfigError."""
        kept, unused = {**self.fixed, **_texts(drawn)}, dict[str, NotUsed]()
        while True:
            try:
                self.resolve(kept)
                return kept, unused
            except NotUsed as error:
                key = _meant(error.key, kept)
                if key is None:
                    raise
                unused[key] = error
                del kept[key]

    def check(self) -> None:
        """Try both ends of every range, and all choices. Raises ConfigError, also for a key that is never used."""
        waiting = {*self.fixed, *(each.key for each in self.ranges)}
        tried: set[str] = set()
        told: dict[str, NotUsed] = {}
        choices = [each for each in self.ranges if each.kind == "choice" or _decides(each, self.ranges)]
        for chosen in _one_by_one(choices):
            kept, unused = self._tried(chosen, tried)
            told = {**unused, **told}
            waiting -= {*kept}
        for chosen in itertools.islice(_combined(choices), MOST):
            if not waiting:
                return
            with suppress(ConfigError):  # choices that do not go together are trials that fail
                waiting -= {*self._tried(chosen, tried)[0]}
        for each in self.ranges:  # tells what is wrong with a key that no combination takes
            if each.key in waiting:
                raise _never(each, self.settle({each.key: each.probes()[0]})[1].get(each.key))
        for key in self.fixed:
            if key in waiting:
                raise told[key]

    def _tried(self, chosen: Mapping[str, Drawn], tried: set[str]) -> tuple[dict[str, str], dict[str, NotUsed]]:
        """A trial with some values, and all probes of the ranges that are drawn here for the first time."""
        drawn = self.draw(lambda each: chosen.get(each.key, each.probes()[0]))
        settled = self.settle(drawn)
        for each in self.ranges:
            if each.key in drawn and each.key not in tried:
                tried.add(each.key)
                for value in each.probes():
                    try:
                        self.settle({**drawn, each.key: value})
                    except EngineError as error:
                        raise type(error)(f"{each.key}={each}: {error}") from None
        return settled


def _one_by_one(choices: Sequence[Range]) -> Iterator[dict[str, Drawn]]:
    """The first choice of each, then every other one beside the first of the others."""
    yield {}
    for each in choices:
        for value in _values(each)[1:]:
            yield {each.key: value}


def _combined(choices: Sequence[Range]) -> Iterator[dict[str, Drawn]]:
    for combination in itertools.product(*map(_values, choices)):
        yield {each.key: value for each, value in zip(choices, combination, strict=True)}


def _decides(each: Range, ranges: Sequence[Range]) -> bool:
    return any(one.key == each.key for other in ranges for one in other.conditions)


def _values(each: Range) -> tuple[Drawn, ...]:
    return each.choices or tuple(range(int(each.low), min(int(each.high), int(each.low) + MOST) + 1))


def _texts(drawn: Mapping[str, Drawn]) -> dict[str, str]:
    return {key: format_value(value) for key, value in drawn.items()}


def _meant(key: str, kept: Mapping[str, str]) -> str | None:
    """The key that was given and is not used; what was given for all roles may be told of one."""
    for form in (key, key.partition(".")[2]):
        for each in kept:
            if form and fold(each) == fold(form):
                return each
    return next((each for each in kept if fold(each.rpartition(".")[2]) == fold(key.rpartition(".")[2])), None)


def _never(each: Range, error: NotUsed | None) -> ConfigError:
    if error is None:
        return ConfigError(f"{each.key}={each}: no choice of the others lets a trial have it")
    return ConfigError(f"{each.key}={each}: {error}")
