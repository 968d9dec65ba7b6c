"""From an image file, or an entry of an LMDB, to pixels of one size; also the process that does so for many."""

import functools
import io
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from datamodules.errors import DataError

Fit = Literal["stretch", "crop_shorter_side"]


class ImageItem(NamedTuple):
    """One image.

    Attributes:
        source: a file, or the folder of an LMDB and the key of an encoded image in it.
        box: left, top, right, bottom in pixels of the original, cut to the image where it reaches beyond; None for no
            crop before the resize.
    """

    source: Path | tuple[Path, bytes]
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Decoding:
    """How images become pixels, the same for all images of a dataset.

    Attributes:
        height: of the result.
        width: of the result.
        crop: the crop protocol in words; decides nothing here but names the cache.
        fit: what has no box is cut to its central part of the result's shape ("crop_shorter_side") or not
            ("stretch"); then it is resized.
        expected_size: (width, height) that every original must have; None for any.
    """

    height: int
    width: int
    crop: str = "none"
    fit: Fit = "stretch"
    expected_size: tuple[int, int] | None = None

    resampling = "Pillow bilinear, antialiased"


def decode(item: ImageItem, decoding: Decoding) -> np.ndarray:
    """Pixels uint8 (3, height, width) of one image, resized by Pillow's bilinear filter, which antialiases.

    Raises:
        DataError: if the image cannot be read or is not what it should be; names it.
    """
    try:
        with Image.open(_open(item.source)) as opened:
            image = _converted(opened, upright=item.box is None)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like on foreign bytes
        raise DataError(f"{name_of(item.source)} is no readable image: {' '.join(str(error).split())}") from error
    if decoding.expected_size is not None and image.size != decoding.expected_size:
        wanted, got = (f"{width}x{height}" for width, height in (decoding.expected_size, image.size))
        raise DataError(f"{name_of(item.source)} must be {wanted} (width, height), it is {got}")
    return cut_and_resize(image, _box(item, decoding, image.size), decoding.width, decoding.height)


def cut_and_resize(image: Image.Image, box: tuple[float, float, float, float], width: int, height: int) -> np.ndarray:
    """What lies in ``box`` (left, top, right, bottom) of an RGB image, uint8 (3, height, width), antialiased."""
    left, top, right, bottom = box
    # Cut first: a resize of a box would let the filter see pixels beyond its edges, unlike everybody's crops.
    whole = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    box = (left - whole[0], top - whole[1], right - whole[0], bottom - whole[1])
    resized = image.crop(whole).resize((width, height), Image.Resampling.BILINEAR, box)
    return np.asarray(resized).transpose(2, 0, 1)


def central_box(size: tuple[int, int], width: int, height: int) -> tuple[float, float, float, float]:
    """The largest central part, of the shape of ``width`` x ``height``, of an image of ``size`` (width, height)."""
    scale = min(size[0] / width, size[1] / height)
    left, top = (size[0] - scale * width) / 2, (size[1] - scale * height) / 2
    return (left, top, size[0] - left, size[1] - top)


def name_of(source: Path | tuple[Path, bytes]) -> str:
    """The file, or the LMDB and its key, for a message."""
    if isinstance(source, tuple):
        return f"{source[0]}:{source[1].decode(errors='replace')}"
    return str(source)


def _converted(opened: Image.Image, *, upright: bool) -> Image.Image:
    # Boxes are given in pixels as they are stored; whole pictures are shown as the camera was held.
    if upright:
        opened = ImageOps.exif_transpose(opened)
    if opened.mode == "P" and "transparency" in opened.info:
        opened = opened.convert("RGBA")
    return opened.convert("RGB")


def _box(item: ImageItem, decoding: Decoding, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    if item.box is not None:
        left, top, right, bottom = item.box
        box = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            raise DataError(f"{name_of(item.source)}: the box {item.box} lies outside of its {width}x{height} pixels")
        return box
    if decoding.fit == "crop_shorter_side":
        return central_box(size, decoding.width, decoding.height)
    return (0, 0, width, height)


def _open(source: Path | tuple[Path, bytes]) -> "Path | BinaryIO":
    if not isinstance(source, tuple):
        return source
    with _lmdb(source[0]).begin(buffers=True) as transaction:
        value = transaction.get(source[1])
        if value is None:
            raise DataError(f"{name_of(source)}: the LMDB has no such key")
        return io.BytesIO(bytes(value))


@functools.cache
def _lmdb(folder: Path) -> Any:
    """An environment per process and folder, opened at its first use: it must not cross a fork."""
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise DataError(f"{folder} is an LMDB, which the package lmdb reads: pip install lmdb") from error
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, max_readers=64)
    except lmdb.Error as error:
        raise DataError(f"{folder} cannot be opened as an LMDB: {error}") from error


class Bad(NamedTuple):
    """An image that could not be decoded: its row and why."""

    row: int
    message: str


def decode_into(
    pixels: np.ndarray, items: Sequence[ImageItem], first: int, decoding: Decoding, *, skip: bool
) -> list[Bad]:
    """Write decoded items to the rows of ``pixels`` (N, 3, height, width) from ``first`` on.

    Returns:
        What could not be decoded; without ``skip`` nothing is decoded after the first of them.
    """
    bad: list[Bad] = []
    for row, item in enumerate(items, first):
        try:
            pixels[row] = decode(item, decoding)
        except DataError as error:
            bad.append(Bad(row, str(error)))
            if not skip:
                break
    return bad


def start_worker() -> "subprocess.Popen[bytes]":
    """A process that decodes what `ask_worker` asks of it until its standard input is closed.

    A plain command, because `multiprocessing` would import the caller's main module again.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-c", "from datamodules.image_decoding import main; main()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def ask_worker(worker: "subprocess.Popen[bytes]", *request: Any) -> list[Bad]:
    """Have rows of a .npy file decoded; arguments as for `decode_into`, with the file in place of the array.

    Raises:
        DataError: if the worker dies.
    """
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        pickle.dump(request, worker.stdin, pickle.HIGHEST_PROTOCOL)
        worker.stdin.flush()
        return pickle.load(worker.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        raise DataError(f"a decoding process died with exit code {worker.wait()}; nothing was kept") from None


def main() -> None:
    """Work off requests from standard input."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not end up among the answers
    try:
        while True:
            path, items, first, decoding, skip = pickle.load(sys.stdin.buffer)
            pixels = np.lib.format.open_memmap(path, mode="r+")
            pickle.dump(decode_into(pixels, items, first, decoding, skip=skip), output)
            output.flush()
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        os._exit(0)
