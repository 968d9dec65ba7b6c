"""Log densities that a latent-variable model is made of: Bernoulli pixels, diagonal Gaussians."""

import torch
from torch import Tensor
from torch.nn import functional as F


def bernoulli_log_likelihood(logits: Tensor, images: Tensor) -> Tensor:
    """Log-probability of black and white images under independent pixels.

    Exact by logits; the released code of Shang et al. (2018) clamps probabilities at 1e-5 instead.

    Args:
        logits: (B * K, ...), K consecutive rows for each image.
        images: (B, ...) in {0, 1}.

    Returns:
        (B, K) in nats, summed over all dimensions but the first, in float32 at least.
    """
    flat = full_precision(images.flatten(1)).unsqueeze(1)
    logits = full_precision(logits.flatten(1)).unflatten(0, (len(images), -1))  # (B, K, pixels)
    # No matrix product, which autocast would take in half precision.
    return (logits * flat - F.softplus(logits)).sum(2)


def log_density_ratio(
    noise: Tensor,
    log_variance: Tensor,
    latent: Tensor,
    prior: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Logarithm of p(z) / q(z) for z = mean + exp(log_variance / 2) * noise, for diagonal Gaussians.

    By the noise instead of the mean, which is exact where the posterior is narrow.

    Args:
        noise: (..., D) standard normal.
        log_variance: (..., D) of q.
        latent: (..., D), z.
        prior: mean and log-variance of p, each (..., D); None for N(0, 1).

    Returns:
        (...) in nats, in float32 at least.
    """
    noise, log_variance, latent = (full_precision(x) for x in (noise, log_variance, latent))
    terms = noise.square() + log_variance
    if prior is None:
        return 0.5 * (terms - latent.square()).sum(-1)
    prior_mean, prior_log_variance = (full_precision(x) for x in prior)
    distance = (latent - prior_mean).square() * torch.exp(-prior_log_variance)
    return 0.5 * (terms - distance - prior_log_variance).sum(-1)


def gaussian_kl_between(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """KL divergence of one diagonal Gaussian from another.

    Args:
        mean: (B, ...) of the first.
        log_variance: same shape.
        prior_mean: same shape, of the second.
        prior_log_variance: same shape.

    Returns:
        (B,) in nats, summed over all dimensions but the first, in float32 at least.
    """
    mean, log_variance, prior_mean, prior_log_variance = (
        full_precision(x) for x in (mean, log_variance, prior_mean, prior_log_variance)
    )
    shrinking = log_variance - prior_log_variance
    distance = (mean - prior_mean).square() * torch.exp(-prior_log_variance)
    return 0.5 * (distance + torch.expm1(shrinking) - shrinking).flatten(1).sum(1)


def full_precision(x: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
