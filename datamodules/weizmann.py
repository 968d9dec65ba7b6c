"""Ten actions of nine actors before a still background (Gorelick, Blank, Shechtman, Irani, Basri, 2007)."""

import re
import threading
from typing import Any, Literal, NamedTuple

import numpy as np

from datamodules import silhouettes
from datamodules.archive_files import Source, find_sources, name_of, open_source, place_of
from datamodules.errors import DataError
from datamodules.image_decoding import central_box, cut_and_resize
from datamodules.missing_data import Source as Origin
from datamodules.missing_data import missing_data
from datamodules.video_actors import assign_splits, choose_actors
from datamodules.video_cache import BadVideos, DecodedVideo, VideoItem
from datamodules.video_data import VideoData
from datamodules.video_decoding import channels_first, frames_of, picture
from lightning_zoo.extras import require

ACTIONS = ["bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2"]
ACTORS = ["daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar"]

MASKS = "classification_masks.mat"
MASKS_FIELD = "original_masks"
"""In pixels of the videos; the file's other field holds silhouettes that were moved onto each other."""

ORIGIN = Origin(
    dataset="Weizmann",
    obtained="https://www.wisdom.weizmann.ac.il/~vision/SpaceTimeActions.html (one zip file per action)",
    license="none is stated; for research, citing the paper",
    tree=[f"{action}.zip" for action in ACTIONS] + [f"{MASKS}, or the unpacked *.avi in any folders"],
    command="lightning_zoo fit --config statics_dynamics_weizmann.yaml --data.root FOLDER",
)

_NAME = re.compile(
    rf"({'|'.join(ACTORS)})_({'|'.join(sorted(ACTIONS, key=len, reverse=True))})([12]?)\.avi", re.IGNORECASE
)


class WeizmannName(NamedTuple):
    """What a file's name says: who does what, and "1" or "2" where somebody does it twice, as lena does."""

    actor: str
    action: str
    take: str = ""

    def __str__(self) -> str:
        return f"{self.actor}_{self.action}{self.take}"


def parse_name(name: str) -> WeizmannName | None:
    """What the name `<actor>_<action>[1|2].avi` says, or None if it is no such name."""
    found = _NAME.fullmatch(name)
    if found is None or (found[3] and found[2].lower().startswith("wave")):
        return None
    return WeizmannName(*(part.lower() for part in found.groups()))


