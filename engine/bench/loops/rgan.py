"""RGAN's recurrent pair on sine waves by hand: an LSTM of 100 units each, five discriminator updates per iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

DISCRIMINATOR_UPDATES = 5


class Recurrent(nn.Module):
    """An LSTM, and a linear layer on its state in every step."""

    def __init__(self, given: int, made: int, activation: nn.Module) -> None:
        super().__init__()
        self.lstm = nn.LSTM(given, 100, batch_first=True)
        self.output = nn.Linear(100, made)
        self.activation = activation

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.lstm(rows)
        made: Tensor = self.activation(self.output(states))
        return made


def networks() -> tuple[nn.Module, nn.Module]:
    """Five numbers of noise in every step become one value, and one value in every step a logit."""
    return Recurrent(5, 1, nn.Tanh()), Recurrent(1, 1, nn.Identity())


def careful(
    generator: nn.Module, discriminator: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As a careful practitioner writes it: fakes without a graph, losses read once in `every` iterations."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    optimizer_d = torch.optim.SGD(discriminator.parameters(), lr=0.1)
    criterion = nn.BCEWithLogitsLoss()

    def run(iterations: int, every: int = 100) -> list[tuple[float, float]]:
        losses = []
        for i in range(iterations):
            for _ in range(DISCRIMINATOR_UPDATES):
                real = next(batches)
                steps = real.shape[1]
                with torch.no_grad():
                    fake = generator(torch.randn(batch_size, steps, 5, device=device))
                optimizer_d.zero_grad()
                real_scores, fake_scores = discriminator(real), discriminator(fake)
                loss_d = criterion(real_scores, torch.ones_like(real_scores))
                loss_d = loss_d + criterion(fake_scores, torch.zeros_like(fake_scores))
                loss_d.backward()
                optimizer_d.step()

            optimizer_g.zero_grad()
            scores = discriminator(generator(torch.randn(batch_size, steps, 5, device=device)))
            loss_g = criterion(scores, torch.ones_like(scores))
            loss_g.backward()
            optimizer_g.step()
            if i % every == 0:
                losses.append((loss_d.item(), loss_g.item()))
        return losses

    return run


def tutorial(
    generator: nn.Module, discriminator: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As teaching examples write it: both halves backward by themselves, every loss read after every update."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    optimizer_d = torch.optim.SGD(discriminator.parameters(), lr=0.1)
    criterion = nn.BCEWithLogitsLoss()

    def run(iterations: int, every: int = 1) -> list[tuple[float, float]]:
        losses = []
        for _ in range(iterations):
            for _ in range(DISCRIMINATOR_UPDATES):
                real = next(batches)
                discriminator.zero_grad()
                scores = discriminator(real)
                real_loss = criterion(scores, torch.ones_like(scores))
                real_loss.backward()
                fake = generator(torch.randn(batch_size, real.shape[1], 5, device=device))
                scores = discriminator(fake.detach())
                fake_loss = criterion(scores, torch.zeros_like(scores))
                fake_loss.backward()
                optimizer_d.step()
                shown = real_loss.item() + fake_loss.item()

            generator.zero_grad()
            scores = discriminator(fake)
            loss_g = criterion(scores, torch.ones_like(scores))
            loss_g.backward()
            optimizer_g.step()
            losses.append((shown, loss_g.item()))
        return losses

    return run
