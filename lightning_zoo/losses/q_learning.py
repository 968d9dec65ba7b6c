"""Learning of action values: targets, errors, and their means over augmented views.

DQN (Mnih et al. 2015), double Q-learning (van Hasselt et al. 2016, arXiv 1509.06461), and DrQ (Kostrikov et al. 2020,
arXiv 2004.13649), which averages targets over K views of the next observation and errors over M views of the present
one. Views lie in the first dimension. With K = M = 1 what is left of DrQ is the augmentation itself.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_zoo.losses.likelihood import full_precision

ErrorKind = Literal["huber", "mse"]
"""Of a value's error e: e^2 / 2 up to 1 and |e| - 1/2 beyond, or e^2, which has no half and so twice the slope."""

ViewReduction = Literal["mean", "sum"]
"""Over the M views of a loss: the mean as DrQ is written, or the sum as it was released."""


def greedy_values(target_q: Tensor, online_q: Tensor | None = None) -> Tensor:
    """Value of the best action in the next state, without a gradient.

    Args:
        target_q: (..., A), values of the target network.
        online_q: same shape, of the online network, which then chooses the action (double Q-learning); None: the target
            network chooses by itself.

    Returns:
        (...) in float32 at least.
    """
    target_q = full_precision(target_q.detach())
    if online_q is None:
        return target_q.amax(-1)
    assert online_q.shape == target_q.shape, (online_q.shape, target_q.shape)
    return chosen_values(target_q, online_q.detach().argmax(-1))


def q_targets(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """Targets y = r + d * mean_k v_k (DrQ, eq. 1; without views the target of DQN), without a gradient.

    Args:
        rewards: (B,), sums over the n steps, discounted.
        discounts: (B,), discount to the power of the steps summed; 0 where the episode terminated.
        next_values: (B,), or (K, B) for K views of the next observation.

    Returns:
        (B,) in float32 at least.
    """
    rewards, discounts, next_values = (full_precision(x.detach()) for x in (rewards, discounts, next_values))
    assert rewards.shape == discounts.shape == next_values.shape[-1:], (discounts.shape, next_values.shape)
    return rewards + discounts * (next_values if next_values.dim() == 1 else next_values.mean(0))


def chosen_values(q: Tensor, actions: Tensor) -> Tensor:
    """Values (..., B) of the actions taken.

    Args:
        q: (..., B, A).
        actions: (..., B), int64, or (B,) for all leading dimensions alike.
    """
    return q.gather(-1, actions.expand(q.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def value_errors(values: Tensor, targets: Tensor, kind: ErrorKind = "huber") -> Tensor:
    """Error of each value (..., B) from its target (B,), same shape, in float32 at least; targets get no gradient."""
    values, targets = full_precision(values), full_precision(targets.detach())
    assert values.shape[-1:] == targets.shape, (values.shape, targets.shape)
    targets = targets.expand_as(values)
    if kind == "mse":
        return F.mse_loss(values, targets, reduction="none")
    return F.huber_loss(values, targets, reduction="none")


def over_views(losses: Tensor, reduction: ViewReduction) -> Tensor:
    """One loss of the losses of M views (M,), or of one without views ()."""
    return losses.sum() if reduction == "sum" else losses.mean()


def td_loss(
    q: Tensor,
    actions: Tensor,
    targets: Tensor,
    kind: ErrorKind = "huber",
    reduction: ViewReduction = "mean",
) -> Tensor:
    """Temporal-difference loss, the mean over the batch (DrQ, eq. 3).

    Args:
        q: (B, A), or (M, B, A) for M views of the observations, which share actions and targets.
        actions: (B,), int64.
        targets: (B,), as `q_targets` returns them.
        kind: of the error.
        reduction: over views.
    """
    errors = value_errors(chosen_values(q, actions), targets, kind)
    return over_views(errors.mean(-1), reduction)


def augmentation_variance(q: Tensor) -> Tensor:
    """How far values of the same items lie apart under different views: their variance over views, mean over items.

    The estimate is unbiased, so that numbers of views can be compared. The mean squared difference of two views, which
    figure 1b of the reproduction study of DrQ shows, is twice as large.

    Args:
        q: (K, ...), K views of the same items and actions.

    Returns:
        () in float32 at least, without a gradient.

    Raises:
        ValueError: for fewer than two views.
    """
    if len(q) < 2:
        raise ValueError(f"augmentation_variance needs at least 2 views, got {len(q)}: augment the batch twice")
    return torch.var(full_precision(q.detach()), 0).mean()
