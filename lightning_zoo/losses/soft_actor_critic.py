"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), with the views of DrQ (arXiv 2004.13649).

Heads are the critic's Q functions, two in the paper; the least of them is what targets and the actor use. Actions come
from a Gaussian squashed into (-1, 1), and log-probabilities are densities there, not in the units of an environment.
"""

import math

from torch import Tensor
from torch.nn import functional as F

from lightning_zoo.losses.likelihood import full_precision
from lightning_zoo.losses.q_learning import ViewReduction, over_views, q_targets, value_errors


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions a = tanh(mean + exp(log_std) * noise) and their log-probabilities (appendix C).

    log(1 - a^2) is computed from the Gaussian's value u as 2 (log 2 - u - softplus(-2 u)), which is exact where a
    itself rounds to 1; the code released with SAC+AE adds 1e-6 instead.

    Args:
        mean: (..., A) of the Gaussian.
        log_std: same shape, the logarithm of its standard deviation.
        noise: same shape, standard normal.

    Returns:
        Actions (..., A) and log-probabilities (...) in nats, summed over the dimensions of an action; both
        differentiable in mean and log_std, in float32 at least.
    """
    mean, log_std, noise = (full_precision(x) for x in (mean, log_std, noise))
    assert mean.shape == log_std.shape == noise.shape, (mean.shape, log_std.shape, noise.shape)
    values = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    squashing = 2 * (math.log(2) - values - F.softplus(-2 * values))
    return values.tanh(), (gaussian - squashing).sum(-1)


def soft_values(q: Tensor, log_probabilities: Tensor, temperature: Tensor | float) -> Tensor:
    """Values min_i Q_i(s, a) - alpha log pi(a|s) of actions that the policy drew.

    Args:
        q: (..., H, B).
        log_probabilities: (..., B) of the same actions.
        temperature: alpha, not its logarithm.

    Returns:
        (..., B) in float32 at least.
    """
    least = full_precision(q).amin(-2)
    assert least.shape == log_probabilities.shape, (q.shape, log_probabilities.shape)
    return least - temperature * full_precision(log_probabilities)


def soft_q_targets(
    rewards: Tensor, discounts: Tensor, next_q: Tensor, log_probabilities: Tensor, temperature: Tensor | float
) -> Tensor:
    """Targets y = r + d * mean_k (min_i Q_i(s'_k, a'_k) - alpha log pi(a'_k|s'_k)), without a gradient.

    Without views the target of SAC; with K, each with an action drawn for it, that of DrQ (eq. 1).

    Args:
        rewards: (B,).
        discounts: (B,), 0 where the episode terminated, not where it was cut off.
        next_q: (H, B) of the target critic, or (K, H, B).
        log_probabilities: (B,), or (K, B).
        temperature: alpha.

    Returns:
        (B,) in float32 at least.
    """
    return q_targets(rewards, discounts, soft_values(next_q, log_probabilities, temperature))


def critic_loss(q: Tensor, targets: Tensor, reduction: ViewReduction = "mean") -> Tensor:
    """Squared error of all heads from one target: mean over the batch, sum over heads (DrQ, eq. 3).

    Args:
        q: (H, B), or (M, H, B) for M views of the observations.
        targets: (B,), as `soft_q_targets` returns them.
        reduction: over views.
    """
    return over_views(value_errors(q, targets, "mse").mean(-1).sum(-1), reduction)


def actor_loss(q: Tensor, log_probabilities: Tensor, temperature: Tensor | float) -> Tensor:
    """What the policy pays: alpha log pi(a|s) - min_i Q_i(s, a), the mean over the batch.

    Args:
        q: (H, B) of actions that the policy drew, differentiable in them.
        log_probabilities: (B,), differentiable.
        temperature: alpha, which gets no gradient.
    """
    fixed = temperature.detach() if isinstance(temperature, Tensor) else temperature
    return -soft_values(q, log_probabilities, fixed).mean()


def temperature_loss(log_temperature: Tensor, log_probabilities: Tensor, target_entropy: float) -> Tensor:
    """What the temperature pays: alpha * mean(-log pi - target), where only alpha gets a gradient.

    It grows while the policy's entropy lies below the target.

    Args:
        log_temperature: (), log alpha.
        log_probabilities: (B,).
        target_entropy: in nats, of actions in (-1, 1); the paper's is minus the number of action dimensions.
    """
    excess = -full_precision(log_probabilities.detach()).mean() - target_entropy
    return log_temperature.exp() * excess
