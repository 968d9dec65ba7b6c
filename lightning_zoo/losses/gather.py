"""Negatives of all processes: a gather whose gradients go back to where each key came from."""

from typing import Any

import torch
from torch import Tensor, distributed


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, keys: Tensor, sizes: list[int]) -> Tensor:
        context.sizes = sizes
        # A collective wants equal shapes; what is added to the shorter ones is cut off again.
        padded = torch.cat([keys, keys.new_zeros(max(sizes) - len(keys), *keys.shape[1:])])
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Every process's loss has a gradient for these keys, so the sum over processes is what reaches their owner.
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed.split(context.sizes)[distributed.get_rank()], None


def gather_keys(keys: Tensor) -> tuple[Tensor, int]:
    """The keys of all processes, so that every process has the negatives of the joint batch.

    Averaged over processes, as DDP does, the gradients are those of one process on the joint batch (a plain
    ``all_gather`` would drop those of the other processes' losses). Processes may differ in their number of keys, as in
    the last batch of small data; each process then has the same weight, not each item.

    Args:
        keys: (N_r, ...) of this process, of rank r.

    Returns:
        (N_0 + N_1 + ..., ...) of all processes by rank, and the index of this process's first key, which is
        ``first_positive`` of `lightning_zoo.losses.infonce.infonce`; without `torch.distributed` the keys as they are
        and 0.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return keys, 0
    own = torch.tensor([len(keys)], device=keys.device)
    numbers = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(numbers, own)
    sizes = torch.cat(numbers).tolist()
    return _GatherWithGradient.apply(keys, sizes), sum(sizes[: distributed.get_rank()])
