"""Episodes, splits and labels, each against the slow reading of its definition on hand-made recordings."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.atari_emulator import CollectionSettings
from datamodules.atari_protocol import CLEAN, PAPER, make_protocol
from datamodules.atari_sampling import (
    clip_rows,
    clips_per_epoch,
    episode_uniform,
    training_plan,
    with_same_episode_rows,
)
from datamodules.atari_splits import Episodes, find_episodes, label_entropies, label_frames, split_episodes
from datamodules.atari_store import Recording
from datamodules.errors import DataError


def recording(streams, frames=None, ram=None):
    """Episodes of given lengths, [[5, 3], [4]] for two streams; a stream's last one is cut, not ended."""
    total = sum(map(sum, streams))
    columns = {
        "ram": np.zeros((total, 128), np.uint8) if ram is None else ram,
        "terminated": np.zeros(total, bool),
        "truncated": np.zeros(total, bool),
        "episode_start": np.zeros(total, bool),
        "stream": np.zeros(total, np.int16),
    }
    row = 0
    for stream, lengths in enumerate(streams):
        for index, length in enumerate(lengths):
            columns["episode_start"][row] = True
            columns["stream"][row : row + length] = stream
            row += length
            columns["terminated"][row - 1] = index < len(lengths) - 1
    frames = [str(index).encode() for index in range(total)] if frames is None else frames
    settings = CollectionSettings(
        game="pong", num_frames=max(total, 2 * len(streams)), seed=0, num_streams=len(streams)
    )
    return Recording(Path("made.h5"), settings, {}, frames, columns)


def protocol(**changes):
    return make_protocol("clean", {"min_episode_frames": 1} | changes)


def rows_of(episodes):
    return [list(range(start, start + length)) for start, length in zip(episodes.starts, episodes.lengths, strict=True)]


def test_clean_episodes_are_all_rows():
    assert rows_of(find_episodes(recording([[3, 2], [4]]), protocol())) == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]


def test_paper_episodes_lack_the_terminal_frames_and_each_streams_first_reset():
    # Rows 2 and 8 ended episodes; rows 0 and 5 are what a stream showed before the first step.
    paper = protocol(first_frames="mislabelled", terminal_frames=False)
    assert rows_of(find_episodes(recording([[3, 2], [4, 2]]), paper)) == [[1], [3, 4], [6, 7], [9, 10]]


def test_first_frames_can_be_dropped():
    assert rows_of(find_episodes(recording([[3, 2]]), protocol(first_frames="dropped"))) == [[1, 2], [4]]


def test_short_episodes_are_left_out_and_named_when_none_remains():
    made = recording([[3, 5, 2]])
    assert rows_of(find_episodes(made, protocol(min_episode_frames=3))) == [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert rows_of(find_episodes(made, protocol(), min_frames=4)) == [[3, 4, 5, 6, 7]]
    with pytest.raises(DataError, match=r"made.h5 has no episode of 6 frames \(the longest has 5\)"):
        find_episodes(made, protocol(min_episode_frames=6))


@given(number=st.integers(3, 40), seed=st.integers(0, 5), order=st.sampled_from(["collected", "shuffled"]))
def test_splits_are_disjoint_whole_and_never_empty(number, seed, order):
    episodes = Episodes(np.arange(number), np.ones(number, int))
    parts = split_episodes(episodes, (0.7, 0.1, 0.2), protocol(split_order=order), seed)
    together = np.concatenate([part.starts for part in parts])
    assert sorted(together) == list(range(number))
    assert all(len(part) for part in parts)
    assert (list(together) == list(range(number))) == (order == "collected") or number < 5
    again = split_episodes(episodes, (0.7, 0.1, 0.2), protocol(split_order=order), seed)
    assert all((one.starts == two.starts).all() for one, two in zip(parts, again, strict=True))


def test_published_shares_on_a_round_number():
    parts = split_episodes(Episodes(np.arange(20), np.ones(20, int)), (0.7, 0.1, 0.2), PAPER, 0)
    assert [len(part) for part in parts] == [14, 2, 4]
    assert [len(part) for part in split_episodes(Episodes(np.arange(10), np.ones(10, int)), (0.8, 0.2), PAPER, 0)] == [
        8,
        2,
    ]


def test_too_few_episodes_are_named():
    with pytest.raises(DataError, match="2 episodes cannot be split into 3 parts"):
        split_episodes(Episodes(np.arange(2), np.ones(2, int)), (0.7, 0.1, 0.2), CLEAN, 0)


def test_entropy_in_nats():
    labels = np.stack([np.repeat([0, 1, 2, 255], 25), np.zeros(100, int), np.repeat([7, 9], [75, 25])], 1)
    expected = [np.log(4), 0, -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))]
    np.testing.assert_allclose(label_entropies(labels), expected)


