"""Videos decoded once, cropped, into one memory-mapped file of frames with an index beside it."""

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from datamodules.archive_files import Source, place_of, sizes_of
from datamodules.errors import DataError

BadVideos = Literal["error", "skip"]

VERSION = 1
"""Of the files; another version has another hash."""


class VideoItem(NamedTuple):
    """One video of a dataset.

    Attributes:
        name: what the dataset calls it.
        source: its file.
        split: "train", "val" or "test".
        label: number of its class, or None.
        actor: who is seen, or None.
        beside: a file of annotations of its own or of all videos, or None.
    """

    name: str
    source: Source
    split: str
    label: int | None = None
    actor: str | None = None
    beside: Source | None = None


class DecodedVideo(NamedTuple):
    """A video as it is served.

    Attributes:
        frames: uint8 (F, C, H, W).
        keypoints: (F, K, 2) as (x, y) in pixels of the frames, NaN where unknown, or None.
        note: what is to be counted about such videos, in the plural; "" for nothing.
    """

    frames: np.ndarray
    keypoints: np.ndarray | None = None
    note: str = ""


class VideoCache(NamedTuple):
    """A complete cache of V decoded videos with N frames together.

    Attributes:
        path: the .npy file; beside it lie the index as .npz and the fingerprint as .json.
        frames: uint8 (N, C, H, W), memory-mapped.
        items: int64 (V,), the place of each video in the list they were decoded from.
        starts: int64 (V,), the first frame of each video.
        lengths: int64 (V,), its number of frames.
        keypoints: float32 (N, K, 2), or None.
        fingerprint: recipe, counts, notes and hash.
        skipped: messages about the videos that could not be decoded.
    """

    path: Path
    frames: np.ndarray
    items: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    keypoints: np.ndarray | None
    fingerprint: dict[str, Any]
    skipped: list[str]


Decode = Callable[[VideoItem], DecodedVideo]


def cache_path(items: list[VideoItem], recipe: str, folder: Path, name: str) -> Path:
    """Where the cache of these videos lies; its name holds a hash of all that decides its content.

    Files count by name and size. Splits do not count: all folds of a dataset share one cache.

    Raises:
        DataError: if a file is not there.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr((VERSION, recipe)).encode())
    sources = [item.source for item in items] + [item.beside for item in items if item.beside is not None]
    names = [item.name for item in items] + [Path(place_of(source)).name for source in sources[len(items) :]]
    for source_name, size in zip(names, sizes_of(sources), strict=True):
        digest.update(f"{source_name}\0{size}\0".encode())
    digest.update(repr([(item.label, item.actor) for item in items]).encode())
    return folder / f"{name}_{digest.hexdigest()}.npy"


def build_cache(
    items: list[VideoItem],
    decode: Decode,
    path: Path,
    *,
    recipe: str,
    bad_videos: BadVideos = "error",
    num_workers: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> None:
    """Decode videos into a cache unless it is there; of two processes at once the second waits for the first.

    Args:
        items: the videos, in the order of the cache.
        decode: from a video to its frames; raises `DataError` for one that is bad.
        path: by `cache_path`; its folder is made if it is missing.
        recipe: what was done to the frames, in words.
        bad_videos: "error" for the first that is bad, or "skip" them and keep their messages.
        num_workers: threads that decode; None for one per core. Decoders and resizing leave Python's lock.
        progress: called with the number of videos done since its last call.

    Raises:
        DataError: for a video that is bad, or if the disk is full or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not is_complete(path):
                _build(items, decode, path, recipe, bad_videos, num_workers or os.cpu_count() or 1, progress)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): make room or set --data.cache to another folder; "
            "nothing incomplete was kept"
        ) from error


def open_cache(path: Path, bad_videos: BadVideos = "error") -> VideoCache:
    """Map a complete cache, decoding nothing.

    Raises:
        DataError: if it is not there or damaged, or lacks videos although ``bad_videos`` is "error".
    """
    if not is_complete(path):
        raise DataError(f"{path} does not exist: run prepare_data, as fit does, to decode the videos")
    try:
        frames = np.load(path, mmap_mode="r")
        description = json.loads(path.with_suffix(".json").read_text())
        with np.load(path.with_suffix(".npz")) as index:
            keypoints = index.get("keypoints")
            items, starts, lengths = index["items"], index["starts"], index["lengths"]
        if frames.dtype != np.uint8 or len(frames) != description["num_frames"] or lengths.sum() != len(frames):
            raise ValueError(f"{frames.dtype} {frames.shape}")
        skipped = description.pop("skipped")
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}): delete it to decode the videos again") from error
    _check(skipped, bad_videos)
    return VideoCache(path, frames, items, starts, lengths, keypoints, description, skipped)


