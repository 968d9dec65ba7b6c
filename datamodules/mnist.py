"""Handwritten digits, grey for training and drawn as black and white once and for all for testing."""

import hashlib
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from datamodules import mnist_files
from datamodules.errors import DataError
from datamodules.index_batches import Batch, IndexBatches, in_order, permutation
from datamodules.missing_data import Source, missing_data

STATIC_SEED = 19980
"""Of our own fixed draw, so that it is the same in every run; no argument changes it."""

SOURCE = Source(
    dataset="MNIST",
    obtained="the gzipped IDX files of LeCun, Cortes and Burges, as by torchvision.datasets.MNIST(download=True)",
    license="CC BY-SA 3.0",
    tree=[f"{name}[.gz]" for name in mnist_files.FILES.values()],
    command="lightning_zoo fit --config crvae_mnist.yaml --data.root FOLDER",
)


class MNIST(L.LightningDataModule):
    """Images uint8 (B, 1, 28, 28) as "images" and digits int64 (B,) as "labels".

    Training images stay grey: a density model draws its black and white pixels anew from them at each step. Those of
    validation and test are drawn once, the intensity being the probability of white, because likelihoods are only
    comparable on the same pixels.

    Args:
        root: folder of the IDX files, plain or gzipped, themselves or in raw/ or MNIST/raw/; `fit` downloads them if
            there are none.
        batch_size: images per batch and process.
        num_val: the last training images are held out for validation; the first train.
        binarization: "static" draws the pixels of validation and test images as 0 or 255 once: the test images are the
            draw of Larochelle if binarized_mnist_test.amat lies in ``root``, else our own; "none" keeps them grey.
        seed: of the order of the training images.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        *,
        root: str = "data/mnist",
        batch_size: int = 128,
        num_val: int = 5000,
        binarization: Literal["static", "none"] = "static",
        seed: int = 42,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if num_val < 1:
            raise ValueError(f"num_val must be at least 1, got {num_val}")
        if binarization not in ("static", "none"):
            raise ValueError(f"binarization must be 'static' or 'none', got {binarization!r}")
        self.save_hyperparameters()
        self.root = Path(root)
        self.batch_size = batch_size
        self.num_val = num_val
        self.binarization = binarization
        self.seed = seed
        self.image_shape = (1, 28, 28)
        self.class_names = [str(digit) for digit in range(10)]
        self.attribute_names: list[str] = []
        self.crop = "none"
        self.fingerprint: dict[str, str | int | float] = {}
        self._splits: dict[str, Batch] = {}

    def prepare_data(self) -> None:
        """Download the files unless there are any.

        Raises:
            DataError: if there are some but not all, or the download fails.
        """
        found, missing = mnist_files.find_files(self.root)
        if found and missing:
            raise missing_data(SOURCE, self.root, missing)
        if found:
            return
        try:
            mnist_files.download(self.root)
        except (RuntimeError, OSError) as error:
            raise missing_data(SOURCE, self.root, missing, f"the download failed: {error}") from error

    def setup(self, stage: str | None = None) -> None:
        """Read the files and draw the black and white pixels, the same on every process.

        Raises:
            DataError: if files are missing or damaged.
        """
        if self._splits:
            return
        files, missing = mnist_files.find_files(self.root)
        if missing:
            raise missing_data(SOURCE, self.root, missing)
        images, labels = mnist_files.read_pair(files["train_images"], files["train_labels"])
        test_images, test_labels = mnist_files.read_pair(files["test_images"], files["test_labels"])
        first = len(images) - self.num_val
        if first < 1:
            raise DataError(f"num_val={self.num_val} leaves none of the {len(images)} training images: lower it")
        draw = "none"
        val_images = images[first:]
        if self.binarization == "static":
            # Drawn for all training images, so that num_val does not change an image's pixels.
            val_images = draw_binary(images, STATIC_SEED)[first:]
            test_images, draw = self._static_test_images(test_images)
        self._splits = {
            "train": _batch(images[:first], labels[:first]),
            "val": _batch(val_images, labels[first:]),
            "test": _batch(test_images, test_labels),
        }
        self.fingerprint = _describe(self._splits, draw)
        _announce(f"MNIST: {self.fingerprint['test_images']} test images, binarization: {draw}")

    def _static_test_images(self, grey: np.ndarray) -> tuple[np.ndarray, str]:
        path = self.root / mnist_files.LAROCHELLE
        if not path.is_file():
            return draw_binary(grey, STATIC_SEED + 1), f"static, our own draw with seed {STATIC_SEED + 1}"
        drawn = mnist_files.read_binary_images(path, len(grey))
        wrong = ((drawn > 0) & (grey == 0)) | ((drawn == 0) & (grey == 255))
        if wrong.mean() > 1e-3:
            raise DataError(
                f"{path} does not hold the test images in their order ({wrong.mean():.1%} of its pixels contradict "
                f"them), so their labels would be wrong: remove it to use our own draw"
            )
        return drawn, f"static, the draw of Larochelle in {path.name}"

    def train_dataloader(self) -> IndexBatches:
        """Grey images, each once per epoch, another order each epoch."""
        return self._loader("train")

    def val_dataloader(self) -> IndexBatches:
        """The held-out training images, in order."""
        return self._loader("val")

    def test_dataloader(self) -> IndexBatches:
        """The test images, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> IndexBatches:
        """The test images, in order."""
        return self._loader("test")

    def _loader(self, split: str) -> IndexBatches:
        tensors = self._splits[split]
        number = len(tensors["labels"])
        world_size = self.trainer.world_size if self.trainer is not None else 1
        try:
            return IndexBatches(
                lambda rows: {name: tensor[rows] for name, tensor in tensors.items()},
                permutation(number, self.seed) if split == "train" else in_order(number),
                number,
                batch_size=self.batch_size,
                drop_last=split == "train",
                rank=self.trainer.global_rank if self.trainer is not None else 0,
                world_size=world_size,
            )
        except ValueError as error:
            raise DataError(f"MNIST {split}: {error}: lower --data.batch_size") from error


def draw_binary(images: np.ndarray, seed: int) -> np.ndarray:
    """Pixels of 255 with probability intensity / 255 and of 0 else; uint8 of the shape of ``images``."""
    drawn = np.empty_like(images)
    random = np.random.default_rng(seed)
    for index, image in enumerate(images):
        drawn[index] = (random.integers(0, 255, image.shape, np.uint8) < image) * np.uint8(255)
    return drawn


def _batch(images: np.ndarray, labels: np.ndarray) -> Batch:
    tensors: dict[str, Tensor] = {
        "images": torch.from_numpy(images[:, None].copy()),
        "labels": torch.from_numpy(labels.astype(np.int64)),
    }
    return tensors


def _describe(splits: dict[str, Batch], draw: str) -> dict[str, str | int | float]:
    digest = hashlib.blake2b(digest_size=16)
    for tensors in splits.values():
        for tensor in tensors.values():
            digest.update(tensor.numpy().tobytes())
    counts = {f"{split}_images": len(tensors["labels"]) for split, tensors in splits.items()}
    return {"source": "MNIST", "binarization": draw, **counts, "hash": digest.hexdigest()}


@rank_zero_only
def _announce(line: str) -> None:
    print(line)
