"""Encoder and decoder of pixels beside an agent (SAC+AE, Yarats et al. 2019, arXiv 1910.01741; DrQ has the encoder)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_zoo.networks.initialisation import initialise_orthogonally
from lightning_zoo.networks.pixels import unit_pixels

ConvolutionStart = Literal["delta", "full"]
"""Orthogonal convolutions: at the centre of an otherwise empty kernel (Xiao et al. 2018, arXiv 1806.05393), as released
with SAC+AE, or the whole kernel as one matrix, as released with DrQ."""

KERNEL = 3


class PixelHead(nn.Module):
    """Features tanh(LayerNorm(linear)) of convolutional maps.

    An actor has one of its own on the maps of the critic's encoder.

    Args:
        map_shape: (channels, height, width) of the maps.
        feature_size: length of the features.
    """

    def __init__(self, map_shape: tuple[int, int, int], feature_size: int = 50) -> None:
        super().__init__()
        self.linear = nn.Linear(map_shape[0] * map_shape[1] * map_shape[2], feature_size)
        self.norm = nn.LayerNorm(feature_size)
        initialise_orthogonally(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Features (B, feature_size) in (-1, 1) of maps (B, channels, height, width)."""
        return torch.tanh(self.norm(self.linear(maps.flatten(1))))


class PixelEncoder(nn.Module):
    """Four convolutions 3x3 with ReLU, the first with stride 2, then `PixelHead`.

    Args:
        observation_shape: (C, H, W); 84x84 become maps of 35x35.
        feature_size: length of the features.
        num_layers: convolutions.
        num_filters: channels of each.
        start: initial weights of the convolutions.

    Raises:
        ValueError: for a shape that is not (C, H, W), no convolution, or images too small.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        feature_size: int = 50,
        *,
        num_layers: int = 4,
        num_filters: int = 32,
        start: ConvolutionStart = "delta",
    ) -> None:
        super().__init__()
        self.observation_shape = _checked(observation_shape)
        self.feature_size = feature_size
        self.map_shape = _map_shape(self.observation_shape, num_layers, num_filters)
        layers: list[nn.Module] = []
        for index in range(num_layers):
            inputs = num_filters if index else self.observation_shape[0]
            layers += [nn.Conv2d(inputs, num_filters, KERNEL, stride=1 if index else 2), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.head = PixelHead(self.map_shape, feature_size)
        initialise_orthogonally(self.convolutions, delta=start == "delta")

    def maps(self, images: Tensor) -> Tensor:
        """Maps (B, *map_shape) of images (B, C, H, W), uint8 or float in [0, 1]."""
        if tuple(images.shape[1:]) != self.observation_shape:
            raise ValueError(
                f"images must be (B, {', '.join(map(str, self.observation_shape))}), got {tuple(images.shape)}: "
                "the encoder was built for other environments"
            )
        maps: Tensor = self.convolutions(unit_pixels(images))
        return maps

    def features(self, maps: Tensor) -> Tensor:
        """Features (B, feature_size) of maps that `maps` returned; detach them to spare the convolutions a gradient."""
        features: Tensor = self.head(maps)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, feature_size) in (-1, 1) of images (B, C, H, W)."""
        return self.features(self.maps(images))


class PixelDecoder(nn.Module):
    """The encoder backwards: linear, ReLU, transposed convolutions with ReLU between them; the last one doubles.

    Args:
        observation_shape: (C, H, W) of the images.
        feature_size: length of the features.
        num_layers: transposed convolutions.
        num_filters: channels between them.
        start: initial weights of the transposed convolutions.

    Raises:
        ValueError: as `PixelEncoder`.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        feature_size: int = 50,
        *,
        num_layers: int = 4,
        num_filters: int = 32,
        start: ConvolutionStart = "delta",
    ) -> None:
        super().__init__()
        channels, height, width = _checked(observation_shape)
        self.map_shape = _map_shape((channels, height, width), num_layers, num_filters)
        self.linear = nn.Linear(feature_size, self.map_shape[0] * self.map_shape[1] * self.map_shape[2])
        layers: list[nn.Module] = []
        for _ in range(num_layers - 1):
            layers += [nn.ConvTranspose2d(num_filters, num_filters, KERNEL), nn.ReLU()]
        # Stride 2 maps two sizes onto one; which of them it was is said to the way back.
        lost = ((height - KERNEL) % 2, (width - KERNEL) % 2)
        layers.append(nn.ConvTranspose2d(num_filters, channels, KERNEL, stride=2, output_padding=lost))
        self.convolutions = nn.Sequential(*layers)
        initialise_orthogonally(self, delta=start == "delta")

    def forward(self, features: Tensor) -> Tensor:
        """Images (B, C, H, W), centred at 0 as `quantised_target` has them, of features (B, feature_size)."""
        maps = torch.relu(self.linear(features)).unflatten(1, self.map_shape)
        images: Tensor = self.convolutions(maps)
        return images


def _checked(observation_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(observation_shape) != 3:
        raise ValueError(f"observation_shape must be (C, H, W), got {tuple(observation_shape)}: pixels are wanted")
    channels, height, width = observation_shape
    return channels, height, width


def _map_shape(observation_shape: tuple[int, int, int], num_layers: int, num_filters: int) -> tuple[int, int, int]:
    if num_layers < 1:
        raise ValueError(f"num_layers must be 1 or more, got {num_layers}")
    _, *sides = observation_shape
    height, width = ((side - KERNEL) // 2 + 1 - (num_layers - 1) * (KERNEL - 1) for side in sides)
    if min(height, width) < 1:
        raise ValueError(
            f"images of {sides[0]}x{sides[1]} leave nothing after num_layers={num_layers}: use fewer layers"
        )
    return num_filters, height, width
