"""Displacement distances against slow loops, by hand, and what must not change them."""

import doctest
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_zoo.metrics import keypoint_displacement
from lightning_zoo.metrics.keypoint_displacement import MOST_UNORDERED, RetrievalDistance, displacement_distance

READINGS = [(reduction, unordered) for reduction in ("mean", "sum") for unordered in (False, True)]


def slowly(query, retrieved, reduction, unordered):
    """Of one pair of clips (T, K, 2), number by number."""
    frames, count = query.shape[:2]
    found = []
    for order in permutations(range(count)) if unordered else [range(count)]:
        distances = []
        for track, other in enumerate(order):
            for t in range(frames - 1):
                first = query[t + 1, track] - query[t, track]
                second = retrieved[t + 1, other] - retrieved[t, other]
                distance = abs(first[0] - second[0]) + abs(first[1] - second[1])
                if not math.isnan(distance):
                    distances.append(distance)
        if distances:
            mean = sum(distances) / len(distances)
            found.append(mean if reduction == "mean" else mean * (frames - 1) * count)
    return min(found, default=math.nan)


def keypoints(generator, clips, frames, count, unknown=0.0):
    values = generator.uniform(0, 64, (clips, frames, count, 2))
    values[generator.random(values.shape) < unknown] = np.nan
    return torch.from_numpy(values)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_distances_and_both_ends_equal_slow_loops(data):
    reduction, unordered = data.draw(st.sampled_from(READINGS))
    frames, count = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 3))
    unknown = data.draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    queries = keypoints(generator, data.draw(st.integers(1, 4)), frames, count, unknown)
    database = keypoints(generator, data.draw(st.integers(2, 5)), frames, count, unknown)
    table = np.array([[slowly(q, d, reduction, unordered) for d in database.numpy()] for q in queries.numpy()])
    rows = torch.from_numpy(generator.integers(0, len(database), len(queries)))
    found = displacement_distance(queries, database[rows], reduction, unordered)
    assert found.tolist() == pytest.approx(table[range(len(queries)), rows].tolist(), abs=1e-9, nan_ok=True)

    itself = generator.integers(-1, len(database), len(queries))
    judge = RetrievalDistance(
        queries, database, reduction=reduction, unordered=unordered, exclude=torch.from_numpy(itself), resamples=2
    )
    table[np.arange(len(database)) == itself[:, None]] = np.nan
    for query, allowed in enumerate(table):
        known = allowed[~np.isnan(allowed)]
        ends = judge.random.distances[query].item(), judge.oracle.distances[query].item()
        expected = (known.mean(), known.min()) if len(known) else (math.nan, math.nan)
        assert ends == pytest.approx(expected, abs=1e-9, nan_ok=True)
        chosen = judge.oracle_indices[query].item()
        assert chosen == -1 if not len(known) else allowed[chosen] == pytest.approx(known.min(), abs=1e-9)


def test_two_digits_by_hand():
    # One runs right by 3, one down by 2; retrieved in the other order, the first of them a pixel too slow in y.
    right, down = torch.tensor([[0.0, 0], [3, 0], [6, 0]]), torch.tensor([[9.0, 1], [9, 3], [9, 5]])
    slow = torch.tensor([[2.0, 2], [2, 3], [2, 4]])
    query, retrieved = torch.stack([right, down], 1)[None], torch.stack([slow, right], 1)[None]
    by_reading = {reading: displacement_distance(query, retrieved, *reading).item() for reading in READINGS}
    # In the order given: two steps of |3 - 0| + |0 - 1| and of |0 - 3| + |2 - 0|. In the best: two steps of |2 - 1|.
    assert by_reading == {("mean", False): 4.5, ("mean", True): 0.5, ("sum", False): 18.0, ("sum", True): 2.0}


def test_unknown_frames_by_hand():
    # Steps 1, nan, nan, 4 against 0: two are known, each keypoint unknown in one frame loses two steps.
    query = torch.tensor([0.0, 1, torch.nan, 5, 9]).view(1, 5, 1, 1) * torch.tensor([1.0, 0])
    still = torch.zeros(1, 5, 1, 2)
    assert displacement_distance(query, still, "mean").item() == 2.5
    assert displacement_distance(query, still, "sum").item() == 10.0
    assert displacement_distance(still * torch.nan, still).isnan().all()