def is_complete(path: Path) -> bool:
    """Whether all files of a cache are there."""
    return all(path.with_suffix(suffix).is_file() for suffix in (".npz", ".json", ".npy"))


def _check(bad: list[str], bad_videos: BadVideos) -> None:
    if bad and bad_videos == "error":
        others = f" (and {len(bad) - 1} more videos are bad)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{others}; mend it, or leave such videos out with --data.bad_videos skip")


def _build(
    items: list[VideoItem],
    decode: Decode,
    path: Path,
    recipe: str,
    bad_videos: BadVideos,
    num_workers: int,
    progress: Callable[[int], None],
) -> None:
    partial = {suffix: path.with_suffix(f"{suffix}.partial") for suffix in (".npz", ".json", ".npy")}
    writer, bad = _Writer(), []
    try:
        with partial[".npy"].open("wb") as file:
            for place, decoded in enumerate(_decoded(items, decode, num_workers)):
                if isinstance(decoded, DataError):
                    bad.append(str(decoded))
                    _check(bad, bad_videos)
                else:
                    writer.add(file, place, decoded)
                progress(1)
            if not writer.lengths:
                raise DataError(f"none of the {len(items)} videos of {path.stem} can be used: {bad[0] if bad else ''}")
            writer.finish(file)
        with partial[".npz"].open("wb") as file:
            np.savez(file, **(writer.index() | _names(items, writer.items)))  # type: ignore[arg-type]
        description = {"recipe": recipe, "num_videos": len(writer.lengths), "num_frames": sum(writer.lengths)}
        description |= {
            "num_skipped": len(bad),
            "hash": path.stem.rpartition("_")[2],
            "skipped": bad,
            "notes": writer.notes,
        }
        partial[".json"].write_text(json.dumps(description, indent=1) + "\n")
        # The frames last: a cache that looks complete always has the others.
        for suffix, file_name in partial.items():
            os.replace(file_name, path.with_suffix(suffix))
    finally:
        for file_name in partial.values():
            file_name.unlink(missing_ok=True)


def _decoded(items: list[VideoItem], decode: Decode, num_workers: int) -> Iterator[DecodedVideo | DataError]:
    """Videos in order, a few decoded ahead of the one that is written, so that they fit in memory."""

    def attempt(item: VideoItem) -> DecodedVideo | DataError:
        try:
            return decode(item)
        except DataError as error:
            return error

    waiting: deque[Future[DecodedVideo | DataError]] = deque()
    with ThreadPoolExecutor(num_workers) as executor:
        try:
            for item in items:
                waiting.append(executor.submit(attempt, item))
                if len(waiting) > 2 * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _names(items: list[VideoItem], places: list[int]) -> dict[str, np.ndarray]:
    """What else the index tells about each video, for who opens it without this package."""
    decoded = [items[place] for place in places]
    return {
        "names": np.array([item.name for item in decoded]),
        "labels": np.array([-1 if item.label is None else item.label for item in decoded], np.int64),
        "actors": np.array([item.actor or "" for item in decoded]),
    }


class _Writer:
    """Appends frames to a .npy file whose length is known at its end; collects the index."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.lengths: list[int] = []
        self.keypoints: list[np.ndarray] = []
        self.notes: Counter[str] = Counter()
        self.shape: tuple[int, ...] = ()

    def add(self, file: BinaryIO, place: int, video: DecodedVideo) -> None:
        assert video.frames.dtype == np.uint8
        assert video.keypoints is None or len(video.keypoints) == len(video.frames)
        if not self.lengths:
            self.shape = video.frames.shape[1:]
            self._write_header(file)
        assert video.frames.shape[1:] == self.shape
        file.write(np.ascontiguousarray(video.frames).data)
        self.items.append(place)
        self.lengths.append(len(video.frames))
        self.notes.update([video.note] if video.note else [])
        if video.keypoints is not None:
            self.keypoints.append(video.keypoints.astype(np.float32))

    def finish(self, file: BinaryIO) -> None:
        # numpy leaves room in every header for the first axis to grow.
        end = file.tell()
        file.seek(0)
        self._write_header(file)
        assert file.tell() == end - sum(self.lengths) * int(np.prod(self.shape))

    def index(self) -> dict[str, np.ndarray]:
        assert len(self.keypoints) in (0, len(self.lengths))
        lengths = np.array(self.lengths, np.int64)
        table = {"items": np.array(self.items, np.int64), "starts": lengths.cumsum() - lengths, "lengths": lengths}
        return table | ({"keypoints": np.concatenate(self.keypoints)} if self.keypoints else {})

    def _write_header(self, file: BinaryIO) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (sum(self.lengths), *self.shape)}
        np.lib.format.write_array_header_1_0(file, header)
