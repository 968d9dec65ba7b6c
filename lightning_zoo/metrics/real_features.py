"""Features of real images, kept on disk: they are the same for every model that is scored on the same images."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def cached_features(
    folder: Path | None, key: Mapping[str, Any], compute: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Arrays from ``folder``, or computed and put there.

    A file that is damaged, or that was written for another key, is computed and written anew. A folder that cannot be
    written to is no error: the arrays are then computed each time.

    Args:
        folder: where the files lie; None keeps nothing.
        key: all that the features depend on, in plain values.
        compute: called only where there is no file.
    """
    text = json.dumps(key, sort_keys=True, default=str)
    if folder is None:
        return dict(compute())
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    found = _read(path, text)
    if found is not None:
        return found
    tensors = dict(compute())
    _write(path, text, tensors)
    return tensors


def _read(path: Path, text: str) -> dict[str, Tensor] | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["key"]) != text:
                return None
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "key"}
    except Exception:  # missing, cut off anywhere, or no archive at all: numpy and zipfile raise what they please
        return None


def _write(path: Path, text: str, tensors: Mapping[str, Tensor]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            np.savez(stream, key=np.array(text), **arrays)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
