"""Supervised 3D-ResNet-18 on clips, from scratch or fine-tuned (Shang, PhD thesis, chapter 7, Tables 7.1 to 7.3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.checkpoints import CheckpointError, Loadable, class_path, read
from lightning_zoo.metrics.video_votes import VideoAccuracy
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.frame_autoencoder import Pixels
from lightning_zoo.networks.video_encoder import VideoFeatures, VideoTrunk
from lightning_zoo.step_logging import logs_now
from lightning_zoo.video.clips import check_clips, to_pixels
from lightning_zoo.video.hyperparameters import check_hyperparameters, in_first_phase

Head = Literal["features", "pooled"]

TRUNKS = (
    {"networks.video.trunk.": "", "networks.video.last_stage.": "4."},
    {"network.0.": ""},
)
"""Where StaticsDynamics and this method keep the four stages that `initial_weights` takes, and their places here."""


class VideoClassifier(Loadable, L.LightningModule):
    """Clips to classes; defaults are those for Moving MNIST. What is said of a video is what its clips say on average.

    Args:
        class_names: of the classes; null takes those of the data.
        frame_channels: C.
        frame_size: side of the frames.
        num_frames: T of a clip.
        base_channels: of the 3D-ResNet-18; 64 there.
        feature_size: D of the last fully connected layer before the classes; of head "features".
        head: from the fourth stage to the classes: "features" is two fully connected layers, as P is made, and a third;
            "pooled" the average over time and space and one linear layer, as in fine-tuning (section 7.5.3).
        initial_weights: checkpoint of StaticsDynamics, or of this method, whose four stages a run begins with.
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
        head: Head = "features",
        initial_weights: str | None = None,
        pixels: Pixels = "unit",
        learning_rate: float = 1e-3,
        halving_period_epochs: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_hyperparameters(self.hparams)
        self.frame_shape = (frame_channels, frame_size, frame_size)
        self.num_frames = num_frames
        self.network: nn.Sequential
        if head == "pooled":
            self.network = PooledFeatures(frame_channels, base_channels)
            self.feature_size = 8 * base_channels
        else:
            self.network = VideoFeatures(self.frame_shape, num_frames, feature_size, base_channels=base_channels)
            self.feature_size = feature_size
        self.votes = VideoAccuracy()
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
        loss, accuracy, _ = self._loss(batch)
        if logs_now(self):
            self.log_dict({"train/loss": loss.detach(), "train/accuracy": accuracy})
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let all processes evaluate with the same running statistics."""
        average_batch_statistics(self)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracy by clip; by video, where "videos" (B,) tell of which each clip is, when all were seen."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Let the clips of each video vote."""
        self._count_votes("val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """As in validation."""
        self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """As in validation."""
        self._count_votes("test")

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Features (B, D)."""
        return self.features(batch["clips"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, its rate halved every so many epochs; initial weights are taken here, where a new run begins."""
        path, trainer = self.hparams["initial_weights"], self._trainer
        if path is not None and trainer is not None and trainer.training and not trainer.ckpt_path:
            self.take_weights(path)
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.hparams["halving_period_epochs"], gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the layer of classes that the checkpoint has."""
        super().on_load_checkpoint(checkpoint)
        if self.classes is None:
            self._build(len(checkpoint["state_dict"]["classes.weight"]))

    def take_weights(self, path: str | Path) -> None:
        """Take the four stages, with their running statistics, of a checkpoint of StaticsDynamics or of this method.

        Raises:
            ValueError: if the file cannot be read, has no such stages, untrained ones, or others than fit.
        """
        try:
            checkpoint = read(path)
        except CheckpointError as error:
            raise ValueError(f"initial_weights: {error}") from error
        trunk = self.network[0]
        weights = next((found for names in TRUNKS if (found := _renamed(checkpoint["state_dict"], names))), {})
        own, given = trunk.state_dict(), checkpoint.get("hyper_parameters", {})
        if weights.keys() != own.keys():
            kind = (class_path(checkpoint) or "nothing known").rpartition(".")[2]
            raise ValueError(
                f"initial_weights: {path} holds {kind}, name a checkpoint of StaticsDynamics or VideoClassifier"
            )
        if in_first_phase(checkpoint):
            raise ValueError(
                f"initial_weights: {path} was written in the first phase, before its video encoder learnt anything"
            )
        pixels, ours = given.get("pixels", self.hparams["pixels"]), self.hparams["pixels"]
        if pixels != ours:
            raise ValueError(f"initial_weights: {path} has pixels={pixels!r}, this run {ours!r}: set --model.pixels")
        if any(weights[name].shape != value.shape for name, value in own.items()):
            raise ValueError(
                f"initial_weights: {path} does not fit: set frame_channels and base_channels as it has them"
            )
        trunk.load_state_dict(weights)

    def _build(self, number: int) -> None:
        self.classes = nn.Linear(self.feature_size, number)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        if "labels" not in batch:
            raise ValueError(f"the batch has {', '.join(sorted(batch))} but no labels: use data with classes")
        logits = self(batch["clips"])
        accuracy = (logits.argmax(1) == batch["labels"]).float().mean()
        return F.cross_entropy(logits, batch["labels"]), accuracy, logits

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        loss, accuracy, logits = self._loss(batch)
        found = {f"{stage}/loss": loss, f"{stage}/accuracy": accuracy}
        self.log_dict(found, sync_dist=True, batch_size=len(batch["clips"]))
        if "videos" in batch:
            self.votes.update(logits, batch["labels"], batch["videos"])

    def _count_votes(self, stage: str) -> None:
        if self.votes.update_called:
            # All processes have counted the same; Lightning wants to hear that this is meant.
            self.log_dict({f"{stage}/{name}": value for name, value in self.votes.compute().items()}, sync_dist=True)
            self.votes.reset()


class PooledFeatures(nn.Sequential):
    """Clips (B, T, C, H, W) to the mean (B, 8 b) of the fourth stage over time and space.

    Args:
        frame_channels: C.
        base_channels: b of the trunk.
    """

    def __init__(self, frame_channels: int, base_channels: int) -> None:
        super().__init__(VideoTrunk(frame_channels, base_channels, 4), nn.AdaptiveAvgPool3d(1), nn.Flatten())

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, 8 b), none below 0."""
        features: Tensor = super().forward(clips.transpose(1, 2))
        return features


def _renamed(weights: dict[str, Tensor], places: dict[str, str]) -> dict[str, Tensor]:
    """Weights whose names begin as told, by the names that they get instead."""
    return {
        place + name.removeprefix(prefix): value
        for prefix, place in places.items()
        for name, value in weights.items()
        if name.startswith(prefix)
    }
