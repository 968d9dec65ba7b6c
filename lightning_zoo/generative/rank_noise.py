"""Noise that differs between processes, and between the batches of a run."""

import lightning as L
import torch

# More than an epoch has, so that no two batches of a run share a number.
_MOST_BATCHES = 2**20


def seed_by_rank(module: L.LightningModule) -> None:
    """Give each process but the first a random state of its own.

    A seed is set alike in all of them, so that they start from the same weights; with the same noise as well, every
    process would train on the same samples from the prior.
    """
    if module.global_rank:
        torch.manual_seed((torch.initial_seed() + 1_000_003 * module.global_rank) % 2**63)


def batch_generator(device: torch.device, seed: int, epoch: int, batch: int, rank: int) -> torch.Generator:
    """A generator of one batch's noise, from numbers alone, so that a resumed run draws what it would have drawn.

    A CPU's generator reads 32 bits of a seed, which multiples of 2^32 leave as it is: the numbers of epoch and batch
    are spread over these bits, and they repeat after 4096 epochs.

    Args:
        device: of the noise.
        seed: of the run.
        epoch: counted from 0.
        batch: of the epoch, fewer than 2^20.
        rank: of the process.
    """
    number = epoch * _MOST_BATCHES + batch
    mixed = seed + 1_000_003 * (number + 1) + 715_827_883 * rank
    return torch.Generator(device).manual_seed(mixed % 2**32)
