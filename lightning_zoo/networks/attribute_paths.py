"""The ways of attributes into encoder, prior and generator (Shang & Sohn 2019; thesis, sections 6.3.1, 6.4.1, 6.4.2).

Attributes (B, N) become what each of T time steps reads, (B, T, N): the same for all, or masked by attention. Layers
and initial weights are as released; the fully connected ones, without recurrency, have T = 1.
"""

import math

import torch
from torch import Tensor, nn

from lightning_zoo.networks.channel_recurrence import (
    AdditiveTensor,
    ChannelRecurrence,
    Recurrent,
    check_steps,
    open_forget_gates,
    to_blocks,
)
from lightning_zoo.networks.initialisation import initialise_as_released
from lightning_zoo.networks.latent_paths import ConvolutionalProjection, RecurrentPosterior, Shape

SLOPE = 0.1
"""Of the leaky ReLU after each layer that reads attributes."""


class RepeatedAttributes(nn.Module):
    """Every time step reads all attributes.

    Args:
        num_steps: T.
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def forward(self, attributes: Tensor) -> Tensor:
        """Attributes (B, N) as (B, T, N)."""
        return attributes[:, None].expand(-1, self.num_steps, -1)


class AttendedAttributes(nn.Module):
    """The attention operator: time step t reads the attributes times row t of a learned mask M (T, N).

    Each column of M is a softmax over steps: an attribute chooses the steps that read it.

    Args:
        num_steps: T.
        num_attributes: N.
    """

    def __init__(self, num_steps: int, num_attributes: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(num_steps * num_attributes)
        self.scores = nn.Parameter(torch.empty(num_steps, num_attributes).uniform_(-bound, bound))

    def mask(self) -> Tensor:
        """M (T, N) in float32."""
        return self.scores.float().softmax(0)

    def forward(self, attributes: Tensor) -> Tensor:
        """Attributes (B, N) as (B, T, N)."""
        return attributes[:, None] * self.mask()


class AttributeBlocks(nn.Sequential):
    """One linear layer and a leaky ReLU that all time steps share, (B, T, N) to (B, T, size).

    Args:
        num_attributes: N.
        size: of a block.
    """

    def __init__(self, num_attributes: int, size: int) -> None:
        super().__init__(nn.Linear(num_attributes, size), nn.LeakyReLU(SLOPE))
        nn.init.zeros_(self[0].bias)  # type: ignore[arg-type]


class LinearPrior(nn.Module):
    """p(z | a) by fully connected layers.

    Args:
        num_attributes: N.
        latent_shape: (C, H, W).
        initial_bound: the first layer's weights are drawn from U(-bound, bound); None for a linear layer's own.
    """

    def __init__(self, num_attributes: int, latent_shape: Shape, *, initial_bound: float | None = None) -> None:
        super().__init__()
        size = math.prod(latent_shape)
        self.latent_shape = latent_shape
        self.hidden = nn.Sequential(nn.Linear(num_attributes, size), nn.LeakyReLU(SLOPE))
        self.mean = nn.Linear(size, size)
        self.log_variance = nn.Linear(size, size)
        if initial_bound is not None:
            nn.init.uniform_(self.hidden[0].weight, -initial_bound, initial_bound)  # type: ignore[arg-type]

    def forward(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """What the steps read (B, T, N), of which the first is all, to mean and log-variance (B, C, H, W)."""
        hidden = self.hidden(steps[:, 0])
        return tuple(layer(hidden).unflatten(1, self.latent_shape) for layer in (self.mean, self.log_variance))


class RecurrentPrior(Recurrent, nn.Module):
    """p(z | a) by an LSTM whose step t reads a_t and gives the distribution of z_t.

    Args:
        num_attributes: N.
        latent_shape: (C, H, W); C is a multiple of ``num_steps``.
        num_steps: T.
        num_layers: of the LSTM.
    """

    def __init__(self, num_attributes: int, latent_shape: Shape, *, num_steps: int = 8, num_layers: int = 2) -> None:
        super().__init__()
        check_steps(latent_shape[0], num_steps)
        size = math.prod(latent_shape) // num_steps
        self.latent_shape = latent_shape
        self.lstm = nn.LSTM(num_attributes, size, num_layers, batch_first=True)
        self.mean = nn.Linear(size, size)
        self.log_variance = nn.Linear(size, size)
        open_forget_gates(self.lstm)

    def forward(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """What the steps read (B, T, N) to mean and log-variance (B, C, H, W)."""
        hidden, _ = self.lstm(steps)  # (B, T, size)
        shape = (len(steps), *self.latent_shape)
        return self.mean(hidden).reshape(shape), self.log_variance(hidden).reshape(shape)


class AttributedLinearPosterior(nn.Module):
    """q(z | x, a) by fully connected layers.

    Args:
        feature_shape: (F, H, W).
        latent_shape: (C, H, W).
        num_attributes: N.
    """

    def __init__(self, feature_shape: Shape, latent_shape: Shape, num_attributes: int) -> None:
        super().__init__()
        size = math.prod(latent_shape)
        self.latent_shape = latent_shape
        self.attributes = AttributeBlocks(num_attributes, size)
        self.hidden = nn.Sequential(nn.Linear(size + math.prod(feature_shape), size), nn.LeakyReLU(SLOPE))
        self.mean = nn.Linear(size, size)
        self.log_variance = nn.Linear(size, size)
        initialise_as_released(self)

    def forward(self, features: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F, H, W) and attributes (B, 1, N) to mean and log-variance (B, C, H, W)."""
        hidden = self.hidden(torch.cat([self.attributes(steps[:, 0]), features.flatten(1)], 1))
        return tuple(layer(hidden).unflatten(1, self.latent_shape) for layer in (self.mean, self.log_variance))


