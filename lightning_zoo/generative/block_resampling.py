"""Other faces of one latent tensor: one of its blocks drawn again, the others fixed (thesis, section 6.6)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from lightning_zoo.generative import latent_model
from lightning_zoo.generative.conditional_model import ConditionalModel
from lightning_zoo.generative.traversal import block_channels


def resample_block(
    model: ConditionalModel,
    latents: Tensor,
    attributes: Tensor,
    step: int,
    *,
    share: float = 1.0,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Latent tensors whose block z_t has moved towards a new one of the prior p(z_t | a).

    What the block has beyond the prior's mean turns by a share of a right angle towards what a new one has,
    cos(share * pi / 2) * old + sin(share * pi / 2) * new. A block that was drawn from the prior is, at every share,
    distributed as the prior is, with one ``spread``; on the straight line between both it would come too near to the
    mean.

    Args:
        model: a conditional method.
        latents: (B, *latent_shape).
        attributes: (B, N) in {-1, +1}.
        step: t, counted from 1.
        share: 0 leaves the block as it is, 1 draws it again.
        spread: factor of the new block's deviation from the prior's mean.
        generator: of the noise; on the CPU.

    Returns:
        (B, *latent_shape) on the CPU.

    Raises:
        ValueError: for a step that the model has not, or a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0, the old block, and 1, a new one, got {share}")
    channels = block_channels(cast(Any, model), step)
    with _held_still(model):
        attributes = attributes.to(_device_of(model))
        mean = model.prior(attributes)[0].float().cpu()[:, channels]
        drawn = model.draw(attributes, truncation=spread, generator=generator).float().cpu()[:, channels]
    moved = latents.cpu().clone()
    turned = math.cos(share * math.pi / 2) * (moved[:, channels] - mean)
    moved[:, channels] = mean + turned + math.sin(share * math.pi / 2) * (drawn - mean)
    return moved


def block_effects(model: ConditionalModel, attributes: Tensor, generator: torch.Generator) -> Tensor:
    """How much of a picture changes when a block is drawn again: (T,) mean absolute differences in levels of 255.

    Args:
        model: a conditional method.
        attributes: (B, N) in {-1, +1}; a picture is drawn of each.
        generator: of the noise; on the CPU.
    """
    latents = draw_latents_of(model, attributes, generator)
    before = draw_images(model, latents, attributes).float()
    effects = []
    for step in range(1, model.num_steps + 1):
        moved = resample_block(model, latents, attributes, step, generator=generator)
        effects.append((draw_images(model, moved, attributes).float() - before).abs().mean())
    return torch.stack(effects)


def draw_latents_of(
    model: ConditionalModel, attributes: Tensor, generator: torch.Generator, truncation: float = 1.0
) -> Tensor:
    """Latent tensors (B, *latent_shape) on the CPU of p(z | a) for attributes (B, N)."""
    with _held_still(model):
        drawn = model.draw(attributes.to(_device_of(model)), truncation=truncation, generator=generator)
    return drawn.float().cpu()


def draw_images(model: ConditionalModel, latents: Tensor, attributes: Tensor, batch_size: int = 64) -> Tensor:
    """Images (B, C, H, W) uint8 on the CPU of latent tensors (B, *latent_shape) and attributes (B, N)."""
    device, images = _device_of(model), []
    with _held_still(model):
        for latent, asked in zip(latents.split(batch_size), attributes.split(batch_size), strict=True):
            drawn = model.decode(latent.to(device), asked.to(device)).float().cpu()
            images.append((drawn.clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.cat(images)


@contextmanager
def _held_still(model: ConditionalModel) -> Iterator[None]:
    with torch.no_grad(), latent_model.held_still(cast(Any, model)):
        yield


def _device_of(model: ConditionalModel) -> torch.device:
    return latent_model.device_of(cast(Any, model))
