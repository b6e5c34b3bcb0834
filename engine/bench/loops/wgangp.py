"""The Wasserstein game with a gradient penalty on images by hand: perceptrons, five critic updates per iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

CRITIC_UPDATES = 5


def networks() -> tuple[nn.Module, nn.Module]:
    """Generator 100-256-512-784 with BatchNorm, and critic 784-512-256-1."""
    generator = nn.Sequential(
        nn.Linear(100, 256), nn.BatchNorm1d(256), nn.ReLU(),
        nn.Linear(256, 512), nn.BatchNorm1d(512), nn.ReLU(),
        nn.Linear(512, 784), nn.Tanh(),
    )  # fmt: skip
    critic = nn.Sequential(
        nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
    )
    return generator, critic


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """How far the norm of the critic's gradient is from 1, squared, between real and fake samples."""
    place = torch.rand(len(real), 1, device=real.device)
    between = (place * real + (1 - place) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = ((gradient.norm(2, dim=1) - 1) ** 2).mean()
    return penalty


def careful(
    generator: nn.Module, critic: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As a careful practitioner writes it: fakes without a graph, losses read once in `every` iterations."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.0, 0.9))
    optimizer_c = torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.0, 0.9))

    def run(iterations: int, every: int = 100) -> list[tuple[float, float]]:
        losses = []
        for i in range(iterations):
            for _ in range(CRITIC_UPDATES):
                real = next(batches)
                with torch.no_grad():
                    fake = generator(torch.randn(batch_size, 100, device=device))
                optimizer_c.zero_grad()
                loss_c = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty(critic, real, fake)
                loss_c.backward()
                optimizer_c.step()

            optimizer_g.zero_grad()
            loss_g = -critic(generator(torch.randn(batch_size, 100, device=device))).mean()
            loss_g.backward()
            optimizer_g.step()
            if i % every == 0:
                losses.append((loss_c.item(), loss_g.item()))
        return losses

    return run


def tutorial(
    generator: nn.Module, critic: nn.Module, batches: Iterator[Tensor], batch_size: int
) -> Callable[..., list[tuple[float, float]]]:
    """As teaching examples write it: the critic's loss reaches the generator too, and is read after every update."""
    device = next(generator.parameters()).device
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.0, 0.9))
    optimizer_c = torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.0, 0.9))

    def run(iterations: int, every: int = 1) -> list[tuple[float, float]]:
        losses = []
        for _ in range(iterations):
            for _ in range(CRITIC_UPDATES):
                real = next(batches)
                optimizer_c.zero_grad()
                noise = torch.randn(batch_size, 100, device=device)
                fake = generator(noise)
                loss_c = -critic(real).mean() + critic(fake).mean() + 10 * gradient_penalty(critic, real, fake)
                loss_c.backward()
                optimizer_c.step()
                shown = loss_c.item()

            optimizer_g.zero_grad()
            loss_g = -critic(generator(noise)).mean()
            loss_g.backward()
            optimizer_g.step()
            losses.append((shown, loss_g.item()))
        return losses

    return run