class Weizmann(VideoData):
    """Clips uint8 (B, 8, 3, 96, 96) of people who bend, jump, run, walk and wave; "labels" are the ten actions.

    The files lie as the original site gives them: walk.zip and its like or what was in them, and
    classification_masks.mat with the silhouettes. Frames at both ends in which nobody is seen are cut off. "keypoints"
    (B, T, 6, 2) are points of the silhouettes, in place of the thesis' OpenPose. A video without fitting silhouettes in
    the file, or all without the file, get them from the median over time, in which a part of the body that rests is
    background: use the file where you can.

    Args:
        root: folder of the files.
        crop: "person", ``image_size`` pixels around the person, whose path is smoothed, within the picture and
            unscaled; "center", the central square of the picture, scaled to ``image_size``, in which the person moves.
        actors: those that take part; null for all nine.
        test_actors: held out for testing; null for that of ``fold``.
        val_actors: held out for validation; null for the one before, in alphabetic order (before daria comes shahar),
            [] to validate on the test actors.
        fold: number, 0 (daria) to 8 (shahar), of the actor who is left out; null for the first who takes part, unless
            ``test_actors`` are given.
        image_size: side of the frames.
        batch_size: clips per batch and process.
        num_frames: frames per clip.
        clips_per_video: clips that an epoch draws of each training video.
        pair_gap: least and greatest distance between the frames of a pair, as far as a video goes.
        flip: mirror each training clip with probability 1/2, on the device, with its pair and keypoints.
        bad_videos: what to do about videos that do not decode or are shorter than a clip: "error", or "skip" and count.
        cache: folder of the decoded frames; null for "cache" in ``root``.
        num_workers: threads that decode; null for one per core.
        seed: of clips, pairs and flips.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "weizmann"

    def __init__(
        self,
        *,
        root: str = "data/weizmann",
        crop: Literal["person", "center"] = "person",
        actors: list[str] | None = None,
        test_actors: list[str] | None = None,
        val_actors: list[str] | None = None,
        fold: int | None = None,
        image_size: int = 96,
        batch_size: int = 64,
        num_frames: int = 8,
        clips_per_video: int = 8,
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
        if crop not in ("person", "center"):
            raise ValueError(f"crop must be 'person' or 'center', got {crop!r}")
        self.save_hyperparameters()
        self.crop = crop
        self.actor_split = choose_actors(actors, test_actors, val_actors, fold, [[actor] for actor in ACTORS])
        self.class_names = list(ACTIONS)
        self.keypoint_names = list(silhouettes.KEYPOINTS)
        self.keypoint_mirror = silhouettes.MIRROR
        self._masks: _Masks | None = None  # only while videos are decoded: a lock cannot be sent to other processes

    @property
    def recipe(self) -> str:
        """Crop, size and silhouettes."""
        return f"crop {self.crop} to {self.image_size}, silhouettes 1"

    def list_videos(self) -> list[VideoItem]:
        """All videos of the actors that take part; a video that lies there twice counts once.

        Raises:
            DataError: if there are none at all, or none of some actor.
        """
        sources = find_sources(self.root, self.cache_folder) if self.root.is_dir() else []
        parsed = [(parse_name(name_of(source)), source) for source in sources]
        named = {name: source for name, source in reversed(parsed) if name is not None}
        if not named:
            raise missing_data(ORIGIN, self.root, [f"{action}.zip" for action in ACTIONS])
        masks = next((source for source in sources if name_of(source) == MASKS), None)
        unknown = sum(name is None for name, _ in parsed) - (masks is not None)
        split_of, self.counted = assign_splits(self.name, self.root, self.actor_split, [name.actor for name in named])
        self.counted |= {"unknown files ignored": unknown}
        return [
            VideoItem(str(name), named[name], split_of[name.actor], ACTIONS.index(name.action), name.actor, masks)
            for name in sorted(named)
            if name.actor in split_of
        ]

    def prepare_data(self) -> None:
        """Decode all videos, unless that was done before."""
        self._masks = _Masks()
        try:
            super().prepare_data()
        finally:
            self._masks = None

    def decode(self, item: VideoItem) -> DecodedVideo:
        """The frames in which somebody is seen, cropped, with the points of the silhouettes.

        Raises:
            DataError: if the video does not decode.
        """
        frames = np.stack(list(frames_of(item.source)))
        given = (self._masks or _Masks()).of(item.beside, item.name) if item.beside is not None else None
        fits = given is not None and given.shape == frames.shape[:3]
        masks = given if given is not None and fits else silhouettes.moving_masks(frames)
        if self.crop == "center":
            masks = _inside(masks)
        first, stop = silhouettes.person_range(masks)
        if stop == first:
            raise DataError(f"{item.name}: nobody is seen in any of its {len(frames)} frames")
        if not fits and stop - first < len(frames) / 2:
            first, stop = 0, len(frames)  # somebody who stands still most of the time is background, not absent
        cropped = self._cropped(frames[first:stop], masks[first:stop])
        return cropped if fits else cropped._replace(note="videos with silhouettes by the median over time")

    def _cropped(self, frames: np.ndarray, masks: np.ndarray) -> DecodedVideo:
        points = silhouettes.keypoints_of(masks)
        if self.crop == "person":
            path = silhouettes.smooth_path(points[:, 0])
            windows, corners = silhouettes.follow(frames, path, self.image_size)
            return DecodedVideo(channels_first(list(windows)), points - corners[:, None].astype(np.float32))
        box = _central_square(frames.shape[2], frames.shape[1])
        scaled = [cut_and_resize(picture(frame), box, self.image_size, self.image_size) for frame in frames]
        scale = self.image_size / (box[2] - box[0])
        return DecodedVideo(np.stack(scaled), (points + 0.5 - np.array(box[:2], np.float32)) * np.float32(scale) - 0.5)


def _central_square(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height)
    return central_box((width, height), side, side)


def _inside(masks: np.ndarray) -> np.ndarray:
    """Masks (F, H, W) of what the central square shows."""
    left, top, right, bottom = (round(side) for side in _central_square(masks.shape[2], masks.shape[1]))
    shown = np.zeros_like(masks)
    shown[:, top:bottom, left:right] = masks[:, top:bottom, left:right]
    return shown


class _Masks:
    """The silhouettes of all videos, read when the first is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fields: Any = None

    def of(self, source: Source, name: str) -> np.ndarray | None:
        """The silhouettes bool (F, H, W) of a video; None if there are none."""
        with self._lock:
            if self._fields is None:
                self._fields = read_masks(source)
        return self._fields.get(name)


def read_masks(source: Source) -> dict[str, np.ndarray]:
    """The silhouettes bool (F, H, W) of each video, by names like "daria_bend", from classification_masks.mat.

    Raises:
        DataError: if it is another file.
        MissingExtraError: without the package `scipy`.
    """
    io = require("scipy.io")
    try:
        with open_source(source) as file:
            struct = io.loadmat(file, variable_names=[MASKS_FIELD])[MASKS_FIELD][0, 0]
        return {name: np.moveaxis(struct[name], 2, 0) > 0 for name in struct.dtype.names}
    except DataError:
        raise
    except Exception as error:  # SciPy raises whatever it likes on foreign bytes
        raise DataError(f"{place_of(source)} holds no struct {MASKS_FIELD} of silhouettes: {error}") from error
