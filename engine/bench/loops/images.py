"""The non-saturating game on images of 28 x 28 pixels by hand: the perceptrons of the MNIST example, and DCGAN."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


def perceptrons() -> tuple[nn.Module, nn.Module]:
    """Generator 100-256-512-1024-784 and discriminator 784-1024-512-256-1, which gives a logit."""
    generator = nn.Sequential(
        nn.Linear(100, 256), nn.LeakyReLU(), nn.Dropout(0.2),
        nn.Linear(256, 512), nn.LeakyReLU(), nn.Dropout(0.2),
        nn.Linear(512, 1024), nn.LeakyReLU(), nn.Dropout(0.2),
        nn.Linear(1024, 784), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(784, 1024), nn.LeakyReLU(), nn.Dropout(0.2),
        nn.Linear(1024, 512), nn.LeakyReLU(), nn.Dropout(0.2),
        nn.Linear(512, 256), nn.LeakyReLU(), nn.Dropout(0.2),
        nn.Linear(256, 1),
    )  # fmt: skip
    return generator, discriminator


def convolutions() -> tuple[nn.Module, nn.Module]:
    """DCGAN for 28 x 28 pixels, 64 maps at the largest side; the discriminator gives a logit."""
    generator = nn.Sequential(
        nn.Unflatten(1, (100, 1, 1)),
        nn.ConvTranspose2d(100, 128, 7, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
        nn.Conv2d(128, 1, 7, bias=False), nn.Flatten(),
    )  # fmt: skip
    return generator, discriminator


def careful(
    generator: nn.Module, discriminator: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As a careful practitioner writes it: fakes without a graph, losses read once in `every` iterations."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(batch_size, 1, device=device), torch.zeros(batch_size, 1, device=device)

    def run(iterations: int, every: int = 100) -> list[tuple[float, float]]:
        losses = []
        for i in range(iterations):
            real = next(batches)
            with torch.no_grad():
                fake = generator(torch.randn(batch_size, 100, device=device))
            optimizer_d.zero_grad()
            loss_d = (criterion(discriminator(real), ones) + criterion(discriminator(fake), zeros)) / 2
            loss_d.backward()
            optimizer_d.step()

            optimizer_g.zero_grad()
            fake = generator(torch.randn(batch_size, 100, device=device))
            loss_g = criterion(discriminator(fake), ones)
            loss_g.backward()
            optimizer_g.step()
            if i % every == 0:
                losses.append((loss_d.item(), loss_g.item()))
        return losses

    return run


def tutorial(
    generator: nn.Module, discriminator: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As teaching examples write it: one set of fakes for both players, and every number read in every iteration."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()

    def run(iterations: int, every: int = 1) -> list[tuple[float, float]]:
        losses = []
        for _ in range(iterations):
            real = next(batches)
            ones, zeros = torch.ones(batch_size, 1, device=device), torch.zeros(batch_size, 1, device=device)
            discriminator.zero_grad()
            real_loss = criterion(discriminator(real), ones) / 2
            real_loss.backward()
            fake = generator(torch.randn(batch_size, 100, device=device))
            fake_loss = criterion(discriminator(fake.detach()), zeros) / 2
            fake_loss.backward()
            loss_d = real_loss + fake_loss
            optimizer_d.step()

            generator.zero_grad()
            loss_g = criterion(discriminator(fake), ones)
            loss_g.backward()
            optimizer_g.step()
            losses.append((loss_d.item(), loss_g.item()))
        return losses

    return run
