"""The work in Lightning, by manual optimisation: as its examples are (values logged, a progress bar), and bare."""

from __future__ import annotations

import logging
import tempfile
import warnings
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from work import CRITERION, FAKE, NOISE, REAL, WARM_UP, Stopwatch, compare, images, labels, optimizer, players


class GAN(lightning.LightningModule):
    """Both players in one module; `told` says whether the losses are logged."""

    def __init__(self, told: bool, watch: Stopwatch) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.told, self.watch = told, watch
        self.generator, self.discriminator = players()

    def configure_optimizers(self) -> Any:
        return [optimizer(self.generator), optimizer(self.discriminator)], []

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        (real,) = batch
        optimizer_g, optimizer_d = self.optimizers()
        self.toggle_optimizer(optimizer_d)
        with torch.no_grad():
            fake = self.generator(torch.randn(len(real), NOISE))
        optimizer_d.zero_grad()
        loss_d = CRITERION(self.discriminator(real), labels(REAL)) + CRITERION(self.discriminator(fake), labels(FAKE))
        self.manual_backward(loss_d)
        optimizer_d.step()
        self.untoggle_optimizer(optimizer_d)

        self.toggle_optimizer(optimizer_g)
        optimizer_g.zero_grad()
        loss_g = CRITERION(self.discriminator(self.generator(torch.randn(len(real), NOISE))), labels(REAL))
        self.manual_backward(loss_g)
        optimizer_g.step()
        self.untoggle_optimizer(optimizer_g)
        if self.told:
            self.log_dict({"loss_d": loss_d, "loss_g": loss_g}, prog_bar=True)

    def on_train_batch_end(self, *given: Any) -> None:
        self.watch.tick()


def fit(iterations: int, told: bool) -> float:
    """Seconds per iteration of one fit."""
    watch = Stopwatch(iterations)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=iterations + WARM_UP,
            logger=CSVLogger(folder) if told else False,
            enable_progress_bar=told,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(GAN(told, watch), images())
    return watch.per_iteration()


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    compare({"Lightning": lambda n: fit(n, True), "Lightning, bare": lambda n: fit(n, False)})
