"""A run whose loss is no number any more ends at once and keeps the last checkpoint from before."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_zoo.checkpoints import CheckpointError


class NonFiniteLossError(CheckpointError):
    """The training loss became NaN or infinite; the message names the step and the checkpoint to go back to."""


class StopOnNonFinite(Callback):
    """Raises `NonFiniteLossError` when the training loss is not finite; the command line then ends with status 2.

    Looks only at every `log_every_n_steps`-th batch and before a checkpoint is written, because a look waits for the
    device. A checkpoint is never written over a good one from weights that are not finite.
    """

    def __init__(self) -> None:
        self._loss: torch.Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of this step, if it is one of those that are logged."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._loss = loss.detach() if isinstance(loss, torch.Tensor) else None
        every = max(trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]
        if (batch_idx + 1) % every == 0:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last loss of the epoch, before its checkpoint is written."""
        self._check(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last training loss, before the checkpoint that follows validation is written."""
        self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        if self._loss is None:
            return
        # One process that raised alone would leave the others waiting for it.
        if not trainer.strategy.reduce_boolean_decision(not bool(torch.isfinite(self._loss).all()), all=False):
            return
        saved = _newest(trainer)
        way_out = f"the last good checkpoint is {saved}" if saved else "no checkpoint was written before"
        raise NonFiniteLossError(
            f"Training loss is {self._loss.mean().item()} at step {trainer.global_step} of epoch "
            f"{trainer.current_epoch}; {way_out}. Lower the learning rate or set --trainer.gradient_clip_val."
        )


def _newest(trainer: L.Trainer) -> Path | None:
    """The checkpoint of this run that was written last."""
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    # best and last of one epoch hold the same weights; the later one in the list is last.
    files = [Path(callback.best_model_path) for callback in reversed(callbacks) if callback.best_model_path]
    return max((file for file in files if file.is_file()), key=lambda file: file.stat().st_mtime, default=None)
