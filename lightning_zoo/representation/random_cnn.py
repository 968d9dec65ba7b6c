"""An encoder that is never trained, the baseline that shows what the architecture alone gives (Anand et al. 2019)."""

import lightning as L
import torch
from torch import Tensor

from lightning_zoo.networks.encoders import EncoderName, make_encoder
from lightning_zoo.representation.frame_encoder import FrameEncoder


class RandomCNN(FrameEncoder, L.LightningModule):
    """The encoder with its initial weights; `fit` only writes them to a checkpoint.

    "train/loss" and "val/loss" are zero: nothing is learned, but callbacks that watch them find them.

    Args:
        encoder: "nature" (published) or "impala".
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the feature vector.
    """

    def __init__(self, *, encoder: EncoderName = "nature", input_channels: int = 1, feature_size: int = 256) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = make_encoder(encoder, input_channels=input_channels, feature_size=feature_size)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """A loss of zero, of which every parameter has the gradient zero, as DDP demands."""
        loss = sum((parameter.sum() * 0 for parameter in self.parameters()), torch.zeros((), device=self.device))
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """A loss of zero."""
        self.log("val/loss", torch.zeros((), device=self.device), batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with rate zero: it counts the steps by which checkpoints are written and moves nothing."""
        return torch.optim.SGD(self.parameters(), lr=0.0)
