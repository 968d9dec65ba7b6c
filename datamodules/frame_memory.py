"""Frames that stay in memory and are gathered by row."""

import zlib
from typing import Literal

import numpy as np
import torch
from torch import Tensor

MemoryMode = Literal["auto", "compressed", "uncompressed", "device"]

UNCOMPRESSED_BYTES = 2**30
"""Up to this size "auto" keeps frames uncompressed on the CPU."""


DECODED_AT_ONCE = 1024


class FrameMemory:
    """Frames by row, as zlib streams or as one uint8 tensor.

    Compressed frames take a few percent of the space and cost some 30 microseconds each to gather; on a GPU with room
    for them the whole tensor lives there and no batch ever crosses the bus.

    Args:
        frames: one zlib stream per frame.
        frame_shape: (H, W) or (H, W, 3) of each frame.
        mode: "compressed", "uncompressed", "device" (uncompressed on ``device``), or "auto": on a CUDA device if half
            of its free memory holds the frames, else uncompressed up to 1 GiB, else compressed.
        device: where the batches are needed.
    """

    def __init__(
        self,
        frames: list[bytes],
        frame_shape: tuple[int, ...],
        mode: MemoryMode = "auto",
        device: torch.device | None = None,
    ) -> None:
        self.frame_shape = frame_shape
        device = device or torch.device("cpu")
        self.mode = _choose(len(frames) * int(np.prod(frame_shape)), device) if mode == "auto" else mode
        self._streams = frames
        self._tensor: Tensor | None = None
        if self.mode != "compressed":
            # In parts, so that frames on their way to a device never fill the host's memory.
            where = device if self.mode == "device" else torch.device("cpu")
            self._tensor = torch.empty((len(frames), *self.image_shape), dtype=torch.uint8, device=where)
            for first in range(0, len(frames), DECODED_AT_ONCE):
                rows = range(first, min(first + DECODED_AT_ONCE, len(frames)))
                self._tensor[first : rows.stop] = self._decode(rows).to(where)
            self._streams = []

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a gathered frame."""
        height, width = self.frame_shape[:2]
        return (self.frame_shape[2] if len(self.frame_shape) == 3 else 1, height, width)

    def gather(self, rows: Tensor) -> Tensor:
        """Frames uint8 (*rows.shape, C, H, W)."""
        if self._tensor is None:
            flat = self._decode(rows.flatten().tolist())
        else:
            flat = self._tensor.index_select(0, rows.flatten().to(self._tensor.device))
        return flat.unflatten(0, rows.shape)

    def _decode(self, rows: "list[int] | range") -> Tensor:
        frames = np.empty((len(rows), *self.image_shape), np.uint8)
        for index, row in enumerate(rows):
            frame = np.frombuffer(zlib.decompress(self._streams[row]), np.uint8).reshape(self.frame_shape)
            frames[index] = frame if frame.ndim == 2 else frame.transpose(2, 0, 1)
        return torch.from_numpy(frames)


def _choose(num_bytes: int, device: torch.device) -> MemoryMode:
    if device.type == "cuda" and num_bytes < torch.cuda.mem_get_info(device)[0] / 2:
        return "device"
    return "uncompressed" if num_bytes <= UNCOMPRESSED_BYTES else "compressed"
