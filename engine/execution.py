"""How updates are carried out: as they are written, or as graphs; decided before iteration 0, from times."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ganglion.engine.bounding import Bounded
from ganglion.engine.capture import Capture
from ganglion.engine.cudagraphs import CudaRecorder, Recorded, Recorder, only_gpu, seconds_on
from ganglion.engine.device import usable_cores
from ganglion.engine.errors import ConfigError
from ganglion.engine.processes import this_process
from ganglion.engine.session import Session
from ganglion.engine.threads import left_alone, seconds_per_iteration
from ganglion.engine.tracing import Compiler, inductor

WORTH = 240.0  # seconds of a processor that a run must be expected to take before graphs are tried
GRAPH_SECONDS = 25.0  # of a processor that the graph of one role's loss takes to make, where nothing is cached
SHARE = 0.3  # of what a run is expected to take, what graphs can pay back
PATIENCE = 3.0  # how many times the estimate graphs may take to make
MARGIN = 0.95  # what the graphs' time must be below, as a share of the time without
ROUNDS = 3
GLANCE = 0.03  # seconds of measuring whether a run is long enough
LOOK = 0.3  # the same, where it seems to be: how busy the machine is is measured then, too
RECORDING_SECONDS = 10.0  # of iterations, after which those that were recorded are all that is measured with


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


def use_recordings(session: Session, recorder: Recorder) -> Capture:
    """Let the session's losses run as recordings from now on, made when they are first needed."""
    capture = Capture(session.networks, session.chains, Recorded(recorder), comparisons=2, elementary=False)
    _set(session, capture)
    return capture


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which graphs need on a CPU."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++", "cl"]))


def to_measure(session: Session) -> list[str]:
    """The keys that would save what has to be measured before iteration 0, which may take a while."""
    on_cpu = _on_cpu(session)
    if this_process().count > 1 or not (on_cpu or only_gpu(session)):
        return []
    threads = on_cpu and session.plan.values.get(session.plan.key("threads")) is None and usable_cores() > 1
    execution = session.plan.job.execution == "auto" and (not on_cpu or has_compiler())
    return [*(["threads=1"] if threads else []), *(["execution=eager"] if execution else [])]


def settle_execution(
    session: Session, seconds: float | None = None, say: Callable[[str], None] = lambda clause: None
) -> Execution:
    """Set up what the job's `execution` names, `auto` being decided here; the session's state is left as it was.

    `seconds` is what an iteration takes as it is written, where that is known; `say` is told when graphs are begun.

    Raises ConfigError for `graph` where there cannot be CUDA graphs.
    """
    wanted = session.plan.job.execution
    on_cpu = _on_cpu(session)
    if wanted == "graph":
        return _recorded(session)
    if wanted == "eager":
        return Execution("eager", "asked for")
    if wanted == "auto" and this_process().count > 1:
        return Execution("eager", "several processes share the job; execution=compile would make graphs in each")
    if on_cpu and not has_compiler():
        return Execution("eager", "there is no C++ compiler here, which graphs need", told=wanted == "compile")
    if wanted == "compile":
        use_graphs(session)
        return Execution("compile", "graphs are made when they are first needed, which takes a while", told=True)
    return _measured(session, seconds, say) if on_cpu else _measured_recordings(session)


def _recorded(session: Session) -> Execution:
    """Let losses run as CUDA graphs. Raises ConfigError where there cannot be any."""
    gpu = only_gpu(session)
    if gpu is None:
        places = ", ".join(f"the {role} on {device}" for role, device in session.devices.items())
        raise ConfigError(
            f"execution=graph: CUDA graphs need all networks on one NVIDIA GPU, and here are {places}; "
            "use auto, eager or compile"
        )
    if this_process().count > 1:
        raise ConfigError("execution=graph: several processes share the job, and CUDA graphs are for one; use eager")
    use_recordings(session, CudaRecorder(gpu))
    return Execution("graph", "CUDA graphs are recorded when they are first needed", told=True)


class Pace(NamedTuple):
    """Seconds that the run is expected to take here, and how many times longer that is because others compute, too."""

    expected: float
    load: float

    @property
    def alone(self) -> float:
        """What the run would take on a machine of its own."""
        return self.expected / self.load


def _measured(session: Session, seconds: float | None, say: Callable[[str], None]) -> Execution:
    """Try graphs where the run is long enough to pay for them, and keep them where they are faster."""
    pace = _pace(session, seconds)
    if pace.alone < WORTH:
        return Execution("eager", f"a run of about {pace.alone:.0f} s does not pay for compiling")
    estimate = GRAPH_SECONDS * len(session.chains) * pace.load
    known = "less where they were made before; not with execution=eager"
    say(f"makes graphs of its losses, which takes some {estimate:.0f} s ({known})")
    compiler = Bounded(inductor, min(SHARE * pace.expected, PATIENCE * estimate), len(session.chains))
    times, keep = {"compile": float("inf"), "eager": float("inf")}, False
    try:
        with left_alone(session):
            capture = use_graphs(session, compiler)
            _make_graphs(session, capture, compiler)
        spent, capture.compiler = compiler.spent, inductor  # later graphs must not depend on the clock
        if compiler.given_up:
            return _given_up(pace, compiler.made, spent)
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


