"""A tiny adversarial method that grows from 8x8 images, with two optimizers, schedules and noise; and its data."""

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

from datamodules.index_batches import IndexBatches, permutation
from lightning_zoo.gradients import average_gradients, set_gradients
from lightning_zoo.networks import growing_images
from lightning_zoo.networks.growing_images import GrowingInput, GrowingOutput

BASE = 2


class GrowingToy(L.LightningModule):
    """One layer of features each way, and a judge."""

    def __init__(self, *, first_size=8, learning_rate=0.01, halving_period_epochs=100):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.encoder = GrowingInput(growing_images.encoder_colours(3, BASE), lambda: growing_images.encoder_block(BASE))
        self.middle = nn.Conv2d(BASE, 2 * BASE, 3, padding=1)
        self.decoder = GrowingOutput(
            growing_images.decoder_colours(3, BASE), lambda: growing_images.decoder_block(BASE)
        )
        self.judge = GrowingInput(
            growing_images.discriminator_colours(3, BASE), lambda: growing_images.discriminator_block(BASE)
        )
        self.verdict = nn.Conv2d(BASE, 1, 1)
        self.image_shape = (3, first_size, first_size)

    @property
    def growing(self):
        return self.encoder, self.decoder, self.judge

    @property
    def fading(self):
        return self.encoder.fading

    @property
    def fade(self):
        return self.encoder.fade.item() if self.fading else 1.0

    def grow(self, image_size):
        for network in self.growing:
            network.grow()
        self.image_shape = (3, image_size, image_size)

    def set_fade(self, alpha):
        for network in self.growing:
            network.set_fade(alpha)

    def finish_growth(self):
        for network in self.growing:
            network.finish()

    def on_save_checkpoint(self, checkpoint):
        checkpoint["growth"] = {"image_size": self.image_shape[-1], "fading": self.fading}

    def on_load_checkpoint(self, checkpoint):
        size = checkpoint["growth"]["image_size"]
        while self.image_shape[-1] < size:
            self.finish_growth()
            self.grow(2 * self.image_shape[-1])
        if not checkpoint["growth"]["fading"]:
            self.finish_growth()

    def parameter_groups(self):
        rate = self.hparams.learning_rate
        drawing = [{"params": [*self.encoder.parameters(), *self.middle.parameters()], "lr": rate}]
        drawing.append({"params": [*self.decoder.parameters()], "lr": rate / 2})
        judging = [*self.judge.parameters(), *self.verdict.parameters()]
        return drawing, [{"params": judging, "lr": rate / 2, "warms_up": True}]

    def configure_optimizers(self):
        configured = []
        for groups in self.parameter_groups():
            optimizer = torch.optim.Adam(groups)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.hparams.halving_period_epochs, gamma=0.5)
            configured.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}})
        return configured

    def training_step(self, batch, batch_index):
        images = batch["images"]
        while images.shape[-1] > self.image_shape[-1]:
            images = F.avg_pool2d(images, 2)
        noisy = self.middle(self.encoder(images))
        drawn = self.decoder(noisy + 0.1 * torch.randn_like(noisy))
        loss = F.mse_loss(drawn, images) - 0.01 * self.verdict(self.judge(drawn)).mean()
        verdicts = self.verdict(self.judge(images)).mean() - self.verdict(self.judge(drawn.detach())).mean()
        for optimizer, each in zip(self.optimizers(), (loss, verdicts.square()), strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            set_gradients(parameters, torch.autograd.grad(each, parameters, retain_graph=True))
            average_gradients(parameters)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()
        self.log("train/loss", loss.detach())

    def on_train_epoch_end(self):
        for schedule in self.lr_schedulers():
            schedule.step()


class Pictures(L.LightningDataModule):
    """Smooth noise of a size."""

    def __init__(self, image_size=16, rows=12):
        super().__init__()
        self.image_size = image_size
        self.rows = rows

    def train_dataloader(self):
        small = torch.randn(self.rows, 3, 4, 4, generator=torch.Generator().manual_seed(1)).tanh()
        images = F.interpolate(small, size=self.image_size, mode="bilinear")
        size = self.trainer.world_size
        place = {"rank": self.trainer.global_rank, "world_size": size}
        plan = permutation(self.rows, 0)
        return IndexBatches(lambda rows: {"images": images[rows]}, plan, self.rows, batch_size=4 // size, **place)
