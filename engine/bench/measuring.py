"""One task measured: the engine in each of its variants against the loops written by hand, and against the machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch

from ganglion.engine.bench.driving import PLAIN, Engine, engine, variants
from ganglion.engine.bench.limits import Limits, limits_of
from ganglion.engine.bench.loops.tasks import STYLES, WRITTEN, write_loop
from ganglion.engine.bench.timing import Run, Spread, calibrated, in_turn, ratios
from ganglion.engine.errors import EngineError
from ganglion.engine.streams import undisturbed


class How(NamedTuple):
    """How to measure: rounds, seconds per contender and round, threads of torch, device."""

    pairs: int = 9
    seconds: float = 2.0
    threads: int = 1
    device: str = "cpu"


class Against(NamedTuple):
    """One variant of the engine: iterations per second, the loops' times over its own by style, and its limits.

    `execution` is what the variant came to (`auto` decides for itself); `products` and `optimisers` are the shares of
    its time that matrix products and optimisers cannot do without.
    """

    variant: str
    execution: str
    rate: float
    ratios: Mapping[str, Spread]
    products: float
    optimisers: float


class Measured(NamedTuple):
    """One task: iterations per turn, the loops' iterations per second by style, and the engine's variants."""

    task: str
    iterations: int
    loops: Mapping[str, float]
    engine: tuple[Against, ...]


def measure(task: str, how: How, notify: Callable[[str], None]) -> Measured:
    """Measure one task. `notify` is told which variants this machine cannot do."""
    with ExitStack() as stack:
        engines = dict(_engines(task, how, stack, notify))
        rows = engines[PLAIN].rows()
        written = WRITTEN[task]
        shaped = rows.reshape(len(rows), *written.rows[1:])
        loops: dict[str, Run] = {style: write_loop(written, style, shaped, how.device) for style in STYLES}
        limits = {each: limits_in(task, each, how) for each in dict.fromkeys(map(_precision, engines))}
        iterations = calibrated(engines[PLAIN].run, how.seconds, how.device)
        runs: dict[str, Run] = {f"engine {name}": own.run for name, own in engines.items()}
        floors: dict[str, Run] = {f"products {each}": found.products for each, found in limits.items()}
        times = in_turn({**runs, **loops, **floors}, iterations, how.pairs, how.device)
    found = tuple(_against(name, own.execution, times, limits) for name, own in engines.items())
    return Measured(task, iterations, {style: 1 / statistics.median(times[style]) for style in STYLES}, found)


def _engines(task: str, how: How, stack: ExitStack, notify: Callable[[str], None]) -> Iterator[tuple[str, Engine]]:
    """The engine in every variant that fits."""
    for name, keys in variants().items():
        try:
            yield name, stack.enter_context(engine(task, keys, how.threads, how.device))
        except EngineError as error:
            if name == PLAIN:
                raise
            notify(f"{task}: left out {name}: {error}")


def _against(name: str, execution: str, times: Mapping[str, list[float]], limits: Mapping[str, Limits]) -> Against:
    own, precision = times[f"engine {name}"], _precision(name)
    usual = statistics.median(own)
    against = {style: ratios(times[style], own) for style in STYLES}
    products = ratios(times[f"products {precision}"], own).median
    return Against(name, execution, 1 / usual, against, products, limits[precision].optimisers / usual)


def _precision(variant: str) -> str:
    """The precision of a variant; none: the job's own."""
    return variants()[variant].get("precision", "")


def limits_in(task: str, precision: str, how: How) -> Limits:
    """The limits of a task in a precision, counted in an eager iteration."""
    keys = {**variants()[PLAIN], **({"precision": precision} if precision else {})}
    with engine(task, keys, how.threads, how.device) as own:
        own.run(1)
        return limits_of(own.session, own.learner.iteration)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads, and torch's random numbers as they were in the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with undisturbed():
            yield
    finally:
        torch.set_num_threads(before)
