"""Twenty-four actors who speak and sing with eight emotions (Livingstone and Russo, 2018)."""

import re
from collections import Counter
from typing import Literal, NamedTuple

import numpy as np

from datamodules import face_landmarks
from datamodules.archive_files import Source, find_sources, name_of, place_of
from datamodules.errors import DataError
from datamodules.missing_data import Source as Origin
from datamodules.missing_data import missing_data
from datamodules.video_actors import assign_splits, choose_actors
from datamodules.video_cache import BadVideos, DecodedVideo, VideoItem
from datamodules.video_data import VideoData
from datamodules.video_decoding import channels_first, frames_of

EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]

FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
"""Actors of each of five folds, as the multimodal emotion work of Luna-Jimenez et al. cuts them."""

NEVER_SANG = 18

MODALITIES = {"audio_video": "01", "video_only": "02"}
CHANNELS = {"speech": ("01",), "song": ("02",), "speech_and_song": ("01", "02")}

EVERY = 3
"""The thesis keeps every third frame."""

SLACK = 2
"""Of the frames kept, that may lack landmarks at a video's end."""

LARGEST_FACE = 2.0
"""Side of a face's square over the longer side of the picture; more is a landmark gone astray."""

ORIGIN = Origin(
    dataset="RAVDESS",
    obtained="https://zenodo.org/records/1188976 (Video_Speech_Actor_*.zip, Video_Song_Actor_*.zip) and, for the "
    "landmarks, https://zenodo.org/records/3255102 (FacialTracking_Actors_01-24.zip)",
    license="CC BY-NC-SA 4.0",
    tree=["Video_*_Actor_*.zip or the *.mp4 in any folders", "FacialTracking_Actors_01-24.zip or the *.csv"],
    command="lightning_zoo fit --config statics_dynamics_ravdess.yaml --data.root FOLDER",
)

_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")


class RavdessName(NamedTuple):
    """Seven numbers of a file's name: modality 01 audio and video, 02 video, 03 audio; channel 01 speech, 02 song."""

    modality: str
    channel: str
    emotion: str
    intensity: str
    statement: str
    repetition: str
    actor: str

    @property
    def trial(self) -> str:
        """What was recorded, without the modality in which it is given."""
        return "-".join(self[1:])


def parse_name(name: str, ending: str = ".mp4") -> RavdessName | None:
    """What the name `MM-CC-EE-II-SS-RR-AA.mp4` says, or None if it is no such name."""
    stem = name[: -len(ending)]
    found = _NAME.fullmatch(stem) if name[len(stem) :].lower() == ending else None
    # There is one way to be neutral.
    return None if found is None or (found[3], found[4]) == ("01", "02") else RavdessName(*found.groups())


