"""The loops that a careful practitioner writes by hand, for comparison: plain PyTorch, nothing of Ganglion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def dianne_pair() -> tuple[nn.Module, nn.Module]:
    """Generator 10-512-784 and discriminator 784-512-1, which gives a logit."""
    generator = nn.Sequential(nn.Linear(10, 512), nn.ReLU(), nn.Linear(512, 784), nn.Sigmoid())
    discriminator = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 1))
    return generator, discriminator


def gan_loop(images: Tensor, batch_size: int, loader: bool) -> Callable[[int], None]:
    """DIANNE's GAN step on rows of `images` (rows, 784): a function that carries out that many iterations.

    With `loader` batches come from a shuffling DataLoader, otherwise from one gather per batch.
    """
    generator, discriminator = dianne_pair()
    steps_g = torch.optim.SGD(generator.parameters(), lr=0.001, momentum=0.9)
    steps_d = torch.optim.SGD(discriminator.parameters(), lr=0.001, momentum=0.9)
    criterion = nn.BCEWithLogitsLoss()
    real, fake = torch.full((batch_size, 1), 0.85), torch.full((batch_size, 1), 0.15)

    def batches():
        while True:
            if loader:
                for (rows,) in DataLoader(TensorDataset(images), batch_size, shuffle=True, drop_last=True):
                    yield rows
            else:
                yield images[torch.randint(len(images), (batch_size,))]

    stream = batches()

    def run(iterations: int) -> None:
        for i in range(iterations):
            rows = next(stream)
            steps_d.zero_grad()
            made = generator(torch.randn(batch_size, 10)).detach()
            loss_d = criterion(discriminator(rows), real) + criterion(discriminator(made), fake)
            loss_d.backward()
            steps_d.step()
            steps_g.zero_grad()
            loss_g = criterion(discriminator(generator(torch.randn(batch_size, 10))), real)
            loss_g.backward()
            steps_g.step()
            if i % 100 == 0:
                loss_d.item(), loss_g.item()

    return run
