"""The least that is an attribute-conditioned generative method."""

import lightning as L
import torch
from torch import nn

from lightning_zoo.checkpoints import Loadable

NAMES = ("Bald", "Eyeglasses", "Male", "Smiling", "Young")


class ConditionalToy(Loadable, L.LightningModule):
    """Linear in latent and attributes; time step t reads mostly attribute t.

    Each attribute lights up its own column of the image, so that a picture shows what was asked for.
    """

    def __init__(self, *, size: int = 16, num_steps: int = 4, attribute_names: tuple[str, ...] = NAMES) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.attribute_names = tuple(attribute_names)
        self.image_shape = (3, size, size)
        self.latent_shape = (8, 2, 2)
        self.num_steps = num_steps
        number = len(self.attribute_names)
        generator = torch.Generator().manual_seed(3)
        self.scores = nn.Parameter(3 * torch.eye(num_steps, number))
        self.means = nn.Parameter(torch.randn(number, 32, generator=generator))
        self.latent_weights = nn.Parameter(0.05 * torch.randn(32, 3 * size * size, generator=generator))
        self.register_buffer("attribute_bank", torch.ones(6, number, dtype=torch.int8))
        with torch.no_grad():
            for row in range(number):
                self.attribute_bank[row + 1, row] = -1

    def attention(self):
        return self.scores.softmax(0)

    def prior(self, attributes):
        mean = (attributes.float() @ self.means).reshape(-1, *self.latent_shape)
        return mean, torch.zeros_like(mean)

    def draw(self, attributes, *, truncation=1.0, generator=None):
        mean, log_variance = self.prior(attributes)
        noise = torch.randn(mean.shape, generator=generator)
        return mean + truncation * (0.5 * log_variance).exp() * noise.to(mean.device)

    def attribute_steps(self, attributes):
        return attributes.float()[:, None] * self.attention()

    def decode_steps(self, latent, steps):
        number, width = len(self.attribute_names), self.image_shape[2]
        pixels = (latent.flatten(1) @ self.latent_weights).reshape(-1, *self.image_shape)
        columns = torch.zeros(len(latent), width, device=latent.device)
        columns[:, : 2 * number : 2] = steps.sum(1)
        return (0.5 + 0.3 * columns[:, None, None, :] + pixels).clamp(0, 1)

    def decode(self, latent, attributes):
        return self.decode_steps(latent, self.attribute_steps(attributes))

    @torch.no_grad()
    def sample(self, num_images, *, attributes=None, truncation=1.0, generator=None):
        if attributes is None:
            rows = torch.randint(len(self.attribute_bank), (num_images,), generator=generator)
            attributes = self.attribute_bank[rows]
        return self.decode(self.draw(attributes, truncation=truncation, generator=generator), attributes)

    def posterior(self, images, attributes):
        return self.prior(attributes)

    @torch.no_grad()
    def reconstruct(self, images, attributes):
        return self.decode(self.posterior(images, attributes)[0], attributes)

    def realness(self, images, attributes):
        return images.flatten(1).mean(1)

    def training_step(self, batch, batch_index):
        attributes = batch["attributes"][:, : len(self.attribute_names)]
        return (self.decode(self.draw(attributes), attributes) - 0.5).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def save(model, folder):
    """Write a checkpoint of a method and return its path."""
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    path = folder / "conditional.ckpt"
    trainer.save_checkpoint(path)
    return path
