"""Random changes of images that leave their meaning alone (DrQ, Kostrikov et al. 2020, arXiv 2004.13649).

One draw holds for all frames of a stack, so that motion within it stays what it was.
"""

import torch
from torch import Tensor


def _device_of(generator: torch.Generator | None, images: Tensor) -> torch.device:
    return images.device if generator is None else generator.device


def random_shift(images: Tensor, pad: int = 4, generator: torch.Generator | None = None) -> Tensor:
    """Move each image by up to `pad` pixels on both axes, its border repeated into what is uncovered.

    The same as padding by replication and cropping at random, but pixels are gathered, so that they are exact and stay
    uint8. All (2 pad + 1)^2 shifts are equally likely, as released by the authors; Dopamine's crop never draws +pad.

    Args:
        images: (B, C, H, W), uint8 or float; C holds all frames of a stack.
        pad: largest shift in pixels; 0 changes nothing.
        generator: of the shifts, on any device; None for the default one of the images' device.

    Returns:
        (B, C, H, W), same type and device, other memory.

    Raises:
        ValueError: for a negative pad.
    """
    if pad < 0:
        raise ValueError(f"pad must be 0 or more pixels, got {pad}")
    batch, channels, height, width = images.shape
    shifts = torch.randint(-pad, pad + 1, (2, batch, 1), generator=generator, device=_device_of(generator, images))
    shifts = shifts.to(images.device)
    rows = (torch.arange(height, device=images.device) + shifts[0]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=images.device) + shifts[1]).clamp(0, width - 1)  # (B, W)
    places = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).view(batch, 1, height * width)
    return images.flatten(2).gather(2, places.expand(-1, channels, -1)).view(images.shape)


def random_intensity(images: Tensor, scale: float = 0.05, generator: torch.Generator | None = None) -> Tensor:
    """Multiply each image by 1 + scale * clip(n, -2, 2) with n standard normal; nothing is clipped afterwards.

    The equation is that of the code of SPR (Schwarzer et al. 2021, arXiv 2007.05929), since DrQ's for Atari was never
    released.

    Args:
        images: (B, C, H, W); uint8 is divided by 255, float is taken as it is.
        scale: standard deviation of the factors, before clipping.
        generator: of the factors, on any device; None for the default one of the images' device.

    Returns:
        (B, C, H, W), float.

    Raises:
        ValueError: for a negative scale.
    """
    if scale < 0:
        raise ValueError(f"scale must be 0 or more, got {scale}")
    noise = torch.randn(len(images), 1, 1, 1, generator=generator, device=_device_of(generator, images))
    factors = (1 + scale * noise.clamp(-2, 2)).to(images.device)
    if images.dtype == torch.uint8:
        return images / 255 * factors
    return images * factors.to(images.dtype)


def augmented_views(
    images: Tensor,
    num_views: int = 1,
    pad: int = 4,
    intensity: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Several augmentations of each image, all drawn independently: a shift, then an intensity.

    Args:
        images: (B, C, H, W), uint8 or float.
        num_views: K or M of DrQ.
        pad: of `random_shift`.
        intensity: scale of `random_intensity`; 0 leaves it out, and uint8 then stays uint8.
        generator: of all draws.

    Returns:
        (num_views, B, C, H, W).

    Raises:
        ValueError: for fewer than one view, or as the two augmentations.
    """
    if num_views < 1:
        raise ValueError(f"num_views must be 1 or more, got {num_views}")
    views = random_shift(images.repeat(num_views, 1, 1, 1), pad, generator)
    if intensity != 0:
        views = random_intensity(views, intensity, generator)
    return views.unflatten(0, (num_views, len(images)))
