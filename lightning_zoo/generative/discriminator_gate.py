"""When a discriminator learns: not while it is nearly always right, and slowly at first (Larsen & Sønderby 2016).

As released with Shang et al. (2018): the whole update is left out, moments included, and those in the first batches are
small.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

WARM_UP = ((10, 1 / 50), (30, 1 / 5))
"""Until which batch, whether it updated or not, the learning rate is multiplied by what, as released."""


class DiscriminatorGate(nn.Module):
    """Decides for all processes alike and counts the updates; its counters go with the checkpoint.

    Args:
        accuracy_limit: no update above this accuracy; 1 always updates, a negative one never.
        warm_up: begin with small learning rates.
    """

    updates: Tensor
    skipped: Tensor

    def __init__(self, accuracy_limit: float = 0.9, *, warm_up: bool = True) -> None:
        super().__init__()
        self.accuracy_limit = accuracy_limit
        self.warm_up = warm_up
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))

    def opens(self, accuracy: Tensor) -> bool:
        """Whether to update, from this process's accuracy; the mean over the processes decides."""
        if self.accuracy_limit >= 1:
            return True
        joint = accuracy.detach().float().clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(joint)
            joint /= dist.get_world_size()
        return bool(joint <= self.accuracy_limit)

    @contextmanager
    def update(self, optimizer: Any, opened: bool) -> Iterator[None]:
        """Count an update, made or left out; while it lasts, groups with `warms_up` have their small learning rates."""
        factor = self._factor() if opened else 1.0
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor if group["warms_up"] else rate
        yield
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        counter = self.updates if opened else self.skipped
        counter += 1

    def _factor(self) -> float:
        if not self.warm_up:
            return 1.0
        calls = int(self.updates + self.skipped)
        return next((factor for until, factor in WARM_UP if calls < until), 1.0)
