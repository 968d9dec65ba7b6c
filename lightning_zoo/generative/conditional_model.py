"""What the uses of attribute-conditioned generative methods rely on (Shang & Sohn 2019; thesis, chapter 6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class ConditionalModel(Protocol):
    """A generative method that draws what attributes (B, N) in {-1, +1} ask for; 0 stands for unknown.

    Block t of T is a T-th of the latent tensor's channels, and what time step t reads of the attributes is its own.

    Attributes:
        attribute_names: of the N attributes.
        image_shape: (C, H, W), as of now: a method may grow.
        latent_shape: (C, h, w).
        num_steps: T, 1 without recurrency.
    """

    attribute_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    latent_shape: tuple[int, int, int]
    num_steps: int

    def prior(self, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, *latent_shape) of p(z | a)."""

    def draw(self, attributes: Tensor, *, truncation: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Latent tensors (B, *latent_shape) of p(z | a), their deviations from the mean times `truncation`."""

    def decode(self, latent: Tensor, attributes: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1]."""

    def attribute_steps(self, attributes: Tensor) -> Tensor:
        """What each time step reads, (B, T, N)."""

    def decode_steps(self, latent: Tensor, steps: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] of latent tensors and of what each time step reads (B, T, N)."""

    def sample(
        self,
        num_images: int,
        *,
        attributes: Tensor | None = None,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Images (num_images, C, H, W) in [0, 1]; without attributes, of combinations seen in training."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights."""

    def modules(self) -> Iterator[nn.Module]:
        """Itself and all modules within."""


def is_conditional(model: Any) -> bool:
    """Whether a method draws by attributes."""
    return isinstance(model, ConditionalModel)
