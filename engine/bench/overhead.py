"""What the engine adds to the torch calls of an iteration: both timed on networks too small for anything else."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganglion.engine.backward import backward
from ganglion.engine.bench.driving import PLAIN, engine, variants
from ganglion.engine.bench.timing import Run, Spread, calibrated, in_turn, spread

TASK = "overhead"
RATE, NOISE = 1e-3, 1
PIECES = 10  # of a round: the shorter a turn, the less of what disturbs it is missing from the other


class Overhead(NamedTuple):
    """Microseconds per iteration: of the engine, of its torch calls alone, and the difference round by round."""

    engine: Spread
    bare: Spread
    overhead: Spread


def measure_overhead(pairs: int, seconds: float, threads: int, device: str) -> Overhead:
    """Time the learner and the bare calls in turn. The difference includes gathering rows, which `bare` leaves out."""
    with engine(TASK, variants()[PLAIN], threads, device) as own:
        networks = (nn.Linear(NOISE, 2), nn.Linear(2, 1))
        rows = own.rows().to(device)
        bare = bare_loop(rows, own.session.plan.job.batch_size, *(nn.Sequential(each).to(device) for each in networks))
        iterations = calibrated(own.run, seconds, device)
        turns = {"engine": own.run, "bare": bare}
        times = in_turn(turns, max(1, iterations // PIECES), pairs * PIECES, device)
    mine, theirs = (
        [1e6 * fmean(times[name][place : place + PIECES]) for place in range(0, pairs * PIECES, PIECES)]
        for name in turns
    )
    return Overhead(
        spread(mine), spread(theirs), spread([one - other for one, other in zip(mine, theirs, strict=True)])
    )


def bare_loop(rows: Tensor, batch_size: int, generator: nn.Module, discriminator: nn.Module) -> Run:
    """The torch calls of one iteration of the minimax game, in the engine's order and by the same kernels.

    A test holds it to be the same calls: the engine cuts several batches off its rows at once.
    """
    stream = torch.Generator(rows.device).manual_seed(0)
    adam_g, adam_d = (_Adam(network.parameters()) for network in (generator, discriminator))
    places = range(0, len(rows) - batch_size, batch_size)

    def noise() -> Tensor:
        return torch.randn((batch_size, NOISE), generator=stream, device=rows.device)

    def run(iterations: int) -> None:
        for i in range(iterations):
            place = places[i % len(places)]
            drawn = noise()
            with torch.no_grad():
                fake = generator(drawn)
            scores = discriminator(torch.cat((rows[place : place + batch_size], fake)))
            real_scores, fake_scores = scores.chunk(2)
            real, false = softplus(-real_scores).mean(), softplus(fake_scores).mean()
            loss = real + false
            backward(loss, adam_d.parameters)
            adam_d.step()
            _ = loss.detach(), real.detach(), false.detach()
            loss = -softplus(discriminator(generator(noise()))).mean()
            backward(loss, adam_g.parameters)
            adam_g.step()
            loss.detach()

    return run


class _Adam:
    """The two kernels of a step of Adam, without an optimiser around them."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.averages, self.squares = ([torch.zeros_like(each) for each in self.parameters] for _ in range(2))
        self.counts = torch.zeros(len(self.parameters), device=self.parameters[0].device)
        self.steps = list(self.counts.unbind())

    @torch.no_grad()
    def step(self) -> None:
        """One update; the gradients are dropped."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        self.counts.add_(1)
        torch._fused_adam_(
            self.parameters, gradients, self.averages, self.squares, [], self.steps, lr=RATE, beta1=0.9, beta2=0.999,
            weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        for parameter in self.parameters:
            parameter.grad = None
