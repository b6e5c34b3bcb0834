"""The job of the page "from a loop of your own", as one writes it without an engine."""

import math

import torch
from torch import nn

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
discriminator = nn.Sequential(
    nn.Linear(2, 128), nn.ReLU(), nn.Dropout(0.2),
    nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.2),
    nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2),
    nn.Linear(32, 1),
)  # fmt: skip
angles = 2 * math.pi * torch.rand(10_000)
circle = torch.stack([angles.cos(), angles.sin()], dim=1)

optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
criterion = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)

ITERATIONS = 1000
for iteration in range(1, ITERATIONS + 1):
    real = circle[torch.randint(len(circle), (64,))]
    with torch.no_grad():
        fake = generator(torch.randn(64, 2))
    loss_d = (criterion(discriminator(real), ones) + criterion(discriminator(fake), zeros)) / 2
    optimizer_d.zero_grad()
    loss_d.backward()
    optimizer_d.step()

    loss_g = criterion(discriminator(generator(torch.randn(64, 2))), ones)
    optimizer_g.zero_grad()
    loss_g.backward()
    optimizer_g.step()
    if iteration % 100 == 0:
        print(iteration, loss_d.item(), loss_g.item())

torch.save(generator.state_dict(), "generator.pt")
