"""Fully connected layers, of one network or of several side by side."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def checked_sizes(hidden_sizes: Sequence[int]) -> tuple[int, ...]:
    """The widths as a tuple.

    Raises:
        ValueError: if there are none, or one is not positive.
    """
    sizes = tuple(hidden_sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"hidden_sizes must be one or more positive widths, got {list(sizes)}")
    return sizes


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers from sizes[0] to sizes[-1], each followed by a ReLU; nothing for one size alone."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class ParallelLinear(nn.Module):
    """Linear layers of several networks of one shape, computed at once.

    Each starts orthogonal by itself, with zero bias.

    Args:
        num_networks: H.
        inputs: width of what comes in.
        outputs: width of what goes out.
    """

    def __init__(self, num_networks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_networks, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(num_networks, 1, outputs))
        for matrix in self.weight.data:
            nn.init.orthogonal_(matrix)

    def forward(self, x: Tensor) -> Tensor:
        """(H, B, inputs) to (H, B, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)


def in_full_precision(layer: nn.Linear | ParallelLinear, x: Tensor) -> Tensor:
    """The layer on `x` outside of autocast: values and their differences do not survive three digits."""
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = layer(x.to(layer.weight.dtype))
    return result
