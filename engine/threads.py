"""How many processor threads a job uses: one or all, whichever a short measurement shows to be faster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from ganglion.engine.device import usable_cores
from ganglion.engine.processes import this_process
from ganglion.engine.session import Session
from ganglion.engine.state import copied

SECONDS = 0.15  # per candidate and round
ROUNDS = 2
SLOW = 1.0  # seconds per iteration above which one is enough
MARGIN = 0.9  # more threads must be clearly faster: on a busy machine they are much slower


class Threads(NamedTuple):
    """Sentences on what was decided, and the seconds that an iteration takes with it, where that was measured."""

    notices: Sequence[str] = ()
    seconds: float | None = None


def settle_threads(session: Session) -> Threads:
    """Decide the number of threads, before iteration 0 and for good."""
    wanted = session.plan.values.get(session.plan.key("threads"))
    if wanted is not None:
        torch.set_num_threads(int(wanted))
        return Threads()
    threads, settled = share_of_cores() if this_process().count > 1 else choose_threads(session)
    session.plan.values[session.plan.key("threads")] = threads
    return settled


def choose_threads(session: Session) -> tuple[int, Threads]:
    """Set and return the number of threads, and why; the session's state is left as it was."""
    cores = usable_cores()
    if cores == 1 or any(device.type != "cpu" for device in session.devices.values()):
        return torch.get_num_threads(), Threads()
    times = dict.fromkeys((1, cores), float("inf"))
    try:
        for _ in range(ROUNDS):
            for threads in times:
                torch.set_num_threads(threads)
                with left_alone(session):
                    times[threads] = min(times[threads], seconds_per_iteration(session))
    finally:
        chosen = cores if times[cores] < MARGIN * times[1] else 1
        torch.set_num_threads(chosen)
    measured = ", ".join(f"{threads}: {1e3 * seconds:.2f} ms" for threads, seconds in times.items())
    sentence = f"threads={chosen} (measured per iteration, by threads: {measured})"
    return chosen, Threads([sentence], times[chosen])


def share_of_cores() -> tuple[int, Threads]:
    """Where several processes share a job and its machine: this one's share of the cores."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", this_process().count))
    threads = max(1, usable_cores() // here)
    torch.set_num_threads(threads)
    return threads, Threads([f"threads={threads} in each of {this_process().count} processes"])


@contextmanager
def left_alone(session: Session) -> Iterator[None]:
    """Iterate to measure something, and leave the session's weights and state as they were."""
    weights, state = copied(session.weights()), copied(session.state_dict())
    try:
        yield
    finally:
        session.load_weights(weights)
        session.load_state_dict(state)


def seconds_per_iteration(session: Session, seconds: float = SECONDS) -> float:
    """The shortest of the iterations that fit in so many seconds, the first of them not counted."""
    last = max(0, session.plan.job.iterations - 1)  # past any warm-up
    began = time.perf_counter()
    session.strategy.process_iteration(last)
    best, until = float("inf"), time.perf_counter() + seconds
    if until - seconds - began > SLOW:  # warming up does not matter then
        return until - seconds - began
    while time.perf_counter() < until:
        began = time.perf_counter()
        session.strategy.process_iteration(last)
        best = min(best, time.perf_counter() - began)
    return best
