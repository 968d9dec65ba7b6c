"""What classifiers of images have in common: VGG11's convolutions, one linear layer on them, AdamW."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.generative.images import to_unit
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.vgg11 import VGG11

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that torchvision's weights expect of red, green and blue."""


class ImageClassifier(Loadable, L.LightningModule):
    """Base: a subclass has the hyperparameters named here, `_build` and the steps, and says what the outputs mean.

    Hyperparameters: image_shape (None takes that of the data), base_channels, dropout, learning_rate,
    learning_rate_decay, weight_decay, initial_weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.network: VGG11 | None = None

    def setup(self, stage: str) -> None:
        """Take from the data what was not given."""
        self._fill_from_data()

    def configure_model(self) -> None:
        """Build the network if its sizes are only now known."""
        if self.network is None:
            self._build()

    def features(self, images: Tensor) -> Tensor:
        """Features (B, 8 * base_channels), never negative, of images (B, C, H, W), uint8 or float in [0, 1]."""
        assert self.network is not None
        return self.network((to_unit(images, self.image_shape) - self.mean) / self.deviation)

    def logits_of(self, features: Tensor) -> Tensor:
        """What the linear layer makes of what `features` returned."""
        return self.head(F.dropout(features, self.hparams["dropout"], self.training))

    def forward(self, images: Tensor) -> Tensor:
        """The features."""
        return self.features(images)

    def encode(self, images: Tensor) -> Tensor:
        """The features."""
        return self.features(images)

    def on_after_backward(self) -> None:
        """Let all processes have the same running statistics."""
        average_batch_statistics(self)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW whose rate falls after each epoch; a new run starts from the initial weights."""
        # Not in configure_model: there the trainer does not know yet whether it resumes a run.
        path, trainer = self.hparams["initial_weights"], self._trainer
        if path is not None and trainer is not None and trainer.training and not trainer.ckpt_path:
            assert self.network is not None
            self.network.take_torchvision_weights(_read_weights(path))
        options = self.hparams
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=options["learning_rate"], weight_decay=options["weight_decay"]
        )
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, options["learning_rate_decay"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _check_options(self) -> None:
        options = self.hparams
        if not 0 <= options["dropout"] < 1:
            raise ValueError(f"dropout must be in [0, 1), got {options['dropout']}")
        if not 0 < options["learning_rate_decay"] <= 1:
            raise ValueError(f"learning_rate_decay must be in (0, 1], got {options['learning_rate_decay']}")
        if options["base_channels"] < 1:
            raise ValueError(f"base_channels must be at least 1, got {options['base_channels']}")

    def _fill_from_data(self) -> None:
        """Fill the hyperparameters that are None, so that the checkpoint holds them and loads alone."""
        options, data = self.hparams, getattr(self.trainer, "datamodule", None)
        if options["image_shape"] is None:
            shape = getattr(data, "image_shape", None)
            if shape is None:
                raise ValueError(f"image_shape is not set and the data ({type(data).__name__}) have none: set it")
            options["image_shape"] = tuple(int(size) for size in shape)

    def _build(self) -> None:
        """Build the network from hyperparameters that are all known."""
        raise NotImplementedError

    def _build_network(self, num_outputs: int) -> None:
        options = self.hparams
        self.image_shape = tuple(options["image_shape"])
        channels, height, width = self.image_shape
        if height != width or height < 28:
            raise ValueError(f"image_shape must be square and at least 28x28, got {height}x{width}")
        self.network = VGG11(input_channels=channels, base_channels=options["base_channels"])
        self.head = nn.Linear(self.network.feature_size, num_outputs)
        imagenet = options["initial_weights"] is not None and channels == 3
        mean, deviation = _IMAGENET if imagenet else ((0.5,) * channels, (0.5,) * channels)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])


def _read_weights(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise ValueError(f"initial_weights: no file {path}; give torchvision's vgg11_bn weights, or leave it out")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as many kinds as there are places where a file can break off
        raise ValueError(f"initial_weights: {path} is damaged or no file of plain weights") from error
    return weights if isinstance(weights, dict) else {}
