"""Pictures that a user has in files of their own, in a model's size and colours."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

ASPECT_TOLERANCE = 0.02


def read_images(files: Sequence[str], image_shape: tuple[int, int, int], *, resize: bool = True) -> Tensor:
    """Pictures (N, C, H, W), uint8, in a model's size and colours; a line tells which were resized.

    Args:
        files: of pictures.
        image_shape: of the model.
        resize: resize pictures of another size but the same aspect ratio; others are refused in any case.

    Raises:
        UsageError: for files that are no pictures, or of another size or aspect ratio.
    """
    import torch

    if not files:
        raise UsageError("--images: no file is given")
    return torch.stack([_read_image(Path(file), image_shape, resize) for file in files])


def _read_image(file: Path, image_shape: tuple[int, int, int], resize: bool) -> Tensor:
    import torch
    from PIL import Image, UnidentifiedImageError

    channels, height, width = image_shape
    if channels not in (1, 3):
        raise UsageError(f"--images: the model draws {channels} channels, which no picture file has; leave it out")
    try:
        with Image.open(file) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError) as error:
        reason = getattr(error, "strerror", None) or "it is no picture, or damaged"
        raise UsageError(f"--images {file} cannot be read: {reason}") from error
    if picture.size != (width, height):
        picture = _resized(picture, file, width, height, resize)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(height, width, channels).permute(2, 0, 1).contiguous()


def _resized(picture: Any, file: Path, width: int, height: int, resize: bool) -> Any:
    from PIL import Image

    got = "x".join(map(str, picture.size))
    same_aspect = abs(picture.width * height / (picture.height * width) - 1) <= ASPECT_TOLERANCE
    if not same_aspect:
        raise UsageError(
            f"--images {file} is {got} pixels (width x height), the model's are {width}x{height}: crop it to that "
            "aspect ratio first; --resize changes no shapes"
        )
    if not resize:
        raise UsageError(
            f"--images {file} is {got} pixels (width x height), the model's are {width}x{height}: give --resize, or "
            "resize it"
        )
    print(f"{file}: resized from {got} to {width}x{height}", file=sys.stderr)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
