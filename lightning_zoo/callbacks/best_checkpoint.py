"""The best and the last checkpoint of a run."""

from typing import Literal

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the best value of a metric as `best-epoch<n>.ckpt`; a run without the metric has none.

    Args:
        monitor: The metric.
        mode: Whether less or more of it is better.
        save_top_k: How many of the best are kept.
    """

    def __init__(self, monitor: str = "val/loss", mode: Literal["min", "max"] = "min", save_top_k: int = 1) -> None:
        super().__init__(
            filename="best-epoch{epoch:03d}",
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if the metric is there."""
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if the metric is there."""
        if self.monitor in trainer.callback_metrics:
            super().on_validation_end(trainer, pl_module)


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` at the end of every `every_n_epochs`-th epoch, best metric or not; a run resumes from it.

    Args:
        every_n_epochs: How many epochs a kill may cost.
        every_n_train_steps: Write after this many optimizer steps instead.
    """

    def __init__(self, every_n_epochs: int | None = None, every_n_train_steps: int | None = None) -> None:
        super().__init__(
            filename="last",
            save_top_k=1,
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            enable_version_counter=False,
        )
