"""The latent code of a face in a file: plain arrays, read without running anything from it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".npz"
ENTRIES = ("latent", "attributes", "attribute_names", "image_shape", "method", "checkpoint")
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


def read_code(file: Path, origin: Origin) -> tuple[Tensor, Tensor, bool]:
    """A latent tensor (C, h, w), attributes (N,) in {-1, +1}, and whether this very checkpoint drew them.

    Raises:
        UsageError: for a file that is no code, or one of another method, shape or list of attributes.
    """
    import torch

    arrays = _arrays(file)
    latent, attributes = torch.from_numpy(arrays["latent"]).float(), torch.from_numpy(arrays["attributes"]).float()
    names = tuple(str(name) for name in arrays["attribute_names"].reshape(-1))
    if str(arrays["method"]) != origin.method:
        raise UsageError(f"{file.name} is of {arrays['method']}, the checkpoint of {origin.method}: open its own")
    if tuple(latent.shape) != origin.latent_shape:
        shapes = f"{tuple(latent.shape)}, the checkpoint's are {origin.latent_shape}"
        raise UsageError(f"{file.name} has a latent tensor of shape {shapes}: open the checkpoint that it is of")
    if names != origin.attribute_names:
        raise UsageError(f"{file.name} is of other attributes ({_difference(names, origin.attribute_names)})")
    if attributes.shape != (len(names),) or not (attributes.abs() == 1).all() or not latent.isfinite().all():
        raise UsageError(f"{file.name} is damaged: its attributes are not all -1 or 1, or its latent is not finite")
    return latent, attributes, str(arrays["checkpoint"]) == origin.checkpoint


def _arrays(file: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise UsageError(f"{file.name} is no code of a face: it unpacks into {size / 2**20:.0f} MiB")
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in ENTRIES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{file.name} is no code of a face: save one on this page, then open its {SUFFIX}") from error


def _difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    if set(theirs) == set(ours):
        return "their order differs"
    only = [name for name in theirs if name not in ours]
    return f"{only[0]} is not of this checkpoint" if only else f"{len(theirs)} in place of {len(ours)}"
