"""The generator of moving digits: both rules against a slow loop written from their description, draws, classes."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from datamodules import moving_digits
from datamodules.moving_digits import DIGIT_SIZES, PAIR_NAMES, centres, draw_scenes, pair_labels, render


def scenes(index=range(40), *, seed=1, split="train", num_glyphs=30, length=26, rule="A", pair_gap=(1, 25)):
    arguments = {"num_glyphs": num_glyphs, "length": length, "rule": rule, "pair_gap": pair_gap}
    return draw_scenes(seed, split, index, **arguments)


def slow_way_a(start, turns, length):
    """One digit in the unit square: a step, then the walls, then the whole pixels of the 36 that it may move."""
    (x, y), way = start, []
    step_x, step_y = 0.1 * np.cos(2 * np.pi * turns), 0.1 * np.sin(2 * np.pi * turns)
    for _ in range(length):
        x, y = x + step_x, y + step_y
        if not 0 < x < 1:
            x, step_x = min(max(x, 0), 1), -step_x
        if not 0 < y < 1:
            y, step_y = min(max(y, 0), 1), -step_y
        way.append((int(36 * x), int(36 * y)))
    return way


def slow_way_b(start, speeds, length):
    """One digit in whole pixels: beyond a wall it is put back to the last place before it and turned, then it is shown
    and moves on. Its 32 pixels leave it the places 0 to 31."""
    position, velocity = [int(32 * each) for each in start], [int(9 * each) - 4 for each in speeds]
    way = []
    for _ in range(length):
        for axis in range(2):
            if position[axis] < 0:
                position[axis], velocity[axis] = 0, -velocity[axis]
            elif position[axis] >= 32:
                position[axis], velocity[axis] = 31, -velocity[axis]
        way.append(tuple(position))
        position = [place + speed for place, speed in zip(position, velocity, strict=True)]
    return way


def slow_frame(images, places, rule):
    frame = np.zeros((64, 64), int)
    for image, (x, y) in zip(images, places, strict=True):
        size = len(image)
        window = frame[y : y + size, x : x + size]
        assert window.shape == image.shape, "a digit reaches out of the frame"
        window[:] = np.maximum(window, image) if rule == "A" else window + image
    return np.minimum(frame, 255)


@pytest.mark.parametrize("rule", ["A", "B"])
def test_digits_go_as_the_slow_loop_goes(rule):
    random = np.random.default_rng(0)
    starts, motions, length = random.random((60, 2, 2)), random.random((60, 2, 2)), 70
    fast = {"A": moving_digits.trajectories_a, "B": moving_digits.trajectories_b}[rule](starts, motions, length)
    assert fast.dtype == np.int64
    for clip in range(60):
        for digit in range(2):
            course = motions[clip, digit]
            slow = (
                slow_way_a(starts[clip, digit], course[0], length)
                if rule == "A"
                else slow_way_b(starts[clip, digit], course, length)
            )
            assert fast[clip, :, digit].tolist() == [list(place) for place in slow]
    last = 36 if rule == "A" else 31
    assert (fast.min(), fast.max()) == (0, last), "every wall is met, none is passed"


@pytest.mark.parametrize("rule", ["A", "B"])
def test_frames_are_those_of_the_slow_loop(rule):
    random = np.random.default_rng(1)
    size = DIGIT_SIZES[rule]
    images = random.integers(0, 256, (5, 2, size, size), np.uint8)
    positions = random.integers(0, 64 - size + 1, (5, 12, 2, 2))
    positions[0, :2] = [[[0, 0], [64 - size, 64 - size]], [[3, 7], [3, 7]]]
    frames = render(images, positions, rule)
    assert (frames.shape, frames.dtype) == ((5, 12, 64, 64), np.uint8)
    for clip in range(5):
        for frame in range(12):
            assert np.array_equal(frames[clip, frame], slow_frame(images[clip], positions[clip, frame], rule))


@pytest.mark.parametrize("rule", ["A", "B"])
def test_a_scene_depends_on_its_number_alone(rule):
    whole = scenes(range(40), rule=rule)
    other_order = scenes([7, 3, 39], rule=rule)
    for one, other in zip(whole, other_order, strict=True):
        assert np.array_equal(one[[7, 3, 39]], other)
    for changed in (scenes(seed=2, rule=rule), scenes(split="val", rule=rule), scenes(range(40, 80), rule=rule)):
        same = (changed.positions == whole.positions).all((1, 2, 3))
        assert not same.any()
        assert not np.array_equal(changed.glyphs, whole.glyphs)


@pytest.mark.parametrize("rule", ["A", "B"])
def test_a_longer_scene_goes_on_where_a_shorter_one_ends(rule):
    long, short = scenes(rule=rule), scenes(rule=rule, length=8, pair_gap=(2, 3))
    assert np.array_equal(long.positions[:, :8], short.positions)
    assert np.array_equal(long.glyphs, short.glyphs)


def test_draws_fill_what_they_may():
    a, b = (scenes(range(600), num_glyphs=3, rule=rule) for rule in "AB")
    for each in (a, b):
        assert sorted(map(tuple, np.unique(each.glyphs, axis=0))) == [(i, j) for i in range(3) for j in range(3)]
    steps = np.diff(b.positions, axis=1)
    assert set(np.unique(steps)) == set(range(-4, 5))
    assert set(np.unique(b.positions[:, 0])) == set(range(32))
    # Far from the walls nothing turns: 7 steps of 3.6 pixels, up to the whole pixels at both ends.
    inner = ((a.positions[:, :8] > 0) & (a.positions[:, :8] < 32)).all((1, 3))
    ways = np.linalg.norm(a.positions[:, 7] - a.positions[:, 0], axis=-1)[inner]
    assert len(ways) > 100
    assert np.abs(ways - 7 * 3.6).max() <= 2**0.5
    directions = np.sign(a.positions[:, 1] - a.positions[:, 0]).reshape(-1, 2)
    assert {(-1, -1), (-1, 1), (1, -1), (1, 1)} <= set(map(tuple, directions))


def test_pairs_keep_their_distance_in_both_orders():
    pairs = scenes(range(3000), pair_gap=(3, 25)).pairs
    gaps, counts = np.unique(np.abs(pairs[:, 1] - pairs[:, 0]), return_counts=True)
    assert gaps.tolist() == list(range(3, 26))
    expected = 3000 / 23
    assert np.abs(counts - expected).max() < 5 * expected**0.5, "all distances are equally likely"
    assert abs((pairs[:, 0] < pairs[:, 1]).mean() - 0.5) < 5 * 0.5 / 3000**0.5
    assert (pairs.min(), pairs.max()) == (0, 25)
    near = np.sort(scenes(range(1000), pair_gap=(2, 9)).pairs, axis=-1)
    of_two = near[near[:, 1] - near[:, 0] == 2]
    assert set(of_two[:, 0]) == set(range(24)), "the earlier frame may be any that leaves room"


def test_pairs_of_a_short_scene_go_as_far_as_it_goes():
    pairs = scenes(range(200), length=4, pair_gap=(2, 25)).pairs
    assert set(np.abs(pairs[:, 1] - pairs[:, 0])) == {2, 3}
    assert pairs.max() < 4


@pytest.mark.parametrize("rule", ["A", "B"])
def test_centres_are_those_of_what_is_drawn(rule):
    size = DIGIT_SIZES[rule]
    images = np.zeros((6, 2, size, size), np.uint8)
    images[:, 0, size // 2 - 3 : size // 2 + 3, size // 2 - 5 : size // 2 + 5] = 90
    positions = scenes(range(6), rule=rule).positions
    frames, points = render(images, positions, rule).astype(float), centres(positions, rule)
    assert (points.shape, points.dtype) == ((6, 26, 2, 2), np.float32)
    rows, columns = np.indices((64, 64))
    mass = frames.sum((-1, -2))
    centroid = np.stack([(frames * columns).sum((-1, -2)) / mass, (frames * rows).sum((-1, -2)) / mass], -1)
    np.testing.assert_allclose(points[:, :, 0], centroid, atol=1e-4)
    swapped = centres(positions[:, :, ::-1], rule)
    assert np.array_equal(swapped[:, :, 1], points[:, :, 0])


def test_the_55_classes():
    table = {pair: label for label, pair in enumerate(combinations_with_replacement(range(10), 2))}
    assert len(table) == len(PAIR_NAMES) == 55
    for (low, high), label in table.items():
        found = pair_labels(np.array([[low, high], [high, low]], np.uint8))
        assert found.tolist() == [label, label]
        assert found.dtype == np.int64
        assert PAIR_NAMES[label] == f"{low} {high}"
