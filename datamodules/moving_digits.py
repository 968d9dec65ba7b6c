"""Two digits that move over a black ground and bounce off its edges: drawn clip by clip from numbers alone.

Nothing here reads a file or keeps a state: a clip is a function of (seed, split, index) and of the digits' images. Two
rules are in use, and they look different:

A. Srivastava, Mansimov & Salakhutdinov (2015), as in the DDPAE of Hsieh et al. (2018): digits of 28 pixels start
   anywhere, run in any direction, 3.6 pixels a frame, turn at a wall, and the brighter of two overlapping pixels shows.
B. SVG of Denton & Fergus (2018), without its random turns: digits of 32 pixels start at whole pixels, run -4 to 4 whole
   pixels a frame along each axis, turn after they crossed a wall, and overlapping pixels add up to white at most.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MovementRule = Literal["A", "B"]

CANVAS = 64
"""Height and width of a frame in pixels."""

DIGIT_SIZES: dict[MovementRule, int] = {"A": 28, "B": 32}
"""Height and width of a digit in pixels."""

SPLITS = ("train", "val", "test")

VERSION = 1
"""Of the drawing; it is raised when the same seed gives other clips."""

_STEP = 0.1  # of rule A: the way of one frame, where 1 is the way from wall to wall
_FASTEST = 4  # of rule B, in pixels per frame
_NUMBERS_PER_CLIP = 13


class Scenes(NamedTuple):
    """What decides N clips, but for the images of the digits.

    Attributes:
        glyphs: int64 (N, 2), the rows of the two digits' images.
        positions: int64 (N, L, 2, 2), of each frame and digit the left and the upper edge (x, y) in pixels.
        pairs: int64 (N, 2), the numbers of a source and of a target frame, below L.
    """

    glyphs: np.ndarray
    positions: np.ndarray
    pairs: np.ndarray


def draw_scenes(
    seed: int,
    split: str,
    index: Sequence[int] | np.ndarray,
    *,
    num_glyphs: int,
    length: int,
    rule: MovementRule,
    pair_gap: tuple[int, int | np.ndarray],
) -> Scenes:
    """The scenes of the clips ``index`` (N,), each drawn by a random generator of its own.

    A scene does not depend on the others that are asked for; its digits and ways do not depend on ``length`` and
    ``pair_gap`` either: a longer one goes on where a shorter one ends.

    Args:
        seed: from 0 to 2**32 - 1.
        split: one of `SPLITS`.
        index: numbers of the clips, at least 0.
        num_glyphs: how many images of digits there are to choose from.
        length: frames L of a scene.
        rule: of the movement.
        pair_gap: least and largest distance of source and target in frames, each as likely and in either order; the
            largest may be one per clip (N,); one that exceeds the scene becomes L - 1.
    """
    place = SPLITS.index(split)
    numbers = np.empty((len(index), _NUMBERS_PER_CLIP))
    for row, number in zip(numbers, index, strict=True):
        np.random.default_rng((VERSION, seed, place, int(number))).random(out=row)
    glyphs, starts, motions, pairs = np.split(numbers, (2, 6, 10), axis=1)
    trajectories = trajectories_a if rule == "A" else trajectories_b
    return Scenes(
        _whole(glyphs, num_glyphs),
        trajectories(starts.reshape(-1, 2, 2), motions.reshape(-1, 2, 2), length),
        _frame_pairs(pairs, length, pair_gap),
    )


def trajectories_a(starts: np.ndarray, motions: np.ndarray, length: int) -> np.ndarray:
    """Positions int64 (N, L, 2, 2) by rule A.

    Args:
        starts: numbers in [0, 1), (N, 2, 2): where each digit is before the first frame, (x, y).
        motions: numbers in [0, 1), (N, 2, 2): the first is the direction in turns, the second is not used.
        length: frames L.
    """
    angles = 2 * np.pi * motions[..., 0]
    places, velocities = starts.copy(), _STEP * np.stack([np.cos(angles), np.sin(angles)], -1)
    passed = np.empty((len(starts), length, 2, 2))
    for frame in range(length):
        places += velocities
        velocities[(places <= 0) | (places >= 1)] *= -1
        np.clip(places, 0, 1, out=places)
        passed[:, frame] = places
    return (passed * (CANVAS - DIGIT_SIZES["A"])).astype(np.int64)


def trajectories_b(starts: np.ndarray, motions: np.ndarray, length: int) -> np.ndarray:
    """Positions int64 (N, L, 2, 2) by rule B; the last place before the right and the lower wall is not reached.

    Args:
        starts: numbers in [0, 1), (N, 2, 2): where each digit is in the first frame, (x, y).
        motions: numbers in [0, 1), (N, 2, 2): the velocities along x and y.
        length: frames L.
    """
    places = CANVAS - DIGIT_SIZES["B"]
    position, velocity = _whole(starts, places), _whole(motions, 2 * _FASTEST + 1) - _FASTEST
    passed = np.empty((len(starts), length, 2, 2), np.int64)
    for frame in range(length):
        velocity[(position < 0) | (position >= places)] *= -1
        np.clip(position, 0, places - 1, out=position)
        passed[:, frame] = position
        position += velocity
    return passed


def render(images: np.ndarray, positions: np.ndarray, rule: MovementRule) -> np.ndarray:
    """Frames uint8 (N, T, 64, 64) of two digits each.

    Args:
        images: uint8 (N, 2, S, S), the digits, S as in `DIGIT_SIZES`.
        positions: (N, T, 2, 2), their left and upper edges (x, y).
        rule: of the overlap.
    """
    # A frame shows its digit through a window in a wide black ground: copying windows needs no loop over the frames.
    margin = CANVAS - images.shape[-1]
    ground = np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = sliding_window_view(ground, (CANVAS, CANVAS), axis=(2, 3))
    clips = np.arange(len(images))[:, None]
    first, second = (
        windows[clips, digit, margin - positions[:, :, digit, 1], margin - positions[:, :, digit, 0]]
        for digit in range(2)
    )
    if rule == "A":
        return np.maximum(first, second, out=first)
    return np.add(first, np.minimum(second, 255 - first), out=first)


def centres(positions: np.ndarray, rule: MovementRule) -> np.ndarray:
    """The centres float32 (..., 2) of digits at ``positions`` (..., 2); a pixel's own number is its centre."""
    return (positions + (DIGIT_SIZES[rule] - 1) / 2).astype(np.float32)


