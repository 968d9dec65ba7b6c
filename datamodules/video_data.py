"""What every dataset of stored videos shares: decoded once, served in clips, mirrored on the device."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from datamodules import clip_index, video_cache
from datamodules.errors import DataError
from datamodules.image_data import batch_generator, draw_mirrored
from datamodules.index_batches import Batch, IndexBatches, epoch_generator
from datamodules.video_cache import BadVideos, DecodedVideo, VideoCache, VideoItem
from datamodules.video_clips import SPLITS, Clips, mirror


class VideoData(L.LightningDataModule):
    """Base of the video datasets: a subclass lists its videos with their splits and says how one is decoded.

    A training batch holds "clips" uint8 (B, T, C, H, W), consecutive frames; "pairs" uint8 (B, 2, C, H, W), two frames
    of the same video, source and target; "index" int64 (B,), the clip, by its first frame among those of the dataset;
    "videos" int64 (B,), the number of the video; "labels" int64 (B,) if there are classes; "keypoints" float32 (B, T,
    K, 2), (x, y) in pixels of the clip with (0, 0) the centre of the first pixel, NaN where unknown, if there are any.
    The other splits lack "pairs". No training batch, over all processes, holds two clips of one video.

    A subclass implements `list_videos`, `decode` and `recipe`, sets what is listed under Attributes as far as it has
    it, and calls `save_hyperparameters` itself.

    Args:
        root: folder of the dataset.
        image_size: side of the frames.
        batch_size: clips per batch and process.
        num_frames: T, frames per clip.
        clips_per_video: clips that an epoch draws of each training video.
        pair_gap: least and greatest distance between the frames of a pair, as far as a video goes.
        flip: mirror each training clip with probability 1/2, on the device, with its pair and keypoints.
        bad_videos: what to do about videos that do not decode, lack annotations or are shorter than a clip: "error", or
            "skip" and count them.
        cache: folder of the decoded frames; null for "cache" in ``root``.
        num_workers: threads that decode; null for one per core.
        seed: of clips, pairs and flips.

    Attributes:
        name: of the dataset, in messages, the cache's file names and the fingerprint.
        frame_shape: (C, H, W).
        class_names: by label, or None.
        keypoint_names: by keypoint, or None.
        keypoint_mirror: for each keypoint the one that it is in a mirror.
        actors: by video, the name of who is seen, or None; filled by `setup`.
        video_names: by video; filled by `setup`.
        counted: numbers to be told, by what was counted; filled by `list_videos`.
        fingerprint: what is served: counts, crop, size, hash; filled by `setup`.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "videos"

    def __init__(
        self,
        *,
        root: str,
        image_size: int = 96,
        batch_size: int = 64,
        num_frames: int = 8,
        clips_per_video: int = 4,
        pair_gap: tuple[int, int] = (1, 25),
        flip: bool = True,
        bad_videos: BadVideos = "error",
        cache: str | None = None,
        num_workers: int | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        at_least_one = {"image_size": image_size, "batch_size": batch_size, "clips_per_video": clips_per_video}
        for argument, value in {**at_least_one, "num_workers": num_workers}.items():
            if value is not None and value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}")
        if num_frames < 2:
            raise ValueError(f"num_frames must be at least 2, got {num_frames}")
        if not 1 <= pair_gap[0] <= pair_gap[1]:
            raise ValueError(f"pair_gap must be (least, greatest) with 1 <= least <= greatest, got {pair_gap}")
        if bad_videos not in ("error", "skip"):
            raise ValueError(f"bad_videos must be 'error' or 'skip', got {bad_videos!r}")
        self.root = Path(root)
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_frames = num_frames
        self.clips_per_video = clips_per_video
        self.pair_gap = (pair_gap[0], pair_gap[1])
        self.flip = flip
        self.bad_videos: BadVideos = bad_videos
        self.cache_folder = Path(cache) if cache is not None else self.root / "cache"
        self.num_workers = num_workers
        self.seed = seed
        self.frame_shape = (3, image_size, image_size)
        self.class_names: list[str] | None = None
        self.keypoint_names: list[str] | None = None
        self.keypoint_mirror: list[int] = []
        self.actors: list[str] | None = None
        self.video_names: list[str] = []
        self.counted: dict[str, int] = {}
        self.fingerprint: dict[str, str | int | float] = {}
        self._clips: Clips | None = None
        self._listed: list[VideoItem] | None = None

    @property
    def recipe(self) -> str:
        """All options that decide what `decode` gives, in words."""
        raise NotImplementedError

    def list_videos(self) -> list[VideoItem]:
        """The videos of all splits, in a fixed order.

        Raises:
            DataError: by `missing_data`, if files are missing.
        """
        raise NotImplementedError

    def decode(self, item: VideoItem) -> DecodedVideo:
        """A video as it is served; called in threads, by `prepare_data` alone.

        Raises:
            DataError: if it is bad; names it.
        """
        raise NotImplementedError

    def prepare_data(self) -> None:
        """Decode all videos, unless that was done before; says so, and where a terminal shows it, how far it is."""
        from rich.progress import Progress

        items = self._list()
        path = self._cache_path(items)
        if not video_cache.is_complete(path):
            rank_zero_info(f"{self.name}: decoding {len(items):,} videos, once, into {path}")
        with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
            task = progress.add_task(f"decoding {self.name}", total=len(items))
            video_cache.build_cache(
                items,
                self.decode,
                path,
                recipe=self.recipe,
                bad_videos=self.bad_videos,
                num_workers=self.num_workers,
                progress=lambda count: progress.advance(task, count),
            )

    def setup(self, stage: str | None = None) -> None:
        """Map the cache into memory; the same on every process, and nothing is decoded.

        Raises:
            DataError: if files or the cache are missing or damaged, or videos are too short.
        """
        if self._clips is not None:
            return
        items = self._list()
        cache = video_cache.open_cache(self._cache_path(items), self.bad_videos)
        kept, short = self._long_enough(items, cache)
        clips = Clips(cache, items, kept, self.num_frames)
        for split in sorted({item.split for item in items}):
            if not len(clips.videos_of(split)):
                raise DataError(f"{self.name} in {self.root}: no {split} video is left; {len(cache.skipped)} are bad")
        decoded = [items[place] for place in cache.items[kept]]
        self.video_names = [item.name for item in decoded]
        self.actors = [item.actor for item in decoded if item.actor is not None] or None
        self.counted |= {"bad videos skipped": len(cache.skipped), "videos too short": short}
        self.counted |= cache.fingerprint["notes"]
        self.fingerprint = self._describe(clips, cache)
        self._clips, self._listed = clips, None
        told = [f"{number:,} {what}" for what, number in self.counted.items() if number]
        rank_zero_info(f"{self.name}: {len(decoded):,} videos{'; ' * bool(told)}{', '.join(told)}")

    def clips_dataloader(self, split: str) -> IndexBatches:
        """All clips of a split that do not overlap, in order, without pairs: also of "train", to be retrieved from."""
        clips = self._ready()
        rows = clip_index.clips_in_order(
            clips.starts, clips.lengths, clips.videos_of(self._present(split)), self.num_frames
        )
        return self._batches(lambda epoch: rows, len(rows), split, drop_last=False)

    def train_dataloader(self) -> IndexBatches:
        """Clips and pairs drawn anew each epoch; a last batch that is not full is left out."""
        clips = self._ready()
        videos = clips.videos_of("train")
        batch = self.batch_size * (self.trainer.world_size if self.trainer is not None else 1)
        if len(videos) < batch:
            raise DataError(
                f"{self.name} train: a batch of {batch} clips (batch_size={self.batch_size}, over all processes) takes "
                f"as many videos, there are {len(videos)}: lower --data.batch_size"
            )

        def plan(epoch: int) -> Tensor:
            generator = epoch_generator(self.seed, epoch)
            drawn = videos[clip_index.draw_order(len(videos), self.clips_per_video, batch, generator)]
            starts, lengths = clips.starts[drawn], clips.lengths[drawn]
            first = starts + clip_index.draw_starts(lengths, self.num_frames, generator)
            pairs = starts[:, None] + clip_index.draw_pairs(lengths, self.pair_gap, generator)
            return torch.cat([drawn[:, None], first[:, None], pairs], 1)

        return self._batches(plan, len(videos) * self.clips_per_video, "train", drop_last=True)

    def val_dataloader(self) -> IndexBatches:
        """All clips of the validation videos, in order."""
        return self.clips_dataloader("val")

    def test_dataloader(self) -> IndexBatches:
        """All clips of the test videos, in order."""
        return self.clips_dataloader("test")

    def predict_dataloader(self) -> IndexBatches:
        """As `test_dataloader`."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Mirror training clips where they are used, with random numbers of the batch's own."""
        if not self.flip or self.trainer is None or not self.trainer.training:
            return batch
        generator = batch_generator(self.trainer, self.seed, batch["clips"].device)
        return mirror(batch, draw_mirrored(len(batch["clips"]), generator), self.keypoint_mirror)

    def _list(self) -> list[VideoItem]:
        # Kept from prepare_data to setup: a list reads the directories of all zip files.
        if self._listed is None:
            self._listed = self.list_videos()
        return self._listed

    def _cache_path(self, items: list[VideoItem]) -> Path:
        return video_cache.cache_path(items, self.recipe, self.cache_folder, f"{self.name}_{self.image_size}")

    def _ready(self) -> Clips:
        if self._clips is None:
            raise DataError(f"{self.name}: call setup before asking for a loader")
        return self._clips

    def _present(self, split: str) -> str:
        """Without videos of its own "val" is "test", and the other way round."""
        present = self._ready().splits
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return split if split in present else next(name for name in ("test", "val", "train") if name in present)

    def _long_enough(self, items: list[VideoItem], cache: VideoCache) -> tuple[np.ndarray, int]:
        short = np.flatnonzero(cache.lengths < self.num_frames)
        if len(short) and self.bad_videos == "error":
            others = f" (as have {len(short) - 1} more)" if len(short) > 1 else ""
            raise DataError(
                f"{items[cache.items[short[0]]].name} has {cache.lengths[short[0]]} frames to serve{others}, fewer "
                f"than the num_frames={self.num_frames} of a clip: leave such videos out with --data.bad_videos skip"
            )
        return np.flatnonzero(cache.lengths >= self.num_frames), len(short)

    def _batches(self, plan: Any, num_rows: int, split: str, *, drop_last: bool) -> IndexBatches:
        trainer = self.trainer
        try:
            return IndexBatches(
                self._ready().gather,
                plan,
                num_rows,
                batch_size=self.batch_size,
                drop_last=drop_last,
                rank=trainer.global_rank if trainer is not None else 0,
                world_size=trainer.world_size if trainer is not None else 1,
            )
        except ValueError as error:
            raise DataError(f"{self.name} {split}: {error}: lower --data.batch_size") from error

    def _describe(self, clips: Clips, cache: VideoCache) -> dict[str, str | int | float]:
        description: dict[str, str | int | float] = {"source": self.name, "recipe": self.recipe}
        description |= {"image_size": self.image_size, "num_frames": self.num_frames}
        for split in clips.splits:
            videos = clips.videos_of(split)
            description[f"{split}_videos"] = len(videos)
            description[f"{split}_clips"] = int((clips.lengths[videos] // self.num_frames).sum())
            if self.actors is not None:
                description[f"{split}_actors"] = " ".join(sorted({self.actors[video] for video in videos.tolist()}))
        description |= {what.replace(" ", "_"): number for what, number in self.counted.items()}
        served = [self.name, cache.fingerprint["hash"], self.num_frames, self.video_names]
        served += [clips.videos_of(split).tolist() for split in SPLITS]
        return description | {"hash": hashlib.blake2b(repr(served).encode(), digest_size=16).hexdigest()}
