"""Copies of a network that follow it slowly."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def move_towards(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Make every parameter of `target` (1 - rate) * target + rate * online; buffers are copied.

    Args:
        target: whose parameters change in place.
        online: of the same structure, left as it is.
        rate: tau; 1 makes an exact copy. Parts of a network may have rates of their own: call it on each.

    Raises:
        ValueError: for a rate outside of (0, 1].
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be above 0 and at most 1, got {rate}")
    targets: list[Tensor] = list(target.parameters())
    onlines: list[Tensor] = list(online.parameters())
    assert [x.shape for x in targets] == [x.shape for x in onlines], "two networks of different structure"
    torch._foreach_lerp_(targets, onlines, rate)
    for old, new in zip(target.buffers(), online.buffers(), strict=True):
        old.copy_(new)
