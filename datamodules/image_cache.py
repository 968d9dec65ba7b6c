"""Images decoded once, resized, into one memory-mapped file of pixels."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple

import numpy as np
from filelock import FileLock

from datamodules.errors import DataError
from datamodules.image_decoding import (
    Bad,
    Decoding,
    Fit,
    ImageItem,
    ask_worker,
    decode_into,
    start_worker,
)

__all__ = ["BadImages", "Decoding", "Fit", "ImageCache", "ImageItem", "ImageList", "build_cache", "cache_path"]

BadImages = Literal["error", "skip"]

VERSION = 1
"""Of the files; another version has another hash."""

ITEMS_PER_REQUEST = 256
IN_PROCESS = 512
"""Up to this many images, starting processes costs more than it saves."""


class ImageList(NamedTuple):
    """The images of one split and what is known of each.

    Attributes:
        items: N images.
        labels: (N,) integers, or None.
        attributes: (N, A) in {-1, +1}, or None.
    """

    items: list[ImageItem]
    labels: np.ndarray | None = None
    attributes: np.ndarray | None = None


class ImageCache(NamedTuple):
    """A complete cache.

    Attributes:
        path: the .npy file; beside it lies the fingerprint as .json.
        pixels: uint8 (N, 3, H, W), memory-mapped; rows of skipped images are blank.
        fingerprint: source, counts, crop, size, resampling and hash.
        skipped: rows of images that could not be decoded.
    """

    path: Path
    pixels: np.ndarray
    fingerprint: dict[str, Any]
    skipped: list[int]

    @property
    def rows(self) -> np.ndarray:
        """Rows (M,) of the images that were decoded, in order."""
        return np.delete(np.arange(len(self.pixels)), self.skipped)


def cache_path(items: list[ImageItem], decoding: Decoding, folder: Path, name: str, bad_images: BadImages) -> Path:
    """Where the cache of these images lies; its name holds a hash of all that decides its content.

    Files count by name and size, not by content, which would have to be read, nor by time, which copies change.

    Raises:
        DataError: if a file is not there.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr((VERSION, decoding, decoding.resampling, bad_images)).encode())
    states: dict[Path, str] = {}
    for source, box in items:
        path, key = source if isinstance(source, tuple) else (source, b"")
        state = states.get(path) if key else None
        if state is None:
            state = _state(path / "data.mdb" if key else path)
            if key:
                states[path] = state
        digest.update(f"{path.parent.name}/{path.name}\0{state}\0{box}\0".encode() + key)
    return folder / f"{name}_{decoding.height}x{decoding.width}_{digest.hexdigest()}.npy"


