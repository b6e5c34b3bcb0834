"""The job of the page "from Lightning", as a LightningModule with manual optimisation."""

import math

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class GAN(lightning.LightningModule):
    def __init__(self, generator, discriminator):
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.criterion = nn.BCEWithLogitsLoss()

    def configure_optimizers(self):
        players = (self.generator, self.discriminator)
        return [torch.optim.Adam(player.parameters(), lr=2e-4, betas=(0.5, 0.999)) for player in players]

    def training_step(self, batch, index):
        (real,) = batch
        optimizer_g, optimizer_d = self.optimizers()
        ones, zeros = torch.ones(len(real), 1, device=self.device), torch.zeros(len(real), 1, device=self.device)

        self.toggle_optimizer(optimizer_d)
        with torch.no_grad():
            fake = self.generator(torch.randn(len(real), 2, device=self.device))
        real_loss = self.criterion(self.discriminator(real), ones)
        loss_d = (real_loss + self.criterion(self.discriminator(fake), zeros)) / 2
        optimizer_d.zero_grad()
        self.manual_backward(loss_d)
        optimizer_d.step()
        self.untoggle_optimizer(optimizer_d)

        self.toggle_optimizer(optimizer_g)
        fake = self.generator(torch.randn(len(real), 2, device=self.device))
        loss_g = self.criterion(self.discriminator(fake), ones)
        optimizer_g.zero_grad()
        self.manual_backward(loss_g)
        optimizer_g.step()
        self.untoggle_optimizer(optimizer_g)
        self.log_dict({"loss_d": loss_d, "loss_g": loss_g}, prog_bar=True)


if __name__ == "__main__":
    angles = 2 * math.pi * torch.rand(10_000)
    circle = TensorDataset(torch.stack([angles.cos(), angles.sin()], dim=1))
    generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    discriminator = nn.Sequential(nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))
    loader = DataLoader(circle, batch_size=64, shuffle=True, drop_last=True)
    lightning.Trainer(max_steps=2000).fit(GAN(generator, discriminator), loader)  # both optimisers count