@pytest.mark.parametrize(("reduction", "unordered"), READINGS)
def test_where_a_clip_is_does_not_matter(reduction, unordered):
    generator = np.random.default_rng(0)
    first, second = (keypoints(generator, 20, 8, 2, unknown=0.1) for _ in range(2))
    shift = keypoints(generator, 20, 1, 1)
    expected = displacement_distance(first, second, reduction, unordered)
    for moved in ((first + shift, second), (first, second - shift)):
        torch.testing.assert_close(displacement_distance(*moved, reduction, unordered), expected)
    torch.testing.assert_close(displacement_distance(second, first, reduction, unordered), expected)
    assert displacement_distance(first, first + shift, reduction, unordered).max() < 1e-9


@pytest.mark.parametrize("count", [2, 4])
def test_the_order_matters_only_if_there_is_one(count):
    generator = np.random.default_rng(1)
    first, second = (keypoints(generator, 20, 8, count) for _ in range(2))
    swapped = second.roll(1, dims=2)
    ordered = displacement_distance(first, second)
    assert not torch.allclose(displacement_distance(first, swapped), ordered)
    torch.testing.assert_close(displacement_distance(first.roll(1, dims=2), swapped), ordered)
    unordered = displacement_distance(first, second, unordered=True)
    torch.testing.assert_close(displacement_distance(first, swapped, unordered=True), unordered)
    assert (unordered <= ordered + 1e-9).all()


@pytest.mark.parametrize(("reduction", "unordered"), READINGS)
def test_no_retrieval_is_below_the_oracle(reduction, unordered):
    generator = np.random.default_rng(2)
    queries, database = keypoints(generator, 30, 5, 2, unknown=0.05), keypoints(generator, 40, 5, 2, unknown=0.05)
    groups = torch.arange(30) % 3, torch.arange(40) % 5
    judge = RetrievalDistance(queries, database, reduction=reduction, unordered=unordered, forbidden=groups)
    wanted = {f"by {step}": (torch.arange(30) % 3 + 1) % 5 + 5 * (torch.arange(30) % 8) for step in range(2)}
    wanted["best"] = judge.oracle_indices
    rows = judge.table(wanted)
    assert list(rows) == ["random", "by 0", "by 1", "best", "oracle"]
    for row in rows.values():
        assert (row.distances >= rows["oracle"].distances - 1e-9).all()
        assert row.low <= row.mean <= row.high
        assert row.judged == 30
    assert rows["best"].mean == pytest.approx(rows["oracle"].mean, abs=1e-9)
    assert rows["oracle"].mean < rows["random"].mean
    pairs = judge.of(torch.stack([wanted["best"], wanted["by 0"]], 1)).distances
    torch.testing.assert_close(pairs, (rows["best"].distances + rows["by 0"].distances) / 2)


def test_blocks_of_pairs_do_not_matter(monkeypatch):
    generator = np.random.default_rng(3)
    clips = [keypoints(generator, number, 4, 2, unknown=0.1) for number in (13, 17)]
    expected = RetrievalDistance(*clips, unordered=True)
    monkeypatch.setattr(keypoint_displacement, "_NUMBERS_AT_ONCE", 4 * 17 * 3)
    found = RetrievalDistance(*clips, unordered=True)
    assert torch.equal(found.oracle_indices, expected.oracle_indices)
    torch.testing.assert_close(found.random.distances, expected.random.distances)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        steps = torch.from_numpy(generator.exponential(1.0, 40))
        queries = torch.zeros(40, 2, 1, 2, dtype=torch.float64)
        queries[:, 1, 0, 0] = steps
        row = RetrievalDistance(queries, torch.zeros(1, 2, 1, 2), resamples=200, seed=seed).random
        covered += row.low <= 1.0 <= row.high
    assert 170 <= covered <= 199  # of 190 expected; small samples of a skewed distance cover a little less


