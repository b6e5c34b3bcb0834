"""The work in Accelerate: everything prepared by it, losses read once in 100 iterations."""

from __future__ import annotations

from itertools import islice

import torch
from accelerate import Accelerator
from work import CRITERION, FAKE, NOISE, REAL, WARM_UP, Stopwatch, compare, images, labels, optimizer, players


def train(iterations: int) -> float:
    """Seconds per iteration of one run."""
    watch = Stopwatch(iterations)
    accelerator = Accelerator(cpu=True)
    networks = players()
    generator, discriminator, optimizer_g, optimizer_d, loader = accelerator.prepare(
        *networks, *(optimizer(network) for network in networks), images()
    )
    for i, (real,) in enumerate(islice(loader, iterations + WARM_UP)):
        with torch.no_grad():
            fake = generator(torch.randn(len(real), NOISE))
        optimizer_d.zero_grad()
        loss_d = CRITERION(discriminator(real), labels(REAL)) + CRITERION(discriminator(fake), labels(FAKE))
        accelerator.backward(loss_d)
        optimizer_d.step()
        optimizer_g.zero_grad()
        loss_g = CRITERION(discriminator(generator(torch.randn(len(real), NOISE))), labels(REAL))
        accelerator.backward(loss_g)
        optimizer_g.step()
        if i % 100 == 0:
            loss_d.item(), loss_g.item()
        watch.tick()
    return watch.per_iteration()


if __name__ == "__main__":
    compare({"Accelerate": train})
