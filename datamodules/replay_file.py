"""A few large tensors in one file: streamed, hashed, without pickle, complete or not there.

The file is one line of JSON and then the bytes of the tensors, one after the other, as they lie in memory.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError

CHUNK_BYTES = 2**24
"""Bytes that are on their way at a time: the memory that saving and loading take."""

WAY_OUT = "point to the replay that was saved with the checkpoint, or start with an empty memory"


def save_tensors(path: str | Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Write a file and return the hash of its bytes, blake2b as 32 hexadecimal digits.

    It is written as ``<path>.part`` and renamed: a kill at any moment leaves what lay at ``path`` before.

    Args:
        path: of the file; its folder is made.
        description: of the content, as JSON can hold it.
        tensors: on any device, contiguous, none without elements' bytes in NumPy (no bfloat16).

    Raises:
        OSError: if the disk is full; the part is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    digest = hashlib.blake2b(digest_size=16)
    try:
        with part.open("wb") as file:
            for piece in _pieces(description, tensors):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return digest.hexdigest()


def _pieces(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    yield json.dumps(description, sort_keys=True).encode() + b"\n"
    for tensor in tensors.values():
        for rows in _chunks(tensor):
            yield _bytes(rows.cpu())


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.numpy().reshape(-1).view(np.uint8).data


def _chunks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Views of some rows each, together the tensor; none of a tensor without elements."""
    if not tensor.numel():
        return ()
    return tensor.split(max(1, CHUNK_BYTES // (tensor[0].numel() * tensor.element_size())))


def read_description(path: str | Path, digest: str) -> dict[str, Any]:
    """What `save_tensors` was told about a file's content, after its hash was found right.

    Raises:
        DataError: if there is no such file, or its hash is not ``digest``.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no replay at {path}: {WAY_OUT}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if found != digest:
            raise DataError(f"the replay {path} has the hash {found}, its checkpoint asks for {digest}: {WAY_OUT}")
        file.seek(0)
        return json.loads(file.readline())


def read_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, on any device, from a file; their order, shapes and dtypes are those of the saved ones.

    Raises:
        DataError: if the file holds more or fewer bytes than the tensors.
    """
    with Path(path).open("rb") as file:
        file.readline()
        for tensor in tensors.values():
            for rows in _chunks(tensor):
                received = torch.empty(rows.shape, dtype=rows.dtype)
                whole = _bytes(received)
                if file.readinto(whole) != len(whole):
                    raise DataError(f"the replay {path} ends too early: {WAY_OUT}")
                rows.copy_(received)
        if file.read(1):
            raise DataError(f"the replay {path} holds more than this memory: {WAY_OUT}")
