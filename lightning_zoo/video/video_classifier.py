"""Supervised 3D-ResNet-18 on clips, the classification baseline of the thesis (chapter 7, Tables 7.1 and 7.3)."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.frame_autoencoder import Pixels
from lightning_zoo.networks.video_encoder import VideoFeatures
from lightning_zoo.step_logging import logs_now
from lightning_zoo.video.clips import check_clips, to_pixels
from lightning_zoo.video.hyperparameters import check_hyperparameters


class VideoClassifier(Loadable, L.LightningModule):
    """Clips to classes through features as large as P; defaults are those for Moving MNIST.

    Args:
        class_names: of the classes; null takes those of the data.
        frame_channels: C.
        frame_size: side of the frames.
        num_frames: T of a clip.
        base_channels: of the 3D-ResNet-18; 64 there.
        feature_size: D of the last fully connected layer before the classes.
        pixels: range of the frames within the network.
        learning_rate: of Adam.
        halving_period_epochs: after which the learning rate is halved.

    Raises:
        ValueError: for an argument out of range, or data without classes.
    """

    def __init__(
        self,
        *,
        class_names: Sequence[str] | None = None,
        frame_channels: int = 1,
        frame_size: int = 64,
        num_frames: int = 8,
        base_channels: int = 64,
        feature_size: int = 32,
        pixels: Pixels = "unit",
        learning_rate: float = 1e-3,
        halving_period_epochs: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_hyperparameters(self.hparams)
        self.frame_shape = (frame_channels, frame_size, frame_size)
        self.num_frames = num_frames
        self.feature_size = feature_size
        self.network = VideoFeatures(self.frame_shape, num_frames, feature_size, base_channels=base_channels)
        self.classes: nn.Linear | None = None
        if class_names is not None:
            self._build(len(class_names))

    def configure_model(self) -> None:
        """Take the classes of the data."""
        if self.classes is None and self._trainer is not None:
            names = getattr(getattr(self.trainer, "datamodule", None), "class_names", None)
            if not names:
                raise ValueError(f"{type(self).__name__} needs data with classes, or --model.class_names")
            self.hparams["class_names"] = list(names)
            self._build(len(names))

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (B, classes), as `class_logits`."""
        return self.class_logits(clips)

    def class_logits(self, clips: Tensor) -> Tensor:
        """Logits (B, classes) of clips (B, T, C, H, W), uint8 or in [0, 1]."""
        assert self.classes is not None
        logits: Tensor = self.classes(F.relu(self.encode(clips)))
        return logits

    def encode(self, clips: Tensor) -> Tensor:
        """Features (B, D) of clips (B, T, C, H, W), uint8 or in [0, 1]."""
        check_clips(clips, self.num_frames)
        features: Tensor = self.network(to_pixels(clips, self.frame_shape, self.hparams["pixels"]))
        return features.float()

    def features(self, clips: Tensor) -> dict[str, Tensor]:
        """`encode` by the name that the commands use."""
        return {"features": self.encode(clips)}

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy on "clips" (B, T, C, H, W) and "labels" (B,)."""
        loss, accuracy = self._loss(batch)
        if logs_now(self):
            self.log_dict({"train/loss": loss.detach(), "train/accuracy": accuracy})
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let all processes evaluate with the same running statistics."""
        average_batch_statistics(self)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracy by clip."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """As in validation."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Features (B, D)."""
        return self.features(batch["clips"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, its rate halved every so many epochs."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.hparams["halving_period_epochs"], gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the layer of classes that the checkpoint has."""
        super().on_load_checkpoint(checkpoint)
        if self.classes is None:
            self._build(len(checkpoint["state_dict"]["classes.weight"]))

    def _build(self, number: int) -> None:
        self.classes = nn.Linear(self.feature_size, number)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if "labels" not in batch:
            raise ValueError(f"the batch has {', '.join(sorted(batch))} but no labels: use data with classes")
        logits = self(batch["clips"])
        return F.cross_entropy(logits, batch["labels"]), (logits.argmax(1) == batch["labels"]).float().mean()

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        loss, accuracy = self._loss(batch)
        found = {f"{stage}/loss": loss, f"{stage}/accuracy": accuracy}
        self.log_dict(found, sync_dist=True, batch_size=len(batch["clips"]))
