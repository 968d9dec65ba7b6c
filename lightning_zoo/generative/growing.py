"""Methods whose images double their size while they train: the structure, and how a checkpoint gets it back."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from lightning_zoo.networks.growing_images import GrowingImages

FIRST_SIZE = 64
"""Side of the smallest images, which the networks between the ends are made for."""


def doublings_to(image_size: int) -> int:
    """How often 64 is doubled to give an image size.

    Raises:
        ValueError: if it is no doubling of 64.
    """
    number = (image_size // FIRST_SIZE).bit_length() - 1
    if image_size < FIRST_SIZE or FIRST_SIZE << number != image_size:
        raise ValueError(f"first_size must be {FIRST_SIZE}, or doublings of it as 128 and 256, got {image_size}")
    return number


class Growing:
    """Mixin of a LightningModule whose networks have `GrowingImages` ends, and which has an `image_shape`."""

    image_shape: tuple[int, int, int]
    averaged: AveragedModel | None

    @property
    def image_size(self) -> int:
        """Side of the images as of now."""
        return self.image_shape[-1]

    @property
    def fading(self) -> bool:
        """Whether the newest size is being faded in."""
        return next(self.ends()).fading

    @property
    def fade(self) -> float:
        """Weight of the way through the newest blocks; 1 when nothing is fading."""
        end = next(self.ends())
        return float(end.fade) if end.fading else 1.0

    def ends(self) -> Iterator[GrowingImages]:
        """The growing ends of all networks, averaged ones too."""
        assert isinstance(self, nn.Module)
        return (module for module in self.modules() if isinstance(module, GrowingImages))

    def grow(self, image_size: int) -> None:
        """Double the images' size once, at fade 0; optimizers have to be given the new parameters.

        Raises:
            ValueError: if that is not twice the present size, or the last size is still being faded in.
        """
        if image_size != 2 * self.image_size:
            raise ValueError(f"images of {self.image_size} pixels can grow to {2 * self.image_size}, not {image_size}")
        for end in self.ends():
            end.grow()
        self.image_shape = (self.image_shape[0], image_size, image_size)
        if self.averaged is not None:
            # The average of something new is the new thing itself.
            live = getattr(self, "autoencoder")  # noqa: B009
            self._copy_newest(live, self.averaged.module)
            self.averaged.requires_grad_(False)

    @staticmethod
    def _copy_newest(live: nn.Module, averaged: nn.Module) -> None:
        pairs = zip(live.modules(), averaged.modules(), strict=True)
        for source, target in pairs:
            if isinstance(source, GrowingImages) and isinstance(target, GrowingImages):
                target.blocks[-1].load_state_dict(source.blocks[-1].state_dict())

    def set_fade(self, alpha: float) -> None:
        """Let the newest size weigh `alpha` in [0, 1]."""
        for end in self.ends():
            end.set_fade(alpha)

    def finish_growth(self) -> None:
        """Drop what the images went through before; if nothing is fading, nothing happens."""
        for end in self.ends():
            end.finish()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the structure to `checkpoint`."""
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        checkpoint["growth"] = {"image_size": self.image_size, "fading": self.fading}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Grow to the structure of `checkpoint`, whose weights come next.

        Raises:
            ValueError: if its images are smaller, or were still being faded in where here they are not.
        """
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        growth = checkpoint.get("growth")
        if growth is None:
            return
        size, fading = int(growth["image_size"]), bool(growth["fading"])
        if size < self.image_size or (size == self.image_size and fading and not self.fading):
            raise ValueError(
                f"the checkpoint has images of {size} pixels{' that are still being faded in' * fading}, the method "
                f"those of {self.image_size}: networks grow, they do not shrink; set first_size to {size} or less"
            )
        while self.image_size < size:
            self.finish_growth()
            self.grow(2 * self.image_size)
        if not fading:
            self.finish_growth()
