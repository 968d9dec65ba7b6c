"""Walks through the latent blocks z_1 ... z_T of a generative method (Shang et al. 2018, figures 5.8 and 5.10)."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_zoo.generative.latent_model import LatentModel, check_positive, decode_all, draw_latents


def block_channels(model: LatentModel, step: int) -> slice:
    """The channels of the latent tensor that block z_t, t = 1 ... T, is.

    Raises:
        ValueError: for a step that the model has not.
    """
    if not 1 <= step <= model.num_steps:
        blocks = f"1 to {model.num_steps}" if model.num_steps > 1 else "1 alone: it has one latent block"
        raise ValueError(f"step must be one of the model's latent blocks, {blocks}, got {step}")
    size = model.latent_shape[0] // model.num_steps
    return slice((step - 1) * size, step * size)


def progressive_latents(model: LatentModel, latents: Tensor) -> Tensor:
    """Latents (N, *latent_shape) with ever more of their blocks: (N, T + 1, *latent_shape), the first all zero."""
    columns = [torch.zeros_like(latents)]
    for step in range(1, model.num_steps + 1):
        channels = block_channels(model, step)
        column = columns[-1].clone()
        column[:, channels] = latents[:, channels]
        columns.append(column)
    return torch.stack(columns, dim=1)


def interpolated_latents(model: LatentModel, latents: Tensor, targets: Tensor, step: int, columns: int) -> Tensor:
    """Latents whose block z_t moves in a straight line to the targets', the others fixed.

    Args:
        model: a generative method.
        latents: (N, *latent_shape), the first column.
        targets: (N or 1, *latent_shape), of which only block z_t is read.
        step: t, counted from 1.
        columns: at least 2; both ends are among them.

    Returns:
        (N, columns, *latent_shape).

    Raises:
        ValueError: for a step that the model has not, or fewer than 2 columns.
    """
    channels = block_channels(model, step)
    if columns < 2:
        raise ValueError(f"columns must be at least 2, both ends of the way, got {columns}")
    moved = latents.unsqueeze(1).repeat(1, columns, 1, 1, 1)
    shares = torch.linspace(0, 1, columns).reshape(1, columns, 1, 1, 1)
    moved[:, :, channels] = torch.lerp(moved[:, :, channels], targets[:, None, channels], shares)
    return moved


def progressive(
    model: LatentModel, num_rows: int = 8, *, seed: int = 0, truncation: float = 1.0, batch_size: int = 64
) -> Tensor:
    """Draw the blocks of samples in turn: images (num_rows, T + 1, C, H, W) in [0, 1] on the CPU.

    Each row starts with the image of the latent zero; its last image is a sample of the prior.

    Args:
        model: a generative method.
        num_rows: samples.
        seed: of the samples.
        truncation: factor of the latents.
        batch_size: images decoded at a time.

    Raises:
        ValueError: for an argument out of range.
    """
    check_positive(num_rows=num_rows, batch_size=batch_size)
    latents = truncation * draw_latents(model, num_rows, torch.Generator().manual_seed(seed))
    return _decode(model, progressive_latents(model, latents), batch_size)


def interpolate(
    model: LatentModel,
    step: int,
    *,
    num_rows: int = 8,
    columns: int = 9,
    seed: int = 0,
    truncation: float = 1.0,
    shared_target: bool = False,
    start: Tensor | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Move one block z_t to a newly drawn one: images (rows, columns, C, H, W) in [0, 1] on the CPU.

    Args:
        model: a generative method.
        step: t, counted from 1.
        num_rows: samples of the prior to start from.
        columns: images per row, both ends among them.
        seed: of the samples and of the new blocks.
        truncation: factor of what is drawn.
        shared_target: all rows move to the same new block, as in the thesis.
        start: latents (rows, *latent_shape) to start from in place of samples, as posterior means of images.
        batch_size: images decoded at a time.

    Raises:
        ValueError: for a step that the model has not, or an argument out of range.
    """
    check_positive(num_rows=num_rows, batch_size=batch_size)
    generator = torch.Generator().manual_seed(seed)
    latents = truncation * draw_latents(model, num_rows, generator) if start is None else start
    targets = truncation * draw_latents(model, 1 if shared_target else len(latents), generator)
    return _decode(model, interpolated_latents(model, latents, targets, step, columns), batch_size)


def _decode(model: LatentModel, latents: Tensor, batch_size: int) -> Tensor:
    images = decode_all(model, latents.flatten(0, 1), batch_size)
    return images.unflatten(0, latents.shape[:2])
