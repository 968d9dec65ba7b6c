"""Frames of a recording averaged down to small squares, once, into a memory-mapped file beside it."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from datamodules.atari_store import Recording
from datamodules.errors import DataError

FRAMES_AT_ONCE = 128


class ResizedFrames:
    """Frames by row, of one square size; offers what `FrameMemory` does.

    Args:
        path: the file that `resize_frames` wrote.
        num_frames: of the recording, which the file must hold.

    Raises:
        DataError: if the file is missing or damaged.
    """

    mode = "memory-mapped"

    def __init__(self, path: Path, num_frames: int) -> None:
        try:
            self._pixels = np.load(path, mmap_mode="r")
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: run fit, or prepare_data, which resize the recording") from None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is damaged ({error}): delete it to resize the recording again") from error
        if self._pixels.dtype != np.uint8 or self._pixels.ndim != 4 or len(self._pixels) != num_frames:
            raise DataError(
                f"{path} holds {self._pixels.dtype} {self._pixels.shape}, the recording {num_frames} frames: delete it "
                "to resize the recording again"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a gathered frame."""
        channels, height, width = self._pixels.shape[1:]
        return channels, height, width

    def gather(self, rows: Tensor) -> Tensor:
        """Frames uint8 (*rows.shape, C, H, W)."""
        return torch.from_numpy(self._pixels[rows.flatten().cpu().numpy()]).unflatten(0, rows.shape)


def resized_path(recording: Path, image_size: int, content_hash: str) -> Path:
    """Where the resized frames lie: beside the recording, named by it, its content and the size."""
    return recording.with_name(f"{recording.stem}_{image_size}x{image_size}_{content_hash[:8]}.npy")


def resize_frames(
    recording: Recording, path: Path, image_size: int, progress: Callable[[int], None] | None = None
) -> None:
    """Average every frame down to (C, image_size, image_size) and write them unless they are there.

    The file appears under its name when it is complete; of two processes at once the second waits for the first.

    Args:
        recording: the frames.
        path: of the file.
        image_size: side of the results.
        progress: called with the number of frames done since its last call.

    Raises:
        DataError: if the file cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        with FileLock(path.with_suffix(".lock")):
            if path.is_file():
                return
            try:
                _write(recording, partial, image_size, progress or (lambda count: None))
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): make room or set --data.root to another folder; "
            "nothing incomplete was kept"
        ) from error


def area_weights(old_size: int, new_size: int) -> np.ndarray:
    """The share (new_size, old_size) of each old pixel in the mean over the span of each new one; rows add up to 1."""
    scale = old_size / new_size
    edges = np.arange(new_size + 1) * scale
    pixels = np.arange(old_size)
    ends = np.minimum(edges[1:, None], pixels + 1)
    starts = np.maximum(edges[:-1, None], pixels)
    return np.clip(ends - starts, 0, None) / scale


def _write(recording: Recording, path: Path, image_size: int, progress: Callable[[int], None]) -> None:
    shape = recording.settings.frame_shape
    channels = shape[2] if len(shape) == 3 else 1
    down = area_weights(shape[0], image_size).astype(np.float32)
    across = area_weights(shape[1], image_size).astype(np.float32).T
    # Written in order by plain calls: on a full disk a memory map would end the process with a signal.
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(recording), channels, image_size, image_size)}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, len(recording), FRAMES_AT_ONCE):
            streams = recording.frames[first : first + FRAMES_AT_ONCE]
            frames = np.frombuffer(b"".join(map(zlib.decompress, streams)), np.uint8)
            frames = frames.reshape(len(streams), shape[0], shape[1], channels).transpose(0, 3, 1, 2)
            file.write(np.rint(down @ (frames.astype(np.float32) @ across)).astype(np.uint8).tobytes())
            progress(len(streams))
        file.flush()
        os.fsync(file.fileno())