def random_ram(total, seed=0):
    return np.random.default_rng(seed).integers(0, 50, (total, 128), np.uint8)


def test_labels_are_the_bytes_of_the_variables():
    made = recording([[30, 30], [30, 30]], ram=random_ram(120))
    variables, splits = label_frames(made, protocol(duplicates="none"), seed=0)
    assert [variable.name for variable in variables] == [
        "player_y", "enemy_y", "ball_x", "ball_y", "enemy_score", "player_score",
    ]  # fmt: skip
    for split in splits.values():
        for row, label in zip(split.rows, split.labels, strict=True):
            assert label.tolist() == made.columns["ram"][row, [51, 50, 49, 54, 13, 14]].tolist()
    together = np.concatenate([split.rows for split in splits.values()])
    assert sorted(together) == list(range(120))


def test_the_papers_first_frames_have_the_ram_from_before_the_reset():
    made = recording([[30] * 5, [30] * 5], ram=random_ram(300))
    paper = protocol(first_frames="mislabelled", terminal_frames=False, duplicates="none", split_order="collected")
    _, splits = label_frames(made, paper, seed=0)
    seen = 0
    for split in splits.values():
        for row, label in zip(split.rows, split.labels, strict=True):
            first = made.columns["episode_start"][row]
            seen += first
            source = row - 1 if first else row
            assert label[0] == made.columns["ram"][source, 51]
    assert seen == 8, "the two streams' very first frames are unknown to the original"


def test_variables_without_entropy_are_left_out_and_none_is_an_error():
    ram = random_ram(120)
    ram[:, [13, 14]] = 3
    names = [variable.name for variable in label_frames(recording([[30] * 4], ram=ram), protocol(), 0)[0]]
    assert names == ["player_y", "enemy_y", "ball_x", "ball_y"]
    with pytest.raises(DataError, match="no variable of pong has an entropy of 0.6 nats"):
        label_frames(recording([[30] * 4]), protocol(), 0)


@pytest.mark.parametrize("duplicates", ["none", "test", "all"])
def test_duplicates(duplicates):
    # Every tenth frame looks the same in all episodes; so does one frame per neighbour.
    frames = [b"same" if row % 10 == 0 else str(row).encode() for row in range(300)]
    made = recording([[30] * 10], frames=frames, ram=random_ram(300))
    _, splits = label_frames(made, protocol(duplicates=duplicates, split_order="collected"), 0)
    pixels = {name: {frames[row] for row in split.rows} for name, split in splits.items()}
    sizes = {name: len(split.rows) for name, split in splits.items()}
    assert sizes["train"] == 210, "training frames are never dropped"
    assert (b"same" in pixels["val"]) == (duplicates != "all")
    assert (b"same" in pixels["test"]) == (duplicates == "none")
    assert sizes["test"] == (60 if duplicates == "none" else 54)


