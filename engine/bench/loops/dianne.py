"""DIANNE's pair of perceptrons by hand: smoothed labels, stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


def networks() -> tuple[nn.Module, nn.Module]:
    """Generator 10-512-784 and discriminator 784-512-1, which gives a logit."""
    generator = nn.Sequential(nn.Linear(10, 512), nn.ReLU(), nn.Linear(512, 784), nn.Sigmoid())
    discriminator = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 1))
    return generator, discriminator


def careful(
    generator: nn.Module, discriminator: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As a careful practitioner writes it: fakes without a graph, losses read once in `every` iterations."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.SGD(generator.parameters(), lr=0.001, momentum=0.9)
    optimizer_d = torch.optim.SGD(discriminator.parameters(), lr=0.001, momentum=0.9)
    criterion = nn.BCEWithLogitsLoss()
    real_label = torch.full((batch_size, 1), 0.85, device=device)
    fake_label = torch.full((batch_size, 1), 0.15, device=device)

    def run(iterations: int, every: int = 100) -> list[tuple[float, float]]:
        losses = []
        for i in range(iterations):
            real = next(batches)
            with torch.no_grad():
                fake = generator(torch.randn(batch_size, 10, device=device))
            optimizer_d.zero_grad()
            loss_d = criterion(discriminator(real), real_label) + criterion(discriminator(fake), fake_label)
            loss_d.backward()
            optimizer_d.step()

            optimizer_g.zero_grad()
            fake = generator(torch.randn(batch_size, 10, device=device))
            loss_g = criterion(discriminator(fake), real_label)
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
    optimizer_g = torch.optim.SGD(generator.parameters(), lr=0.001, momentum=0.9)
    optimizer_d = torch.optim.SGD(discriminator.parameters(), lr=0.001, momentum=0.9)
    criterion = nn.BCEWithLogitsLoss()

    def run(iterations: int, every: int = 1) -> list[tuple[float, float]]:
        losses, seen = [], []
        for _ in range(iterations):
            real = next(batches)
            label = torch.full((batch_size, 1), 0.85, device=device)
            discriminator.zero_grad()
            scores = discriminator(real)
            real_loss = criterion(scores, label)
            real_loss.backward()
            seen.append(scores.sigmoid().mean().item())
            fake = generator(torch.randn(batch_size, 10, device=device))
            label.fill_(0.15)
            scores = discriminator(fake.detach())
            fake_loss = criterion(scores, label)
            fake_loss.backward()
            seen.append(scores.sigmoid().mean().item())
            optimizer_d.step()

            generator.zero_grad()
            label.fill_(0.85)
            loss_g = criterion(discriminator(fake), label)
            loss_g.backward()
            optimizer_g.step()
            losses.append((real_loss.item() + fake_loss.item(), loss_g.item()))
        return losses

    return run
