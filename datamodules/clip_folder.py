"""One's own videos."""

from typing import Literal

import numpy as np

from datamodules.folder_splits import find_splits, label_by_folder
from datamodules.image_decoding import central_box, cut_and_resize
from datamodules.missing_data import Source
from datamodules.video_cache import BadVideos, DecodedVideo, VideoItem
from datamodules.video_data import VideoData
from datamodules.video_decoding import ENDINGS, frames_of, picture

SOURCE = Source(
    dataset="ClipFolder",
    obtained=f"videos of your own ({', '.join(ENDINGS)}), each of one scene without cuts",
    license="yours",
    tree=["train/*", "val/*", "test/* (or videos without such folders)", "with labels: train/CLASS/* ..."],
    command="lightning_zoo fit --config statics_dynamics_clip_folder.yaml --data.root FOLDER",
)


class ClipFolder(VideoData):
    """Clips uint8 (B, T, 3, H, W) from one's own videos, each of one scene without cuts.

    Below ``root`` lie either train/ and, if there are any, val/ and test/, or the videos themselves, in any folders;
    splits that have no folder are drawn from the rest. Hidden files and folders are passed over.

    Args:
        root: folder of the videos.
        labels: serve the folder of each video, the first below the split's, as "labels" int64 (B,).
        resize: "crop_shorter_side" cuts out the central square, "stretch" squeezes the whole picture into one.
        every: keep every so many frames; 3 makes clips three times as long in time.
        val_share: of the videos that are held out where there is no val/.
        test_share: of the videos that are held out where there are no folders; 0 for no test split.
        image_size: side of the frames.
        batch_size: clips per batch and process, at most as many as there are training videos.
        num_frames: frames per clip.
        clips_per_video: clips that an epoch draws of each training video.
        pair_gap: least and greatest distance between the frames of a pair, of those kept, as far as a video goes.
        flip: mirror each training clip with probability 1/2, on the device, with its pair.
        bad_videos: what to do about videos that do not decode or are shorter than a clip: "error", or "skip" and count.
        cache: folder of the decoded frames; null for "cache" in ``root``.
        num_workers: threads that decode; null for one per core.
        seed: of the splits that are drawn, of clips, pairs and flips.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "clip_folder"

    def __init__(
        self,
        *,
        root: str = "data/clip_folder",
        labels: bool = False,
        resize: Literal["crop_shorter_side", "stretch"] = "crop_shorter_side",
        every: int = 1,
        val_share: float = 0.1,
        test_share: float = 0.1,
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
        super().__init__(
            root=root,
            image_size=image_size,
            batch_size=batch_size,
            num_frames=num_frames,
            clips_per_video=clips_per_video,
            pair_gap=pair_gap,
            flip=flip,
            bad_videos=bad_videos,
            cache=cache,
            num_workers=num_workers,
            seed=seed,
        )
        if resize not in ("crop_shorter_side", "stretch"):
            raise ValueError(f"resize must be 'crop_shorter_side' or 'stretch', got {resize!r}")
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        if not 0 < val_share < 1:
            raise ValueError(f"val_share must lie between 0 and 1, got {val_share}")
        if not 0 <= test_share < 1 - val_share:
            raise ValueError(f"test_share must be at least 0 and less than 1 - val_share, got {test_share}")
        self.save_hyperparameters()
        self.labels, self.resize, self.every = labels, resize, every
        self.shares = {"val": val_share, "test": test_share}

    @property
    def recipe(self) -> str:
        """Resizing, size and which frames."""
        return f"{self.resize} to {self.image_size}, every frame {self.every}"

    def list_videos(self) -> list[VideoItem]:
        """The videos of each split, from its folder or drawn, in the order of their names.

        Raises:
            DataError: if there are no videos, or labels were asked for and cannot be told.
        """
        splits = find_splits(self.root, ENDINGS, SOURCE, self.shares, self.seed, "videos")
        labels: dict[str, np.ndarray] = {}
        if self.labels:
            self.class_names, labels = label_by_folder(splits, "video")
        items = []
        for split, paths in splits.files.items():
            own = labels[split].tolist() if self.labels else [None] * len(paths)
            names = [path.relative_to(self.root).as_posix() for path in paths]
            items += [VideoItem(*row[:2], split, row[2]) for row in zip(names, paths, own, strict=True)]
        return sorted(items)

    def decode(self, item: VideoItem) -> DecodedVideo:
        """The frames, resized.

        Raises:
            DataError: if the video does not decode.
        """
        frames = [self._resized(frame) for frame in frames_of(item.source, self.every)]
        return DecodedVideo(np.stack(frames))

    def _resized(self, frame: np.ndarray) -> np.ndarray:
        image = picture(frame)
        size = self.image_size
        box = central_box(image.size, size, size) if self.resize == "crop_shorter_side" else (0, 0, *image.size)
        return cut_and_resize(image, box, size, size)
