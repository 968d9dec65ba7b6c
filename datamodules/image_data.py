"""What every dataset of image files shares: decoded once, served by row, flipped on the device."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from datamodules import image_cache
from datamodules.errors import DataError
from datamodules.image_cache import BadImages, Fit, ImageCache, ImageItem, ImageList
from datamodules.image_decoding import Decoding
from datamodules.index_batches import Batch, IndexBatches, in_order, permutation

SPLITS = ("train", "val", "test")


class ImageData(L.LightningDataModule):
    """Base of the image datasets: a subclass lists the files of its splits and says how they are cropped.

    A batch holds "images" uint8 (B, 3, H, W) and, where there are any, "labels" int64 (B,) and "attributes" int8 (B, A)
    in {-1, +1}. A subclass implements `list_splits` and sets, before or in it, `crop`, `class_names`,
    `attribute_names`, `expected_size` and `fit`; it calls `save_hyperparameters` itself.

    Args:
        root: folder of the dataset.
        batch_size: images per batch and process.
        image_size: side of the images.
        cached_size: (height, width) in the cache where it is not ``image_size`` squared.
        flip: mirror each training image with probability 1/2, on the device.
        bad_images: what to do about images that cannot be decoded: "error", or "skip" and count them.
        cache: folder of the decoded images; null for "cache" in ``root``.
        num_workers: processes that decode; null for one per core.
        seed: of the order of the training images.

    Attributes:
        name: of the dataset, in messages, the cache's file names and the fingerprint.
        crop: the crop protocol in words; "none" if there is none.
        image_shape: (C, H, W) of an image in a batch.
        class_names: by label.
        attribute_names: by column of the attributes.
        fingerprint: what is served: counts, crop, size, hash; filled by `setup`.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "images"
    fit: Fit = "stretch"
    expected_size: tuple[int, int] | None = None

    def __init__(
        self,
        *,
        root: str,
        batch_size: int = 128,
        image_size: int = 64,
        cached_size: tuple[int, int] | None = None,
        flip: bool = True,
        bad_images: BadImages = "error",
        cache: str | None = None,
        num_workers: int | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        for argument, value in (("batch_size", batch_size), ("image_size", image_size), ("num_workers", num_workers)):
            if value is not None and value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}")
        if bad_images not in ("error", "skip"):
            raise ValueError(f"bad_images must be 'error' or 'skip', got {bad_images!r}")
        self.root = Path(root)
        self.batch_size = batch_size
        self.image_size = image_size
        self.cached_size = cached_size or (image_size, image_size)
        self.flip = flip
        self.bad_images: BadImages = bad_images
        self.cache_folder = Path(cache) if cache is not None else self.root / "cache"
        self.num_workers = num_workers
        self.seed = seed
        self.crop = "none"
        self.image_shape = (3, image_size, image_size)
        self.class_names: list[str] = []
        self.attribute_names: list[str] = []
        self.fingerprint: dict[str, str | int | float] = {}
        self._splits: dict[str, Rows] = {}
        self._listed: dict[str, ImageList] | None = None

    def list_splits(self) -> dict[str, ImageList]:
        """The images of "train", "val" and, where there is one, "test"; without it "val" is tested.

        Raises:
            DataError: by `missing_data`, if files are missing.
        """
        raise NotImplementedError

    @property
    def decoding(self) -> Decoding:
        """How the images become pixels of the cache."""
        height, width = self.cached_size
        return Decoding(height, width, self.crop, self.fit, self.expected_size)

    def prepare_data(self) -> None:
        """Decode the images of every split, unless that was done before."""
        from rich.progress import Progress

        splits = self._list()
        with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
            for split, images in splits.items():
                task = progress.add_task(f"decoding {self.name} {split}", total=len(images.items))
                image_cache.build_cache(
                    images.items,
                    self.decoding,
                    self.cache_folder,
                    f"{self.name}_{split}",
                    bad_images=self.bad_images,
                    num_workers=self.num_workers,
                    progress=lambda count, task=task: progress.advance(task, count),  # type: ignore[misc]
                )

    def setup(self, stage: str | None = None) -> None:
        """Map the caches into memory; the same on every process, and nothing is decoded.

        Raises:
            DataError: if files or caches are missing or damaged.
        """
        if self._splits:
            return
        splits, caches = {}, {}
        for split, images in self._list().items():
            path = image_cache.cache_path(
                images.items, self.decoding, self.cache_folder, f"{self.name}_{split}", self.bad_images
            )
            caches[split] = image_cache.open_cache(path)
            splits[split] = Rows(caches[split], images)
        self.fingerprint = self._describe(splits, caches)
        self._splits, self._listed = splits, None

    def attributes_of(self, split: str) -> Tensor | None:
        """The attributes int8 (M, A) of a split's images, in their order; None where there are none. After `setup`."""
        rows = self._splits.get(split)
        return None if rows is None else rows.attributes

    def train_dataloader(self) -> IndexBatches:
        """Every training image once per epoch, another order each epoch; a last batch that is not full is left out."""
        return self._loader("train")

    def val_dataloader(self) -> IndexBatches:
        """The validation images, in order."""
        return self._loader("val")

    def test_dataloader(self) -> IndexBatches:
        """The test images, in order."""
        return self._loader("test" if "test" in self._splits else "val")

    def predict_dataloader(self) -> IndexBatches:
        """As `test_dataloader`."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches where they are used, with random numbers of the batch's own."""
        training = self.trainer is not None and bool(self.trainer.training)
        generator = batch_generator(self.trainer, self.seed, batch["images"].device) if training else None
        return batch | {"images": self.on_device(batch["images"], generator)}

    def on_device(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Images (B, 3, H, W) as the method gets them; here mirrored at random where there is a generator."""
        return random_flip(images, generator) if generator is not None and self.flip else images

    def _list(self) -> dict[str, ImageList]:
        # Kept from prepare_data to setup: of large datasets a list takes seconds.
        if self._listed is None:
            self._listed = self.list_splits()
            for split, images in self._listed.items():
                if not images.items:
                    raise DataError(f"{self.name} in {self.root} has no {split} images")
        return self._listed

    def _loader(self, split: str) -> IndexBatches:
        rows = self._splits[split]
        trainer = self.trainer
        try:
            return IndexBatches(
                rows.gather,
                permutation(len(rows), self.seed) if split == "train" else in_order(len(rows)),
                len(rows),
                batch_size=self.batch_size,
                drop_last=split == "train",
                rank=trainer.global_rank if trainer is not None else 0,
                world_size=trainer.world_size if trainer is not None else 1,
            )
        except ValueError as error:
            raise DataError(f"{self.name} {split}: {error}: lower --data.batch_size") from error

    def _describe(self, splits: "dict[str, Rows]", caches: dict[str, ImageCache]) -> dict[str, str | int | float]:
        digest = hashlib.blake2b(digest_size=16)
        description: dict[str, str | int | float] = {"source": self.name, "crop": self.crop}
        description |= {"image_size": self.image_size, "resampling": self.decoding.resampling}
        for split, rows in splits.items():
            digest.update(caches[split].fingerprint["hash"].encode())
            for tensor in (rows.labels, rows.attributes):
                digest.update(b"" if tensor is None else tensor.numpy().tobytes())
            description[f"{split}_images"] = len(rows)
            description[f"{split}_skipped"] = len(caches[split].skipped)
        return description | {"hash": digest.hexdigest()}


class Rows:
    """The images of one split that were decoded, with what is known of each, by row.

    Args:
        cache: the pixels.
        images: the list they were decoded from.
    """

    def __init__(self, cache: ImageCache, images: ImageList) -> None:
        rows = cache.rows
        self.pixels = cache.pixels
        self.rows = rows
        self.labels = None if images.labels is None else torch.from_numpy(images.labels[rows].astype(np.int64))
        self.attributes = (
            None if images.attributes is None else torch.from_numpy(images.attributes[rows].astype(np.int8))
        )

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, index: Tensor) -> Batch:
        """The batch of some rows (B,)."""
        batch = {"images": torch.from_numpy(self.pixels[self.rows[index.numpy()]])}
        known: dict[str, Any] = {"labels": self.labels, "attributes": self.attributes}
        return batch | {name: tensor[index] for name, tensor in known.items() if tensor is not None}


def batch_generator(trainer: Any, seed: int, device: torch.device) -> torch.Generator:
    """The random numbers of the batch that a trainer is at: a function of seed, epoch, batch and process.

    From numbers alone: a resumed run gets its random states back only after its first batch was augmented.
    """
    batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    place = [trainer.current_epoch, batch, trainer.global_rank]
    state = np.random.SeedSequence([seed, *place]).generate_state(1)[0]
    return torch.Generator(device).manual_seed(int(state))


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), each mirrored from left to right with probability 1/2; the generator is of their device."""
    return torch.where(draw_mirrored(len(images), generator)[:, None, None, None], images.flip(-1), images)


def draw_mirrored(number: int, generator: torch.Generator) -> Tensor:
    """Which of ``number`` rows to mirror, each with probability 1/2; bool on the generator's device."""
    return torch.rand(number, device=generator.device, generator=generator) < 0.5


__all__ = ["ImageData", "ImageItem", "ImageList", "Rows", "batch_generator", "draw_mirrored", "random_flip"]