def test_a_split_of_duplicates_alone_is_named():
    made = recording([[30] * 10], frames=[b"same"] * 300, ram=random_ram(300))
    with pytest.raises(DataError, match="every frame of the val split of made.h5 is in an earlier split"):
        label_frames(made, protocol(), 0)


@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=5), clip_length=st.integers(1, 3))
def test_clips_are_consecutive_within_one_episode(lengths, clip_length):
    starts = np.cumsum([0, *lengths[:-1]])
    episodes = Episodes(starts, np.array(lengths))
    keep = episodes.select(episodes.lengths >= clip_length)
    if not len(keep):
        return
    clips, index = clip_rows(keep, clip_length, CLEAN)
    expected = [
        (episode, list(range(start + offset, start + offset + clip_length)))
        for episode, (start, length) in enumerate(zip(keep.starts, keep.lengths, strict=True))
        for offset in range(length - clip_length + 1)
    ]
    assert [(episode, clip.tolist()) for episode, clip in zip(index, clips, strict=True)] == expected


def test_the_papers_pairs_wrap():
    clips, _ = clip_rows(Episodes(np.array([0, 4]), np.array([4, 3])), 2, PAPER)
    assert clips.tolist() == [[3, 0], [0, 1], [1, 2], [2, 3], [6, 4], [4, 5], [5, 6]]


def test_sampling_by_episode_is_uniform_over_episodes():
    episode_of_item = np.repeat([0, 1, 2], [1, 10, 89])
    plan = episode_uniform(episode_of_item, 30_000, seed=0)
    shares = np.bincount(episode_of_item[plan(0).numpy()], minlength=3) / 30_000
    # Three standard errors of a share of one third.
    np.testing.assert_allclose(shares, 1 / 3, atol=3 * np.sqrt(1 / 3 * 2 / 3 / 30_000))
    assert not np.array_equal(plan(0), plan(1))


def test_sampling_by_frame_shows_nothing_twice():
    plan = training_plan(np.zeros(50, int), CLEAN, 50, seed=0)
    assert sorted(plan(3).tolist()) == list(range(50))
    assert len(set(training_plan(np.zeros(50, int), CLEAN, 7, seed=0)(0).tolist())) == 7


@pytest.mark.parametrize(
    ("clip_length", "protocol", "number"),
    [(2, CLEAN, 900), (3, PAPER, 900), (100, CLEAN, 9), (100, PAPER, 500), (1000, CLEAN, 1)],
)
def test_long_clips_do_not_start_at_every_frame(clip_length, protocol, number):
    assert clips_per_epoch(900, 5, clip_length, protocol) == number


def test_negatives_are_of_the_same_episode():
    episodes = Episodes(np.array([0, 10, 14]), np.array([10, 4, 30]))
    _, index = clip_rows(episodes, 2, CLEAN)
    plan = with_same_episode_rows(training_plan(index, CLEAN, len(index), 0), episodes, index, seed=0)
    drawn = set()
    for epoch in range(200):
        for item, row in plan(epoch).tolist():
            start, length = episodes.starts[index[item]], episodes.lengths[index[item]]
            assert start <= row < start + length
            drawn.add(row)
    assert drawn == set(range(44)), "every frame of an episode can be drawn"
    assert [item for item, _ in plan(5).tolist()] == training_plan(index, CLEAN, len(index), 0)(5).tolist()


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("other", {}, "preset must be 'clean' or 'paper', got 'other'"),
        ("clean", {"min_episode_frames": 0}, "min_episode_frames must be at least 1"),
        ("clean", {"entropy_threshold": -1.0}, "entropy_threshold must not be negative"),
    ],
)
def test_bad_protocols_are_named(preset, changes, message):
    with pytest.raises(ValueError, match=message):
        make_protocol(preset, changes)


def test_a_change_of_none_keeps_the_preset():
    assert make_protocol("paper", {"sampling": None, "duplicates": "none"}).sampling == "episode"
    assert make_protocol("paper", {"sampling": None, "duplicates": "none"}).duplicates == "none"
