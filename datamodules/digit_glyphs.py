"""The digits that move: MNIST's, or the small ones that scikit-learn brings along; each split has its own."""

from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from datamodules import mnist_files
from datamodules.errors import DataError
from datamodules.missing_data import Source, missing_data
from lightning_zoo.extras import require

DigitSet = Literal["mnist", "digits8x8"]
DIGIT_SETS: tuple[str, ...] = get_args(DigitSet)

SIZE = 28
"""Height and width of MNIST's images, to which the small digits are brought."""

SOURCE = Source(
    dataset="MovingMNIST",
    obtained="the gzipped IDX files of LeCun, Cortes and Burges, as by torchvision.datasets.MNIST(download=True); "
    "without them, --data.digits digits8x8 moves scikit-learn's small digits",
    license="CC BY-SA 3.0",
    tree=[f"{name}[.gz]" for name in mnist_files.FILES.values()],
    command="lightning_zoo fit --config statics_dynamics_moving_mnist.yaml --data.root FOLDER",
)

_SMALL_TRAIN, _SMALL_VAL = 1200, 300
_SMALL_SEED = 8
_INNER = 20  # MNIST's digits fill 20x20 of their 28x28


class Glyphs(NamedTuple):
    """Images of single digits.

    Attributes:
        images: uint8 (N, S, S), white on black.
        labels: int64 (N,), the digits.
    """

    images: np.ndarray
    labels: np.ndarray


def obtain_mnist(root: Path) -> None:
    """Download MNIST's files unless there are any.

    Raises:
        DataError: if there are some but not all, or the download fails.
    """
    found, missing = mnist_files.find_files(root)
    if found and missing:
        raise missing_data(SOURCE, root, missing)
    if found:
        return
    try:
        mnist_files.download(root)
    except (RuntimeError, OSError) as error:
        raise missing_data(SOURCE, root, missing, f"the download failed: {error}") from error


def mnist_glyphs(root: Path, num_val: int) -> dict[str, Glyphs]:
    """MNIST's images by split; the last ``num_val`` training images are those of validation.

    Raises:
        DataError: if files are missing or damaged, or hold no more than ``num_val`` training images.
    """
    files, missing = mnist_files.find_files(root)
    if missing:
        raise missing_data(SOURCE, root, missing)
    images, labels = mnist_files.read_pair(files["train_images"], files["train_labels"])
    first = len(images) - num_val
    if first < 1:
        raise DataError(f"num_val_digits={num_val} leaves none of the {len(images)} training images: lower it")
    test = mnist_files.read_pair(files["test_images"], files["test_labels"])
    return {
        "train": _glyphs(images[:first], labels[:first]),
        "val": _glyphs(images[first:], labels[first:]),
        "test": _glyphs(*test),
    }


def small_glyphs() -> dict[str, Glyphs]:
    """The 1,797 digits of 8x8 pixels that scikit-learn brings along, 1,200 / 300 / 297 by split, in MNIST's layout.

    They are enlarged to 20x20 by bicubic interpolation and set into 28x28. Every split has all digits in like shares.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
    """
    bundled = require("sklearn.datasets").load_digits()
    border = (SIZE - _INNER) // 2
    pixels = np.rint(bundled.images * (255 / 16)).astype(np.uint8)
    images = np.pad(resized(pixels, _INNER, Image.Resampling.BICUBIC), ((0, 0), (border, border), (border, border)))
    order = _stratified(bundled.target)
    parts = np.split(order, (_SMALL_TRAIN, _SMALL_TRAIN + _SMALL_VAL))
    return {
        split: _glyphs(images[part], bundled.target[part])
        for split, part in zip(("train", "val", "test"), parts, strict=True)
    }


def resized(images: np.ndarray, size: int, resampling: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    """Images uint8 (N, ``size``, ``size``) of images uint8 (N, S, S)."""
    result = np.empty((len(images), size, size), np.uint8)
    for index, image in enumerate(images):
        result[index] = np.asarray(Image.fromarray(image).resize((size, size), resampling))
    return result


def _glyphs(images: np.ndarray, labels: np.ndarray) -> Glyphs:
    return Glyphs(images, labels.astype(np.int64))


def _stratified(labels: np.ndarray) -> np.ndarray:
    """An order of the rows of which every stretch holds the labels in the shares of the whole; always the same."""
    random = np.random.default_rng(_SMALL_SEED)
    share = np.empty(len(labels))
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        share[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(share, kind="stable")
