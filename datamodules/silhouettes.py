"""Silhouettes of a person in a video: where the person is, which points stick out, and what follows the person."""

import numpy as np

KEYPOINTS = ["centroid", "top", "lowest_left", "lowest_right", "leftmost", "rightmost"]
"""Of a silhouette; left and right as seen in the picture."""

MIRROR = [0, 1, 3, 2, 5, 4]
"""For each keypoint the one that it is in a mirror."""

CONTRAST = 24
"""Difference from the background, in grey levels of the channel that differs most, from which a pixel has moved."""

PERSON_SHARE = 0.004
"""Of the picture, that a silhouette covers at least where a person is seen: 104 pixels of 180x144."""

SMOOTHING = 4.0
"""Standard deviation, in frames, of the weights with which a path is smoothed: about one step of a walk."""


def moving_masks(frames: np.ndarray) -> np.ndarray:
    """What differs from the median over time, without specks: bool (F, H, W) of frames uint8 (F, H, W, 3).

    A part of the body that stays in one place for more than half of a video is background to it.
    """
    background = np.median(frames, axis=0).astype(np.int16)
    moved = np.stack([np.abs(frame - background).max(-1) > CONTRAST for frame in frames])
    padded = np.pad(moved, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    height, width = moved.shape[1:]
    around = sum(padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3))
    return moved & (around >= 5)


def person_range(masks: np.ndarray) -> tuple[int, int]:
    """First frame and the one after the last in which masks (F, H, W) show a person; (0, 0) if none does."""
    seen = np.flatnonzero(masks.mean((1, 2)) >= PERSON_SHARE)
    return (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)


def keypoints_of(masks: np.ndarray) -> np.ndarray:
    """The points KEYPOINTS as (x, y) of each silhouette: float32 (F, 6, 2) of masks (F, H, W), NaN where one is empty.

    Of several pixels that are equally far out the middle is taken. The lowest are sought left and right of the
    centroid.
    """
    points = np.full((len(masks), len(KEYPOINTS), 2), np.nan, np.float32)
    for frame, mask in enumerate(masks):
        y, x = np.nonzero(mask)
        if len(x) == 0:
            continue
        centre = x.mean()
        left, right = x <= centre, x >= centre
        points[frame] = [
            (centre, y.mean()),
            (x[y == y.min()].mean(), y.min()),
            _lowest(x[left], y[left]),
            _lowest(x[right], y[right]),
            (x.min(), y[x == x.min()].mean()),
            (x.max(), y[x == x.max()].mean()),
        ]
    return points


def smooth_path(points: np.ndarray, deviation: float = SMOOTHING) -> np.ndarray:
    """A path (F, 2) without jitter, NaNs filled in along straight lines; even motion stays as it is, also at the ends.

    Raises:
        ValueError: if no point is known.
    """
    known = ~np.isnan(points).any(1)
    if not known.any():
        raise ValueError("points must hold one that is known")
    frames = np.arange(len(points))
    filled = np.stack([np.interp(frames, frames[known], axis[known]) for axis in points.T], 1)
    reach = min(round(3 * deviation), len(points) - 1)
    if reach == 0:
        return filled
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    # Continued by its point reflection: a walk goes on at its speed beyond the first and the last frame.
    continued = np.pad(filled, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    return np.stack([np.convolve(axis, weights / weights.sum(), mode="valid") for axis in continued.T], 1)


def follow(frames: np.ndarray, centres: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows around a path, at whole pixels and within the picture, at whose edge they stop while the person goes on.

    A picture that is smaller than a window is continued by its edge.

    Args:
        frames: uint8 (F, H, W, C).
        centres: (x, y) of each window's middle, (F, 2).
        size: side of the windows.

    Returns:
        The windows uint8 (F, size, size, C), and the (x, y) of their upper left pixels (F, 2) in the picture.
    """
    height, width = frames.shape[1:3]
    last = np.array([width - size, height - size])
    middle = np.rint(centres - (size - 1) / 2).astype(np.int64)
    corners = np.where(last >= 0, middle.clip(0, last.clip(0)), last // 2)
    inside = np.arange(size)
    columns = (corners[:, 0, None] + inside).clip(0, width - 1)
    rows = (corners[:, 1, None] + inside).clip(0, height - 1)
    frame = np.arange(len(frames))
    return frames[frame[:, None, None], rows[:, :, None], columns[:, None, :]], corners


def _lowest(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    return x[y == y.max()].mean(), y.max()
