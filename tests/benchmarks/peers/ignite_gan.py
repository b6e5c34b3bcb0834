"""The work in Ignite: a step that returns its losses, their running averages, a line per 100 iterations; and bare."""

from __future__ import annotations

import sys

import torch
from ignite.engine import Engine, Events
from ignite.metrics import RunningAverage
from torch import Tensor
from work import CRITERION, FAKE, NOISE, REAL, WARM_UP, Stopwatch, compare, images, labels, optimizer, players


def train(iterations: int, told: bool) -> float:
    """Seconds per iteration of one run."""
    watch = Stopwatch(iterations)
    generator, discriminator = players()
    optimizer_g, optimizer_d = optimizer(generator), optimizer(discriminator)

    def step(engine: Engine, batch: tuple[Tensor, ...]) -> dict[str, float] | None:
        (real,) = batch
        with torch.no_grad():
            fake = generator(torch.randn(len(real), NOISE))
        optimizer_d.zero_grad()
        loss_d = CRITERION(discriminator(real), labels(REAL)) + CRITERION(discriminator(fake), labels(FAKE))
        loss_d.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        loss_g = CRITERION(discriminator(generator(torch.randn(len(real), NOISE))), labels(REAL))
        loss_g.backward()
        optimizer_g.step()
        return {"loss_d": loss_d.item(), "loss_g": loss_g.item()} if told else None

    trainer = Engine(step)
    if told:
        for name in ("loss_d", "loss_g"):
            RunningAverage(output_transform=lambda output, name=name: output[name]).attach(trainer, name)
        every = Events.ITERATION_COMPLETED(every=100)
        trainer.add_event_handler(every, lambda engine: print(engine.state.metrics, file=sys.stderr))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: watch.tick())
    trainer.run(images(), max_epochs=1, epoch_length=iterations + WARM_UP)
    return watch.per_iteration()


if __name__ == "__main__":
    compare({"Ignite": lambda n: train(n, True), "Ignite, bare": lambda n: train(n, False)})
