"""Strips of clips while a video method is trained."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lightning_zoo.callbacks.sample_grid import FOLDER, evaluating, image_grid, log_artifact, write_png, writes_now


class ClipStrips(Callback):
    """Writes what a method makes of clips of validation into the run's folder, `pictures/strips_*.png`, and to MLflow.

    The rows are those of the method's `strips`; there are none without validation. A run with this callback ends in the
    weights of one without it.

    Args:
        num_clips: how many, always the same ones.
        every_n_epochs: after how many epochs.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(self, num_clips: int = 4, every_n_epochs: int = 1) -> None:
        for name, number in (("num_clips", num_clips), ("every_n_epochs", every_n_epochs)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.num_clips = num_clips
        self.every_n_epochs = every_n_epochs
        self._clips: Tensor | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a method that has nothing to show."""
        if not callable(getattr(pl_module, "strips", None)):
            name = type(pl_module).__name__
            raise ValueError(f"ClipStrips: {name} has no `strips`; leave the callback out of trainer.callbacks")

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first clips of the validation data."""
        if batch_idx == 0 and dataloader_idx == 0 and writes_now(trainer):
            self._clips = batch["clips"][: self.num_clips].detach().cpu().clone()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw and write the strips."""
        run = trainer.log_dir  # every process has to ask: it is broadcast
        if run is None or self._clips is None or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        file = Path(run) / FOLDER / f"strips_epoch{trainer.current_epoch:04d}.png"
        with evaluating(pl_module), trainer.precision_plugin.forward_context():
            rows: Tensor = pl_module.strips(self._clips.to(pl_module.device))  # type: ignore[operator]
        write_png(file, image_grid(rows.float().cpu().flatten(0, 2), rows.shape[2]))
        log_artifact(trainer, file)
