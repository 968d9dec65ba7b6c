"""Images on their way into and out of a generative method."""

import torch
from torch import Tensor


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


def to_signed(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """As `to_unit`, in [-1, 1], the range of a tanh output."""
    return to_unit(images, image_shape) * 2 - 1


def from_signed(images: Tensor) -> Tensor:
    """Network outputs in [-1, 1] as float32 images in [0, 1]."""
    return ((images.float() + 1) / 2).clamp(0, 1)
