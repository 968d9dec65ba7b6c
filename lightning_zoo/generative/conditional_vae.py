"""Conditional VAE of images by attributes (Kingma et al. 2014; Yan et al. 2016; thesis, section 6.3.1).

L = -KL(q(z | x, a) || p(z | a)) + E_q[log p(x | z, a)], with a learned prior; as released, the reconstruction is a mean
over pixels and the KL divergence of an image is weighted by alpha.
"""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.generative.adversarial_steps import draw_posterior
from lightning_zoo.generative.attribute_conditioning import AttributeConditioned
from lightning_zoo.generative.conditional_networks import ConditionalAutoencoder
from lightning_zoo.generative.images import images_in, shrink_to, to_signed
from lightning_zoo.generative.rank_noise import seed_by_rank
from lightning_zoo.losses.vae import gaussian_kl_between
from lightning_zoo.metrics.celeba_attributes import CELEBA_ATTRIBUTES
from lightning_zoo.networks.attribute_paths import (
    AttributedLinearPosterior,
    AttributedLinearProjection,
    LinearPrior,
    RepeatedAttributes,
)
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.image_networks import NORM_MOMENTUM, ImageDecoder, ImageEncoder
from lightning_zoo.step_logging import logs_now


class ConditionalVAE(AttributeConditioned, Loadable, L.LightningModule):
    """Conditional VAE of 64x64 images by attributes, without adversary.

    Nothing was published of its settings; the defaults are those of cVAE-GAN on CelebA.

    Args:
        attribute_names: which of the data's attributes the images are drawn by; default the forty of CelebA.
        image_channels: of the images.
        base_channels: b; every width is a multiple of it, up to 8 b.
        latent_channels: C; the latent vector has 16 C values, seen as (C, 4, 4).
        kl_weight: alpha.
        norm_momentum: weight of a batch in the running statistics of batch normalisation.
        learning_rate: of Adam.
        halving_period_epochs: after which the learning rate is halved.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(
        self,
        *,
        attribute_names: Sequence[str] = CELEBA_ATTRIBUTES,
        image_channels: int = 3,
        base_channels: int = 32,
        latent_channels: int = 64,
        kl_weight: float = 3e-4,
        norm_momentum: float = NORM_MOMENTUM,
        learning_rate: float = 3e-4,
        halving_period_epochs: int = 60,
    ) -> None:
        super().__init__()
        if kl_weight < 0:
            raise ValueError(f"kl_weight must not be negative, got {kl_weight}")
        if halving_period_epochs < 1:
            raise ValueError(f"halving_period_epochs must be at least 1, got {halving_period_epochs}")
        self.save_hyperparameters()
        number = self.condition(attribute_names)
        self.image_shape = (image_channels, 64, 64)
        self.latent_shape = (latent_channels, 4, 4)
        self.num_steps = 1
        encoder = ImageEncoder(image_channels, base_channels, norm_momentum=norm_momentum)
        decoder = ImageDecoder(image_channels, base_channels, norm_momentum=norm_momentum)
        self.autoencoder = ConditionalAutoencoder(
            encoder,
            AttributedLinearPosterior(encoder.feature_shape, self.latent_shape, number),
            LinearPrior(number, self.latent_shape, initial_bound=1e-4),
            RepeatedAttributes(1),
            AttributedLinearProjection(self.latent_shape, decoder.feature_shape, number),
            decoder,
        )

    def networks(self) -> Any:
        """What draws."""
        return self.autoencoder

    def forward(self, images: Tensor) -> Tensor:
        """As `encode`, of unknown attributes."""
        return self.encode(images)

    def encode(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Posterior means (B, D) of images (B, C, 64, 64), uint8 or in [0, 1]; without attributes, of unknown ones."""
        return self.posterior(images, attributes)[0].flatten(1)

    def posterior(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W) of q(z | x, a)."""
        return self.autoencoder.infer(self._signed(images), self.known_or_none(attributes, len(images)))

    @torch.no_grad()
    def reconstruct(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Images (B, C, 64, 64) in [0, 1], decoded from the posterior's means."""
        return self.decode(self.posterior(images, attributes)[0], attributes)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """The weighted negative lower bound, with one draw per image."""
        loss, terms = self._loss(batch, draws=True)
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return loss

    def on_fit_start(self) -> None:
        """Let processes draw differently."""
        seed_by_rank(self)

    def on_after_backward(self) -> None:
        """Let all processes have the same running statistics."""
        average_batch_statistics(self)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Reconstruction from the posterior's mean and KL divergence, on held-out images."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """As in validation."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Posterior means (B, D)."""
        return {"features": self.encode(images_in(batch), self.attributes_of(batch))}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, whose rate is halved every so many epochs."""
        given: Any = self.hparams
        optimizer = torch.optim.Adam(self.parameters(), lr=given.learning_rate, eps=1e-8)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, given.halving_period_epochs, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _loss(self, batch: dict[str, Tensor], *, draws: bool) -> tuple[Tensor, dict[str, Tensor]]:
        images, attributes = self._signed(images_in(batch)), self.attributes_of(batch)
        posterior, latent = draw_posterior(self.autoencoder, images, attributes)
        generated, _ = self.autoencoder.generate(latent if draws else posterior[0], attributes)
        prior = self.autoencoder.prior(self.autoencoder.attend(attributes))
        reconstruction = F.mse_loss(generated.float(), images.float())
        divergence = gaussian_kl_between(*posterior, *prior).mean()
        loss = reconstruction + self.hparams["kl_weight"] * divergence
        return loss, {"loss": loss, "reconstruction": reconstruction, "kl": divergence}

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        _, terms = self._loss(batch, draws=False)
        values = {f"{stage}/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=len(images_in(batch)), sync_dist=True)

    def _signed(self, images: Tensor) -> Tensor:
        return to_signed(shrink_to(images, 64), self.image_shape)
