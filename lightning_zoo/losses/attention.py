"""Regularisers of the mask by which attributes attend time steps (Shang & Sohn 2019; thesis, section 6.4.2)."""

import torch
from torch import Tensor


def attention_entropy(mask: Tensor) -> Tensor:
    """Mean entropy H(M_n) of the attributes' distributions over time steps.

    Args:
        mask: M (T, N), each column a distribution over T steps.

    Returns:
        Scalar in nats: 0 if every attribute attends one step, log T if all attend all alike.
    """
    # xlogy is 0 with gradient 0 for an entry of 0, where x log x would give no number.
    return -torch.special.xlogy(mask, mask.clamp_min(1e-30)).sum(0).mean()


def attention_balance(mask: Tensor) -> Tensor:
    """Squared distance of the steps' attention, sum_n M_tn, from an equal share N / T each, as released.

    Args:
        mask: M (T, N).

    Returns:
        Scalar, the mean over steps.
    """
    num_steps, num_attributes = mask.shape
    return (mask.sum(1) - num_attributes / num_steps).square().mean()
