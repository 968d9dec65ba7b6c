"""Which frames make clips and pairs: orders without a video twice in a batch, draws within bounds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.clip_index import clips_in_order, draw_below, draw_order, draw_pairs, draw_starts

SEEDS = st.integers(0, 2**31)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@given(lengths=LENGTHS, num_frames=st.integers(2, 9), seed=SEEDS)
def test_clips_in_order_are_a_slow_loop(lengths, num_frames, seed):
    tensor = torch.tensor(lengths)
    starts = tensor.cumsum(0) - tensor
    videos = torch.randperm(len(lengths), generator=generator(seed))[: max(1, len(lengths) // 2)]
    expected = [
        [video, int(starts[video]) + first]
        for video in videos.tolist()
        for first in range(0, lengths[video] - num_frames + 1, num_frames)
    ]
    assert clips_in_order(starts, tensor, videos, num_frames).tolist() == expected


@given(num_videos=st.integers(1, 20), rounds=st.integers(1, 5), share=st.floats(0, 1), seed=SEEDS)
def test_an_order_holds_every_video_once_per_round_and_once_per_batch(num_videos, rounds, share, seed):
    batch = max(1, round(share * num_videos))
    order = draw_order(num_videos, rounds, batch, generator(seed)).tolist()
    for round_ in range(rounds):
        assert sorted(order[round_ * num_videos : (round_ + 1) * num_videos]) == list(range(num_videos))
    for first in range(0, len(order), batch):
        part = order[first : first + batch]
        assert len(set(part)) == len(part)


def test_orders_differ_between_rounds():
    order = draw_order(50, 2, 50, generator(0))
    assert order[:50].tolist() != order[50:].tolist()


@given(lengths=st.lists(st.integers(8, 60), min_size=1, max_size=12), seed=SEEDS)
def test_starts_leave_room_for_the_clip(lengths, seed):
    starts = draw_starts(torch.tensor(lengths), 8, generator(seed))
    assert all(0 <= start <= length - 8 for start, length in zip(starts.tolist(), lengths, strict=True))


def test_every_start_is_equally_likely():
    starts = draw_starts(torch.full((6000,), 13), 8, generator(0))
    assert starts.unique().tolist() == list(range(6))
    assert (starts.bincount() - 1000).abs().max() < 150  # five standard deviations


@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=12),
    least=st.integers(1, 30),
    more=st.integers(0, 30),
    seed=SEEDS,
)
def test_pairs_lie_in_their_video_at_the_distance(lengths, least, more, seed):
    pairs = draw_pairs(torch.tensor(lengths), (least, least + more), generator(seed))
    for (source, target), length in zip(pairs.tolist(), lengths, strict=True):
        assert min(source, target) >= 0
        assert max(source, target) < length
        distance = abs(source - target)
        assert min(least, length - 1) <= distance <= min(least + more, length - 1)


def test_pairs_take_all_distances_and_both_directions():
    pairs = draw_pairs(torch.full((2000,), 40), (5, 25), generator(0))
    distance = pairs[:, 1] - pairs[:, 0]
    assert distance.abs().unique().tolist() == list(range(5, 26))
    assert 850 < int((distance > 0).sum()) < 1150
    assert pairs.unique().tolist() == list(range(40))


@settings(max_examples=30)
@given(bounds=st.lists(st.integers(1, 2**40), min_size=1, max_size=50), seed=SEEDS)
def test_draws_stay_below_their_bound(bounds, seed):
    drawn = draw_below(torch.tensor(bounds), generator(seed)).tolist()
    assert all(0 <= value < bound for value, bound in zip(drawn, bounds, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_gives_one_draw(seed):
    lengths = torch.full((20,), 30)
    assert draw_pairs(lengths, (1, 25), generator(seed)).equal(draw_pairs(lengths, (1, 25), generator(seed)))
