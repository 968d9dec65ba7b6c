"""The least that is a generative method, with and without a discriminator, and pictures to train it on."""

import lightning as L
import torch
from torch import nn

from datamodules.index_batches import IndexBatches, in_order, permutation
from lightning_zoo.checkpoints import Loadable


class LinearToy(Loadable, L.LightningModule):
    """A decoder that is linear in the latent, so that a search has a known optimum.

    The dropout between them is there to be switched off.
    """

    def __init__(self, *, size: int = 8, channels: int = 1, num_steps: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.image_shape = (channels, size, size)
        self.latent_shape = (4, 2, 2)
        self.num_steps = num_steps
        pixels = channels * size * size
        generator = torch.Generator().manual_seed(5)
        self.encoder = nn.Linear(pixels, 32)
        self.decoder = nn.Linear(16, pixels)
        self.dropout = nn.Dropout(0.5)
        with torch.no_grad():
            self.encoder.weight.copy_(torch.randn(32, pixels, generator=generator) / pixels)
            self.encoder.bias.zero_()
            self.decoder.weight.copy_(torch.randn(pixels, 16, generator=generator) * 0.1)
            self.decoder.bias.fill_(0.5)

    def posterior(self, images):
        if images.shape[1:] != self.image_shape:
            raise ValueError(f"images must be {self.image_shape}")
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        mean, log_variance = self.encoder(images.flatten(1)).chunk(2, dim=1)
        return mean.reshape(-1, *self.latent_shape), log_variance.reshape(-1, *self.latent_shape)

    def decode(self, latent):
        return self.decoder(self.dropout(latent.flatten(1))).reshape(-1, *self.image_shape)

    @torch.no_grad()
    def sample(self, num_images, *, truncation=1.0, generator=None):
        latent = truncation * torch.randn((num_images, *self.latent_shape), generator=generator)
        return self.decode(latent.to(self.device)).clamp(0, 1)

    @torch.no_grad()
    def reconstruct(self, images):
        return self.decode(self.posterior(images)[0]).clamp(0, 1)

    def encode(self, images):
        return self.posterior(images)[0].flatten(1)

    def training_step(self, batch, batch_index):
        noise = torch.rand(())
        images = batch["images"].float() / 255
        loss = (self.decode(self.posterior(images)[0]) - images).square().mean() * (1 + noise)
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch, batch_index):
        images = batch["images"].float() / 255
        self.log("val/loss", (self.decode(self.posterior(images)[0]) - images).square().mean(), batch_size=len(images))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class AdversarialToy(LinearToy):
    """With a discriminator that judges each image by itself."""

    def __init__(self, **arguments) -> None:
        super().__init__(**arguments)
        self.judge = nn.Linear(self.decoder.out_features, 1)
        with torch.no_grad():
            self.judge.weight.fill_(0.3)
            self.judge.bias.fill_(-0.2)

    def realness(self, images):
        return self.judge(images.flatten(1))[:, 0]


class ToyPictures(L.LightningDataModule):
    """Squares, each at its own place.

    Args:
        root: unused.
    """

    def __init__(self, *, root: str = "data/toy", rows: int = 12, size: int = 8, channels: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.images = None

    def setup(self, stage=None):
        rows, size, channels = (self.hparams[name] for name in ("rows", "size", "channels"))
        self.image_shape = (channels, size, size)
        images = torch.full((rows, channels, size, size), 40, dtype=torch.uint8)
        for row in range(rows):
            images[row, :, row % size :, (3 * row) % size :] = 220
        self.images = images

    def _loader(self, plan):
        return IndexBatches(lambda rows: {"images": self.images[rows]}, plan, self.hparams.rows, batch_size=5)

    def train_dataloader(self):
        return self._loader(permutation(self.hparams.rows, 0))

    def val_dataloader(self):
        return self._loader(in_order(self.hparams.rows))

    test_dataloader = val_dataloader
