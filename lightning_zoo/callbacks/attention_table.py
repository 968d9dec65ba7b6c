"""Which attribute attends which time step, while a method with attention over its attributes is trained."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor

from lightning_zoo.callbacks.sample_grid import writes_now
from lightning_zoo.metrics.attention_table import as_plain, as_text, steps_used, write_heat_map, write_whole

FOLDER = "attention"
"""The folder of a run that tables and heat maps are written to."""

NEWEST = "attention.txt"
"""The text table of the last epoch that was written."""


class AttentionTable(Callback):
    """Writes the attention mask as heat map and table into the run's folder, as `attention/*`, and to MLflow.

    Each time `attention_epochNNNN.png` and `.json`, and `attention.txt` for the newest. At each validation it logs
    val/attention_steps_used, how many steps are the one that some attribute attends most. Nothing is drawn from any
    random generator.

    Args:
        every_n_epochs: after how many epochs files are written.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a method without attention."""
        if not callable(getattr(pl_module, "attention", None)):
            name = type(pl_module).__name__
            raise ValueError(f"AttentionTable: {name} has no `attention`; leave the callback out of trainer.callbacks")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log how many steps are attended."""
        if not trainer.sanity_checking:
            pl_module.log("val/attention_steps_used", float(steps_used(_mask_of(pl_module))), sync_dist=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write heat map and tables."""
        run = trainer.log_dir  # every process has to ask: it is broadcast
        if run is None or not writes_now(trainer) or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        files = self._write(Path(run) / FOLDER, trainer.current_epoch, pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, MLFlowLogger):
                for file in files:
                    logger.experiment.log_artifact(logger.run_id, str(file), FOLDER)

    def _write(self, folder: Path, epoch: int, module: Any) -> list[Path]:
        mask, names = _mask_of(module), module.attribute_names
        picture, table = (folder / f"attention_epoch{epoch:04d}{ending}" for ending in (".png", ".json"))
        write_heat_map(picture, mask, names, f"epoch {epoch}")
        write_whole(table, json.dumps({"epoch": epoch} | as_plain(mask, names), indent=1) + "\n")
        write_whole(folder / NEWEST, f"epoch {epoch}\n\n{as_text(mask, names)}\n")
        return [picture, table, folder / NEWEST]


def _mask_of(module: Any) -> Tensor:
    with torch.no_grad():
        return module.attention().detach().float().cpu()
