"""Noise that differs between processes."""

import lightning as L
import torch


def seed_by_rank(module: L.LightningModule) -> None:
    """Give each process but the first a random state of its own.

    A seed is set alike in all of them, so that they start from the same weights; with the same noise as well, every
    process would train on the same samples from the prior.
    """
    if module.global_rank:
        torch.manual_seed((torch.initial_seed() + 1_000_003 * module.global_rank) % 2**63)
