"""What the uses of the latent space rely on in a generative method, and how they hold it still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class LatentModel(Protocol):
    """A generative method; block t of T is a T-th of the latent tensor's channels.

    Attributes:
        image_shape: (C, H, W).
        latent_shape: (C, h, w).
        num_steps: T, 1 without recurrency.
    """

    image_shape: tuple[int, int, int]
    latent_shape: tuple[int, int, int]
    num_steps: int

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, *latent_shape) of images (B, C, H, W), uint8 or in [0, 1]."""

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] of latent tensors (B, *latent_shape)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights."""

    def modules(self) -> Iterator[nn.Module]:
        """Itself and all modules within."""


@contextmanager
def held_still(model: LatentModel) -> Iterator[None]:
    """Evaluation mode and no gradients for the weights; modes, flags and random states are as before afterwards.

    Random numbers that the model itself draws meanwhile come from the same state each time.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    device = device_of(model)
    try:
        for module, _ in modes:
            # cuDNN has no backward pass of a recurrent layer in evaluation mode; without dropout the modes are alike.
            module.training = isinstance(module, nn.RNNBase) and module.dropout == 0
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def device_of(model: LatentModel) -> torch.device:
    """Where the model's weights lie."""
    return next(model.parameters()).device


def draw_latents(model: LatentModel, number: int, generator: torch.Generator) -> Tensor:
    """Latent tensors (number, *latent_shape) of the prior N(0, I), drawn on the CPU."""
    return torch.randn((number, *model.latent_shape), generator=generator)


def decode_all(model: LatentModel, latents: Tensor, batch_size: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] on the CPU of latent tensors (N, *latent_shape), so many at a time."""
    device = device_of(model)
    with torch.no_grad(), held_still(model):
        return torch.cat([model.decode(part.to(device)).float().cpu() for part in latents.split(batch_size)])


def posterior_means(model: LatentModel, images: Tensor, batch_size: int) -> Tensor:
    """Posterior means (N, *latent_shape) on the CPU of images (N, C, H, W), so many at a time."""
    device = device_of(model)
    with torch.no_grad(), held_still(model):
        return torch.cat([model.posterior(part.to(device))[0].float().cpu() for part in images.split(batch_size)])


def check_positive(**numbers: Any) -> None:
    """Raise `ValueError` for the first named number below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
