"""Prediction of the next frame's pixels, a baseline of ST-DIM (Anand et al. 2019, arXiv 1906.08226).

Nothing but the frame is given, not the action. The numbered differences from the released code are in this folder's
README.
"""

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.losses.vae import squared_error_sum
from lightning_zoo.networks.encoders import as_float, checked_clips
from lightning_zoo.networks.nature_cnn import NatureCNN
from lightning_zoo.networks.nature_decoder import NatureDecoder
from lightning_zoo.representation.frame_encoder import FrameEncoder
from lightning_zoo.step_logging import logs_now


class PixelPrediction(FrameEncoder, L.LightningModule):
    """Nature encoder, a linear step in feature space, and a decoder that draws a clip's last frame from its first.

    Args:
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the feature vector.
        learning_rate: of Adam with eps 1e-5.
    """

    def __init__(self, *, input_channels: int = 1, feature_size: int = 256, learning_rate: float = 3e-4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = NatureCNN(input_channels=input_channels, feature_size=feature_size)
        self.transition = nn.Linear(feature_size, feature_size)
        self.decoder = NatureDecoder(feature_size=feature_size, output_channels=input_channels)
        self.learning_rate = learning_rate

    def predict_next(self, frames: Tensor) -> Tensor:
        """The frames (B, C, H, W) in [0, 1] that are expected after frames (B, C, H, W)."""
        return self.decoder(self.transition(self(frames)))

    def loss(self, clips: Tensor) -> Tensor:
        """Mean squared error per pixel of a clip's last frame, predicted from its first.

        Args:
            clips: (B, T, C, H, W); the published method has T = 2.

        Raises:
            ValueError: for clips of one frame.
        """
        if checked_clips(clips).shape[1] < 2:
            raise ValueError(
                f"clips of {clips.shape[1]} frame have nothing to predict: set --data.clip_length to 2 or more"
            )
        target = as_float(clips[:, -1], self.encoder.input_channels)
        return squared_error_sum(self.predict_next(clips[:, 0]), target).mean() / target[0].numel()

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on clips (B, T, C, H, W) in ``batch["frames"]``."""
        loss = self.loss(batch["frames"])
        if logs_now(self):
            self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same error on held-out clips, beside that of predicting no change."""
        clips = batch["frames"]
        loss = self.loss(clips)
        first, last = (as_float(clips[:, t], self.encoder.input_channels) for t in (0, -1))
        values = {"val/loss": loss, "val/loss_of_no_change": (first - last).square().mean()}
        self.log_dict(values, batch_size=len(clips), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over encoder, linear step and decoder."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate, eps=1e-5)
