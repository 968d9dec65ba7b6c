"""Pictures of what a generative method can do, while it is trained."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor

from lightning_zoo.metrics.attention_table import write_whole
from lightning_zoo.metrics.feature_extractors import as_unit
from lightning_zoo.networks.area_resize import area_resize

FOLDER = "pictures"
"""The folder of a run that pictures are written to."""

COMBINATIONS = 8
"""Rows of the grid of attributes: combinations; and its columns: draws of each."""


class SampleGrid(Callback):
    """Writes grids of samples and of reconstructions into the run's folder, as `pictures/*.png`, and to MLflow.

    The latents are the same each time, so that pictures of several epochs compare. Reconstructions, each below its
    original, are of the first images of the validation data; without validation there are none. Of a method that draws
    by attributes there is a third grid, `attributes_*.png`: a combination of attributes per row, always the same ones,
    listed in `attributes.txt`, and the same noise in each column. Nothing is drawn from the global random generators: a
    run with this callback ends in the weights of one without it.

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
        self._attributes: list[Tensor] = []

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
        if missing <= 0 or dataloader_idx or not writes_now(trainer):
            return
        if batch_idx == 0:
            self._images, self._attributes, missing = [], [], self.num_images
        images = batch["images"] if "images" in batch else batch["frames"]
        self._images.append(images[:missing].detach().cpu().clone())
        if callable(getattr(pl_module, "attributes_of", None)):
            self._attributes.append(pl_module.attributes_of(batch)[:missing].detach().cpu().clone())  # type: ignore[operator]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw and write the grids."""
        run = trainer.log_dir  # every process has to ask: it is broadcast
        if run is None or not writes_now(trainer) or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        grids = {"samples": lambda: self._samples(pl_module)}
        if self._images and callable(getattr(pl_module, "reconstruct", None)):
            grids["reconstructions"] = lambda: self._reconstructions(pl_module)
        if getattr(pl_module, "attribute_bank", None) is not None:
            chosen = fixed_combinations(pl_module.attribute_bank, COMBINATIONS, self.seed)  # type: ignore[arg-type]
            grids["attributes"] = lambda: self._by_attributes(pl_module, chosen)
            self._list_attributes(trainer, Path(run) / FOLDER / "attributes.txt", chosen, pl_module.attribute_names)
        with evaluating(pl_module), trainer.precision_plugin.forward_context():
            for name, draw in grids.items():
                file = Path(run) / FOLDER / f"{name}_epoch{trainer.current_epoch:04d}.png"
                write_png(file, draw())
                log_artifact(trainer, file)

    def _samples(self, module: Any) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        images = module.sample(self.num_images, generator=generator).float().cpu()
        return image_grid(images, square_side(self.num_images))

    def _reconstructions(self, module: Any) -> Tensor:
        real = torch.cat(self._images)
        attributes = [torch.cat(self._attributes).to(module.device)] if self._attributes else []
        drawn = module.reconstruct(real.to(module.device), *attributes).float().cpu()
        return pairs_grid(averaged_to(as_unit(real).float(), drawn.shape[-1]), drawn)

    def _by_attributes(self, module: Any, chosen: Tensor) -> Tensor:
        rows = []
        for combination in chosen:
            generator = torch.Generator().manual_seed(self.seed)
            asked = combination.expand(COMBINATIONS, -1).to(module.device)
            rows.append(module.sample(COMBINATIONS, attributes=asked, generator=generator).float().cpu())
        return image_grid(torch.cat(rows), COMBINATIONS)

    def _list_attributes(self, trainer: L.Trainer, file: Path, chosen: Tensor, names: Any) -> None:
        lines = [f"row {row}: {attributes_in_words(one, names)}\n" for row, one in enumerate(chosen, start=1)]
        text = "".join(lines)
        if not file.is_file() or file.read_text() != text:
            write_whole(file, text)
            log_artifact(trainer, file)


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


def fixed_combinations(bank: Tensor, number: int, seed: int) -> Tensor:
    """Different rows (number or fewer, N) of a bank of combinations of attributes (M, N), by the seed alone.

    Rows with a 0, an unknown attribute, are left out where there are others.
    """
    known = bank[(bank != 0).all(1)].cpu()
    different = (known if len(known) else bank.cpu()).unique(dim=0)
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed))
    return different[order[:number]]


def attributes_in_words(attributes: Tensor, names: Sequence[str]) -> str:
    """The names of those attributes (N,) that are asked for."""
    return ", ".join(name for name, value in zip(names, attributes.tolist(), strict=True) if value > 0) or "none"


def averaged_to(images: Tensor, side: int) -> Tensor:
    """Float images (N, C, H, W) averaged down to a side that theirs is a whole multiple of; others as they are."""
    larger = images.shape[-1] > side and not images.shape[-1] % side
    return area_resize(images, side) if larger else images


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


def writes_now(trainer: L.Trainer) -> bool:
    """Whether this process writes files of the run: the first one, in earnest."""
    return trainer.is_global_zero and not trainer.sanity_checking and not trainer.fast_dev_run  # type: ignore[attr-defined]


def log_artifact(trainer: L.Trainer, file: Path) -> None:
    """Add a picture to the MLflow run, if there is one."""
    for logger in trainer.loggers:
        if isinstance(logger, MLFlowLogger):
            logger.experiment.log_artifact(logger.run_id, str(file), FOLDER)


def _rows(images: Tensor, columns: int) -> Iterator[Tensor]:
    # Whole rows: an empty place stays light.
    for row in images.split(columns):
        empty = row.new_ones((columns - len(row), *row.shape[1:]))
        yield torch.cat([row, empty])
