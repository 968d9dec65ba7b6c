"""What an autoencoder beside an agent pays (SAC+AE, Yarats et al. 2019, arXiv 1910.01741)."""

from torch import Tensor

from lightning_zoo.losses.likelihood import full_precision


def reconstruction_loss(reconstruction: Tensor, target: Tensor, features: Tensor, penalty: float = 1e-6) -> Tensor:
    """Mean squared error per pixel + penalty * mean over the batch of ||z||^2 / 2 (as released).

    Args:
        reconstruction: (B, C, H, W).
        target: same shape, as `quantised_target` makes it.
        features: z, (B, D).
        penalty: lambda_z; 1e-6 as released.

    Returns:
        () in float32 at least.
    """
    assert reconstruction.shape == target.shape, (reconstruction.shape, target.shape)
    error = (full_precision(reconstruction) - full_precision(target)).square().mean()
    return error + penalty * 0.5 * full_precision(features).square().sum(1).mean()
