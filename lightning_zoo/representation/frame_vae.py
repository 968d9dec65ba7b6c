"""Variational autoencoder of single frames, a baseline of ST-DIM (Anand et al. 2019, arXiv 1906.08226).

The posterior's mean is the encoder's output, so that probes see what the decoder has to work with. The numbered
differences from the released code are in this folder's README.
"""

from typing import Literal

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.losses.vae import gaussian_kl, squared_error_sum
from lightning_zoo.networks.encoders import as_float, checked_images
from lightning_zoo.networks.nature_cnn import NatureCNN
from lightning_zoo.networks.nature_decoder import NatureDecoder
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now

# More than an epoch has, so that no two batches of a run share a number; a CPU's generator reads 32 bits of a seed.
_MOST_BATCHES = 2**20


class FrameVAE(FrameEncoder, L.LightningModule):
    """VAE with the Nature encoder and its mirror image as decoder.

    All logged values are means per image whatever ``reduction`` is, so that runs compare.

    Args:
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the feature vector, which is the latent vector.
        beta: weight of the KL divergence.
        reduction: over the images of a batch: "sum" as released, or "mean", which does not depend on their number.
        learning_rate: of Adam with eps 1e-5.

    Raises:
        ValueError: for a negative beta or an unknown reduction.
    """

    def __init__(
        self,
        *,
        input_channels: int = 1,
        feature_size: int = 256,
        beta: float = 1.0,
        reduction: Literal["sum", "mean"] = "sum",
        learning_rate: float = 3e-4,
    ) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
        self.save_hyperparameters()
        self.encoder = NatureCNN(input_channels=input_channels, feature_size=feature_size)
        self.log_variance = nn.Linear(self.encoder.linear.in_features, feature_size)
        self.decoder = NatureDecoder(feature_size=feature_size, output_channels=input_channels)
        self.beta = beta
        self.reduction = reduction
        self.learning_rate = learning_rate
        self.noise_seed = torch.initial_seed()

    def reconstruct(self, frames: Tensor) -> Tensor:
        """Frames (B, C, H, W) in [0, 1], decoded from the posterior's means."""
        return self.decoder(self(frames))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, both (B, feature_size), of float images (B, C, H, W)."""
        maps = self.encoder.maps(images)
        return self.encoder.features(maps), self.log_variance(next(reversed(maps.values())).flatten(1))

    def loss(self, frames: Tensor, draw: int = 0) -> dict[str, Tensor]:
        """The negative evidence bound and its terms per image; the latent is drawn in training, the mean otherwise.

        Args:
            frames: images (B, C, H, W) or clips (B, T, C, H, W), whose frames count as images.
            draw: number of the draw in training; the same number gives the same noise.
        """
        images = checked_images(frames.flatten(0, 1) if frames.dim() == 5 else frames)
        images = as_float(images, self.encoder.input_channels)
        mean, log_variance = self.posterior(images)
        latent = mean
        if self.training:
            noise = self._noise(mean.to(torch.promote_types(mean.dtype, torch.float32)), draw)
            latent = (mean + torch.exp(0.5 * log_variance.to(noise.dtype)) * noise).to(mean.dtype)
        error = squared_error_sum(self.decoder(latent), images).mean()
        divergence = gaussian_kl(mean, log_variance).mean()
        return {"loss": error + self.beta * divergence, "reconstruction": error, "kl": divergence}

    def _noise(self, latent: Tensor, draw: int) -> Tensor:
        # For all processes, from a number: a resumed run, and one process in place of two, draw the same.
        world_size, rank = (1, 0) if self._trainer is None else (self.trainer.world_size, self.global_rank)
        seed = (self.noise_seed + 1_000_003 * (draw + 1)) % 2**63
        generator = torch.Generator(latent.device).manual_seed(seed)
        shape = (world_size, *latent.shape)
        return torch.randn(shape, generator=generator, device=latent.device, dtype=latent.dtype)[rank]

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on ``batch["frames"]``, images or clips."""
        # Not the step's number, which is the same for all batches whose gradients are accumulated.
        terms = self.loss(batch["frames"], draw=self.current_epoch * _MOST_BATCHES + batch_index)
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        if self.reduction == "mean":
            return terms["loss"]
        # DDP takes the mean of the processes' gradients; times their number it is the sum over the joint batch.
        return terms["loss"] * batch["frames"].shape[:-3].numel() * self.trainer.world_size

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms on held-out images."""
        terms = self.loss(batch["frames"])
        values = {f"val/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=len(batch["frames"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over encoder and decoder."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, eps=1e-5)