class AttributedPosterior(RecurrentPosterior):
    """q(z | x, a): each block of the features is joined by its own attributes, then as without them.

    Args:
        feature_shape: (F, H, W).
        latent_shape: (C, H, W).
        num_attributes: N.
        num_steps: T; divides F and C.
        hidden_size: of the LSTM.
        num_layers: of the LSTM.
    """

    def __init__(
        self,
        feature_shape: Shape,
        latent_shape: Shape,
        num_attributes: int,
        *,
        num_steps: int = 8,
        hidden_size: int = 512,
        num_layers: int = 2,
    ) -> None:
        joined = (feature_shape[0] + latent_shape[0], *feature_shape[1:])
        super().__init__(
            joined, latent_shape, num_steps=num_steps, hidden_size=hidden_size, num_layers=num_layers, batch_norm=True
        )
        self.attributes = AttributeBlocks(num_attributes, math.prod(latent_shape) // num_steps)

    def forward(self, features: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Features (B, F, H, W) and what the steps read (B, T, N) to mean and log-variance (B, C, H, W)."""
        return super().forward(join_blocks(self.attributes(steps), features))


class AttributedLinearProjection(nn.Module):
    """One fully connected layer on latent vector and attributes, without normalisation or activation.

    Args:
        latent_shape: (C, H, W).
        feature_shape: (F, H, W).
        num_attributes: N.
    """

    def __init__(self, latent_shape: Shape, feature_shape: Shape, num_attributes: int) -> None:
        super().__init__()
        size = math.prod(latent_shape)
        self.feature_shape = feature_shape
        self.attributes = AttributeBlocks(num_attributes, size)
        self.linear = nn.Linear(2 * size, math.prod(feature_shape))
        initialise_as_released(self)

    def transform(self, latent: Tensor, steps: Tensor) -> Tensor:
        """Latent (B, C, H, W) beside the attributes' features, (B, 2 C H W)."""
        return torch.cat([self.attributes(steps[:, 0]), latent.flatten(1)], 1)

    def features(self, transformed: Tensor) -> Tensor:
        """What `transform` gave, as features (B, F, H, W)."""
        return self.linear(transformed).unflatten(1, self.feature_shape)


class AttributedRecurrence(ChannelRecurrence):
    """An LSTM whose step t reads z_t and its attributes a_t.

    Args:
        latent_shape: (C, H, W).
        num_attributes: N.
        num_steps: T.
        hidden_size: of the LSTM.
        num_layers: of the LSTM.
    """

    def __init__(
        self, latent_shape: Shape, num_attributes: int, *, num_steps: int, hidden_size: int, num_layers: int
    ) -> None:
        check_steps(latent_shape[0], num_steps)
        size = math.prod(latent_shape) // num_steps
        super().__init__(2 * size, latent_shape, num_steps=num_steps, hidden_size=hidden_size, num_layers=num_layers)
        self.attributes = AttributeBlocks(num_attributes, size)

    def forward(self, blocks: Tensor, steps: Tensor) -> Tensor:  # type: ignore[override]
        """Latent blocks (B, T, C/T H W) and what the steps read (B, T, N) to u (B, C, H, W)."""
        return super().forward(torch.cat([self.attributes(steps), blocks], 2))


class AttributedProjection(ConvolutionalProjection):
    """u = LSTM(z, a) over channel blocks, then a learned addition, a 3x3 convolution and batch normalisation.

    Args:
        latent_shape: (C, H, W).
        feature_shape: (F, H, W).
        num_attributes: N.
        num_steps: T.
        hidden_size: of the LSTM.
        num_layers: of the LSTM.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(
        self,
        latent_shape: Shape,
        feature_shape: Shape,
        num_attributes: int,
        *,
        num_steps: int = 8,
        hidden_size: int = 512,
        num_layers: int = 2,
        norm_momentum: float = 0.9,
    ) -> None:
        super().__init__(latent_shape, feature_shape, norm_momentum=norm_momentum)
        self.num_steps = num_steps
        self.recurrence = AttributedRecurrence(
            latent_shape, num_attributes, num_steps=num_steps, hidden_size=hidden_size, num_layers=num_layers
        )
        self.shift = AdditiveTensor(latent_shape)

    def transform(self, latent: Tensor, steps: Tensor) -> Tensor:  # type: ignore[override]
        """Latent (B, C, H, W) and what the steps read (B, T, N) to u (B, C, H, W)."""
        return self.recurrence(to_blocks(latent, self.num_steps), steps)

    def features(self, transformed: Tensor) -> Tensor:
        """U (B, C, H, W) to features (B, F, H, W)."""
        return super().features(self.shift(transformed))


def join_blocks(first: Tensor, features: Tensor) -> Tensor:
    """Put a block (B, T, A H W) before each of T blocks of features (B, F, H, W): (B, A T + F, H, W)."""
    joined = torch.cat([first, to_blocks(features, first.shape[1])], 2)
    return joined.reshape(len(features), -1, *features.shape[2:])
