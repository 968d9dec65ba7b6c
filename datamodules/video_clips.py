"""Clips cut from a cache of decoded videos, and what they look like in a mirror."""

import numpy as np
import torch
from torch import Tensor

from datamodules.folder_splits import SPLITS
from datamodules.index_batches import Batch
from datamodules.video_cache import VideoCache, VideoItem


class Clips:
    """The videos of a cache that are long enough, by number, and the clips that are cut from them.

    Args:
        cache: the frames.
        items: the list that they were decoded from.
        kept: places (V,) in the cache's index of the videos that are served.
        num_frames: of a clip.
    """

    def __init__(self, cache: VideoCache, items: list[VideoItem], kept: np.ndarray, num_frames: int) -> None:
        videos = [items[place] for place in cache.items[kept]]
        self.frames = cache.frames
        self.keypoints = None if cache.keypoints is None else torch.from_numpy(cache.keypoints)
        self.starts = torch.from_numpy(cache.starts[kept])
        self.lengths = torch.from_numpy(cache.lengths[kept])
        labels = [item.label for item in videos if item.label is not None]
        self.labels = torch.tensor(labels) if len(labels) == len(videos) else None
        self.num_frames = num_frames
        self._split_of = [item.split for item in videos]
        self.splits = [split for split in SPLITS if split in self._split_of]

    def videos_of(self, split: str) -> Tensor:
        """Numbers (N,) of a split's videos."""
        return torch.tensor([video for video, own in enumerate(self._split_of) if own == split], dtype=torch.int64)

    def gather(self, rows: Tensor) -> Batch:
        """The batch of rows (B, 2 or 4): video, first frame of the clip and, in training, the frames of the pair."""
        videos, first = rows[:, 0].contiguous(), rows[:, 1].contiguous()
        batch = {"clips": self._cut(first), "index": first, "videos": videos}
        if rows.shape[1] == 4:
            batch["pairs"] = torch.from_numpy(self.frames[rows[:, 2:].numpy()])
        if self.labels is not None:
            batch["labels"] = self.labels[videos]
        if self.keypoints is not None:
            batch["keypoints"] = self.keypoints[first[:, None] + torch.arange(self.num_frames)]
        return batch

    def _cut(self, first: Tensor) -> Tensor:
        # Slices, not an index of single frames: a clip is one run of bytes in the file.
        clips = np.empty((len(first), self.num_frames, *self.frames.shape[1:]), np.uint8)
        for clip, start in zip(clips, first.tolist(), strict=True):
            clip[:] = self.frames[start : start + self.num_frames]
        return torch.from_numpy(clips)


def mirror(batch: Batch, mirrored: Tensor, keypoint_mirror: list[int]) -> Batch:
    """A batch with some rows seen in a mirror: clips, pairs, and keypoints, of which left ones become right ones.

    Args:
        batch: as of `VideoData`.
        mirrored: bool (B,), which rows.
        keypoint_mirror: for each keypoint the one that it is in a mirror.
    """
    changed: Batch = {
        name: torch.where(mirrored[:, None, None, None, None], batch[name].flip(-1), batch[name])
        for name in ("clips", "pairs")
        if name in batch
    }
    if "keypoints" in batch:
        seen = batch["keypoints"][:, :, keypoint_mirror].clone()
        seen[..., 0] = batch["clips"].shape[-1] - 1 - seen[..., 0]
        changed["keypoints"] = torch.where(mirrored[:, None, None, None], seen, batch["keypoints"])
    return batch | changed