def pair_labels(digits: np.ndarray) -> np.ndarray:
    """The class 0..54 of each pair of digits 0..9, (..., 2), whose order does not matter, as int64 (...)."""
    low, high = digits.min(-1).astype(np.int64), digits.max(-1).astype(np.int64)
    return low * 10 - low * (low - 1) // 2 + high - low


PAIR_NAMES = [f"{low} {high}" for low in range(10) for high in range(low, 10)]
"""The 55 pairs of digits in the order of their labels."""


def _whole(numbers: np.ndarray, stop: int | np.ndarray) -> np.ndarray:
    """Whole numbers 0 to ``stop`` - 1 of numbers in [0, 1)."""
    return (numbers * stop).astype(np.int64)


def _frame_pairs(numbers: np.ndarray, length: int, pair_gap: tuple[int, int | np.ndarray]) -> np.ndarray:
    """Source and target (N, 2) from numbers (N, 3) in [0, 1): the gap, the place of the earlier one, the order."""
    least, largest = pair_gap
    gap = np.minimum(least + _whole(numbers[:, 0], largest - least + 1), length - 1)
    earlier = (numbers[:, 1] * (length - gap)).astype(np.int64)
    pair = np.stack([earlier, earlier + gap], -1)
    return np.where(numbers[:, 2:] < 0.5, pair, pair[:, ::-1])
