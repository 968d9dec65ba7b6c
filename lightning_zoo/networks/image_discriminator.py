"""Discriminator of 64x64 images with batch discrimination, and the head that recovers latent variables.

(Shang et al. 2018, section 5.3.3 and appendix 5.D; layers as released. Batch discrimination: Salimans et al. 2016.)
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.networks.channel_recurrence import AdditiveTensor
from lightning_zoo.networks.initialisation import normalise_spectrally

Shape = tuple[int, int, int]


class UnscaledDropout(nn.Module):
    """Dropout that does not scale up what it keeps; in evaluation everything is scaled down to the same mean.

    Args:
        probability: of dropping.
        whole_channels: drop channels (B, C, H, W) rather than single values.
    """

    def __init__(self, probability: float = 0.5, *, whole_channels: bool = False) -> None:
        super().__init__()
        self.probability = probability
        self.whole_channels = whole_channels

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        keep = 1 - self.probability
        if not self.training or not self.probability:
            return x * keep
        shape = (*x.shape[:2], 1, 1) if self.whole_channels else x.shape
        return x * torch.empty(shape, device=x.device, dtype=x.dtype).bernoulli_(keep)


class BatchDiscrimination(nn.Module):
    """Adds to each item how close it is to the others of its batch.

    s_ik = mean over j of exp(-sum over d of |M_ikd - M_jkd|) with M = x W, over all items j, itself included.

    Args:
        input_size: D.
        num_kernels: K.
        kernel_size: values per kernel.
    """

    def __init__(self, input_size: int, num_kernels: int = 100, kernel_size: int = 5) -> None:
        super().__init__()
        self.kernels = nn.Linear(input_size, num_kernels * kernel_size)
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Items (B, D) to (B, D + K)."""
        m = self.kernels(x).float().unflatten(1, (-1, self.kernel_size))  # (B, K, kernel_size)
        distances = torch.cdist(m.transpose(0, 1), m.transpose(0, 1), p=1)  # (K, B, B)
        return torch.cat([x, torch.exp(-distances).mean(2).T.to(x.dtype)], 1)


class ImageDiscriminator(nn.Module):
    """A trunk that looks at single images and a head that also compares the images of a batch.

    Args:
        image_channels: of the images.
        widths: output channels of the four convolutions; the crVAE-GAN's are twice the VAE-GAN's but for the last.
        hidden_size: of the head.
        num_kernels: of the batch discrimination.
        dropout: probability.
        spectral: divide each weight but the batch discrimination's by its largest singular value (Miyato et al. 2018);
            a stem sees to its own.
        stem: what images go through first; `image_channels` are then those of its output.
        joined_size: values per image that the head reads; None for those of the trunk's features.
    """

    def __init__(
        self,
        image_channels: int = 3,
        widths: tuple[int, int, int, int] = (64, 128, 256, 256),
        *,
        hidden_size: int = 1024,
        num_kernels: int = 100,
        dropout: float = 0.5,
        spectral: bool = False,
        stem: nn.Module | None = None,
        joined_size: int | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [] if stem is None else [stem]
        for inputs, outputs, kernel in zip((image_channels, *widths), widths, (5, 5, 5, 3), strict=False):
            convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            layers += [convolution, nn.MaxPool2d(2), nn.ReLU(), UnscaledDropout(dropout, whole_channels=True)]
        self.trunk = nn.Sequential(*layers)
        self.feature_shape = (widths[-1], 4, 4)
        self.hidden = nn.Linear(widths[-1] * 16 if joined_size is None else joined_size, hidden_size)
        self.dropout = UnscaledDropout(dropout)
        self.batch_discrimination = BatchDiscrimination(hidden_size, num_kernels)
        self.output = nn.Linear(hidden_size + num_kernels, 1)
        for layer in (self.hidden, self.output):
            nn.init.zeros_(layer.bias)
        if spectral:
            normalise_spectrally(*self.trunk, self.hidden, self.output)

    def head_parameters(self) -> list[nn.Parameter]:
        """All parameters that are neither the trunk's nor those by which attributes join its features."""
        others = {id(parameter) for parameter in [*self.trunk.parameters(), *self.joining_parameters()]}
        return [parameter for parameter in self.parameters() if id(parameter) not in others]

    def joining_parameters(self) -> list[nn.Parameter]:
        """Those by which attributes join the trunk's features; none here."""
        return []

    def joined(self, features: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Trunk features (B, F, 4, 4), joined by attributes (B, N) where a discriminator reads them."""
        return features

    def logits(self, features: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Trunk features (B, F, 4, 4) of one batch to logits (B,) of being real, in float32."""
        hidden = F.normalize(self.hidden(self.joined(features, attributes).flatten(1)), dim=1)
        hidden = self.batch_discrimination(self.dropout(hidden).relu())
        logits: Tensor = self.output(hidden)
        return logits.squeeze(1).float()

    def forward(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Images (B, C, 64, 64) in [-1, 1] to logits (B,)."""
        return self.logits(self.trunk(images), attributes)


class LatentReconstruction(nn.Module):
    """q_psi: recovers the transformed latent tensor u from the discriminator's trunk features (eq. 5.2).

    Args:
        feature_shape: (F, H, W) of the trunk.
        latent_shape: (C, H, W) of u.
        hidden_channels: of the two convolutions.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(
        self, feature_shape: Shape, latent_shape: Shape, *, hidden_channels: int = 64, norm_momentum: float = 0.9
    ) -> None:
        super().__init__()
        _, height, width = feature_shape
        channels = hidden_channels
        self.layers = nn.Sequential(
            nn.Conv2d(feature_shape[0], channels, 3, padding=1),
            nn.BatchNorm2d(channels, eps=1e-6, momentum=norm_momentum),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels, eps=1e-6, momentum=norm_momentum),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(channels * height * width, math.prod(latent_shape)),
            nn.Unflatten(1, latent_shape),
        )
        self.shift = AdditiveTensor(latent_shape)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F, H, W) to the recovered u (B, C, H, W), in float32."""
        recovered: Tensor = self.shift(self.layers(features).float())
        return recovered
