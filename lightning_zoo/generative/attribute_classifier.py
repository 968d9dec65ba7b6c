"""A classifier of binary attributes, which judges whether conditionally generated images show what was asked for.

Thesis section 6.5.2: "a standard convolutional encoder and a fully connected layer ending with 40 binary predictions".
The encoder is not described there; this one is VGG11's convolutions, as in `classifier`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_zoo.generative.attribute_names import columns_of
from lightning_zoo.generative.image_classifier import ImageClassifier
from lightning_zoo.generative.images import images_in
from lightning_zoo.metrics.attribute_accuracy import AttributeAccuracy, constant_accuracy
from lightning_zoo.step_logging import logs_now


class AttributeClassifier(ImageClassifier):
    """VGG11 with a linear layer on {"images": (B, C, H, W), "attributes": (B, N) in {-1, +1}, 0 where unknown}.

    The loss is the binary cross-entropy of all attributes, averaged over them. The shares of the
    training images that have each attribute are kept in the checkpoint, for the accuracy of an answer that knows only
    them.

    Args:
        image_shape: channels, height and width of the images; None takes those of the data.
        attribute_names: of the N attributes, some of the data's in any order; None takes all of the data.
        base_channels: width of the first convolution, 64 in VGG11; there are eight times as many features.
        dropout: share of the features that is dropped in training.
        learning_rate: of AdamW, in the first epoch.
        learning_rate_decay: factor of the rate from one epoch to the next; 1 keeps it.
        weight_decay: of AdamW.
        initial_weights: file of torchvision's `vgg11_bn` (or `vgg11`) weights to start from.

    Raises:
        ValueError: for images that are not square or smaller than 28x28, a number out of range, or names that the
            data have not.
    """

    frequencies: Tensor

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        attribute_names: list[str] | None = None,
        base_channels: int = 64,
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.9,
        weight_decay: float = 1e-4,
        initial_weights: str | None = None,
    ) -> None:
        super().__init__()
        self._columns: list[int] | None = None
        self.save_hyperparameters()
        self._check_options()
        if image_shape is not None and attribute_names is not None:
            self._build()

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Of the N attributes, in the order of the logits."""
        return tuple(self.hparams["attribute_names"] or ())

    def _fill_from_data(self) -> None:
        super()._fill_from_data()
        data = getattr(self.trainer, "datamodule", None)
        names = getattr(data, "attribute_names", None)
        if self.hparams["attribute_names"] is None:
            if not names:
                raise ValueError(
                    f"attribute_names is not set and the data ({type(data).__name__}) have none: use data with "
                    "attributes (CelebA), or set --model.attribute_names"
                )
            self.hparams["attribute_names"] = [str(name) for name in names]
        if names and list(names) != self.hparams["attribute_names"]:
            self._columns = columns_of(self.attribute_names, names, "the data")

    def _build(self) -> None:
        number = len(self.attribute_names)
        if not number:
            raise ValueError("attribute_names is empty: there is nothing to tell")
        self._build_network(number)
        self.register_buffer("frequencies", torch.full((number,), float("nan")))
        self.accuracy = AttributeAccuracy(number)

    def on_fit_start(self) -> None:
        """Count how many of the training images have each attribute."""
        attributes_of = getattr(getattr(self.trainer, "datamodule", None), "attributes_of", None)
        attributes = attributes_of("train") if attributes_of is not None else None
        if attributes is not None:
            own = self._own(attributes)
            yes, no = ((own == value).sum(0, dtype=torch.float64) for value in (1, -1))
            self.frequencies.copy_(yes / (yes + no))

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, N), positive where an attribute is seen, of images (B, C, H, W), uint8 or float in [0, 1]."""
        return self.logits_of(self.features(images))

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy in nats, the mean over images and attributes, logits (B, N) and attributes (B, N)."""
        if "attributes" not in batch:
            raise ValueError(f"the batch has {', '.join(sorted(batch))} but no attributes: use data with attributes")
        attributes = self._own(batch["attributes"])
        logits = self.logits(images_in(batch)).float()
        known = (attributes != 0).float()
        losses = F.binary_cross_entropy_with_logits(logits, (attributes > 0).float(), known, reduction="sum")
        return losses / known.sum().clamp(min=1), logits.detach(), attributes

    def _own(self, attributes: Tensor) -> Tensor:
        """The columns (B, N) that this classifier tells."""
        number = len(self.attribute_names)
        if self._columns is not None:
            return attributes[:, self._columns]
        if attributes.shape[1] != number:
            raise ValueError(
                f"the classifier was built for {number} attributes per image, the batch has {attributes.shape[1]}"
            )
        return attributes

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy of one batch."""
        loss, logits, attributes = self._loss(batch)
        if logs_now(self):
            self.log("train/loss", loss.detach())
            self.log("train/accuracy", (logits * attributes > 0).float().mean())
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracies on held-out images."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracies on the test images."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        loss, logits, attributes = self._loss(batch)
        self.accuracy.update(logits, attributes)
        self.log(f"{stage}/loss", loss, batch_size=len(logits), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the means over attributes."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the means over attributes, and the scores of each."""
        for score, values in self._log_scores("test").items():
            for name, value in zip(self.attribute_names, values, strict=True):
                self.log(f"test/attributes/{name}/{score}", value, sync_dist=True)

    def _log_scores(self, stage: str) -> dict[str, list[float]]:
        scores = self.accuracy.compute()
        self.accuracy.reset()
        constant = constant_accuracy(torch.tensor(scores.pop("frequency")), self.frequencies.cpu())
        if not constant.isnan().all():
            scores["majority_accuracy"] = constant.tolist()
        for score, values in scores.items():
            self.log(f"{stage}/{score}", float(torch.tensor(values).nanmean()), sync_dist=True)
        return scores

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Features (B, F), logits (B, N) and predicted attributes (B, N) in {-1, +1}."""
        features = self.features(images_in(batch))
        logits = self.logits_of(features)
        return {"features": features, "logits": logits, "predictions": torch.where(logits > 0, 1, -1).to(torch.int8)}
