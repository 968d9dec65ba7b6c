"""Pictures of what a generative method can do, while it is trained."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor

FOLDER = "pictures"
"""The folder of a run that pictures are written to."""


class SampleGrid(Callback):
    """Writes grids of samples and of reconstructions into the run's folder, as `pictures/*.png`, and to MLflow.

    The latents are the same each time, so that pictures of several epochs compare. Reconstructions, each below its
    original, are of the first images of the validation data; without validation there are none. Nothing is drawn from
    the global random generators: a run with this callback ends in the weights of one without it.

    Args:
        num_images: samples in a grid, and images that are reconstructed.
        every_n_epochs: after how many epochs.
        seed: of the samples' latents.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(self, num_images: int = 64, every_n_epochs: int = 1, seed: int = 0) -> None:
        if num_images < 1:
            raise ValueError(f"num_images must be at least 1, got {num_images}")
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.seed = seed
        self._images: list[Tensor] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a method that cannot draw."""
        if not callable(getattr(pl_module, "sample", None)):
            name = type(pl_module).__name__
            raise ValueError(f"SampleGrid: {name} has no `sample`; leave the callback out of trainer.callbacks")

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first images of the validation data, once."""
        missing = self.num_images - sum(map(len, self._images))
        if missing <= 0 or dataloader_idx or not _writes(trainer):
            return
        if batch_idx == 0:
            self._images, missing = [], self.num_images
        images = batch["images"] if "images" in batch else batch["frames"]
        self._images.append(images[:missing].detach().cpu().clone())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw and write both grids."""
        run = trainer.log_dir  # every process has to ask: it is broadcast
        if run is None or not _writes(trainer) or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        grids = {"samples": lambda: self._samples(pl_module)}
        if self._images and callable(getattr(pl_module, "reconstruct", None)):
            grids["reconstructions"] = lambda: self._reconstructions(pl_module)
        with evaluating(pl_module), trainer.precision_plugin.forward_context():
            for name, draw in grids.items():
                file = Path(run) / FOLDER / f"{name}_epoch{trainer.current_epoch:04d}.png"
                write_png(file, draw())
                for logger in trainer.loggers:
                    if isinstance(logger, MLFlowLogger):
                        logger.experiment.log_artifact(logger.run_id, str(file), FOLDER)

    def _samples(self, module: Any) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        images = module.sample(self.num_images, generator=generator).float().cpu()
        return image_grid(images, square_side(self.num_images))

    def _reconstructions(self, module: Any) -> Tensor:
        real = torch.cat(self._images)
        drawn = module.reconstruct(real.to(module.device)).float().cpu()
        real = real.float() / 255 if real.dtype == torch.uint8 else real.float()
        return pairs_grid(real, drawn)


@contextmanager
def evaluating(module: L.LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients; modes and global random states are as before afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        module.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def square_side(number: int) -> int:
    """The columns of the smallest square grid that holds so many images."""
    return int((number - 1) ** 0.5) + 1


def image_grid(images: Tensor, columns: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] row by row in one picture (C, H', W'), light lines between them."""
    from torchvision.utils import make_grid

    return make_grid(images.clamp(0, 1), nrow=columns, padding=2, pad_value=1.0)


def pairs_grid(real: Tensor, drawn: Tensor, columns: int | None = None) -> Tensor:
    """Images (N, C, H, W) in [0, 1], each row of real ones above the row of what was drawn from them, as a picture."""
    columns = columns or min(len(real), 2 * square_side(max(1, len(real) // 2)), 16)
    rows = [torch.cat(pair) for pair in zip(_rows(real, columns), _rows(drawn, columns), strict=True)]
    return image_grid(torch.cat(rows), columns)


def write_png(file: Path, picture: Tensor) -> None:
    """Write a picture (C, H, W) in [0, 1] to `file` by way of `<file>.part`, so that it is complete or not there."""
    from torchvision.utils import save_image

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        save_image(picture, part, format="png")
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _writes(trainer: L.Trainer) -> bool:
    return trainer.is_global_zero and not trainer.sanity_checking and not trainer.fast_dev_run  # type: ignore[attr-defined]


def _rows(images: Tensor, columns: int) -> Iterator[Tensor]:
    # Whole rows: an empty place stays light.
    for row in images.split(columns):
        empty = row.new_ones((columns - len(row), *row.shape[1:]))
        yield torch.cat([row, empty])
