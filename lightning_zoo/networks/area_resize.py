"""Images resized so that each new pixel is the mean of the area it covers, also where sizes have no common divisor."""

import torch
from torch import Tensor


def area_resize(images: Tensor, size: int) -> Tensor:
    """Float images (..., H, W) as (..., size, size), in the same type.

    Unlike `torch.nn.functional.interpolate(mode="area")`, a pixel that is covered in part counts in part, so that the
    mean over the image stays as it is. Images of that size already are returned as they are.
    """
    if images.shape[-2:] == (size, size):
        return images
    # Under autocast the products would be rounded to eight bits of mantissa.
    with torch.autocast(images.device.type, enabled=False):
        rows = _weights(images.shape[-2], size, images)
        columns = _weights(images.shape[-1], size, images)
        return rows @ images @ columns.T


def _weights(old: int, new: int, like: Tensor) -> Tensor:
    """Shares (new, old) of each old cell in each new one; rows sum to one."""
    scale = old / new
    starts = torch.arange(new, device=like.device, dtype=torch.float64)[:, None] * scale
    cells = torch.arange(old, device=like.device, dtype=torch.float64)
    overlap = torch.minimum(starts + scale, cells + 1) - torch.maximum(starts, cells)
    return (overlap.clamp_min(0) / scale).to(like.dtype)
