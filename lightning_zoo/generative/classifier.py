"""A classifier of images, whose features and class probabilities judge generated images.

Shang et al. (2018, arXiv 1706.03729; thesis section 5.4.1) measure inception scores with a classifier of the images'
own domain instead of ImageNet's: VGG11, pretrained on ImageNet and fine-tuned on birds or faces. This one is VGG11's
convolutions with batch normalisation; the two large linear layers are left out, see `networks.vgg11`.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from lightning_zoo.generative.image_classifier import ImageClassifier
from lightning_zoo.generative.images import images_in
from lightning_zoo.metrics.variable_scores import VALUES, VariableAccuracy
from lightning_zoo.step_logging import logs_now


class Classifier(ImageClassifier):
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
        self.save_hyperparameters()
        self._check_options()
        if image_shape is not None and (class_names is not None or variables is not None):
            self._build()

    def _fill_from_data(self) -> None:
        super()._fill_from_data()
        options, data = self.hparams, getattr(self.trainer, "datamodule", None)
        if options["class_names"] is not None or options["variables"] is not None:
            return
        found = {name: getattr(data, name, None) for name in ("class_names", "variables")}
        name = next((name for name, value in found.items() if value), None)
        if name is None:
            raise ValueError(
                f"class_names is not set and the data ({type(data).__name__}) have neither class_names nor variables: "
                "use data with labels (AtariFrames: --data.serve labelled) or set --model.class_names"
            )
        options[name] = [str(entry) for entry in found[name]]  # type: ignore[union-attr]

    def _build(self) -> None:
        options = self.hparams
        names = options["variables"] or options["class_names"]
        if not names:
            raise ValueError("class_names and variables are empty: there is nothing to tell apart")
        self.num_labels = len(options["variables"] or [None])
        self.num_classes = VALUES if options["variables"] else len(options["class_names"])
        self._build_network(self.num_labels * self.num_classes)
        self.accuracy = VariableAccuracy(self.num_labels)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W); with K variables (B, K, 256)."""
        return self.logits_of(self.features(images))

    def logits_of(self, features: Tensor) -> Tensor:
        """Logits, as `logits`, of what `features` returned."""
        logits = super().logits_of(features)
        return logits.unflatten(1, (self.num_labels, -1)) if self.hparams["variables"] else logits

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


def _labels_of(batch: dict[str, Tensor], number: int) -> Tensor:
    """The labels as (B, number)."""
    if "labels" not in batch:
        raise ValueError(f"the batch has {', '.join(sorted(batch))} but no labels: use data with labels")
    labels = batch["labels"]
    labels = labels[:, None] if labels.dim() == 1 else labels
    if labels.shape[1] != number:
        raise ValueError(f"the classifier was built for {number} labels per image, the batch has {labels.shape[1]}")
    return labels
