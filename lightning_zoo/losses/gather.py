"""Negatives of all processes: a gather whose gradients go back to where each key came from."""

from typing import Any

import torch
from torch import Tensor, distributed


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, keys: Tensor) -> Tensor:
        parts = [torch.empty_like(keys) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, keys)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        # Every process's loss has a gradient for these keys, so the sum over processes is what reaches their owner.
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed.chunk(distributed.get_world_size())[distributed.get_rank()]


def gather_keys(keys: Tensor) -> tuple[Tensor, int]:
    """The keys of all processes, so that every process has the negatives of the joint batch.

    Averaged over processes, as DDP does, the gradients are those of one process on the joint batch (a plain
    ``all_gather`` would drop those of the other processes' losses). Every process needs the same number of keys.

    Args:
        keys: (N, ...) of this process.

    Returns:
        (W * N, ...) of all W processes by rank, and the index of this process's first key, which is ``first_positive``
        of `lightning_zoo.losses.infonce.infonce`; without `torch.distributed` the keys as they are and 0.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return keys, 0
    return _GatherWithGradient.apply(keys.contiguous()), distributed.get_rank() * len(keys)
