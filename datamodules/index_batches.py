"""Batches gathered by index from data in memory, the same in every run and resumable in the middle of an epoch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class _Epoch:
    """Where Lightning writes the number of the epoch."""

    number = 0

    def set_epoch(self, epoch: int) -> None:
        self.number = epoch


class IndexBatches:
    """A loader without workers: which rows make an epoch is a function of its number alone.

    Lightning finds `sampler.set_epoch`, `state_dict` and `load_state_dict` by name, so that a run that was killed goes
    on with the batch that it had not seen yet. Each global batch of ``batch_size * world_size`` rows is cut into one
    part per process: two processes with 32 rows each see together what one process with 64 rows sees.

    Args:
        gather: from row indices (B,) to the batch.
        plan: from the number of the epoch to its row indices (num_rows,), equal on all processes.
        num_rows: length of every plan.
        batch_size: rows per batch and process.
        drop_last: leave out a last batch that is not full.
        rank: index of this process.
        world_size: number of processes.

    Raises:
        ValueError: if no batch can be made of ``num_rows`` rows.
    """

    def __init__(
        self,
        gather: Callable[[Tensor], Batch],
        plan: Callable[[int], Tensor],
        num_rows: int,
        *,
        batch_size: int,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.gather = gather
        self.plan = plan
        self.sampler = _Epoch()
        self.batch_sampler = None  # Lightning asks every loader for one
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self._global_batch = batch_size * world_size
        full, remainder = divmod(num_rows, self._global_batch)
        # A remainder of fewer rows than processes joins the batch before it, so that no process is left without a row.
        self._length = full + (not drop_last and (remainder >= world_size or (full == 0 and remainder > 0)))
        self._rows_used = full * self._global_batch if drop_last else num_rows
        if self._length == 0 or self._rows_used < world_size:
            raise ValueError(f"batch_size={batch_size} on {world_size} processes exceeds the {num_rows} rows at hand")
        self._done = 0
        self._skip = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing is read before the first batch is asked for, by when Lightning has set the epoch.
        start, self._skip = self._skip, 0
        self._done = start
        rows = self.plan(self.sampler.number)
        for index in range(start, self._length):
            stop = self._rows_used if index == self._length - 1 else (index + 1) * self._global_batch
            global_batch = rows[index * self._global_batch : stop]
            self._done = index + 1
            yield self.gather(torch.tensor_split(global_batch, self.world_size)[self.rank])

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch have been handed out."""
        return {"batches": self._done % self._length}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches of the current epoch that have been seen."""
        self._skip = state["batches"]


def permutation(num_rows: int, seed: int) -> Callable[[int], Tensor]:
    """A plan that shows every row once per epoch, in an order drawn from ``seed`` and the epoch."""

    def plan(epoch: int) -> Tensor:
        return torch.randperm(num_rows, generator=epoch_generator(seed, epoch))

    return plan


def in_order(num_rows: int) -> Callable[[int], Tensor]:
    """A plan that shows every row once, in order."""

    def plan(epoch: int) -> Tensor:
        return torch.arange(num_rows)

    return plan


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of its own for each (seed, epoch), apart from the process's global random state."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
