"""The files of MNIST: IDX, plain or gzipped, and the fixed binary draw of Larochelle."""

import gzip
import math
import os
import shutil
import zlib
from pathlib import Path

import numpy as np

from datamodules.errors import DataError

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""The four parts and their files."""

FOLDERS = (".", "raw", "MNIST/raw")
"""Where below the root the files may lie."""

LAROCHELLE = "binarized_mnist_test.amat"
"""The test set as it was drawn once by Larochelle, one image of 0 and 1 per line."""

UNSIGNED_BYTE = 8
NEWLINES = b"\r\n"


def find_files(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The files found in the first folder that has any, and the names of those that are missing there."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for part, name in FILES.items():
            plain = root / folder / name
            existing = [path for path in (plain, plain.with_name(f"{name}.gz")) if path.is_file()]
            if existing:
                found[part] = existing[0]
        if found:
            break
    return found, [name for part, name in FILES.items() if part not in found]


def read_idx(path: Path) -> np.ndarray:
    """The unsigned bytes of an IDX file, in the shape that its header states.

    Raises:
        DataError: if the file is unreadable, of another kind, truncated or too long.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and obtain it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE or content[3] == 0:
        raise DataError(
            f"{path} is no IDX file of unsigned bytes: its first bytes are {content[:4].hex(' ') or 'none'}"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path} is truncated within its header: delete it and obtain it again")
    shape = [int.from_bytes(content[first : first + 4], "big") for first in range(4, start, 4)]
    expected = start + math.prod(shape)
    if len(content) != expected:
        kind = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{path} is {kind}: {len(content):,} bytes where its header states {expected:,}; delete it and obtain it "
            "again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28) and labels uint8 (N,) of one half of the data.

    Raises:
        DataError: if a file is damaged, or the two do not fit each other.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(f"{images_path} must hold images of 28x28, its header states the shape {images.shape}")
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(f"{labels_path} must hold {len(images)} labels, its header states the shape {labels.shape}")
    if labels.size and labels.max() > 9:
        raise DataError(f"{labels_path} must hold labels 0..9, got {labels.max()}")
    return images, labels


def read_binary_images(path: Path, num_images: int) -> np.ndarray:
    """Images in {0, 255} as uint8 (num_images, 28, 28) of a text file with one image of 784 digits 0 or 1 per line.

    Raises:
        DataError: if the file holds anything else.
    """
    text = np.fromfile(path, np.uint8)
    digits = (text == ord("0")) | (text == ord("1"))
    spaces = (text == ord(" ")) | np.isin(text, np.frombuffer(NEWLINES, np.uint8))
    if not (digits | spaces).all() or (digits[1:] & digits[:-1]).any():
        raise DataError(f"{path} must hold only digits 0 and 1, apart by spaces: obtain it again or remove it")
    values = text[digits]
    if len(values) != num_images * 784:
        raise DataError(
            f"{path} must hold {num_images} images of 784 digits, it holds {len(values):,} digits: obtain it again or "
            "remove it"
        )
    return ((values == ord("1")) * np.uint8(255)).reshape(num_images, 28, 28)


def download(root: Path) -> None:
    """Obtain the four files by torchvision into root/MNIST/raw, all or none.

    Raises:
        RuntimeError, OSError: if the network or the disk fails.
    """
    from filelock import FileLock
    from torchvision.datasets import MNIST

    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".download.lock"):
        if not find_files(root)[1]:
            return
        partial = root / ".download.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            MNIST(str(partial), download=True)
            (root / "MNIST").mkdir(exist_ok=True)
            os.replace(partial / "MNIST" / "raw", root / "MNIST" / "raw")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
