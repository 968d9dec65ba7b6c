"""Importance sampling of a log-likelihood (Rezende et al. 2014; Burda et al. 2016, arXiv 1509.00519).

With draws z_k from the posterior q(z|x) the mean of the weights w_k = p(x, z_k) / q(z_k|x) estimates p(x). Weights are
handled as logarithms throughout, since they lie hundreds of nats apart.
"""

import math

import torch
from torch import Tensor


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """The bound L_k = log mean_k w_k on the log-likelihood (Burda et al., eq. 8).

    Args:
        log_weights: (B, K), log p(x, z_k) - log q(z_k|x).

    Returns:
        (B,) in nats, in float32 at least; differentiable.

    Example:
        >>> importance_weighted_bound(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        tensor([0., 1.])
    """
    log_weights = log_weights.to(torch.promote_types(log_weights.dtype, torch.float32))
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


class StreamedMean:
    """Log-mean-exp and mean of log weights that come in chunks; the chunks are not kept."""

    def __init__(self) -> None:
        self.count = 0
        self._log_sum: Tensor | None = None
        self._sum: Tensor | None = None

    def update(self, log_weights: Tensor) -> None:
        """Take the next chunk (B, n) for the same B items; n may differ from chunk to chunk."""
        # Sums over thousands of draws; a device without float64 has to do with what it has.
        wide = log_weights.to(torch.float32 if log_weights.device.type == "mps" else torch.float64)
        log_sum, total = wide.logsumexp(1), wide.sum(1)
        self._log_sum = log_sum if self._log_sum is None else torch.logaddexp(self._log_sum, log_sum)
        self._sum = total if self._sum is None else self._sum + total
        self.count += log_weights.shape[1]

    def log_mean(self) -> Tensor:
        """Logarithm of the mean weight so far (B,): the estimate of log p(x)."""
        assert self._log_sum is not None, "no chunk was given"
        return self._log_sum - math.log(self.count)

    def mean_log(self) -> Tensor:
        """Mean of the log weights so far (B,): an estimate of the evidence lower bound."""
        assert self._sum is not None, "no chunk was given"
        return self._sum / self.count


def mean_and_standard_error(total: float, total_of_squares: float, count: float) -> tuple[float, float]:
    """Mean over items and its standard error, from sums that add up over processes.

    Args:
        total: sum of the values.
        total_of_squares: sum of their squares.
        count: number of items.

    Returns:
        The mean, and the sample standard deviation over the root of ``count``; nan for fewer than two items.
    """
    mean = total / count
    if count < 2:
        return mean, math.nan
    variance = max(total_of_squares - count * mean**2, 0.0) / (count - 1)
    return mean, math.sqrt(variance / count)
