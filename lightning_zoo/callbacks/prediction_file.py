"""What `predict` computed, in a file of the run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback


class PredictionFile(Callback):
    """Writes what `predict_step` returned for all batches, joined, as `predictions.npz` into the run's folder.

    A dictionary of tensors (B, ...) becomes arrays (N, ...) under its keys, a single tensor `predictions`; those of a
    second dataloader get the suffix `_1`. The order is the dataloader's. With several processes each writes its part,
    as `predictions_rank<r>.npz`. Lightning's `BasePredictionWriter` asks every loader for sample indices, which loaders
    that gather by index themselves have not.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin anew."""
        self._parts = {}

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's arrays in the host's memory."""
        named = outputs if isinstance(outputs, Mapping) else {"predictions": outputs}
        for name, value in named.items():
            if isinstance(value, torch.Tensor):
                key = f"{name}_{dataloader_idx}" if dataloader_idx else str(name)
                self._parts.setdefault(key, []).append(np.atleast_1d(to_array(value)))

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file under a temporary name, rename it and say where it is."""
        folder = trainer.log_dir  # every process has to ask: it is broadcast
        if not self._parts or folder is None:
            return
        arrays = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        self._parts = {}
        rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        file = Path(folder) / f"predictions{rank}.npz"
        write_arrays(file, arrays)
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        print(f"Predictions: {os.path.relpath(file)} ({shapes})")


def to_array(value: torch.Tensor) -> np.ndarray:
    """A tensor as a NumPy array; bfloat16, which NumPy has not, as float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to `file` (npz) by way of `<file>.part`, so that it is complete or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
