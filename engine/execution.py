"""How updates are carried out: as they are written, or as compiled graphs; decided before iteration 0, from times."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from typing import NamedTuple

from ganglion.engine.capture import Capture
from ganglion.engine.errors import ConfigError
from ganglion.engine.processes import this_process
from ganglion.engine.session import Session
from ganglion.engine.threads import left_alone, seconds_per_iteration
from ganglion.engine.tracing import Compiler, inductor

WORTH = 240.0  # seconds that a run must be expected to take before graphs are tried: they take up to a minute to make
MARGIN = 0.95  # what the graphs' time must be below, as a share of the time without
ROUNDS = 3
GLANCE = 0.03  # seconds of measuring whether a run is long enough
MOST_SECONDS = 300.0  # of making graphs, after which the rest is carried out as it is written


class Execution(NamedTuple):
    """What was decided, why, and the figures that it was decided on (milliseconds per iteration, seconds)."""

    name: str
    reason: str
    figures: Mapping[str, float] = {}
    told: bool = False  # whether a person should know

    def notices(self) -> list[str]:
        """What a person is told: nothing where nothing was tried."""
        return [f"execution={self.name} ({self.reason})"] if self.told else []


def use_graphs(session: Session, compiler: Compiler | None = None) -> Capture:
    """Let the session's losses run as graphs from now on, made when they are first needed."""
    capture = Capture(session.networks, session.chains, compiler or inductor)
    _set(session, capture)
    return capture


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which graphs need on a CPU."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++", "cl"]))


def settle_execution(session: Session, seconds: float | None = None) -> Execution:
    """Set up what the job's `execution` names, `auto` being decided here; the session's state is left as it was.

    `seconds` is what an iteration takes as it is written, where that is known.

    Raises ConfigError for `graph`.
    """
    wanted = session.plan.job.execution
    on_cpu = all(device.type == "cpu" for device in session.devices.values())
    if wanted == "graph":
        raise ConfigError("execution=graph: CUDA graphs are not made by this version; use auto, eager or compile")
    if wanted == "eager":
        return Execution("eager", "asked for")
    if wanted == "auto" and this_process().count > 1:
        return Execution("eager", "several processes share the job; execution=compile would make graphs in each")
    if on_cpu and not has_compiler():
        return Execution("eager", "there is no C++ compiler here, which graphs need", told=wanted == "compile")
    if wanted == "compile":
        use_graphs(session)
        return Execution("compile", "graphs are made when they are first needed, in up to a minute", told=True)
    if not on_cpu:
        return Execution("eager", "graphs are tried by themselves on CPUs only")
    return _measured(session, seconds)


def _measured(session: Session, seconds: float | None) -> Execution:
    """Try graphs where the run is long enough to pay for them, and keep them where they are faster."""
    with left_alone(session):
        eager = seconds or seconds_per_iteration(session, GLANCE)
    expected = _expected(session, eager)
    if expected < WORTH:
        return Execution("eager", f"a run of about {expected:.0f} s does not pay for compiling")
    times, keep = {"compile": float("inf"), "eager": float("inf")}, False
    try:
        began = time.monotonic()
        with left_alone(session):
            capture = use_graphs(session)
            _make_graphs(session, capture)
        spent = time.monotonic() - began
        for _ in range(ROUNDS):
            for name, best in times.items():
                _set(session, capture if name == "compile" else None)
                with left_alone(session):
                    times[name] = min(best, seconds_per_iteration(session))
        keep = capture.graphs() > 0 and times["compile"] < MARGIN * times["eager"]
    finally:
        _set(session, capture if keep else None)
    figures = {"eagerMilliseconds": 1e3 * times["eager"], "compiledMilliseconds": 1e3 * times["compile"]}
    reason = (
        f"per iteration {1e3 * times['compile']:.2f} ms with {capture.graphs()} graphs, made in {spent:.0f} s, and "
        f"{1e3 * times['eager']:.2f} ms without"
    )
    figures.update(graphs=capture.graphs(), graphSeconds=spent)
    return Execution("compile" if keep else "eager", reason, figures, told=True)


def _expected(session: Session, seconds: float) -> float:
    """How long the run will take, at so many seconds per iteration; one without an end takes for ever."""
    job = session.plan.job
    whole = float("inf") if job.iterations < 0 else seconds * job.iterations
    return min(whole, job.seconds or float("inf"))


def _make_graphs(session: Session, capture: Capture) -> None:
    """Iterate until no new graph was made for a while: lazy penalties and warm-ups have graphs of their own."""
    until, quiet = time.monotonic() + MOST_SECONDS, 0
    last = max(0, session.plan.job.iterations - 1)
    while quiet < 20 and time.monotonic() < until:
        before = capture.graphs()
        session.strategy.process_iteration(last)
        quiet = quiet + 1 if capture.graphs() == before else 0


def _set(session: Session, capture: Capture | None) -> None:
    for chain in session.chains.values():
        chain.capture = capture


def refusals(session: Session) -> dict[str, str]:
    """The losses that are carried out as they are written although graphs are used, each with the reason."""
    return {} if session.capture is None else dict(session.capture.refused)
