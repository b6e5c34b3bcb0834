"""How many processor threads a job uses: one or all, whichever a short measurement shows to be faster."""

from __future__ import annotations

import time

import torch

from ganglion.engine.device import usable_cores
from ganglion.engine.session import Session
from ganglion.engine.state import copied

SECONDS = 0.15  # per candidate and round
ROUNDS = 2
SLOW = 1.0  # seconds per iteration above which one is enough
MARGIN = 0.9  # more threads must be clearly faster: on a busy machine they are much slower


def settle_threads(session: Session) -> list[str]:
    """Decide the number of threads, before iteration 0 and for good; sentences on why."""
    wanted = session.plan.values.get(session.plan.key("threads"))
    if wanted is not None:
        torch.set_num_threads(int(wanted))
        return []
    threads, sentence = choose_threads(session)
    session.plan.values[session.plan.key("threads")] = threads
    return [sentence] if sentence else []


def choose_threads(session: Session) -> tuple[int, str | None]:
    """Set and return the number of threads, and a sentence on why; the session's state is left as it was."""
    cores = usable_cores()
    if cores == 1 or any(device.type != "cpu" for device in session.devices.values()):
        return torch.get_num_threads(), None
    weights, state = copied(session.weights()), copied(session.state_dict())
    times = dict.fromkeys((1, cores), float("inf"))
    try:
        for _ in range(ROUNDS):
            for threads in times:
                torch.set_num_threads(threads)
                times[threads] = min(times[threads], seconds_per_iteration(session))
                session.load_weights(weights)
                session.load_state_dict(state)
    finally:
        chosen = cores if times[cores] < MARGIN * times[1] else 1
        torch.set_num_threads(chosen)
    measured = ", ".join(f"{threads}: {1e3 * seconds:.2f} ms" for threads, seconds in times.items())
    return chosen, f"threads={chosen} (measured per iteration, by threads: {measured})"


def seconds_per_iteration(session: Session) -> float:
    """The shortest of some iterations, the first of them not counted."""
    last = max(0, session.plan.job.iterations - 1)  # past any warm-up
    began = time.perf_counter()
    session.strategy.process_iteration(last)
    best, until = float("inf"), time.perf_counter() + SECONDS
    if until - SECONDS - began > SLOW:  # warming up does not matter then
        return until - SECONDS - began
    while time.perf_counter() < until:
        began = time.perf_counter()
        session.strategy.process_iteration(last)
        best = min(best, time.perf_counter() - began)
    return best
