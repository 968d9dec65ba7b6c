"""Log-likelihood of images under a density model, streamed over importance-sampling draws with bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from lightning_zoo.losses.importance import StreamedMean
from lightning_zoo.losses.likelihood import bernoulli_log_likelihood
from lightning_zoo.networks.folding import folded_norms

if TYPE_CHECKING:
    from lightning_zoo.generative.density_model import DensityModel


@torch.no_grad()
def streamed_log_likelihood(
    model: DensityModel,
    images: Tensor,
    *,
    num_draws: int,
    draws_per_chunk: int,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Estimate log p(x) of each image by importance sampling from its posterior.

    The encoder runs once per image. Chunks that one image does not fill are shared by several.

    Args:
        model: in evaluation mode.
        images: float (B, C, H, W) in {0, 1}.
        num_draws: per image.
        draws_per_chunk: most draws, over all images, that go through the decoder at once.
        generator: of the noise, on the images' device; None for the global one.

    Returns:
        Estimates of the log-likelihood and of its lower bound (ELBO), each (B,) in nats.
    """
    inferred = model.infer(images)
    group = max(1, draws_per_chunk // num_draws)
    results = []
    with folded_norms(model):
        for first in range(0, len(images), group):
            rows = slice(first, first + group)
            results.append(
                _stream(model, images[rows], tuple(x[rows] for x in inferred), num_draws, draws_per_chunk, generator)
            )
    log_means, mean_logs = zip(*results, strict=True)
    return torch.cat(log_means), torch.cat(mean_logs)


def _stream(
    model: DensityModel,
    images: Tensor,
    inferred: tuple[Tensor, ...],
    num_draws: int,
    draws_per_chunk: int,
    generator: Generator | None,
) -> tuple[Tensor, Tensor]:
    most = max(1, draws_per_chunk // len(images))
    streamed = StreamedMean()
    while streamed.count < num_draws:
        draws = model.draw(inferred, min(most, num_draws - streamed.count), generator)
        streamed.update(bernoulli_log_likelihood(draws.logits, images) + draws.log_ratio)
    return streamed.log_mean(), streamed.mean_log()
