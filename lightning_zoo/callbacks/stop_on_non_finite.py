"""A run whose loss or weights are no numbers any more ends at once and keeps the last checkpoint from before."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_zoo.checkpoints import CheckpointError, read


class NonFiniteLossError(CheckpointError):
    """Training loss or weights became NaN or infinite; the message names the step and the checkpoint to go back to."""


class StopOnNonFinite(Callback):
    """Raises `NonFiniteLossError` when the training loss is not finite; the command line then ends with status 2.

    Looks only at every `log_every_n_steps`-th batch and before a checkpoint is written, because a look waits for the
    device. A finite loss can have gradients that are not, so the weights are looked at before every checkpoint, whoever
    writes it: none with weights that are not finite is written, least of all over a good one.
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

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not finite; every process comes here before the first one writes."""
        self._raise_if(not weights_are_finite(pl_module.parameters()), trainer, "Some weights are not finite")

    def _check(self, trainer: L.Trainer) -> None:
        if self._loss is not None:
            bad = not bool(torch.isfinite(self._loss).all())
            self._raise_if(bad, trainer, f"Training loss is {self._loss.mean().item()}" if bad else "")

    def _raise_if(self, bad: bool, trainer: L.Trainer, what: str) -> None:
        # One process that raised alone would leave the others waiting for it.
        if not trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        saved = _newest_good(trainer)
        way_out = f"the last good checkpoint is {saved}" if saved else "no good checkpoint was written before"
        # Lightning refuses to clip where a method steps its optimizers itself.
        clips = trainer.lightning_module.automatic_optimization
        advice = "Lower the learning rate" + " or set --trainer.gradient_clip_val" * clips
        raise NonFiniteLossError(
            f"{what or 'Another process stopped'} at step {trainer.global_step} of epoch {trainer.current_epoch}; "
            f"{way_out}. {advice}."
        )


def weights_are_finite(weights: Iterable[torch.Tensor]) -> bool:
    """Whether no element is NaN or infinite; waits for the device once."""
    finite = [torch.isfinite(weight.detach()).all() for weight in weights]
    return not finite or bool(torch.stack([flag.to(finite[0].device) for flag in finite]).all())


def _newest_good(trainer: L.Trainer) -> Path | None:
    """The newest checkpoint of this run whose weights are finite."""
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    folders = {Path(callback.dirpath) for callback in callbacks if callback.dirpath}
    files = {file for folder in folders for file in folder.glob("*.ckpt")}
    newest_first = sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name), reverse=True)
    return next((file for file in newest_first if _is_good(file)), None)


def _is_good(file: Path) -> bool:
    try:
        weights = read(file)["state_dict"].values()
    except CheckpointError:
        return False
    return weights_are_finite(weight for weight in weights if isinstance(weight, torch.Tensor))
