"""A run that was killed and taken up again ends in the same weights as one that was not."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn


class ExactResume(Callback):
    """Keeps every process's random states (python, numpy, torch, CUDA) in the checkpoint.

    They are put back just before the first batch, because making iterators and checking validation draw numbers
    before. Exactness also needs loaders that draw nothing from the global generators and that know their place:
    `state_dict`, `load_state_dict` and a sampler that permutes by seed and epoch, as those of our datasets.

    A run that EarlyStopping had ended takes no further step; Lightning's would train on for an epoch.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The random states by rank; a collective call under DDP."""
        own = random_states()
        if not (dist.is_available() and dist.is_initialized()):
            return {"ranks": [own]}
        ranks: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, own)
        return {"ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training goes on."""
        self._waiting = state_dict

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop before the first step if the checkpoint is that of a run that had stopped early."""
        if self._waiting is None:
            return
        for callback in trainer.early_stopping_callbacks:
            if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
                rank_zero_info(f"The run had stopped early, by {callback.monitor}: nothing is left to train.")
                trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put this rank's states back before the first batch after a resume."""
        if self._waiting is None:
            return
        ranks, self._waiting = self._waiting["ranks"], None
        if len(ranks) != trainer.world_size:
            rank_zero_warn(f"Resumed on {trainer.world_size} processes, saved on {len(ranks)}: not bit-exact.")
            return
        set_random_states(ranks[trainer.global_rank])


def random_states() -> dict[str, Any]:
    """The states of this process's global generators as tensors and lists, loadable with `weights_only=True`."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            cached,
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what `random_states` gave."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
