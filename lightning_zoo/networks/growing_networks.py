"""Encoder and decoder of `image_networks` with ends that may grow (Shang & Sohn 2019; thesis, Figure 6.4)."""

from functools import partial

from torch import Tensor, nn

from lightning_zoo.networks.growing_images import (
    GrowingInput,
    GrowingOutput,
    decoder_block,
    decoder_colours,
    encoder_block,
    encoder_colours,
)
from lightning_zoo.networks.image_networks import NORM_MOMENTUM, decoding_layers, encoding_layers
from lightning_zoo.networks.initialisation import initialise_as_released


class GrowingEncoder(nn.Module):
    """Images (B, C, S, S) in [-1, 1], S = 64, 128, ..., to features (B, 8 b, 4, 4).

    Args:
        image_channels: of the images.
        base_channels: b.
        norm_momentum: weight of a batch in the running statistics.
        num_doublings: of 64 to begin with.
    """

    def __init__(
        self,
        image_channels: int = 3,
        base_channels: int = 32,
        *,
        norm_momentum: float = NORM_MOMENTUM,
        num_doublings: int = 0,
    ) -> None:
        super().__init__()
        b = base_channels
        self.feature_shape = (8 * b, 4, 4)
        colours = encoder_colours(image_channels, b, norm_momentum)
        self.ends = GrowingInput(colours, partial(encoder_block, b, norm_momentum), num_doublings=num_doublings)
        self.layers = nn.Sequential(*encoding_layers(b, b, norm_momentum))
        initialise_as_released(self.layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, S, S) in [-1, 1] to features (B, 8 b, 4, 4)."""
        features: Tensor = self.layers(self.ends(images))
        return features


class GrowingDecoder(nn.Module):
    """Features (B, 8 b, 4, 4) to images (B, C, S, S) in [-1, 1], S = 64, 128, ...

    Args:
        image_channels: of the images.
        base_channels: b.
        norm_momentum: weight of a batch in the running statistics.
        num_doublings: of 64 to begin with.
    """

    def __init__(
        self,
        image_channels: int = 3,
        base_channels: int = 32,
        *,
        norm_momentum: float = NORM_MOMENTUM,
        num_doublings: int = 0,
    ) -> None:
        super().__init__()
        b = base_channels
        self.feature_shape = (8 * b, 4, 4)
        self.layers = nn.Sequential(*decoding_layers(b, norm_momentum))
        colours = decoder_colours(image_channels, b)
        self.ends = GrowingOutput(colours, partial(decoder_block, b, norm_momentum), num_doublings=num_doublings)
        initialise_as_released(self.layers)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, 8 b, 4, 4) to images (B, C, S, S) in [-1, 1]."""
        images: Tensor = self.ends(self.layers(features))
        return images
