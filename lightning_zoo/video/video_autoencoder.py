"""Autoencoder of whole clips, the reconstruction baseline of the thesis (chapter 7, Table 7.1)."""

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.losses.video import Reduction, frame_error
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.frame_autoencoder import Pixels
from lightning_zoo.networks.video_decoder import VideoDecoder
from lightning_zoo.networks.video_encoder import VideoFeatures
from lightning_zoo.step_logging import logs_now
from lightning_zoo.video.clips import check_clips, from_pixels, to_pixels
from lightning_zoo.video.hyperparameters import check_hyperparameters


class VideoAutoencoder(Loadable, L.LightningModule):
    """Clips through a bottleneck as small as P and back; defaults are those for Moving MNIST.

    Args:
        frame_channels: C.
        frame_size: side of the frames.
        num_frames: T of a clip.
        base_channels: of the 3D-ResNet-18; 64 there.
        feature_size: D of the bottleneck.
        pixels: range of the frames within the networks.
        reduction: of a frame's error: "sum" or "mean".
        learning_rate: of Adam.
        halving_period_epochs: after which the learning rate is halved.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        *,
        frame_channels: int = 1,
        frame_size: int = 64,
        num_frames: int = 8,
        base_channels: int = 64,
        feature_size: int = 32,
        pixels: Pixels = "unit",
        reduction: Reduction = "sum",
        learning_rate: float = 1e-3,
        halving_period_epochs: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_hyperparameters(self.hparams)
        self.frame_shape = (frame_channels, frame_size, frame_size)
        self.num_frames = num_frames
        self.feature_size = feature_size
        self.encoder = VideoFeatures(self.frame_shape, num_frames, feature_size, base_channels=base_channels)
        self.decoder = VideoDecoder(
            feature_size, self.frame_shape, num_frames, base_channels=base_channels, pixels=pixels
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D), as `encode`."""
        return self.encode(clips)

    def encode(self, clips: Tensor) -> Tensor:
        """Features (B, D) of clips (B, T, C, H, W), uint8 or in [0, 1]."""
        features: Tensor = self.encoder(self._pixels(clips))
        return features.float()

    def features(self, clips: Tensor) -> dict[str, Tensor]:
        """`encode` by the name that the commands use."""
        return {"features": self.encode(clips)}

    @torch.no_grad()
    def reconstruct(self, clips: Tensor) -> Tensor:
        """Clips (B, T, C, H, W) in [0, 1]."""
        return from_pixels(self.decoder(self.encode(clips)), self.hparams["pixels"])

    def strips(self, clips: Tensor) -> Tensor:
        """Of clips two rows (B, 2, T, C, H, W) in [0, 1]: frames, and what was drawn from their features."""
        return torch.stack([to_pixels(clips, self.frame_shape, "unit"), self.reconstruct(clips)], 1)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Squared error of "clips" (B, T, C, H, W)."""
        loss = self._loss(batch)
        if logs_now(self):
            self.log("train/loss", loss.detach())
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let all processes evaluate with the same running statistics."""
        average_batch_statistics(self)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same error."""
        self.log("val/loss", self._loss(batch), sync_dist=True, batch_size=len(batch["clips"]))

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same error."""
        self.log("test/loss", self._loss(batch), sync_dist=True, batch_size=len(batch["clips"]))

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Features (B, D)."""
        return self.features(batch["clips"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, its rate halved every so many epochs."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.hparams["halving_period_epochs"], gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        clips = self._pixels(batch["clips"])
        return frame_error(self.decoder(self.encoder(clips)), clips, self.hparams["reduction"])

    def _pixels(self, clips: Tensor) -> Tensor:
        check_clips(clips, self.num_frames)
        return to_pixels(clips, self.frame_shape, self.hparams["pixels"])