def build_cache(
    items: list[ImageItem],
    decoding: Decoding,
    folder: Path,
    name: str,
    *,
    bad_images: BadImages = "error",
    num_workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Decode images into a cache unless it is there, and return its path.

    It is written under a temporary name and renamed when it is complete. Of two processes at once the second waits for
    the first.

    Args:
        items: the images, in the order of the rows.
        decoding: crop and size.
        folder: where caches lie, made if it is missing.
        name: beginning of the file's name: dataset and split.
        bad_images: "error" for the first that cannot be decoded, or "skip" them and count them in the fingerprint.
        num_workers: processes that decode; None for one per core.
        progress: called with the number of images decoded since its last call.

    Raises:
        DataError: for an image that cannot be decoded, or if the disk is full or cannot be written.
    """
    path = cache_path(items, decoding, folder, name, bad_images)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_complete(path):
                _build(items, decoding, path, name, bad_images, num_workers, progress or (lambda count: None))
    except OSError as error:
        gigabytes = len(items) * 3 * decoding.height * decoding.width / 1e9
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}; it takes {gigabytes:.1f} GB): make room or set "
            "--data.cache to another folder; nothing incomplete was kept"
        ) from error
    return path


def open_cache(path: Path) -> ImageCache:
    """Map a complete cache, decoding nothing.

    Raises:
        DataError: if it is not there or damaged.
    """
    if not _is_complete(path):
        raise DataError(f"{path} does not exist: run prepare_data, as fit does, to decode the images")
    try:
        pixels = np.load(path, mmap_mode="r")
        description = json.loads(path.with_suffix(".json").read_text())
        skipped = description.pop("skipped_rows")
        if pixels.dtype != np.uint8 or len(pixels) != description["num_images"] + len(skipped):
            raise ValueError(f"{pixels.dtype} {pixels.shape}")
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it to decode the images again") from error
    return ImageCache(path, pixels, description, skipped)


def _is_complete(path: Path) -> bool:
    return path.is_file() and path.with_suffix(".json").is_file()


def _state(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return str(status.st_size)


def _build(
    items: list[ImageItem],
    decoding: Decoding,
    path: Path,
    name: str,
    bad_images: BadImages,
    num_workers: int | None,
    progress: Callable[[int], None],
) -> None:
    partial = path.with_suffix(".partial")
    try:
        shape = (len(items), 3, decoding.height, decoding.width)
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(partial)
        bad = []
        for done, found in _decode_all(pixels, partial, items, decoding, bad_images == "skip", num_workers):
            bad += found
            progress(done)
        pixels.flush()
        bad.sort()
        if len(bad) == len(items):
            raise DataError(
                f"none of the {len(items)} images of {name} can be decoded: {bad[0].message if bad else ''}"
            )
        description = _describe(items, decoding, path, name, bad)
        text = path.with_suffix(".json.partial")
        text.write_text(json.dumps(description, indent=1) + "\n")
        # The fingerprint first: a cache that looks complete always has one.
        os.replace(text, path.with_suffix(".json"))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Claim the blocks of a sparse file: a full disk is an error now, later a fatal signal at some write."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _describe(items: list[ImageItem], decoding: Decoding, path: Path, name: str, bad: list[Bad]) -> dict[str, Any]:
    return {
        "source": name,
        "num_images": len(items) - len(bad),
        "num_skipped": len(bad),
        "crop": decoding.crop,
        "height": decoding.height,
        "width": decoding.width,
        "fit": decoding.fit,
        "resampling": decoding.resampling,
        "hash": path.stem.rpartition("_")[2],
        "skipped_rows": [row for row, _ in bad],
        "skipped": [message for _, message in bad[:100]],
    }


def _decode_all(
    pixels: np.ndarray, path: Path, items: list[ImageItem], decoding: Decoding, skip: bool, num_workers: int | None
) -> Iterator[tuple[int, list[Bad]]]:
    """Parts of the list as they are done: how many images, and those that could not be decoded."""
    parts = [(first, items[first : first + ITEMS_PER_REQUEST]) for first in range(0, len(items), ITEMS_PER_REQUEST)]
    num_workers = min(num_workers or os.cpu_count() or 1, len(parts))
    if num_workers <= 1 or len(items) <= IN_PROCESS:
        for first, part in parts:
            yield len(part), _checked(decode_into(pixels, part, first, decoding, skip=skip), skip)
        return
    with ExitStack() as stack:
        workers: SimpleQueue[Any] = SimpleQueue()
        for _ in range(num_workers):
            workers.put(worker := start_worker())
            stack.callback(_end, worker)
        executor = stack.enter_context(ThreadPoolExecutor(num_workers))

        def ask(part: tuple[int, list[ImageItem]]) -> list[Bad]:
            worker = workers.get()
            try:
                return ask_worker(worker, path, part[1], part[0], decoding, skip)
            finally:
                workers.put(worker)

        for (_, part), bad in zip(parts, executor.map(ask, parts), strict=True):
            yield len(part), _checked(bad, skip)


def _end(worker: Any) -> None:
    worker.kill()
    worker.wait()
    worker.stdout.close()
    with suppress(OSError):  # what it had not read yet
        worker.stdin.close()


def _checked(bad: list[Bad], skip: bool) -> list[Bad]:
    if bad and not skip:
        raise DataError(f"{bad[0].message}; obtain it again, or leave such images out with --data.bad_images skip")
    return bad
