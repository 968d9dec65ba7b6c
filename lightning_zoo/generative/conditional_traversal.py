"""Walks through the latent blocks of methods that draw by attributes (Shang & Sohn 2019; thesis, 6.5.3 and 6.5.4)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_zoo.generative.conditional_model import ConditionalModel
from lightning_zoo.generative.latent_model import (
    LatentModel,
    check_positive,
    decode_all,
    device_of,
    draw_latents,
    held_still,
)
from lightning_zoo.generative.traversal import interpolated_latents, progressive_latents


def progressive_steps(steps: Tensor) -> Tensor:
    """What time steps read (B, T, N), ever more of it: (B, T + 1, T, N), the first all zero."""
    num_steps = steps.shape[1]
    kept = torch.ones(num_steps + 1, num_steps, dtype=steps.dtype, device=steps.device).tril(-1)
    return steps[:, None] * kept[None, :, :, None]


def progressive(
    model: ConditionalModel, attributes: Tensor, *, seed: int = 0, truncation: float = 1.0, batch_size: int = 64
) -> Tensor:
    """Decode [(z_1, a_1), ..., (z_i, a_i), (0, 0), ..., (0, 0)], i = 0 ... T: figure 6.7.

    Args:
        model: a conditional method.
        attributes: (rows, N).
        seed: of the samples.
        truncation: factor of their deviations from the prior's mean.
        batch_size: images decoded at a time.

    Returns:
        Images (rows, T + 1, C, H, W) in [0, 1] on the CPU; the last column is what the attributes' samples are.
    """
    check_positive(batch_size=batch_size)
    latents = _draw(model, attributes, torch.Generator().manual_seed(seed), truncation)
    columns = progressive_latents(_any(model), latents)
    device = device_of(_any(model))
    with torch.no_grad(), held_still(_any(model)):
        steps = progressive_steps(model.attribute_steps(attributes.float().to(device)))
        pairs = zip(columns.flatten(0, 1).split(batch_size), steps.flatten(0, 1).split(batch_size), strict=True)
        images = [model.decode_steps(latent.to(device), step).float().cpu() for latent, step in pairs]
    return torch.cat(images).unflatten(0, columns.shape[:2])


def interpolate(
    model: ConditionalModel,
    attributes: Tensor,
    step: int,
    *,
    columns: int = 9,
    seed: int = 0,
    truncation: float = 1.0,
    shared_target: bool = False,
    batch_size: int = 64,
) -> Tensor:
    """Move block z_t in a straight line to one newly drawn from the same conditional prior, the others fixed.

    Args:
        model: a conditional method.
        attributes: (rows, N).
        step: t, counted from 1.
        columns: images per row, both ends among them.
        seed: of the samples and of the new blocks.
        truncation: factor of the deviations from the prior's mean.
        shared_target: the new blocks are made from the same noise in all rows.
        batch_size: images decoded at a time.

    Returns:
        Images (rows, columns, C, H, W) in [0, 1] on the CPU.

    Raises:
        ValueError: for a step that the model has not, or fewer than 2 columns.
    """
    check_positive(batch_size=batch_size)
    generator = torch.Generator().manual_seed(seed)
    latents = _draw(model, attributes, generator, truncation)
    if shared_target:
        state = generator.get_state()
        alike = [_draw(model, row, torch.Generator().set_state(state), truncation) for row in attributes.split(1)]
        targets = torch.cat(alike)
    else:
        targets = _draw(model, attributes, generator, truncation)
    moved = interpolated_latents(_any(model), latents, targets, step, columns)
    return _decode(model, moved, attributes, batch_size)


def cosine_latents(first: Tensor, second: Tensor, columns: int) -> Tensor:
    """cos^2(psi) Z_1 + (1 - cos^2(psi)) Z_2 for psi in equal distances from 0 to pi / 2.

    Args:
        first: Z_1 (B, *latent_shape).
        second: Z_2, as many.
        columns: at least 2; both ends are among them.

    Returns:
        (B, columns, *latent_shape).

    Raises:
        ValueError: for fewer than 2 columns.
    """
    if columns < 2:
        raise ValueError(f"columns must be at least 2, both ends of the way, got {columns}")
    angles = torch.linspace(0, math.pi / 2, columns, dtype=torch.float64, device=first.device)
    shares = angles.cos().square().to(first.dtype).reshape(1, columns, *[1] * (first.dim() - 1))
    return shares * first[:, None] + (1 - shares) * second[:, None]


def content(
    model: ConditionalModel | LatentModel,
    attributes: Tensor | None = None,
    *,
    num_rows: int = 8,
    columns: int = 9,
    seed: int = 0,
    truncation: float = 1.0,
    batch_size: int = 64,
) -> Tensor:
    """Move all latents from one draw of the prior to another with the same attributes: figure 6.6.

    Args:
        model: a conditional method; any other, whose draws are of N(0, I), without attributes.
        attributes: (rows, N), or None for a method without.
        num_rows: of a method without attributes.
        columns: images per row, both ends among them.
        seed: of the draws.
        truncation: factor of the deviations from the prior's mean.
        batch_size: images decoded at a time.

    Returns:
        Images (rows, columns, C, H, W) in [0, 1] on the CPU.

    Raises:
        ValueError: for an argument out of range.
    """
    check_positive(num_rows=num_rows, batch_size=batch_size)
    generator = torch.Generator().manual_seed(seed)
    if attributes is None:
        first, second = (truncation * draw_latents(_any(model), num_rows, generator) for _ in range(2))
        path = cosine_latents(first, second, columns)
        return decode_all(_any(model), path.flatten(0, 1), batch_size).unflatten(0, path.shape[:2])
    first, second = (_draw(_any(model), attributes, generator, truncation) for _ in range(2))
    return _decode(_any(model), cosine_latents(first, second, columns), attributes, batch_size)


def attribute_walk(
    model: ConditionalModel,
    attributes: Tensor,
    column: int,
    *,
    columns: int = 9,
    seed: int = 0,
    truncation: float = 1.0,
    batch_size: int = 64,
) -> Tensor:
    """Turn one attribute from -1 to +1 in equal steps; all else, the noise of the latents too, stays.

    Args:
        model: a conditional method.
        attributes: (rows, N).
        column: which of the N attributes turns.
        columns: images per row, both ends among them.
        seed: of the noise.
        truncation: factor of the noise.
        batch_size: images decoded at a time.

    Returns:
        Images (rows, columns, C, H, W) in [0, 1] on the CPU.

    Raises:
        ValueError: for an argument out of range.
    """
    check_positive(batch_size=batch_size)
    if columns < 2:
        raise ValueError(f"columns must be at least 2, both ends of the way, got {columns}")
    images = []
    for value in torch.linspace(-1, 1, columns):
        asked = attributes.float().clone()
        asked[:, column] = value
        latents = _draw(model, asked, torch.Generator().manual_seed(seed), truncation)
        images.append(_decode(model, latents[:, None], asked, batch_size))
    return torch.cat(images, dim=1)


def _draw(model: ConditionalModel, attributes: Tensor, generator: torch.Generator, truncation: float) -> Tensor:
    """Latents (rows, *latent_shape) of the conditional prior, on the CPU."""
    with torch.no_grad(), held_still(_any(model)):
        asked = attributes.float().to(device_of(_any(model)))
        return model.draw(asked, truncation=truncation, generator=generator).float().cpu()


def _decode(model: ConditionalModel, latents: Tensor, attributes: Tensor, batch_size: int) -> Tensor:
    """Images (rows, columns, C, H, W) of latents (rows, columns, *latent_shape) and attributes (rows, N)."""
    device, columns = device_of(_any(model)), latents.shape[1]
    asked = attributes.float().repeat_interleave(columns, dim=0)
    with torch.no_grad(), held_still(_any(model)):
        pairs = zip(latents.flatten(0, 1).split(batch_size), asked.split(batch_size), strict=True)
        images = [model.decode(latent.to(device), part.to(device)).float().cpu() for latent, part in pairs]
    return torch.cat(images).unflatten(0, latents.shape[:2])


def _any(model: object) -> Any:
    # What is shared with methods that draw without attributes reads shapes and weights, which both kinds have.
    return model
