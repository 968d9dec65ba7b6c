"""Faces put upright by their landmarks, as FFHQ does it (Karras et al., 2019), and landmark files of OpenFace."""

import csv
import io
from typing import NamedTuple

import numpy as np

from datamodules.archive_files import Source, open_source, place_of
from datamodules.errors import DataError
from datamodules.video_decoding import picture

NUM_LANDMARKS = 68

CONFIDENT = 0.5
"""OpenFace's own confidence from which a frame's landmarks count as found; it is close to 1 or 0 nearly always."""

RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
"""The person's own right eye is on the left of the picture, and comes first."""

MOUTH_CORNERS = (48, 54)


def _pairs(*groups: tuple[list[int], list[int]]) -> list[int]:
    mirror = list(range(NUM_LANDMARKS))
    for one, other in groups:
        for first, second in zip(one, other, strict=True):
            mirror[first], mirror[second] = second, first
    return mirror


MIRROR = _pairs(
    (list(range(8)), list(range(16, 8, -1))),  # jaw
    (list(range(17, 22)), list(range(26, 21, -1))),  # brows
    ([31, 32], [35, 34]),  # nostrils
    ([36, 37, 38, 39, 40, 41], [45, 44, 43, 42, 47, 46]),  # eyes
    ([48, 49, 50, 58, 59], [54, 53, 52, 56, 55]),  # outer lips
    ([60, 61, 67], [64, 63, 65]),  # inner lips
)
"""For each of the 68 landmarks the one that it is in a mirror."""

KEYPOINTS = [
    f"{part}_{index}"
    for part, number in (("jaw", 17), ("brow", 10), ("nose", 9), ("eye", 12), ("outer_lip", 12), ("inner_lip", 8))
    for index in range(number)
]
"""The landmarks by part, in their order."""


class Squares(NamedTuple):
    """A square per frame, which may be turned.

    Attributes:
        centres: (x, y) of their middles (F, 2).
        halves: (x, y) from the middle to the middle of the right side (F, 2).
    """

    centres: np.ndarray
    halves: np.ndarray


def read_openface(source: Source) -> np.ndarray:
    """The landmarks of each frame of a video: (F, 68, 2), (x, y) in its pixels, NaN where none were found.

    Frames are told by the column "frame", which counts from 1.

    Raises:
        DataError: if it is no table of OpenFace with 68 landmarks; names it.
    """
    with open_source(source) as file:
        table = csv.reader(io.TextIOWrapper(file, "utf-8", errors="replace"))
        names = [name.strip() for name in next(table, [])]
        columns = ["frame", "success", "confidence"]
        columns += [f"{axis}_{index}" for axis in "xy" for index in range(NUM_LANDMARKS)]
        try:
            places = [names.index(name) for name in columns]
            rows = np.array([[float(row[place]) for place in places] for row in table if row])
            frames = rows[:, 0].astype(np.int64) - 1
        except (ValueError, IndexError, csv.Error) as error:
            raise DataError(f"{place_of(source)} is no table of OpenFace with 68 landmarks: {error}") from error
    if frames.min() < 0 or frames.max() > 10 * len(frames) + 1000:
        raise DataError(f"{place_of(source)}: frames {frames.min() + 1} to {frames.max() + 1} in {len(frames)} rows")
    landmarks = np.full((frames.max() + 1, NUM_LANDMARKS, 2), np.nan)
    found = (rows[:, 1] > 0) & (rows[:, 2] >= CONFIDENT)
    landmarks[frames[found]] = rows[found, 3:].reshape(-1, 2, NUM_LANDMARKS).transpose(0, 2, 1)
    return landmarks


def face_squares(landmarks: np.ndarray) -> Squares:
    """The square of each face that FFHQ would cut out, NaN where landmarks (F, 68, 2) are.

    Its width follows the eyes or, for faces seen from the side, the distance from the eyes to the mouth; turned as eyes
    and mouth together, so that the face stands upright in it.
    """
    right, left = landmarks[:, RIGHT_EYE].mean(1), landmarks[:, LEFT_EYE].mean(1)
    eyes, mouth = (right + left) / 2, landmarks[:, MOUTH_CORNERS].mean(1)
    across, down = left - right, mouth - eyes
    # A quarter turn makes "down" a second witness of what is horizontal.
    direction = across + down[:, ::-1] * (1, -1)
    length = np.maximum(2.0 * np.linalg.norm(across, axis=1), 1.8 * np.linalg.norm(down, axis=1))
    halves = direction * (length / np.maximum(np.linalg.norm(direction, axis=1), 1e-9))[:, None]
    return Squares(eyes + 0.1 * down, halves)


def filled(squares: Squares) -> Squares:
    """Squares for frames without one: along a straight line between the nearest that have one.

    Raises:
        ValueError: if no frame has one.
    """
    known = np.flatnonzero(~np.isnan(squares.centres).any(1))
    if len(known) == 0:
        raise ValueError("squares must hold one that is known")
    frames = np.arange(len(squares.centres))
    return Squares(*(np.stack([np.interp(frames, known, axis[known]) for axis in part.T], 1) for part in squares))


def steady(squares: Squares) -> Squares:
    """One square for all frames, their median: the head moves in it."""
    return Squares(*(np.broadcast_to(np.nanmedian(part, 0), part.shape) for part in squares))


def into_square(points: np.ndarray, squares: Squares, size: int) -> np.ndarray:
    """Points (F, K, 2) of the picture in pixels of squares that were scaled to ``size``; float32."""
    offset = points - squares.centres[:, None]
    scale = (squares.halves**2).sum(-1)[:, None]
    along = (offset * squares.halves[:, None]).sum(-1) / scale
    below = (offset * _turned(squares.halves)[:, None]).sum(-1) / scale
    return ((np.stack([along, below], -1) + 1) * (size / 2) - 0.5).astype(np.float32)


def cut_square(frame: np.ndarray, centre: np.ndarray, half: np.ndarray, size: int) -> np.ndarray:
    """What a square shows of a frame uint8 (H, W, 3): uint8 (size, size, 3), antialiased; edges are repeated beyond.

    Args:
        frame: the picture.
        centre: (x, y) of the square's middle.
        half: (x, y) from there to the middle of its right side.
        size: side of the result.
    """
    from PIL import Image

    reach = np.abs(half).sum() + 2
    low, high = np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int) + 1
    near = picture(_around(frame, low, high))
    # As many samples per pixel as it covers pixels, then their mean: a sparse sample alone would flicker.
    samples = max(1, int(np.ceil(2 * np.linalg.norm(half) / size)))
    side = size * samples
    right, down = 2 * half / side, 2 * _turned(half) / side
    corner = centre - half - _turned(half) - low + 0.5
    matrix = (right[0], down[0], corner[0], right[1], down[1], corner[1])
    large = near.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(large.reduce(samples) if samples > 1 else large)


def _around(frame: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The pixels from ``low`` (x, y) to before ``high`` of a frame (H, W, 3), its edge repeated beyond."""
    size = np.array(frame.shape[1::-1])
    first, last = low.clip(0, size - 1), high.clip(1, size)
    inside = frame[first[1] : last[1], first[0] : last[0]]
    missing = (high - low) - (last - first)
    before = (first - low).clip(0, missing)
    after = missing - before
    if not missing.any():
        return np.ascontiguousarray(inside)
    return np.pad(inside, ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="edge")


def _turned(halves: np.ndarray) -> np.ndarray:
    """From "to the right" (..., 2) to "down": a quarter turn, with y pointing down."""
    return halves[..., ::-1] * (-1, 1)