class RAVDESS(VideoData):
    """Clips uint8 (B, 8, 3, 128, 128) of faces; "labels" are the eight emotions, "keypoints" the 68 landmarks.

    Every trial is published with sound and as video alone, the same pictures twice: one of the two is used. The
    landmarks that OpenFace found, published with the dataset, cut out each face as FFHQ does: upright, scaled by eyes
    and mouth. Every third frame is kept. Splits are by actor.

    Args:
        root: folder of the videos and of the landmarks, as zip files or unpacked, in any folders.
        modality: "audio_video" or "video_only"; null for the first of the two that is there.
        channel: "speech", "song" or "speech_and_song"; nobody sings with disgust or surprise,
            and actor 18 not at all.
        alignment: "frame" puts every frame upright by its own landmarks, as the thesis does; "video" cuts one square
            for all frames of a video, in which the head moves.
        actors: numbers of those that take part; null for all 24.
        test_actors: held out for testing; null for those of ``fold``.
        val_actors: held out for validation; null for the fold before (before 0 comes 4), [] to validate on the
            test actors.
        fold: which of the five is tested; null for the first with somebody who takes part, unless ``test_actors`` are
            given.
        image_size: side of the frames; 128 is what the thesis' network takes, its text says 96 once.
        batch_size: clips per batch and process.
        num_frames: frames per clip.
        clips_per_video: clips that an epoch draws of each training video.
        pair_gap: least and greatest distance between the frames of a pair, of those kept, as far as a video goes.
        flip: mirror each training clip with probability 1/2, on the device, with its pair and keypoints.
        bad_videos: what to do about videos that do not decode, lack landmarks or are shorter than a clip: "error", or
            "skip" and count them.
        cache: folder of the decoded frames; null for "cache" in ``root``.
        num_workers: threads that decode; null for one per core.
        seed: of clips, pairs and flips.

    Raises:
        ValueError: for an argument out of range.
    """

    name = "ravdess"

    def __init__(
        self,
        *,
        root: str = "data/ravdess",
        modality: Literal["audio_video", "video_only"] | None = None,
        channel: Literal["speech", "song", "speech_and_song"] = "speech_and_song",
        alignment: Literal["frame", "video"] = "frame",
        actors: list[int] | None = None,
        test_actors: list[int] | None = None,
        val_actors: list[int] | None = None,
        fold: int | None = None,
        image_size: int = 128,
        batch_size: int = 64,
        num_frames: int = 8,
        clips_per_video: int = 4,
        pair_gap: tuple[int, int] = (5, 25),
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
        if modality is not None and modality not in MODALITIES:
            raise ValueError(f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}")
        if channel not in CHANNELS:
            raise ValueError(f"channel must be one of {', '.join(CHANNELS)}, got {channel!r}")
        if alignment not in ("frame", "video"):
            raise ValueError(f"alignment must be 'frame' or 'video', got {alignment!r}")
        self.save_hyperparameters()
        self.modality, self.channel, self.alignment = modality, channel, alignment
        sings = [[actor for actor in part if channel != "song" or actor != NEVER_SANG] for part in FOLDS]
        chosen = (_padded(actors), _padded(test_actors), _padded(val_actors))
        self.actor_split = choose_actors(*chosen, fold, [_padded(part) or [] for part in sings])
        self.used_modality = ""
        self.class_names = list(EMOTIONS)
        self.keypoint_names = list(face_landmarks.KEYPOINTS)
        self.keypoint_mirror = face_landmarks.MIRROR

    def setup(self, stage: str | None = None) -> None:
        """Map the cache into memory; the fingerprint also tells modality and channel."""
        super().setup(stage)
        self.fingerprint |= {"modality": self.used_modality, "channel": self.channel}

    @property
    def recipe(self) -> str:
        """Alignment, size and which frames."""
        return f"FFHQ square per {self.alignment} to {self.image_size}, every frame {EVERY}, landmarks 1"

    def list_videos(self) -> list[VideoItem]:
        """One video of each trial, with its landmarks' file.

        Raises:
            DataError: if there are no videos or no landmarks at all, no video of some actor, or, unless bad videos are
                skipped, no landmarks of some video.
        """
        sources = find_sources(self.root, self.cache_folder) if self.root.is_dir() else []
        videos = {name: s for s in reversed(sources) if (name := parse_name(name_of(s))) and name.modality != "03"}
        tables = {name.trial: s for s in reversed(sources) if (name := parse_name(name_of(s), ".csv"))}
        if not videos or not tables:
            wanted = "Video_Speech_Actor_01.zip" if not videos else "FacialTracking_Actors_01-24.zip"
            raise missing_data(ORIGIN, self.root, [wanted], f"{len(videos):,} videos, {len(tables):,} tables are there")
        code = self._choose_modality(Counter(name.modality for name in videos))
        chosen = [n for n in sorted(videos) if n.modality == code and n.channel in CHANNELS[self.channel]]
        split_of, counted = assign_splits(self.name, self.root, self.actor_split, [name.actor for name in chosen])
        unknown = sum(not parse_name(name_of(s)) and not parse_name(name_of(s), ".csv") for s in sources)
        self.counted |= counted | {"unknown files ignored": unknown}
        chosen = [name for name in chosen if name.actor in split_of]
        self._check_landmarks([name for name in chosen if name.trial not in tables])
        return [_item(name, videos[name], split_of[name.actor], tables.get(name.trial)) for name in chosen]

    def decode(self, item: VideoItem) -> DecodedVideo:
        """Faces cut out of every third frame, with their landmarks.

        Raises:
            DataError: if the video does not decode, or its landmarks are missing or do not fit it.
        """
        if item.beside is None:
            raise DataError(f"{place_of(item.source)} has no file of landmarks")
        landmarks = face_landmarks.read_openface(item.beside)[::EVERY]
        squares = face_landmarks.face_squares(landmarks)
        if np.isnan(squares.centres).all():
            raise DataError(f"{place_of(item.beside)} holds no landmarks: OpenFace found no face in any frame")
        squares = (face_landmarks.steady if self.alignment == "video" else face_landmarks.filled)(squares)
        faces = [
            self._face(frame, squares, min(index, len(landmarks) - 1), item.beside)
            for index, frame in enumerate(frames_of(item.source, EVERY))
        ]
        absent = max(0, len(faces) - len(landmarks))
        if absent > SLACK:
            raise DataError(
                f"{place_of(item.beside)} has no landmarks for the last {absent * EVERY} frames of its video"
            )
        padded = np.pad(landmarks, ((0, absent), (0, 0), (0, 0)), constant_values=np.nan)[: len(faces)]
        served = face_landmarks.Squares(
            *(np.pad(part, ((0, absent), (0, 0)), "edge")[: len(faces)] for part in squares)
        )
        return DecodedVideo(channels_first(faces), face_landmarks.into_square(padded, served, self.image_size))

    def _face(self, frame: np.ndarray, squares: face_landmarks.Squares, index: int, table: Source) -> np.ndarray:
        centre, half = squares.centres[index], squares.halves[index]
        if 2 * np.abs(half).max() > LARGEST_FACE * max(frame.shape):
            raise DataError(f"{place_of(table)}: the face of frame {index * EVERY + 1} is larger than the picture")
        return face_landmarks.cut_square(frame, centre, half, self.image_size)

    def _check_landmarks(self, without: list[RavdessName]) -> None:
        if without and self.bad_videos == "error":
            others = f", nor are those of {len(without) - 1:,} more videos" if len(without) > 1 else ""
            raise DataError(
                f"ravdess: the landmarks 01-{without[0].trial}.csv are not in {self.root}{others}: obtain them, or "
                "leave such videos out with --data.bad_videos skip"
            )

    def _choose_modality(self, counts: Counter[str]) -> str:
        wanted: str = self.modality or next(name for name, code in MODALITIES.items() if counts[code])
        code = MODALITIES[wanted]
        if not counts[code]:
            other = next(name for name in MODALITIES if name != wanted)
            raise DataError(f"{self.root} holds no {wanted} videos ({code}-*.mp4), set --data.modality {other}")
        self.counted = {"videos of the other modality left out": counts.total() - counts[code]}
        self.used_modality = wanted
        return code


def _item(name: RavdessName, source: Source, split: str, table: Source | None) -> VideoItem:
    return VideoItem("-".join(name), source, split, int(name.emotion) - 1, name.actor, table)


def _padded(actors: "list[int] | tuple[int, ...] | None") -> list[str] | None:
    """Actors as file names write them."""
    return None if actors is None else [f"{actor:02}" for actor in actors]
