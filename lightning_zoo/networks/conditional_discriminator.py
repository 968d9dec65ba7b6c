"""Discriminators of image and attributes: do they belong together, and is the image real (Shang & Sohn 2019).

The trunk looks at the image alone; the attributes join its features, so that one pass through the trunk judges an image
beside right and wrong attributes (layers as released).
"""

import math

import torch
from torch import Tensor, nn

from lightning_zoo.networks.attribute_paths import AttributeBlocks, join_blocks
from lightning_zoo.networks.image_discriminator import ImageDiscriminator, Shape
from lightning_zoo.networks.initialisation import normalise_spectrally


class BlockJoin(nn.Module):
    """Attributes become one block of channels, which joins each of T blocks of the features.

    Args:
        num_attributes: N.
        feature_shape: (F, H, W) of the trunk.
        latent_shape: (C, H, W); the T blocks have C channels together.
        num_steps: T; divides F and C.
    """

    def __init__(self, num_attributes: int, feature_shape: Shape, latent_shape: Shape, *, num_steps: int = 8) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.shape = (feature_shape[0] + latent_shape[0], *feature_shape[1:])
        self.attributes = AttributeBlocks(num_attributes, math.prod(latent_shape) // num_steps)

    def forward(self, features: Tensor, attributes: Tensor) -> Tensor:
        """Features (B, F, H, W) and attributes (B, N) to (B, F + C, H, W)."""
        return join_blocks(self.attributes(attributes)[:, None].expand(-1, self.num_steps, -1), features)


class LinearJoin(nn.Module):
    """Fully connected features of image and of attributes side by side.

    Args:
        num_attributes: N.
        feature_shape: (F, H, W) of the trunk.
        image_size: features of the image.
        attribute_size: features of the attributes.
    """

    def __init__(self, num_attributes: int, feature_shape: Shape, *, image_size: int, attribute_size: int) -> None:
        super().__init__()
        self.shape = (attribute_size + image_size,)
        self.attributes = AttributeBlocks(num_attributes, attribute_size)
        self.image = nn.Sequential(nn.Linear(math.prod(feature_shape), image_size), nn.ReLU())
        nn.init.zeros_(self.image[0].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, attributes: Tensor) -> Tensor:
        """Features (B, F, H, W) and attributes (B, N) to (B, attribute_size + image_size)."""
        return torch.cat([self.attributes(attributes), self.image(features.flatten(1))], 1)


class ConditionalDiscriminator(ImageDiscriminator):
    """Widths b, 2 b, 4 b, 8 b behind a stem that may grow, attributes beside the features, a head as without them.

    Args:
        stem: images to (input_channels, 64, 64), spectrally normalised where the rest is; None where the first
            convolution reads images.
        input_channels: of the first convolution.
        base_channels: b.
        join: features and attributes to what the head reads, of ``join.shape``.
        hidden_size: of the head.
        dropout: probability.
        spectral: divide each weight of trunk, join and head by its largest singular value, as `ImageDiscriminator`.
    """

    def __init__(
        self,
        stem: nn.Module | None,
        input_channels: int,
        base_channels: int,
        join: BlockJoin | LinearJoin,
        *,
        hidden_size: int = 512,
        dropout: float = 0.5,
        spectral: bool = False,
    ) -> None:
        b = base_channels
        super().__init__(
            input_channels,
            (b, 2 * b, 4 * b, 8 * b),
            hidden_size=hidden_size,
            dropout=dropout,
            spectral=spectral,
            stem=stem,
            joined_size=math.prod(join.shape),
        )
        self.join = join
        if spectral:
            normalise_spectrally(*join.modules())

    def joining_parameters(self) -> list[nn.Parameter]:
        """The parameters of `join`."""
        return list(self.join.parameters())

    def joined(self, features: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Trunk features (B, F, 4, 4) and attributes (B, N) as `join` has them."""
        assert attributes is not None
        joined: Tensor = self.join(features, attributes)
        return joined
