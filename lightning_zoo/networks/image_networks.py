"""Encoder and decoder of 64x64 images (Shang et al. 2018, appendix 5.C; layers as released).

They end and begin at features (8 b, 4, 4) for ``base_channels`` b; what lies between features and latent variables is
in `latent_paths`. Batch normalisation has the released momentum: running statistics are nearly those of the last batch.
"""

from torch import Tensor, nn

from lightning_zoo.networks.crelu import CReLU
from lightning_zoo.networks.initialisation import initialise_as_released

NORM_MOMENTUM = 0.9
"""Weight of a batch in the running statistics, as released."""


def encoding_layers(input_channels: int, base_channels: int, norm_momentum: float) -> list[nn.Module]:
    """The stages from (input_channels, 64, 64) to features (8 b, 4, 4)."""
    b = base_channels

    def stage(inputs: int, outputs: int, kernel: int, stride: int, activation: nn.Module) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        return [convolution, nn.BatchNorm2d(outputs, eps=1e-6, momentum=norm_momentum), activation]

    return [
        *stage(input_channels, b, 5, 2, CReLU()),  # (2 b, 32, 32)
        *stage(2 * b, 2 * b, 3, 2, CReLU()),  # (4 b, 16, 16)
        *stage(4 * b, 4 * b, 3, 2, CReLU()),  # (8 b, 8, 8)
        *stage(8 * b, 8 * b, 3, 1, nn.LeakyReLU(0.1, inplace=True)),
        *stage(8 * b, 8 * b, 3, 2, CReLU()),  # (16 b, 4, 4)
        *stage(16 * b, 8 * b, 3, 1, nn.LeakyReLU(0.1, inplace=True)),  # (8 b, 4, 4)
    ]


def decoding_layers(base_channels: int, norm_momentum: float) -> list[nn.Module]:
    """The doublings from features (8 b, 4, 4) to (2 b, 64, 64)."""
    b = base_channels

    def normalised(layer: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
        norm = nn.BatchNorm2d(layer.out_channels, eps=1e-6, momentum=norm_momentum)
        return [layer, norm, nn.LeakyReLU(0.1, inplace=True)]

    return [
        *normalised(nn.ConvTranspose2d(8 * b, 8 * b, 4, 2, 1)),  # (8 b, 8, 8)
        *normalised(nn.Conv2d(8 * b, 8 * b, 3, padding=1)),
        *normalised(nn.ConvTranspose2d(8 * b, 4 * b, 4, 2, 1)),  # (4 b, 16, 16)
        *normalised(nn.ConvTranspose2d(4 * b, 2 * b, 4, 2, 1)),  # (2 b, 32, 32)
        *normalised(nn.ConvTranspose2d(2 * b, 2 * b, 4, 2, 1)),  # (2 b, 64, 64)
        *normalised(nn.Conv2d(2 * b, 2 * b, 3, padding=1)),
    ]


class ImageEncoder(nn.Module):
    """Five strided stages with concatenated ReLUs, 64x64 images to 4x4 features.

    Args:
        image_channels: of the images.
        base_channels: b; the features have 8 b channels.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(
        self, image_channels: int = 3, base_channels: int = 32, *, norm_momentum: float = NORM_MOMENTUM
    ) -> None:
        super().__init__()
        self.feature_shape = (8 * base_channels, 4, 4)
        self.layers = nn.Sequential(CReLU(), *encoding_layers(2 * image_channels, base_channels, norm_momentum))
        initialise_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, 64, 64) in [-1, 1] to features (B, 8 b, 4, 4)."""
        features: Tensor = self.layers(images)
        return features


class ImageDecoder(nn.Module):
    """Four doublings, 4x4 features to 64x64 images.

    Args:
        image_channels: of the images.
        base_channels: b; the features have 8 b channels.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(
        self, image_channels: int = 3, base_channels: int = 32, *, norm_momentum: float = NORM_MOMENTUM
    ) -> None:
        super().__init__()
        self.feature_shape = (8 * base_channels, 4, 4)
        self.layers = nn.Sequential(
            *decoding_layers(base_channels, norm_momentum),
            nn.Conv2d(2 * base_channels, image_channels, 3, padding=1),
            nn.Tanh(),
        )
        initialise_as_released(self)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, 8 b, 4, 4) to images (B, C, 64, 64) in [-1, 1]."""
        images: Tensor = self.layers(features)
        return images
