"""The 2-D circle by hand: two perceptrons on one shared cross-entropy, both by Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


def networks() -> tuple[nn.Module, nn.Module]:
    """Generator 2-16-32-2 and discriminator 2-128-64-32-1, which gives a logit."""
    generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    discriminator = nn.Sequential(
        nn.Linear(2, 128), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(32, 1),
    )  # fmt: skip
    return generator, discriminator


def careful(
    generator: nn.Module, discriminator: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As a careful practitioner writes it: fakes without a graph, losses read once in `every` iterations."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    criterion = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(batch_size, 1, device=device), torch.zeros(batch_size, 1, device=device)

    def run(iterations: int, every: int = 100) -> list[tuple[float, float]]:
        losses = []
        for i in range(iterations):
            real = next(batches)
            with torch.no_grad():
                fake = generator(torch.randn(batch_size, 2, device=device))
            optimizer_d.zero_grad()
            loss_d = criterion(discriminator(real), ones) + criterion(discriminator(fake), zeros)
            loss_d.backward()
            optimizer_d.step()

            optimizer_g.zero_grad()
            fake = generator(torch.randn(batch_size, 2, device=device))
            loss_g = -criterion(discriminator(fake), zeros)
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
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    criterion = nn.BCEWithLogitsLoss()

    def run(iterations: int, every: int = 1) -> list[tuple[float, float]]:
        losses = []
        for _ in range(iterations):
            real = next(batches)
            ones, zeros = torch.ones(batch_size, 1, device=device), torch.zeros(batch_size, 1, device=device)
            discriminator.zero_grad()
            real_loss = criterion(discriminator(real), ones)
            real_loss.backward()
            fake = generator(torch.randn(batch_size, 2, device=device))
            fake_loss = criterion(discriminator(fake.detach()), zeros)
            fake_loss.backward()
            optimizer_d.step()

            generator.zero_grad()
            loss_g = -criterion(discriminator(fake), zeros)
            loss_g.backward()
            optimizer_g.step()
            losses.append((real_loss.item() + fake_loss.item(), loss_g.item()))
        return losses

    return run
