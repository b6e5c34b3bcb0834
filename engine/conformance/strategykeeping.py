"""Checks of strategies: resume, seeds, batch size, types and devices, unseen rows, and what must change nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganglion.engine.conformance.courses import ITERATIONS, STOP, MemoryStore, difference, iterate
from ganglion.engine.conformance.referee import Referee
from ganglion.engine.conformance.results import Check, Failed, Skipped
from ganglion.engine.conformance.sharing import first_difference, weights_alone_and_shared
from ganglion.engine.conformance.strategytrial import StrategyTrial
from ganglion.engine.conformance.watching import default_type
from ganglion.engine.contracts import LearnProgress
from ganglion.engine.execution import use_graphs
from ganglion.engine.learner import Learner
from ganglion.engine.session import Session
from ganglion.engine.state import copied
from ganglion.engine.streams import RandomStream
from ganglion.engine.trace import Traces
from ganglion.engine.tracing import interpreted

GRAPH_ITERATIONS = 8
BUSY: dict[str, Any] = {
    **dict.fromkeys(("traceInterval", "sampleInterval", "storeInterval", "validationInterval", "healthInterval"), 1),
    "storeSeconds": 0,
    "samples": 4,
}


def check_seeds(trial: StrategyTrial) -> None:
    """The same seed gives the same weights to the last bit, and another seed others."""
    straight = trial.straight
    other = difference(straight.end, trial.repeated.end)
    if other is not None:
        raise Failed(
            f"two runs with the same seed differ, first in {other}: draw from self.random('name') only, and let "
            "nothing depend on time, hash() or the order of a set"
        )
    with trial.job.session(seed=2) as session:
        iterate(session, 0, STOP)
        drawn, weights = session.weights(), straight.middle.weights()
    if all(torch.equal(value, weights[role][name]) for role in drawn for name, value in drawn[role].items()):
        raise Failed("another seed gives the same weights: draw from self.random('name'), which follows the job's seed")


def check_resume(trial: StrategyTrial) -> None:
    """Stopped and gone on with is never having stopped, to the last bit."""
    straight = trial.straight
    if straight.changed_unsaved:
        named = ", ".join(f"'{name}'" for name in straight.changed_unsaved)
        raise Failed(
            f"the attribute{'s' if len(straight.changed_unsaved) > 1 else ''} {named} changed while learning, and no "
            "checkpoint keeps such values: use tensors, numbers, texts, lists of them, or objects with a state_dict"
        )
    straight.middle.state()
    other = difference(straight.end, trial.resumed)
    if other is not None:
        raise Failed(
            f"a run that stops after {STOP} of {ITERATIONS} iterations and goes on ends otherwise, first in {other}: "
            "what it depends on must be an attribute of the strategy, set in setup() and saved with it"
        )


def check_batch_size(trial: StrategyTrial) -> None:
    """It learns with another batch size, and uses it."""
    sampler = trial.straight.session.sampler
    size = sampler.batch_size * 2
    if size > len(sampler.dataset):
        size = sampler.batch_size // 2
    with trial.job.session(batchSize=size) as session:
        referee = Referee(session)
        with referee.watching():
            iterate(session, 0, 2)
    before = {(fed.role, fed.rows) for fed in trial.straight.referee.fed}
    rows = {(fed.role, fed.rows) for fed in referee.fed}
    if not rows:
        raise Skipped("no call of a network with a tensor was seen")
    if rows <= before:
        raise Failed(
            f"batchSize={size} changes nothing: the networks are given {sorted({each for _, each in rows})} rows as "
            f"with {sampler.batch_size}; use len(batch), or context.sampler.batch_size"
        )


def check_double(trial: StrategyTrial) -> None:
    """It learns in double precision, without a number of another type."""
    with default_type(torch.float64), trial.job.session() as session:
        progress = iterate(session, 0, 2)
        _same_kind(progress, torch.float64)
        for role, network in session.networks.items():
            for name, value in network.named_parameters():
                if value.dtype != torch.float64:
                    raise Failed(f"{role}: '{name}' is {value.dtype} where float64 is asked for")


def _same_kind(progress: list[LearnProgress], kind: torch.dtype) -> None:
    for each in progress:
        for name, value in each.values.items():
            if value.is_floating_point() and value.dtype != kind:
                raise Failed(
                    f"progress '{name}' is {value.dtype} where the networks are {kind}: make tensors by "
                    "new_zeros(...), torch.zeros_like(...) or with dtype= of what they are computed with"
                )


def check_cuda(trial: StrategyTrial) -> None:
    """It learns on a GPU, and what it reports stays there."""
    if not torch.cuda.is_available():
        raise Skipped("there is no CUDA device on this machine")
    with trial.job.session(device="cuda") as session:
        for progress in iterate(session, 0, 2):
            for name, value in progress.values.items():
                if value.device.type != "cuda":
                    raise Failed(f"progress '{name}' is on {value.device}, and its network on a GPU")


def check_unseen(trial: StrategyTrial) -> None:
    """Unseen rows get one figure each, however few there are in a batch."""
    with trial.job.session() as session, session.judging():
        part = next(each for each in (session.data.validation, session.data.test, session.data.train) if each)
        for count in (3, 1):
            batch = part.rows(torch.arange(count)).map(lambda rows: rows.to(session.sampler.device))
            figures = session.strategy.validate(batch)
            if not figures:
                raise Skipped("validate() is not overridden: it says nothing on unseen rows")
            for name, value in figures.items():
                if not isinstance(value, Tensor) or tuple(value.shape) != (count,):
                    came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                    raise Failed(
                        f"validate() gives '{name}' as {came} for {count} rows: give one figure per row, ({count},)"
                    )


def check_samples(trial: StrategyTrial) -> None:
    """Samples have the shape of the data, for any count, and follow from the noise."""
    if not trial.strategy.generates():
        raise Skipped("it makes no samples")
    with trial.job.session() as session, session.judging():
        for count in (3, 1):
            noise = _noise(session, count)
            samples = session.strategy.generate(noise)
            wanted = (count, *session.spec.shape)
            if tuple(samples.shape) != wanted:
                raise Failed(f"generate() gives {tuple(samples.shape)} for {count} rows of noise: expected {wanted}")
            widths = [part.width for part in session.strategy.noise_parts()]
            if widths and sum(widths) != noise.shape[-1]:
                raise Failed(f"noise_parts() has {sum(widths)} numbers where noise() has {noise.shape[-1]}: name all")
            if not torch.equal(samples, session.strategy.generate(noise)):
                raise Failed("generate() gives other samples for the same noise: draw everything in noise()")
        if not torch.equal(_noise(session, 3), _noise(session, 3)):
            raise Failed("noise() does not follow from its stream: draw from the stream that it is given only")


def _noise(session: Session, count: int) -> Tensor:
    noise = session.strategy.noise(count, RandomStream(7, "kit", session.streams.device))
    if noise is None:
        raise Failed("generate() is overridden and noise() gives None: override noise() too")
    return noise


def check_intervals(trial: StrategyTrial) -> None:
    """Traces, pictures, validation, health and checkpoints leave the weights alone."""
    with trial.job.session(**BUSY) as session:
        store = MemoryStore()
        Learner(session, store, Traces([])).learn()
    assert store.kept is not None
    straight, busy = trial.straight.end.weights(), store.kept.weights()
    for role, weights in straight.items():
        for name, value in weights.items():
            if not torch.equal(value, busy[role][name]):
                raise Failed(
                    "with a trace, a picture, a validation, a reading of health and a checkpoint after every "
                    f"iteration the weights differ, first '{name}' of the {role}: noise(), generate(), validate(), "
                    "appraise() and state_dict() must change nothing, and draw from the stream given or from one of "
                    "their own"
                )


def check_graphs(trial: StrategyTrial) -> None:
    """Losses that run as graphs (execution=compile) give the weights of those carried out as they are written."""
    ended = []
    with default_type(torch.float64):
        for graphs in (False, True):
            with trial.job.session() as session:
                capture = use_graphs(session, interpreted) if graphs else None
                iterate(session, 0, GRAPH_ITERATIONS)
                ended.append(copied(session.weights()))
    assert capture is not None
    if not capture.graphs():
        raise Skipped(f"its losses are carried out as they are written: {next(iter(capture.refused.values()), 'none')}")
    for role, weights in ended[0].items():
        for name, value in weights.items():
            if not torch.allclose(value, ended[1][role][name], rtol=1e-7, atol=1e-9):
                raise Failed(
                    f"with losses as graphs the weights differ after {GRAPH_ITERATIONS} iterations, first '{name}' of "
                    f"the {role}: what a loss reads and changes while learning must be an argument of update()"
                )


def check_parallel(trial: StrategyTrial) -> None:
    """One process and two that share every batch learn the same."""
    one, shared, tolerance = weights_alone_and_shared(trial.job)
    found = first_difference(one, shared, tolerance)
    if found is not None:
        raise Failed(
            f"two processes with half of every batch each learn something else than one: {found}; a loss that mixes "
            "rows (a mean inside another function, a standard deviation, pairs) takes gathered(rows) or averaged(mean)"
        )


KEEPING: tuple[Check, ...] = (
    Check("seeds", check_seeds, ("iteration",)),
    Check("resume", check_resume, ("iteration", "seeds")),
    Check("batch size", check_batch_size, ("iteration",)),
    Check("float64", check_double, ("progress",)),
    Check("graphs", check_graphs, ("progress",)),
    Check("cuda", check_cuda, ("progress",)),
    Check("unseen rows", check_unseen, ("iteration",)),
    Check("samples", check_samples, ("iteration",)),
    Check("intervals", check_intervals, ("progress", "seeds")),
    Check("data-parallel", check_parallel, ("iteration",)),
)
