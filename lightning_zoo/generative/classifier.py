"""A classifier of images, whose features and class probabilities judge generated images.

Shang et al. (2018, arXiv 1706.03729; thesis section 5.4.1) measure inception scores with a classifier of the images'
own domain instead of ImageNet's: VGG11, pretrained on ImageNet and fine-tuned on birds or faces. This one is VGG11's
convolutions with batch normalisation; the two large linear layers are left out, see `networks.vgg11`.
"""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.generative.images import images_in, to_unit
from lightning_zoo.metrics.variable_scores import VALUES, VariableAccuracy
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.vgg11 import VGG11
from lightning_zoo.step_logging import logs_now

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that torchvision's weights expect of red, green and blue."""


class Classifier(Loadable, L.LightningModule):
    """VGG11 with a linear layer on {"images" or "frames": (B, C, H, W), "labels": int64 (B,) or (B, K)}.

    With labels (B, K), state variables of up to 256 values each, there are K linear layers on the same features.

    Args:
        image_shape: channels, height and width of the images; None takes those of the data.
        class_names: names of the classes of one label; None takes those of the data.
        variables: names of the K variables, instead of classes; None takes those of the data that have no classes.
        base_channels: width of the first convolution, 64 in VGG11; there are eight times as many features.
        dropout: share of the features that is dropped in training.
        learning_rate: of AdamW, in the first epoch.
        learning_rate_decay: factor of the rate from one epoch to the next; 1 keeps it.
        weight_decay: of AdamW.
        initial_weights: file of torchvision's `vgg11_bn` (or `vgg11`) weights to start from.

    Raises:
        ValueError: for images that are not square or smaller than 28x28, a number out of range, or both class_names
            and variables.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        class_names: list[str] | None = None,
        variables: list[str] | None = None,
        base_channels: int = 64,
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.9,
        weight_decay: float = 1e-4,
        initial_weights: str | None = None,
    ) -> None:
        super().__init__()
        if class_names is not None and variables is not None:
            raise ValueError("class_names and variables are both set: labels are either classes or state variables")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        if not 0 < learning_rate_decay <= 1:
            raise ValueError(f"learning_rate_decay must be in (0, 1], got {learning_rate_decay}")
        if base_channels < 1:
            raise ValueError(f"base_channels must be at least 1, got {base_channels}")
        self.save_hyperparameters()
        self.network: VGG11 | None = None
        if image_shape is not None and (class_names is not None or variables is not None):
            self._build()

    def setup(self, stage: str) -> None:
        """Take from the data what was not given."""
        _fill_from_data(self)

    def configure_model(self) -> None:
        """Build the network if its sizes are only now known, and read the initial weights of a new run."""
        if self.network is None:
            self._build()
        path, trainer = self.hparams["initial_weights"], self._trainer
        if path is not None and trainer is not None and trainer.training and not trainer.ckpt_path:
            assert self.network is not None
            self.network.take_torchvision_weights(_read_weights(path))

    def _build(self) -> None:
        options = self.hparams
        self.image_shape = tuple(options["image_shape"])
        channels, height, width = self.image_shape
        if height != width or height < 28:
            raise ValueError(f"image_shape must be square and at least 28x28, got {height}x{width}")
        names = options["variables"] or options["class_names"]
        if not names:
            raise ValueError("class_names and variables are empty: there is nothing to tell apart")
        self.num_labels = len(options["variables"] or [None])
        self.num_classes = VALUES if options["variables"] else len(options["class_names"])
        self.network = VGG11(input_channels=channels, base_channels=options["base_channels"])
        self.head = nn.Linear(self.network.feature_size, self.num_labels * self.num_classes)
        imagenet = options["initial_weights"] is not None and channels == 3
        mean, deviation = _IMAGENET if imagenet else ((0.5,) * channels, (0.5,) * channels)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])
        self.accuracy = VariableAccuracy(self.num_labels)

    def features(self, images: Tensor) -> Tensor:
        """Features (B, 8 * base_channels), never negative, of images (B, C, H, W), uint8 or float in [0, 1]."""
        assert self.network is not None
        return self.network((to_unit(images, self.image_shape) - self.mean) / self.deviation)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W); with K variables (B, K, 256)."""
        return self.logits_of(self.features(images))

    def logits_of(self, features: Tensor) -> Tensor:
        """Logits, as `logits`, of what `features` returned."""
        dropped = F.dropout(features, self.hparams["dropout"], self.training)
        logits = self.head(dropped)
        return logits.unflatten(1, (self.num_labels, -1)) if self.hparams["variables"] else logits

    def forward(self, images: Tensor) -> Tensor:
        """The features."""
        return self.features(images)

    def encode(self, images: Tensor) -> Tensor:
        """The features."""
        return self.features(images)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy in nats, the mean over images and variables, predictions (B, K) and labels (B, K)."""
        labels = _labels_of(batch, self.num_labels)
        logits = self.logits(images_in(batch)).float()
        loss = F.cross_entropy(logits.reshape(-1, self.num_classes), labels.reshape(-1))
        return loss, logits.detach().argmax(-1).view_as(labels), labels

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy of one batch."""
        loss, predictions, labels = self._loss(batch)
        if logs_now(self):
            self.log("train/loss", loss.detach())
            self.log("train/accuracy", (predictions == labels).float().mean())
        return loss

    def on_after_backward(self) -> None:
        """Let all processes have the same running statistics."""
        average_batch_statistics(self)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracy on held-out images."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracy on the test images."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        loss, predictions, labels = self._loss(batch)
        self.accuracy.update(predictions, labels)
        self.log(f"{stage}/loss", loss, batch_size=len(labels), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the mean accuracy over variables."""
        self._log_accuracy("val")

    def on_test_epoch_end(self) -> None:
        """Log the mean accuracy, and that of each variable."""
        accuracies = self._log_accuracy("test")
        for name, value in zip(self.hparams["variables"] or [], accuracies, strict=False):
            self.log(f"test/variables/{name}/accuracy", float(value), sync_dist=True)

    def _log_accuracy(self, stage: str) -> Tensor:
        accuracies = self.accuracy.compute().reshape(-1)
        self.accuracy.reset()
        self.log(f"{stage}/accuracy", float(accuracies.mean()), sync_dist=True)
        return accuracies

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Features (B, F) and predicted classes (B,), or values (B, K)."""
        features = self.features(images_in(batch))
        return {"features": features, "predictions": self.logits_of(features).argmax(-1)}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW whose rate falls after each epoch."""
        options = self.hparams
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=options["learning_rate"], weight_decay=options["weight_decay"]
        )
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, options["learning_rate_decay"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def _fill_from_data(module: Classifier) -> None:
    """Fill the hyperparameters that are None, so that the checkpoint holds them and loads alone."""
    options, data = module.hparams, getattr(module.trainer, "datamodule", None)
    if options["image_shape"] is None:
        shape = getattr(data, "image_shape", None)
        if shape is None:
            raise ValueError(f"image_shape is not set and the data ({type(data).__name__}) have none: set it")
        options["image_shape"] = tuple(int(size) for size in shape)
    if options["class_names"] is None and options["variables"] is None:
        found = {name: getattr(data, name, None) for name in ("class_names", "variables")}
        name = next((name for name, value in found.items() if value), None)
        if name is None:
            raise ValueError(
                f"class_names is not set and the data ({type(data).__name__}) have neither class_names nor variables: "
                "use data with labels (AtariFrames: --data.serve labelled) or set --model.class_names"
            )
        options[name] = [str(entry) for entry in found[name]]  # type: ignore[union-attr]


def _labels_of(batch: dict[str, Tensor], number: int) -> Tensor:
    """The labels as (B, number)."""
    if "labels" not in batch:
        raise ValueError(f"the batch has {', '.join(sorted(batch))} but no labels: use data with labels")
    labels = batch["labels"]
    labels = labels[:, None] if labels.dim() == 1 else labels
    if labels.shape[1] != number:
        raise ValueError(f"the classifier was built for {number} labels per image, the batch has {labels.shape[1]}")
    return labels


def _read_weights(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise ValueError(f"initial_weights: no file {path}; give torchvision's vgg11_bn weights, or leave it out")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as many kinds as there are places where a file can break off
        raise ValueError(f"initial_weights: {path} is damaged or no file of plain weights") from error
    return weights if isinstance(weights, dict) else {}