def _given_up(pace: Pace, made: int, spent: float) -> Execution:
    reason = (
        f"making graphs was given up after {spent:.0f} s for {made} of them: it takes longer than a run of about "
        f"{pace.expected:.0f} s pays back"
    )
    if pace.expected == float("inf"):
        reason = f"making graphs was given up after {spent:.0f} s for {made} of them, far more than was expected"
    return Execution("eager", reason, {"graphSeconds": spent}, told=True)


def _pace(session: Session, seconds: float | None) -> Pace:
    """How long the run takes, at so many seconds per iteration where that is known, or else as it is measured."""
    with left_alone(session):
        known = _expected(session, seconds or seconds_per_iteration(session, GLANCE))
        if known < WORTH:
            return Pace(known, 1.0)
        wall, own = _wall_and_own(session)
    return Pace(_expected(session, wall), max(1.0, wall / own))


def _wall_and_own(session: Session) -> tuple[float, float]:
    """Seconds per iteration by the clock, and those of them in which the processor was this process's own."""
    last, count = max(0, session.plan.job.iterations - 1), 0
    session.strategy.process_iteration(last)
    began, used = time.perf_counter(), time.thread_time()
    while not count or time.perf_counter() - began < LOOK:
        session.strategy.process_iteration(last)
        count += 1
    wall = time.perf_counter() - began
    return wall / count, (time.thread_time() - used or wall) / count


def _expected(session: Session, seconds: float) -> float:
    """How long the run will take, at so many seconds per iteration; one without an end takes for ever."""
    job = session.plan.job
    whole = float("inf") if job.iterations < 0 else seconds * job.iterations
    return min(whole, job.seconds or float("inf"))


def _make_graphs(session: Session, capture: Capture, compiler: Bounded) -> None:
    """Iterate until no new graph was made for a while: lazy penalties and warm-ups have graphs of their own."""
    quiet, last = 0, max(0, session.plan.job.iterations - 1)
    while quiet < 20 and not compiler.given_up and (not quiet or compiler.spent < compiler.seconds):
        before = capture.graphs()
        session.strategy.process_iteration(last)
        quiet = quiet + 1 if capture.graphs() == before else 0


def _measured_recordings(session: Session) -> Execution:
    """Record graphs, which takes next to no time, and keep them where iterations are faster with them."""
    gpu = only_gpu(session)
    if gpu is None:
        return Execution("eager", "graphs are tried by themselves on CPUs, and on one NVIDIA GPU for all networks")
    times, capture, began = {"graph": float("inf"), "eager": float("inf")}, None, time.perf_counter()
    keep = False
    try:
        with left_alone(session):
            capture = use_recordings(session, CudaRecorder(gpu))
            _make_recordings(session, capture)
        spent = time.perf_counter() - began
        for _ in range(ROUNDS if capture.graphs() else 0):
            for name, best in times.items():
                _set(session, capture if name == "graph" else None)
                with left_alone(session):
                    times[name] = min(best, seconds_on(gpu, session))
        keep = times["graph"] < MARGIN * times["eager"]
    finally:
        _set(session, capture if keep else None)
    if not capture.graphs():
        return Execution("eager", f"no loss can be a CUDA graph: {_reasons(capture)}")
    milliseconds = {name: 1e3 * seconds for name, seconds in times.items()}
    reason = (
        f"per iteration {milliseconds['graph']:.2f} ms with {capture.graphs()} CUDA graphs, recorded in {spent:.0f} s, "
        f"and {milliseconds['eager']:.2f} ms without"
    )
    figures = {"eagerMilliseconds": milliseconds["eager"], "graphMilliseconds": milliseconds["graph"]}
    figures.update(graphs=capture.graphs(), graphSeconds=spent)
    return Execution("graph" if keep else "eager", reason, figures, told=True)


def _make_recordings(session: Session, capture: Capture) -> None:
    """Iterate until nothing new was recorded for a while, so that each recording was compared twice as well."""
    quiet, last, began = 0, max(0, session.plan.job.iterations - 1), time.perf_counter()
    while quiet < 20 and (quiet < 2 or time.perf_counter() - began < RECORDING_SECONDS):
        before = capture.graphs()
        session.strategy.process_iteration(last)
        quiet = quiet + 1 if capture.graphs() == before else 0


def _reasons(capture: Capture) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in capture.refused.items())


def _on_cpu(session: Session) -> bool:
    return all(device.type == "cpu" for device in session.devices.values())


def _set(session: Session, capture: Capture | None) -> None:
    for chain in session.chains.values():
        chain.capture = capture


def refusals(session: Session) -> dict[str, str]:
    """The losses that are carried out as they are written although graphs are used, each with the reason."""
    return {} if session.capture is None else dict(session.capture.refused)
