"""Several Q functions of states and actions, evaluated at once."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_zoo.networks.perceptron import ParallelLinear, checked_sizes, in_full_precision


class Critic(nn.Module):
    """Perceptrons Q_i(s, a) side by side, each with weights of its own that start orthogonal.

    Args:
        feature_size: D, of features or of a state.
        action_size: A, dimensions of an action.
        num_heads: H, Q functions; two for the clipped double Q of Fujimoto et al. (2018, arXiv 1802.09477).
        hidden_sizes: widths of the hidden layers; DrQ and SAC+AE have (1024, 1024) on features of pixels.

    Raises:
        ValueError: for no head, or widths that are not positive.
    """

    def __init__(
        self,
        feature_size: int,
        action_size: int,
        *,
        num_heads: int = 2,
        hidden_sizes: Sequence[int] = (1024, 1024),
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads must be 1 or more, got {num_heads}")
        sizes = (feature_size + action_size, *checked_sizes(hidden_sizes))
        self.num_heads = num_heads
        self.hidden = nn.ModuleList([ParallelLinear(num_heads, *pair) for pair in pairwise(sizes)])
        self.output = ParallelLinear(num_heads, sizes[-1], 1)

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Values (H, B) of features (B, D) and actions (B, A) in [-1, 1]; of K views (K, B, D), values (K, H, B).

        Actions (B, A) stand for all views alike. Under autocast the last layer stays in the type of its weights.
        """
        assert features.shape[-2] == actions.shape[-2], (features.shape, actions.shape)
        pairs = torch.cat([features, actions.expand(*features.shape[:-1], -1)], -1)
        x = pairs.flatten(0, -2).expand(self.num_heads, -1, -1)
        for layer in self.hidden:
            x = torch.relu(layer(x))
        values = in_full_precision(self.output, x).squeeze(2)
        return values.unflatten(1, features.shape[:-1]).movedim(0, -2)
