"""The policy of soft actor-critic: a Gaussian whose mean and deviation a perceptron gives."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_zoo.networks.initialisation import initialise_orthogonally
from lightning_zoo.networks.perceptron import checked_sizes, in_full_precision, perceptron


def bounded_log_std(raw: Tensor, low: float = -10.0, high: float = 2.0) -> Tensor:
    """Any number mapped into (low, high) by tanh: low + (high - low) (tanh(raw) + 1) / 2, as SAC+AE and DrQ have it."""
    return low + 0.5 * (high - low) * (torch.tanh(raw) + 1)


class GaussianActor(nn.Module):
    """Mean and log standard deviation of the Gaussian that is squashed by tanh into actions; weights start orthogonal.

    The action without noise is tanh(mean).

    Args:
        feature_size: D, of features or of a state.
        action_size: A, dimensions of an action.
        hidden_sizes: widths of the hidden layers; DrQ and SAC+AE have (1024, 1024) on features of pixels.
        log_std_bounds: lowest and highest log standard deviation.

    Raises:
        ValueError: for bounds that are not in order, or widths that are not positive.
    """

    def __init__(
        self,
        feature_size: int,
        action_size: int,
        *,
        hidden_sizes: Sequence[int] = (1024, 1024),
        log_std_bounds: tuple[float, float] = (-10.0, 2.0),
    ) -> None:
        super().__init__()
        low, high = log_std_bounds
        if not low < high:
            raise ValueError(f"log_std_bounds must be a lower and a higher number, got {low} and {high}")
        sizes = checked_sizes(hidden_sizes)
        self.log_std_bounds = (low, high)
        self.body = perceptron((feature_size, *sizes))
        self.output = nn.Linear(sizes[-1], 2 * action_size)
        initialise_orthogonally(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, each (..., A), of features (..., D).

        Under autocast the last layer stays in the type of its weights.
        """
        mean, raw = in_full_precision(self.output, self.body(features)).chunk(2, -1)
        return mean, bounded_log_std(raw, *self.log_std_bounds)
