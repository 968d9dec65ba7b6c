"""Pixels as networks take them and as decoders are asked for them."""

import torch
from torch import Tensor


def unit_pixels(images: Tensor) -> Tensor:
    """Images as float in [0, 1]: uint8 is divided by 255, float is taken as it is."""
    return images / 255 if images.dtype == torch.uint8 else images


def quantised_target(images: Tensor, bits: int = 5, generator: torch.Generator | None = None) -> Tensor:
    """What a decoder is asked for: pixels of fewer bits, with noise of one level, centred at 0.

    floor(x / 2^(8 - bits)) / 2^bits + u / 2^bits - 1/2 with u uniform in [0, 1) (Kingma & Dhariwal 2018, arXiv
    1807.03039, as SAC+AE uses it).

    Args:
        images: (B, C, H, W), uint8.
        bits: that are kept, 1 to 8.
        generator: of the noise, on any device; None for the default one of the images' device.

    Returns:
        (B, C, H, W), float32 from -1/2 to 1/2.

    Raises:
        ValueError: for images that are not uint8, or another number of bits.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 for their bits to be counted, got {images.dtype}")
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be 1 to 8, got {bits}")
    device = images.device if generator is None else generator.device
    noise = torch.rand(images.shape, generator=generator, device=device).to(images.device)
    return ((images >> (8 - bits)) + noise) / 2**bits - 0.5
