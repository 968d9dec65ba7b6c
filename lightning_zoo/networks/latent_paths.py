"""The ways from convolutional features into a latent tensor and back: fully connected, convolutional, recurrent.

A *posterior* maps features (B, F, H, W) to mean and log-variance, both (B, C, H, W). A *projection* maps a latent
tensor (B, C, H, W) to features (B, F, H, W); its `transform` gives u, what the latent variables become on the way.
(Shang et al. 2018, section 5.3.2 and appendix 5.A; layers and initial weights as released.)
"""

import math
from typing import Literal

from torch import Tensor, nn

from lightning_zoo.networks.channel_recurrence import AdditiveTensor, ChannelRecurrence, to_blocks
from lightning_zoo.networks.initialisation import initialise_as_released

Shape = tuple[int, int, int]


class LinearPosterior(nn.Module):
    """Two fully connected layers, as in a plain VAE.

    Args:
        feature_shape: (F, H, W).
        latent_shape: (C, H, W).
    """

    def __init__(self, feature_shape: Shape, latent_shape: Shape) -> None:
        super().__init__()
        self.latent_shape = latent_shape
        self.mean = nn.Linear(math.prod(feature_shape), math.prod(latent_shape))
        self.log_variance = nn.Linear(math.prod(feature_shape), math.prod(latent_shape))
        initialise_as_released(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F, H, W) to mean and log-variance (B, C, H, W)."""
        flat = features.flatten(1)
        return self.mean(flat).unflatten(1, self.latent_shape), self.log_variance(flat).unflatten(1, self.latent_shape)


class ConvolutionalPosterior(nn.Module):
    """Two 3x3 convolutions; the latent variables keep their places.

    Args:
        feature_shape: (F, H, W).
        latent_shape: (C, H, W).
    """

    def __init__(self, feature_shape: Shape, latent_shape: Shape) -> None:
        super().__init__()
        self.mean = nn.Conv2d(feature_shape[0], latent_shape[0], 3, padding=1)
        self.log_variance = nn.Conv2d(feature_shape[0], latent_shape[0], 3, padding=1)
        initialise_as_released(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F, H, W) to mean and log-variance (B, C, H, W)."""
        return self.mean(features), self.log_variance(features)


class RecurrentPosterior(nn.Module):
    """Mean without recurrency, log-variance by an LSTM over channel blocks of the features.

    Args:
        feature_shape: (F, H, W).
        latent_shape: (C, H, W).
        num_steps: T; divides F and C.
        mean: "convolutional" as released for colour images, "linear" as released for MNIST.
        hidden_size: of the LSTM.
        num_layers: of the LSTM.
        batch_norm: after the LSTM, as released for colour images.
    """

    def __init__(
        self,
        feature_shape: Shape,
        latent_shape: Shape,
        *,
        num_steps: int = 8,
        mean: Literal["convolutional", "linear"] = "convolutional",
        hidden_size: int = 512,
        num_layers: int = 2,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.mean: nn.Module = nn.Conv2d(feature_shape[0], latent_shape[0], 3, padding=1)
        if mean == "linear":
            features, latents = math.prod(feature_shape), math.prod(latent_shape)
            self.mean = nn.Sequential(nn.Flatten(), nn.Linear(features, latents), nn.Unflatten(1, latent_shape))
        initialise_as_released(self.mean)
        self.shift = AdditiveTensor(latent_shape)
        self.recurrence = ChannelRecurrence(
            math.prod(feature_shape) // num_steps,
            latent_shape,
            num_steps=num_steps,
            hidden_size=hidden_size,
            num_layers=num_layers,
            batch_norm=batch_norm,
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F, H, W) to mean and log-variance (B, C, H, W)."""
        return self.shift(self.mean(features)), self.recurrence(to_blocks(features, self.num_steps))


class LinearProjection(nn.Module):
    """One fully connected layer, without normalisation or activation.

    Args:
        latent_shape: (C, H, W).
        feature_shape: (F, H, W).
    """

    def __init__(self, latent_shape: Shape, feature_shape: Shape) -> None:
        super().__init__()
        self.feature_shape = feature_shape
        self.linear = nn.Linear(math.prod(latent_shape), math.prod(feature_shape))
        initialise_as_released(self)

    def transform(self, latent: Tensor) -> Tensor:
        """The latent tensor itself: nothing transforms it here."""
        return latent

    def features(self, transformed: Tensor) -> Tensor:
        """(B, C, H, W) to features (B, F, H, W)."""
        return self.linear(transformed.flatten(1)).unflatten(1, self.feature_shape)

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, C, H, W) to features (B, F, H, W)."""
        return self.features(self.transform(latent))


class ConvolutionalProjection(nn.Module):
    """A 3x3 convolution with batch normalisation.

    Args:
        latent_shape: (C, H, W).
        feature_shape: (F, H, W).
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(self, latent_shape: Shape, feature_shape: Shape, *, norm_momentum: float = 0.1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(latent_shape[0], feature_shape[0], 3, padding=1)
        self.norm = nn.BatchNorm2d(feature_shape[0], eps=1e-6, momentum=norm_momentum)
        initialise_as_released(self)

    def transform(self, latent: Tensor) -> Tensor:
        """The latent tensor itself: nothing transforms it here."""
        return latent

    def features(self, transformed: Tensor) -> Tensor:
        """(B, C, H, W) to features (B, F, H, W)."""
        return self.norm(self.convolution(transformed))

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, C, H, W) to features (B, F, H, W)."""
        return self.features(self.transform(latent))


class RecurrentProjection(ConvolutionalProjection):
    """u = LSTM(z) over channel blocks, then a learned addition, a 3x3 convolution and batch normalisation.

    Args:
        latent_shape: (C, H, W).
        feature_shape: (F, H, W).
        num_steps: T.
        hidden_size: of the LSTM.
        num_layers: of the LSTM.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(
        self,
        latent_shape: Shape,
        feature_shape: Shape,
        *,
        num_steps: int = 8,
        hidden_size: int = 512,
        num_layers: int = 2,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__(latent_shape, feature_shape, norm_momentum=norm_momentum)
        self.num_steps = num_steps
        self.recurrence = ChannelRecurrence(
            math.prod(latent_shape) // num_steps,
            latent_shape,
            num_steps=num_steps,
            hidden_size=hidden_size,
            num_layers=num_layers,
        )
        self.shift = AdditiveTensor(latent_shape)

    def transform(self, latent: Tensor) -> Tensor:
        """The transformed tensor u (B, C, H, W), whose blocks know the blocks before them."""
        return self.recurrence(to_blocks(latent, self.num_steps))

    def features(self, transformed: Tensor) -> Tensor:
        """Transformed (B, C, H, W) to features (B, F, H, W)."""
        return super().features(self.shift(transformed))
