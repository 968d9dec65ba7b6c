"""The two terms of a variational autoencoder with a Gaussian posterior (Kingma & Welling 2014, arXiv 1312.6114)."""

import torch
from torch import Tensor

from lightning_zoo.losses.likelihood import full_precision


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), appendix B of the paper.

    Args:
        mean: (B, ...).
        log_variance: same shape, the logarithm of the variance, not of the standard deviation.

    Returns:
        (B,) in nats, summed over all dimensions but the first, in float32 at least.

    Example:
        >>> gaussian_kl(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
        tensor([2.])
    """
    mean, log_variance = full_precision(mean), full_precision(log_variance)
    terms = mean.square() + torch.expm1(log_variance) - log_variance
    return 0.5 * terms.flatten(1).sum(1)


def gaussian_kl_between(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(prior_mean, exp(prior_log_variance)), all diagonal.

    The regulariser of a conditional VAE whose prior is learned (Shang & Sohn 2019; thesis, section 6.3.1).

    Args:
        mean: (B, ...).
        log_variance: same shape.
        prior_mean: same shape.
        prior_log_variance: same shape.

    Returns:
        (B,) in nats, summed over all dimensions but the first, in float32 at least.

    Example:
        >>> ones = torch.ones(1, 2)
        >>> gaussian_kl_between(ones, 0 * ones, 2 * ones, 0 * ones)
        tensor([1.])
    """
    mean, log_variance, prior_mean, prior_log_variance = (
        full_precision(x) for x in (mean, log_variance, prior_mean, prior_log_variance)
    )
    ratio = log_variance - prior_log_variance
    terms = torch.expm1(ratio) - ratio + (mean - prior_mean).square() * torch.exp(-prior_log_variance)
    return 0.5 * terms.flatten(1).sum(1)


def block_kl(mean: Tensor, log_variance: Tensor, num_steps: int, prior: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """KL divergence of each block of latent channels (Shang et al. 2018, eq. 5.1, without its weights).

    Args:
        mean: (B, C, H, W).
        log_variance: same shape.
        num_steps: T; block t holds channels t C/T ... (t + 1) C/T - 1.
        prior: mean and log-variance, same shapes; None for N(0, 1).

    Returns:
        (B, T) in nats, in float32 at least.
    """
    given = (mean, log_variance) if prior is None else (mean, log_variance, *prior)
    blocks = [x.contiguous().reshape(x.shape[0] * num_steps, -1) for x in given]
    divergences = gaussian_kl(*blocks) if prior is None else gaussian_kl_between(*blocks)
    return divergences.unflatten(0, (mean.shape[0], num_steps))


def squared_error_sum(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Squared error of each item, summed over its values.

    It is the negative log-likelihood of a Gaussian with variance 1/2, up to a constant.

    Args:
        reconstruction: (B, ...).
        target: same shape.

    Returns:
        (B,) in float32 at least.
    """
    return (full_precision(reconstruction) - full_precision(target)).square().flatten(1).sum(1)
