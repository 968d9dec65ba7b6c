"""The pictures of one split of LSUN: entries of an LMDB, listed once, or files in a folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast, overload

import numpy as np

from datamodules import image_decoding
from datamodules.errors import DataError
from datamodules.image_cache import ImageItem
from datamodules.image_folder import pictures_below
from lightning_zoo.extras import require


class LmdbItems(Sequence[ImageItem]):
    """Entries of an LMDB as a list of images, made one by one: three million in a list would take half a gigabyte.

    Args:
        folder: the LMDB.
        keys: bytes (N,).
    """

    def __init__(self, folder: Path, keys: np.ndarray) -> None:
        self._folder = folder
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> ImageItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageItem]: ...
    def __getitem__(self, index: int | slice) -> ImageItem | list[ImageItem]:
        if isinstance(index, slice):
            return [ImageItem((self._folder, key)) for key in self._keys[index].tolist()]
        return ImageItem((self._folder, bytes(self._keys[index])))

    def __iter__(self) -> Iterator[ImageItem]:
        for first in range(0, len(self), 4096):
            yield from self[first : first + 4096]


def images_of(path: Path, num_images: int | None, cache: Path) -> list[ImageItem]:
    """The images of an LMDB, in the order of their keys, or of a folder of pictures, by name.

    Args:
        path: a folder that exists.
        num_images: the first so many; None for all.
        cache: where the keys of an LMDB are kept, made if it is missing.

    Raises:
        DataError: for an LMDB that is damaged, and for fewer images than ``num_images``.
        MissingExtraError: for an LMDB without the package `lmdb`.
    """
    if (path / "data.mdb").is_file():
        items = cast(list[ImageItem], LmdbItems(path, _keys(path, num_images, cache)))
    else:
        items = [ImageItem(picture) for picture in pictures_below(path)[:num_images]]
    if not items:
        raise DataError(f"{path} holds no image: neither a data.mdb with entries nor picture files")
    if num_images is not None and len(items) < num_images:
        raise DataError(
            f"num_images is {num_images:,}, but {path} holds {len(items):,} images: lower it or leave it out"
        )
    return items


def _keys(folder: Path, num_images: int | None, cache: Path) -> np.ndarray:
    """All keys of an LMDB, or the first, kept in a file because walking three million takes a while."""
    require("lmdb")
    size = (folder / "data.mdb").stat().st_size
    kept = cache / f"{folder.name}_{size}_{'all' if num_images is None else num_images}_keys.npy"
    try:
        return np.load(kept)
    except (OSError, ValueError, EOFError):
        keys = _read_keys(folder, num_images)
    partial = kept.with_name(f"{kept.name}.partial-{os.getpid()}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, keys)
        os.replace(partial, kept)
    except OSError as error:
        raise DataError(f"{kept} cannot be written ({error.strerror or error}): set --data.cache") from error
    finally:
        partial.unlink(missing_ok=True)
    return keys


def _read_keys(folder: Path, num_images: int | None) -> np.ndarray:
    environment: Any = image_decoding._lmdb(folder)
    # Reading beyond the end of a truncated file is no exception but a fatal signal.
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (folder / "data.mdb").stat().st_size
    if size < expected:
        raise DataError(f"{folder / 'data.mdb'} is truncated: {size:,} of {expected:,} bytes; obtain it again")
    keys: list[bytes] = []
    with environment.begin() as transaction:
        for key in transaction.cursor().iternext(keys=True, values=False):
            if num_images is not None and len(keys) >= num_images:
                break
            if key.endswith(b"\0"):  # numpy would cut it
                raise DataError(f"{folder} has the key {key!r}, no text: it is no LMDB of LSUN")
            keys.append(key)
    return np.array(keys, dtype=bytes)
