"""Images on their way into and out of a generative method."""

import torch
from torch import Tensor
from torch.nn import functional as F


def images_in(batch: dict[str, Tensor]) -> Tensor:
    """The images (B, C, H, W) of a batch: of an image dataset, or the frames of an Atari recording."""
    return batch["images"] if "images" in batch else batch["frames"]


def to_unit(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Images (B, C, H, W) as floats in [0, 1]; uint8 is divided by 255, floats are taken as they are.

    Raises:
        ValueError: for images of another shape than the network was built for.
    """
    if images.shape[-3:] != torch.Size(image_shape):
        wanted, got = "x".join(map(str, image_shape)), "x".join(map(str, images.shape[-3:]))
        raise ValueError(f"images must be {wanted} (channels, height, width), got {got}: see --data.image_size")
    return images.float() / 255 if images.dtype == torch.uint8 else images


def shrink_to(images: Tensor, side: int) -> Tensor:
    """Images (B, C, S, S), uint8 or in [0, 1], as means over squares of S / side pixels; of that side already: as is.

    Returns:
        (B, C, side, side), in [0, 1] where anything was averaged.

    Raises:
        ValueError: for images that are smaller, or no whole number of times as large.
    """
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    if height != width or height % side:
        raise ValueError(
            f"images must be {side}x{side} or a whole number of times that, got {height}x{width}: see --data.image_size"
        )
    values = images.float() / 255 if images.dtype == torch.uint8 else images
    return F.avg_pool2d(values, height // side)


def to_signed(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """As `to_unit`, in [-1, 1], the range of a tanh output."""
    return to_unit(images, image_shape) * 2 - 1


def from_signed(images: Tensor) -> Tensor:
    """Network outputs in [-1, 1] as float32 images in [0, 1]."""
    return ((images.float() + 1) / 2).clamp(0, 1)
