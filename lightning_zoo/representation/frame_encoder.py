"""What every method with one encoder of single frames does with it."""

from typing import Any

from torch import Tensor

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.networks.encoders import Encoder, as_float, checked_images


class FrameEncoder(Loadable):
    """Mixin for methods that set ``self.encoder``: `class STDIM(FrameEncoder, L.LightningModule)`."""

    encoder: Encoder

    def forward(self, frames: Tensor) -> Tensor:
        """Features (B, feature_size) of frames (B, C, H, W), uint8 or float in [0, 1]."""
        return self.encoder(as_float(checked_images(frames), self.encoder.input_channels))

    def encode(self, frames: Tensor) -> Tensor:
        """Features (B, feature_size) of frames (B, C, H, W), uint8 or float in [0, 1]."""
        return self.forward(frames)

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Features of labelled frames or images (B, C, H, W) in ``batch["frames"]``."""
        return {"features": self.encode(batch["frames"])}
