"""BlockSTN: frames warped onto each other in the latent space of an autoencoder (Shang, PhD thesis, chapter 7, 7.3.1).

The first phase of `StaticsDynamics`, for itself. The numbered differences from the thesis are in this folder's README.
"""

from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.losses.video import Reduction, frame_error
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.frame_autoencoder import Pixels
from lightning_zoo.networks.inter_frame import InterFrameTransformer
from lightning_zoo.step_logging import logs_now
from lightning_zoo.video.clips import ends_of, from_pixels, to_pixels
from lightning_zoo.video.hyperparameters import check_hyperparameters


class BlockSTN(Loadable, L.LightningModule):
    """Image autoencoder and block-wise affine transformer on pairs of frames; defaults are those for Moving MNIST.

    Args:
        frame_channels: C.
        frame_size: side of the frames, a multiple of 8.
        channels: c of the feature maps (c, side / 8, side / 8).
        num_blocks: K, blocks of channels that move by themselves.
        pixels: range of the frames within the networks: "unit", [0, 1], or "signed", [-1, 1].
        sees_all_channels: localisation networks see all channels of both frames, not only their block's.
        bounded: affine parameters stay within 1 of the identity.
        padding: what is outside of a feature map: "zeros" or its "border".
        reconstruction_weight: lambda_r.
        transformation_weight: lambda_t.
        reduction: of a frame's error: "sum", the squared norm of eq. 7.2, or "mean".
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
        channels: int = 64,
        num_blocks: int = 2,
        pixels: Pixels = "unit",
        sees_all_channels: bool = False,
        bounded: bool = False,
        padding: Literal["zeros", "border"] = "zeros",
        reconstruction_weight: float = 0.1,
        transformation_weight: float = 1.0,
        reduction: Reduction = "sum",
        learning_rate: float = 5e-3,
        halving_period_epochs: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_hyperparameters(self.hparams)
        self.frame_shape = (frame_channels, frame_size, frame_size)
        self.transformer = transformer_of(self.hparams)

    def forward(self, frames: Tensor) -> Tensor:
        """Features (B, D), as `encode`."""
        return self.encode(frames)

    def encode(self, frames: Tensor) -> Tensor:
        """Features s, flat (B, D), of frames (B, C, H, W), uint8 or in [0, 1]."""
        return self.transformer.encode(to_pixels(frames, self.frame_shape, self.hparams["pixels"])).flatten(1)

    def warp(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Frames `sources` warped onto `targets`, all (..., C, H, W); uint8 or in [0, 1], out in [0, 1]."""
        return warp(self.transformer, sources, targets, self.frame_shape, self.hparams["pixels"])

    def strips(self, clips: Tensor) -> Tensor:
        """Rows of pictures, as `transformer_strips`."""
        return transformer_strips(self.transformer, clips, self.frame_shape, self.hparams["pixels"])

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Eq. 7.2 on "pairs" (B, 2, C, H, W): source and target."""
        loss, terms = pair_losses(self.transformer, self._pairs(batch["pairs"]), self.hparams)
        if logs_now(self):
            self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let all processes evaluate with the same running statistics."""
        average_batch_statistics(self)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same from each clip's first frame to its last."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """As in validation."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Features s (B, T, D) of all frames."""
        clips = batch["clips"]
        return {"features": self.encode(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, its rate halved every so many epochs."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.hparams["halving_period_epochs"], gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        pairs = self._pairs(ends_of(batch["clips"]))
        _, terms = pair_losses(self.transformer, pairs, self.hparams)
        self.log_dict(
            {f"{stage}/{name}": value for name, value in terms.items()}, sync_dist=True, batch_size=len(pairs)
        )

    def _pairs(self, pairs: Tensor) -> Tensor:
        return to_pixels(pairs, self.frame_shape, self.hparams["pixels"])


TRANSFORMER_OPTIONS = (
    "frame_channels",
    "frame_size",
    "channels",
    "num_blocks",
    "pixels",
    "sees_all_channels",
    "bounded",
    "padding",
)
"""Hyperparameters that say what a transformer is."""


def transformer_of(given: Mapping[str, Any]) -> InterFrameTransformer:
    """The networks that hyperparameters ask for."""
    side = given["frame_size"]
    return InterFrameTransformer(
        (given["frame_channels"], side, side),
        given["channels"],
        given["num_blocks"],
        given["pixels"],
        sees_all_channels=given["sees_all_channels"],
        bounded=given["bounded"],
        padding=given["padding"],
    )


@torch.no_grad()
def warp(
    network: InterFrameTransformer, sources: Tensor, targets: Tensor, frame_shape: tuple[int, int, int], pixels: Pixels
) -> Tensor:
    """Frames `sources` warped onto `targets`, all (..., C, H, W); uint8 or in [0, 1], out in [0, 1]."""
    pair = [network.encode(to_pixels(each, frame_shape, pixels)) for each in (sources, targets)]
    return from_pixels(network.decode(network.warped(*pair)), pixels)


def transformer_strips(
    network: InterFrameTransformer, clips: Tensor, frame_shape: tuple[int, int, int], pixels: Pixels
) -> Tensor:
    """Of clips (B, T, C, H, W) two rows (B, 2, T, C, H, W) in [0, 1]: frames, and the first one warped onto each."""
    warped = warp(network, clips[:, :1].expand_as(clips), clips, frame_shape, pixels)
    return torch.stack([to_pixels(clips, frame_shape, "unit"), warped], 1)


def pair_losses(
    network: InterFrameTransformer, pairs: Tensor, given: Mapping[str, Any]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 7.2.

    Args:
        network: g_enc, T and g_dec.
        pairs: (B, 2, C, H, W), source and target.
        given: its weights and the reduction.

    Returns:
        The loss, and what to log: the loss and both errors.
    """
    source, target = pairs.unbind(1)
    features = network.encode(pairs)
    first, second = features.unbind(1)
    drawn = network.decode(torch.stack([first, network.warped(first, second)], 1))
    reconstruction = frame_error(drawn[:, 0], source, given["reduction"])
    transformation = frame_error(drawn[:, 1], target, given["reduction"])
    loss = given["reconstruction_weight"] * reconstruction + given["transformation_weight"] * transformation
    terms = {"loss": loss, "reconstruction": reconstruction, "transformation": transformation}
    return loss, {name: value.detach() for name, value in terms.items()}