def test_clips_of_one_video_are_drawn_together():
    generator = np.random.default_rng(5)
    clips = keypoints(generator, 12, 3, 1)
    repeated, videos = clips.repeat_interleave(9, dim=0), torch.arange(12).repeat_interleave(9)
    database = keypoints(generator, 5, 3, 1)
    alone = RetrievalDistance(clips, database, seed=7).random
    together = RetrievalDistance(repeated, database, videos=videos, seed=7).random
    apart = RetrievalDistance(repeated, database, seed=7).random
    assert together[:3] == pytest.approx(alone[:3])
    assert apart.high - apart.low < (alone.high - alone.low) / 2
    assert RetrievalDistance(clips, database, seed=7).random[:3] == alone[:3]


def test_a_draw_weighs_videos_by_their_clips():
    # One clip at distance 2, three of another video at 6: two draws give 2, 5 or 6, either end in a quarter of cases.
    queries = torch.zeros(4, 2, 1, 2)
    queries[:, 1, 0, 0] = torch.tensor([2.0, 6, 6, 6])
    row = RetrievalDistance(queries, torch.zeros(1, 2, 1, 2), videos=torch.tensor([3, 8, 8, 8])).random
    assert row[:3] == (5.0, 2.0, 6.0)


def test_queries_without_keypoints_are_not_judged():
    clips = keypoints(np.random.default_rng(6), 4, 3, 2)
    clips[1] = torch.nan
    judge = RetrievalDistance(clips, clips[[0, 2]])
    assert judge.random.judged == judge.oracle.judged == 3
    assert judge.random.distances.isnan().tolist() == [False, True, False, False]
    assert judge.oracle_indices.tolist()[:3] == [0, -1, 1]
    nobody = RetrievalDistance(clips[1:2], clips).random
    assert nobody.judged == 0
    assert all(math.isnan(number) for number in nobody[:3])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"reduction": "median"}, "reduction='median' is none of 'mean', 'sum'"),
        ({"query": torch.ones(3, 2)}, "query must be"),
        ({"query": torch.ones(3, 1, 7, 2)}, "query must be"),
        ({"retrieved": torch.ones(3, 8, 7, 3)}, "retrieved must be"),
        ({"retrieved": torch.ones(3, 8, 5, 2)}, r"must agree in frames and keypoints, got \(8, 7, 2\) and \(8, 5, 2\)"),
        ({"retrieved": torch.ones(2, 8, 7, 2)}, "query has 3 clips, retrieved 2"),
        ({"unordered": True}, f"of at most {MOST_UNORDERED} keypoints, got 7"),
    ],
)
def test_a_wrong_argument_gets_one_line(arguments, line):
    fitting = {"query": torch.ones(3, 8, 7, 2), "retrieved": torch.ones(3, 8, 7, 2)}
    with pytest.raises(ValueError, match=line) as raised:
        displacement_distance(**(fitting | arguments))
    assert "\n" not in str(raised.value)


def test_indices_that_the_search_could_not_have_found_are_refused():
    clips = torch.ones(3, 2, 1, 2)
    judge = RetrievalDistance(clips, clips, exclude=torch.arange(3))
    for indices, line in (
        (torch.tensor([1, 1, 0]), "query 1 may not be answered with row 1"),
        (torch.tensor([[1, 2], [0, 2], [0, 2]]), "query 2 may not be answered with row 2"),
        (torch.tensor([1, 2, 3]), "rows of the database, 0 to 2"),
        (torch.tensor([1, -1, 1]), "rows of the database, 0 to 2"),
        (torch.tensor([1, 2]), "k for each of 3 queries"),
        (torch.tensor([1.0, 2.0, 0.0]), "must be integers"),
    ):
        with pytest.raises(ValueError, match=line):
            judge.of(indices)
    with pytest.raises(ValueError, match="query 0 may be answered with 0"):
        RetrievalDistance(clips, clips, forbidden=(torch.zeros(3).long(), torch.zeros(3).long()))
    with pytest.raises(ValueError, match="videos must name the video of each of 3 queries"):
        RetrievalDistance(clips, clips, videos=torch.arange(2))


def test_the_example_holds():
    assert doctest.testmod(keypoint_displacement).failed == 0
