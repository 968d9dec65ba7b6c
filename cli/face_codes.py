"""The latent code of a face in a file: plain arrays, read without running anything from it."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".npz"
ENTRIES = {
    "latent": "float32",
    "attributes": "float32",
    "attribute_names": "str",
    "image_shape": "int64",
    "method": "str",
    "checkpoint": "str",
}
"""What a code holds, and as which type it is read."""
LARGEST = 64 * 2**20
"""Bytes that the arrays of one code may take: an archive can claim to unpack into anything."""


@dataclass(frozen=True)
class Origin:
    """What a code belongs to.

    Attributes:
        method: the class' name.
        attribute_names: of the N attributes.
        latent_shape: (C, h, w).
        image_shape: (C, H, W).
        checkpoint: SHA-256 of the file.
    """

    method: str
    attribute_names: tuple[str, ...]
    latent_shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    checkpoint: str


@dataclass(frozen=True)
class Code:
    """What a file of a code holds.

    Attributes:
        latent: (C, h, w) float.
        attributes: (N,) float in {-1, +1}.
        image_shape: (C, H, W) of the picture when it was saved; a method that has grown draws larger ones.
        checkpoint: SHA-256 of the file that drew it.
    """

    latent: Tensor
    attributes: Tensor
    image_shape: tuple[int, ...]
    checkpoint: str


def origin_of(model: Any, path: Path) -> Origin:
    """What codes of a conditional method belong to that was loaded from the file `path`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    shapes = tuple(model.latent_shape), tuple(model.image_shape)
    return Origin(type(model).__name__, tuple(model.attribute_names), *shapes, digest)


def write_code(file: Path, latent: Tensor, attributes: Tensor, origin: Origin) -> None:
    """Write a latent tensor (C, h, w) and attributes (N,) with what they belong to, complete or not at all."""
    import numpy as np

    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as stream:
            np.savez_compressed(
                stream,
                latent=latent.numpy().astype(np.float32),
                attributes=attributes.numpy().astype(np.int8),
                attribute_names=np.array(origin.attribute_names),
                image_shape=np.array(origin.image_shape),
                method=np.array(origin.method),
                checkpoint=np.array(origin.checkpoint),
            )
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_code(file: Path, origin: Origin) -> Code:
    """The code in a file, which a method of `origin` can draw: another size of the images does not matter to it.

    Raises:
        UsageError: for a file that is no code, or one of another method, latent shape or list of attributes.
    """
    import torch

    arrays = _arrays(file)
    names = tuple(arrays["attribute_names"].reshape(-1).tolist())
    method, latent, attributes = str(arrays["method"]), arrays["latent"], arrays["attributes"]
    if method != origin.method:
        raise UsageError(f"{file.name} is of {method}, the checkpoint of {origin.method}: open its own")
    if latent.shape != origin.latent_shape:
        shapes = f"{latent.shape}, the checkpoint's are {origin.latent_shape}"
        raise UsageError(f"{file.name} has a latent tensor of shape {shapes}: open the checkpoint that it is of")
    if names != origin.attribute_names:
        raise UsageError(f"{file.name} is of other attributes ({_difference(names, origin.attribute_names)})")
    _check_values(file, arrays)
    image_shape = tuple(arrays["image_shape"].reshape(-1).tolist())
    return Code(torch.from_numpy(latent), torch.from_numpy(attributes), image_shape, str(arrays["checkpoint"]))


def _check_values(file: Path, arrays: dict[str, Any]) -> None:
    import numpy as np

    attributes = arrays["attributes"]
    if attributes.shape != (arrays["attribute_names"].size,) or not (np.abs(attributes) == 1).all():
        raise UsageError(f"{file.name} is damaged: its attributes are not all -1 or 1")
    if not np.isfinite(arrays["latent"]).all():
        raise UsageError(f"{file.name} is damaged: its latent tensor is not finite")


def _arrays(file: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise UsageError(f"{file.name} is no code of a face: it unpacks into {size / 2**20:.0f} MiB")
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name].astype(kind) for name, kind in ENTRIES.items()}
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{file.name} is no code of a face: save one on this page, then open its {SUFFIX}") from error


def _difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    if set(theirs) == set(ours):
        return "their order differs"
    only = [name for name in theirs if name not in ours]
    return f"{only[0]} is not of this checkpoint" if only else f"{len(theirs)} in place of {len(ours)}"
