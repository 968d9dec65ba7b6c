"""LSUN: one category of scenes, from its LMDB or from picture files.

It is obtained from https://github.com/fyu/lsun, whose `download.py -c bedroom` fetches `bedroom_train_lmdb.zip` (43 GB)
and `bedroom_val_lmdb.zip`; for research only. The pictures are encoded, their shorter side 256 pixels.
"""

from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.image_cache import BadImages, ImageList
from datamodules.image_data import ImageData, random_flip
from datamodules.lsun_images import images_of
from datamodules.missing_data import Source, missing_data

THESIS_TRAIN, THESIS_VAL = 3_033_042, 300
"""Bedrooms in the thesis (its section 5.4), all that LSUN has."""

Pixels = TypeVar("Pixels", np.ndarray, Tensor)

ENLARGED = 9 / 8
"""Side in the cache over that of the random crops."""


class LSUN(ImageData):
    """Scenes of one category. The thesis' chapter 5 uses the bedrooms, "scaled and cropped", at random in training.

    Of each picture the central square is cached, scaled to 9/8 of ``image_size``, from which training takes random
    crops on the device. Without random crops it is scaled to ``image_size``. Validation images serve as test images
    too.

    Args:
        root: folder that holds `bedroom_train_lmdb` and `bedroom_val_lmdb`, or folders of pictures `train` and `val`.
        batch_size: images per batch and process.
        image_size: side of the images.
        category: first part of the LMDBs' names.
        crop: of training images, "random" or "center"; others are cut from the middle at the same scale.
        num_images: train on the first so many, in the order of the keys; null for all.
        flip: mirror each training image with probability 1/2, on the device.
        bad_images: what to do about images that cannot be decoded: "error", or "skip" and count them.
        cache: folder of the decoded images, 47 GB for all bedrooms at 64 pixels; null for "cache" in ``root``.
        num_workers: processes that decode, each with the LMDB open for itself; null for one per core.
        seed: of the order of the training images.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "lsun"
    fit = "crop_shorter_side"

    def __init__(
        self,
        *,
        root: str = "data/lsun",
        batch_size: int = 128,
        image_size: int = 64,
        category: str = "bedroom",
        crop: Literal["random", "center"] = "random",
        num_images: int | None = None,
        flip: bool = True,
        bad_images: BadImages = "error",
        cache: str | None = None,
        num_workers: int | None = None,
        seed: int = 42,
    ) -> None:
        if crop not in ("random", "center"):
            raise ValueError(f"crop must be 'random' or 'center', got {crop!r}")
        if num_images is not None and num_images < 1:
            raise ValueError(f"num_images must be at least 1, got {num_images}")
        side = round(image_size * ENLARGED) if crop == "random" else image_size
        super().__init__(
            root=root,
            batch_size=batch_size,
            image_size=image_size,
            cached_size=(side, side),
            flip=flip,
            bad_images=bad_images,
            cache=cache,
            num_workers=num_workers,
            seed=seed,
        )
        self.save_hyperparameters()
        self.category = category
        self.num_images = num_images
        self.crop = "central square"
        if crop == "random":
            self.crop += f" scaled to {side} pixels, of which {image_size}: random in training, else central"

    def list_splits(self) -> dict[str, ImageList]:
        """Training and validation images.

        Raises:
            DataError: if a split is missing, or its LMDB is damaged.
            MissingExtraError: for an LMDB without the package `lmdb`.
        """
        folders = {split: self._folder(split) for split in ("train", "val")}
        missing = [f"{self.category}_{split}_lmdb" for split, folder in folders.items() if folder is None]
        if missing:
            raise missing_data(self._source(), self.root, missing)
        limits = {"train": self.num_images, "val": None}
        return {
            split: ImageList(images_of(folder, limits[split], self.cache_folder))
            for split, folder in folders.items()
            if folder is not None
        }

    def prepare_data(self) -> None:
        """Say once what was found, and decode the pictures unless that was done before."""
        counts = {split: len(images.items) for split, images in self._list().items()}
        thesis = f" (thesis: {THESIS_TRAIN:,} / {THESIS_VAL:,})" if self.category == "bedroom" else ""
        print(f"lsun: {counts['train']:,} train / {counts['val']:,} val images{thesis}; crop: {self.crop}")
        super().prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Map the cache; the fingerprint also tells the category and how many images the thesis had."""
        fresh = not self._splits
        super().setup(stage)
        if fresh:
            self._splits["val"].pixels = _middle(self._splits["val"].pixels, self.image_size)
        self.fingerprint |= {"category": self.category}
        if self.category == "bedroom":
            self.fingerprint |= {"thesis_train_images": THESIS_TRAIN, "thesis_val_images": THESIS_VAL}

    def on_device(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Images (B, 3, H, W) cut to ``image_size``: with a generator at random, and mirrored; else centrally."""
        if generator is None:
            return _middle(images, self.image_size)
        images = random_crop(images, self.image_size, generator)
        return random_flip(images, generator) if self.flip else images

    def _folder(self, split: str) -> Path | None:
        candidates = [
            self.root / f"{self.category}_{split}_lmdb",
            self.root / f"{self.category}_{split}",
            self.root / split,
        ]
        found = next((folder for folder in candidates if folder.is_dir()), None)
        if found is not None and found.name.endswith("_lmdb") and not (found / "data.mdb").is_file():
            raise missing_data(self._source(), self.root, [f"{found.name}/data.mdb"])
        return found

    def _source(self) -> Source:
        return Source(
            "lsun",
            f"https://github.com/fyu/lsun, python3 download.py -c {self.category}",
            "research only",
            [
                f"{self.category}_train_lmdb/data.mdb",
                f"{self.category}_val_lmdb/data.mdb, or train/*, val/* of pictures",
            ],
            f"lightning_zoo fit --config crvae_lsun --data.root {self.root}",
        )


def random_crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A square of ``size`` pixels from a place of its own in each of the images (B, C, H, W), on their device."""
    number, channels, height, width = images.shape
    if min(height, width) < size:
        raise DataError(f"images of {width}x{height} pixels cannot be cut to {size}x{size}")
    device, inside = images.device, torch.arange(size, device=images.device)
    places: dict[str, Any] = {"device": device, "generator": generator}
    top = torch.randint(height - size + 1, (number, 1), **places) + inside
    left = torch.randint(width - size + 1, (number, 1), **places) + inside
    image = torch.arange(number, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return images[image, channel, top[:, None, :, None], left[:, None, None, :]]


def _middle(images: Pixels, size: int) -> Pixels:
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]
