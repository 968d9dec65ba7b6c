"""From a video file to its frames, with PyAV, which brings its own decoders."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.archive_files import Source, open_source, place_of
from datamodules.errors import DataError
from lightning_zoo.extras import require

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
"""Of the names of videos, in any case."""

COMPLETE = 0.9
"""A video that ends before this share of the frames that it declares is damaged; old encoders miscount by a few."""


def frames_of(source: Source, every: int = 1) -> Iterator[np.ndarray]:
    """The frames 0, ``every``, 2 ``every``, ... of a video as they are shown, uint8 (H, W, 3), one by one.

    Raises:
        DataError: if it does not decode, or ends early; names it.
        MissingExtraError: without the package `av`.
    """
    av = require("av")
    count = declared = 0
    try:
        with closing(open_source(source)) as file, av.open(file) as container:
            if not container.streams.video:
                raise DataError(f"{place_of(source)} holds no video")
            declared = container.streams.video[0].frames
            for frame in container.decode(video=0):
                if count % every == 0:
                    yield _upright(frame)
                count += 1
    except (av.error.FFmpegError, OverflowError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{place_of(source)} does not decode as a video after {count} frames: {reason}") from error
    if count == 0 or count < COMPLETE * declared:
        raise DataError(
            f"{place_of(source)} is damaged: {count} of its {declared or 'unknown number of'} frames decode"
        )


def _upright(frame: Any) -> np.ndarray:
    # Telephones store what their sensor saw, and how it is to be turned.
    pixels = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def picture(frame: np.ndarray) -> "Image.Image":
    """A frame (H, W, 3) as a Pillow image."""
    from PIL import Image

    return Image.fromarray(frame)


def channels_first(frames: list[np.ndarray]) -> np.ndarray:
    """Frames (H, W, C) of one size, at least one, as one uint8 (F, C, H, W)."""
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))
