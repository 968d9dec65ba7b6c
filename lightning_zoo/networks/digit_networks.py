"""Encoder and decoder of 28x28 images (Shang et al. 2018, appendix 5.B; layers as released).

They end and begin at features (8 b, 4, 4) for ``base_channels`` b; what lies between features and latent variables is
in `latent_paths`.
"""

from torch import Tensor, nn

from lightning_zoo.networks.crelu import CReLU
from lightning_zoo.networks.initialisation import initialise_as_released


class DigitEncoder(nn.Module):
    """Three strided stages, 28x28 images to 4x4 features.

    Args:
        image_channels: of the images.
        base_channels: b; the features have 8 b channels.
        last_kernel: size of the third strided kernel, 3 in the released crVAE and 5 in the released baselines.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(
        self,
        image_channels: int = 1,
        base_channels: int = 32,
        *,
        last_kernel: int = 3,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        b = base_channels
        self.feature_shape = (8 * b, 4, 4)

        def stage(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
            activation = CReLU() if stride == 2 else nn.LeakyReLU(0.1, inplace=True)
            convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding)
            return [convolution, nn.BatchNorm2d(outputs, momentum=norm_momentum), activation]

        self.layers = nn.Sequential(
            *stage(image_channels, b, 5, 2, 3),  # (2 b, 15, 15)
            *stage(2 * b, 2 * b, 3, 1, 1),
            *stage(2 * b, 2 * b, 3, 2, 1),  # (4 b, 8, 8)
            *stage(4 * b, 4 * b, 3, 1, 1),
            *stage(4 * b, 4 * b, last_kernel, 2, last_kernel // 2),  # (8 b, 4, 4)
            *stage(8 * b, 8 * b, 3, 1, 1),
        )
        initialise_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, 28, 28) in [0, 1] to features (B, 8 b, 4, 4)."""
        features: Tensor = self.layers(images)
        return features


class DigitDecoder(nn.Module):
    """Three doublings, 4x4 features to 28x28 images.

    Args:
        image_channels: of the images.
        base_channels: b; the features have 8 b channels.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(self, image_channels: int = 1, base_channels: int = 32, *, norm_momentum: float = 0.1) -> None:
        super().__init__()
        b = base_channels
        self.feature_shape = (8 * b, 4, 4)

        def normalised(layer: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
            return [layer, nn.BatchNorm2d(layer.out_channels, momentum=norm_momentum), nn.LeakyReLU(0.1, inplace=True)]

        self.layers = nn.Sequential(
            *normalised(nn.ConvTranspose2d(8 * b, 8 * b, 4, 2, 1)),  # (8 b, 8, 8)
            *normalised(nn.Conv2d(8 * b, 8 * b, 3, padding=1)),
            *normalised(nn.ConvTranspose2d(8 * b, 4 * b, 4, 2, 1)),  # (4 b, 16, 16)
            *normalised(nn.Conv2d(4 * b, 4 * b, 3, padding=1)),
            *normalised(nn.ConvTranspose2d(4 * b, 2 * b, 4, 2, 2)),  # (2 b, 30, 30)
            *normalised(nn.Conv2d(2 * b, 2 * b, 3, padding=1)),
            nn.Conv2d(2 * b, image_channels, 3),  # (C, 28, 28)
        )
        initialise_as_released(self)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, 8 b, 4, 4) to logits (B, C, 28, 28)."""
        logits: Tensor = self.layers(features)
        return logits
