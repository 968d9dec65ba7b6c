"""The file of one Atari recording: an HDF5 of single-frame chunks, and how it fails."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datamodules.atari_emulator import RAM_BYTES, CollectionSettings
from datamodules.atari_worker import COLUMN_TYPES
from datamodules.errors import DataError

FORMAT = "lightning_zoo atari recording"
VERSION = 1


@dataclass(frozen=True)
class Recording:
    """A complete recording in memory, its frames still compressed.

    Attributes:
        path: the file.
        settings: how it was collected.
        versions: of the packages that collected it.
        frames: one zlib stream per frame.
        columns: what was recorded beside the frames, each (N,), "ram" (N, 128).
    """

    path: Path
    settings: CollectionSettings
    versions: dict[str, str]
    frames: list[bytes]
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.frames)


def create(settings: CollectionSettings, versions: dict[str, str]) -> h5py.File:
    """An empty file of the full size, in memory, marked as incomplete."""
    file = h5py.File("recording", "w", driver="core", backing_store=False)
    number, shape = settings.num_frames, settings.frame_shape
    file.create_dataset("frames", (number, *shape), "u1", chunks=(1, *shape), compression="gzip", compression_opts=1)
    for name, kind in COLUMN_TYPES.items():
        item = (RAM_BYTES,) if name == "ram" else ()
        file.create_dataset(name, (number, *item), kind, chunks=(min(number, 4096), *item), compression="gzip")
    file.attrs.update(format=FORMAT, version=VERSION, complete=False)
    file.attrs["settings"] = json.dumps(settings.to_dict())
    file.attrs["versions"] = json.dumps(versions)
    return file


def write_rows(file: h5py.File, first: int, frames: Sequence[bytes], columns: dict[str, np.ndarray]) -> None:
    """Write consecutive rows; the frames are zlib streams already, so that the workers share the compressing."""
    dataset = file["frames"]
    offset = (0,) * (dataset.ndim - 1)
    for index, stream in enumerate(frames):
        dataset.id.write_direct_chunk((first + index, *offset), stream)
    for name, values in columns.items():
        file[name][first : first + len(frames)] = values


def read(path: Path, expected: CollectionSettings | None = None) -> Recording:
    """Load a recording, frames compressed as they lie in the file.

    Args:
        path: the file.
        expected: the settings it must have been collected with; None takes any.

    Raises:
        DataError: if the file is missing, damaged, foreign, incomplete, of another version or of other settings.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist: collect it with lightning_zoo collect, or run fit, which does")
    try:
        with h5py.File(path, "r") as file:
            recording = load(path, file)
    except (OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged or no recording ({reason}): delete it and it is collected again") from error
    if expected is not None and _comparable(recording.settings, expected) != expected:
        difference = _difference(recording.settings, expected)
        raise DataError(f"{path} was collected with other settings ({difference}): delete or move it")
    return recording


def load(path: Path, file: h5py.File) -> Recording:
    """The recording in an open file, whose path is for messages."""
    settings = _check(path, file)
    frames = _read_frames(file["frames"])
    columns = {name: file[name][:] for name in COLUMN_TYPES}
    return Recording(path, settings, json.loads(file.attrs["versions"]), frames, columns)


def _check(path: Path, file: h5py.File) -> CollectionSettings:
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"{path} is an HDF5 file but no recording of Atari frames: point --data.root elsewhere")
    if file.attrs.get("version") != VERSION:
        found = file.attrs.get("version")
        raise DataError(f"{path} has format version {found}, this package reads {VERSION}: delete it and collect again")
    if not file.attrs.get("complete"):
        raise DataError(f"{path} is not complete: delete it and it is collected again")
    settings: dict[str, Any] = json.loads(file.attrs["settings"])
    try:
        return CollectionSettings(**settings)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} holds settings that cannot be read ({error}): delete it and collect again") from error


def _read_frames(dataset: h5py.Dataset) -> list[bytes]:
    offset = (0,) * (dataset.ndim - 1)
    read_chunk = dataset.id.read_direct_chunk
    return [read_chunk((index, *offset))[1] for index in range(len(dataset))]


def _comparable(found: CollectionSettings, expected: CollectionSettings) -> CollectionSettings:
    # The name of a file holds the content of its policy; where the checkpoint lay does not matter.
    both_trained = "random" not in (found.policy, expected.policy)
    return replace(found, policy=expected.policy) if both_trained else found


def _difference(found: CollectionSettings, expected: CollectionSettings) -> str:
    pairs = zip(found.to_dict().items(), expected.to_dict().values(), strict=True)
    return ", ".join(f"{name} {here!r} instead of {there!r}" for (name, here), there in pairs if here != there)
