"""Masks of image completion: 1 where a pixel is known, 0 where it is hidden (Shang et al. 2018, section 5.4.4).

The published evaluation hides the right half, the eyes or the mouth of faces, the upper or lower part of birds, and
blocks of bedrooms. Where exactly is not stated; the boxes here are ours.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

BOXES: dict[str, tuple[float, float, float, float]] = {
    "half": (0.0, 0.5, 1.0, 1.0),
    "right": (0.0, 0.5, 1.0, 1.0),
    "left": (0.0, 0.0, 1.0, 0.5),
    "upper": (0.0, 0.0, 0.5, 1.0),
    "lower": (0.5, 0.0, 1.0, 1.0),
    "center": (0.25, 0.25, 0.75, 0.75),
    "eyes": (0.38, 0.2, 0.58, 0.8),
    "mouth": (0.68, 0.28, 0.86, 0.72),
}
"""What a named mask hides: top, left, bottom and right edge as shares of the image's height and width.

`eyes` and `mouth` are made for the crop (left 15, top 40, right 163, bottom 188) of an aligned CelebA picture, where
the eyes lie at about 0.48 and the mouth at about 0.76 of the height; give other crops a picture as mask.
"""

MASKS = (*BOXES, "blocks")
"""Every named mask; `half` is the right half."""

NUM_BLOCKS = 4
"""How many blocks the mask `blocks` hides, each a quarter of the image's height and width; they may overlap."""


def named_mask(name: str, height: int, width: int, *, seed: int = 0) -> Tensor:
    """A mask (1, height, width) by its name, 1 where a pixel is known.

    Args:
        name: one of `MASKS`: the part that is hidden.
        height: of the images.
        width: of the images.
        seed: of the places of `blocks`.

    Raises:
        ValueError: for an unknown name.
    """
    mask = torch.ones(1, height, width)
    if name == "blocks":
        return _hide_blocks(mask, seed)
    if name not in BOXES:
        near = get_close_matches(name.lower(), MASKS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(MASKS)}, or a picture file"
        raise ValueError(f"mask: no {name!r}; {hint}")
    top, left, bottom, right = BOXES[name]
    mask[:, round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 0
    return mask


def read_mask(file: str | Path, height: int, width: int) -> Tensor:
    """A mask (1, height, width) from a picture: light pixels are known, dark ones (below half) hidden.

    Raises:
        ValueError: for a file that is no picture, or one of another size than the images.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            grey = picture.convert("L")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"mask: {file} cannot be read as a picture: {error}") from error
    if grey.size != (width, height):
        got = "x".join(map(str, grey.size))
        raise ValueError(f"mask: {file} is {got} pixels (width x height), the images are {width}x{height}: resize it")
    levels = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).reshape(1, height, width)
    return (levels >= 128).float()


def checked_mask(mask: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """A mask as float (1 or C, H, W), or (B, 1 or C, H, W), that hides something and not everything.

    Raises:
        ValueError: for a mask of another size than the images, with other values than 0 and 1, or that hides nothing
            or everything of an image.
    """
    channels, height, width = image_shape
    fits = mask.dim() in (3, 4) and mask.shape[-2:] == (height, width) and mask.shape[-3] in (1, channels)
    if not fits:
        got = "x".join(map(str, mask.shape))
        raise ValueError(f"mask must be 1x{height}x{width}, as the images of the model, got {got}")
    mask = mask.float()
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask must hold 1 where a pixel is known and 0 where it is hidden, nothing in between")
    known = mask.flatten(-3).mean(-1)
    if (known == 1).any():
        raise ValueError("mask hides nothing: set the pixels to complete to 0 (dark in a picture)")
    if (known == 0).any():
        raise ValueError("mask hides everything: leave known pixels at 1 (light in a picture), or use `sample`")
    return mask


def _hide_blocks(mask: Tensor, seed: int) -> Tensor:
    _, height, width = mask.shape
    tall, wide = max(1, height // 4), max(1, width // 4)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(NUM_BLOCKS):
        top = int(torch.randint(height - tall + 1, (), generator=generator))
        left = int(torch.randint(width - wide + 1, (), generator=generator))
        mask[:, top : top + tall, left : left + wide] = 0
    return mask
