"""Clips of a person's size from the cache: against decoding their videos every epoch."""

import tempfile
from pathlib import Path

import av
import numpy as np
import torch
from measure import Result, in_turns

from datamodules.clip_folder import ClipFolder

VIDEOS, FRAMES = 16, 64
HEIGHT, WIDTH = 144, 180
BATCH = 16
REPEATS = 10
"""Epochs from the cache per round, because one takes some milliseconds."""


def clip_cache() -> Result:
    """The cache against decoding each video once per epoch and cutting all of its clips from that.

    That is the best a loader without a cache can do; one that opens a video for each of its clips takes longer.
    """
    with tempfile.TemporaryDirectory() as folder:
        for video in range(VIDEOS):
            _write_video(Path(folder) / "train" / f"{video:02}.mp4", video)
        _write_video(Path(folder) / "val" / "00.mp4", VIDEOS)
        data = ClipFolder(root=folder, batch_size=BATCH)
        data.prepare_data()
        data.setup()
        items = [item for item in data.list_videos() if item.split == "train"]
        loader = data.clips_dataloader("train")

        def decoding() -> None:
            for item in items:
                torch.from_numpy(data.decode(item).frames.reshape(-1, data.num_frames, *data.frame_shape))

        def from_cache() -> None:
            for _ in range(REPEATS):
                for _ in loader:
                    pass

        decode_seconds, cache_seconds, ratio = in_turns(decoding, from_cache, rounds=5)
    clips = VIDEOS * FRAMES // data.num_frames
    detail = (
        f"cached {REPEATS * clips / cache_seconds:,.0f}, decoded {clips / decode_seconds:,.0f} clips of 8x3x96x96 per "
        f"second and process, from {WIDTH}x{HEIGHT} H.264, files in the page cache"
    )
    return Result("clips from the cache against decoding them", REPEATS * ratio, "x", 20, True, detail)


def _write_video(path: Path, seed: int) -> None:
    """A patch that wanders over a coarse background."""
    path.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    still = random.integers(0, 256, (HEIGHT // 12, WIDTH // 12, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    patch = random.integers(0, 256, (60, 30, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in range(FRAMES):
            frame = still.copy()
            frame[40:100, 2 * number : 2 * number + 30] = patch
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
