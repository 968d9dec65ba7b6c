"""The ring against lists of whole episodes: every starting point, every field, whatever episodes do."""

import math
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from datamodules import frame_replay, replay_file
from datamodules.errors import DataError
from datamodules.frame_replay import FrameReplay
from datamodules.starting_points import DENSE

DISCOUNT = 0.9
EVENTS = ("go", "go", "go", "terminate", "truncate", "both", "cut", "go on", "restart")


class Episode:
    """One episode of one environment, whole: frame i + 1 follows transition i; end is how it ended, if it did."""

    def __init__(self, first_time, frame):
        self.first_time = first_time
        self.frames = [frame]
        self.actions = []
        self.rewards = []
        self.end = None


class ListReplay:
    """What `FrameReplay` promises, without a ring: all episodes are kept; what is too old is left out by its time."""

    def __init__(self, rows, num_envs, stack, num_steps, padding):
        self.rows, self.num_envs, self.stack, self.num_steps, self.padding = rows, num_envs, stack, num_steps, padding
        self.episodes = [[] for _ in range(num_envs)]
        self.time = -1

    def begin(self, frames):
        self.time += 1
        for env in range(self.num_envs):
            self.start_episode(env, frames[env])

    def start_episode(self, env, frame):
        if self.episodes[env] and self.episodes[env][-1].end is None:
            self.episodes[env][-1].end = "cut"
        self.episodes[env].append(Episode(self.time, frame))

    def add(self, actions, rewards, terminated, truncated, frames, reset):
        self.time += 1
        for env in range(self.num_envs):
            if reset[env]:
                self.start_episode(env, frames[env])
                continue
            episode = self.episodes[env][-1]
            if episode.end is not None:  # a life was lost and the game goes on from the same frame
                episode = Episode(self.time - 1, episode.frames[-1])
                self.episodes[env].append(episode)
            episode.actions.append(actions[env])
            episode.rewards.append(float(rewards[env]))
            episode.frames.append(frames[env])
            if truncated[env]:
                episode.end = "truncated"
            if terminated[env]:
                episode.end = "terminated"

    def points(self):
        """From index to (environment, episode, transition), of all windows that are complete and not overwritten."""
        found = {}
        for env, episodes in enumerate(self.episodes):
            for episode in episodes:
                for i in range(len(episode.actions)):
                    complete = i + self.num_steps <= len(episode.actions)
                    ended = episode.end in ("terminated", "truncated")
                    oldest_needed = episode.first_time + max(0, i - self.stack + 1)
                    if (complete or ended) and oldest_needed > self.time - self.rows:
                        found[(episode.first_time + i) % self.rows * self.num_envs + env] = (env, episode, i)
        return found

    def fields(self, episode, i):
        stop = min(i + self.num_steps, len(episode.actions))
        terminal = stop == len(episode.actions) and episode.end == "terminated"
        return {
            "observations": self.stacked(episode, i),
            "actions": episode.actions[i],
            "rewards": math.fsum(DISCOUNT ** (j - i) * episode.rewards[j] for j in range(i, stop)),
            "discounts": 0.0 if terminal else DISCOUNT ** (stop - i),
            "next_observations": self.stacked(episode, stop),
        }

    def stacked(self, episode, i):
        before = np.zeros_like(episode.frames[0]) if self.padding == "zeros" else episode.frames[0]
        return np.concatenate([episode.frames[j] if j >= 0 else before for j in range(i - self.stack + 1, i + 1)])


def numbered_frames(number, num_envs):
    """Frames uint8 (E, 2, 1, 2) of which no two are alike and none is zero; the two channels differ."""
    values = 1 + number * num_envs + np.arange(num_envs)
    frames = np.stack([values % 251 + 1, values // 251, values // 251 + 1, values % 251], axis=-1)
    return frames.astype(np.uint8).reshape(num_envs, 2, 1, 2)


class Pair:
    """The fast and the slow replay under the same events."""

    def __init__(self, rows, num_envs, stack, num_steps, padding, seed=0):
        self.fast = FrameReplay(
            rows * num_envs + num_envs - 1,
            num_envs,
            (2, 1, 2),
            torch.uint8,
            (),
            np.int64,
            stack=stack,
            num_steps=num_steps,
            discount=DISCOUNT,
            padding=padding,
        )
        self.slow = ListReplay(rows, num_envs, stack, num_steps, padding)
        self.generator = np.random.default_rng(seed)
        self.ended = np.zeros(num_envs, bool)
        self.calls = 0
        self.begin()

    def both(self, name, *arguments):
        for replay in (self.fast, self.slow):
            getattr(replay, name)(*arguments)
        self.calls += 1

    def begin(self):
        self.ended[:] = False
        self.both("begin", numbered_frames(self.calls, len(self.ended)))

    def step(self, events):
        """One event per environment; after an end all but "go on" is the autoreset."""
        if events[0] == "restart":
            self.begin()
            return
        events = np.array(events)
        reset = np.where(self.ended, events != "go on", events == "cut")
        terminated, truncated = np.isin(events, ("terminate", "both")), np.isin(events, ("truncate", "both"))
        rewards = self.generator.normal(size=len(events)).astype(np.float32)
        rewards[reset] = np.nan  # no transition: it must not be seen anywhere
        actions = self.generator.integers(0, 1000, len(events))
        frames = numbered_frames(self.calls, len(events))
        self.both("add", actions, rewards, terminated, truncated, frames, reset)
        self.ended = (terminated | truncated) & ~reset

    def check(self):
        expected = self.slow.points()
        index = self.fast.starting_points()
        assert sorted(index.tolist()) == sorted(expected)
        assert len(self.fast) == len(expected)
        if expected:
            self.check_batch(self.fast.gather(index), expected)
            self.check_batch(self.fast.sample(5, torch.Generator().manual_seed(self.calls)), expected)

    def check_batch(self, batch, expected):
        for i, index in enumerate(batch["index"].tolist()):
            _, episode, transition = expected[index]
            fields = self.slow.fields(episode, transition)
            for name in ("observations", "next_observations", "actions"):
                np.testing.assert_array_equal(batch[name][i].numpy(), fields[name], err_msg=name)
            for name in ("rewards", "discounts"):
                assert batch[name][i].item() == pytest.approx(fields[name], rel=1e-6, abs=1e-6), name


shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 6))


@settings(deadline=None, max_examples=150)
@given(
    shape=shapes,
    padding=st.sampled_from(["zeros", "first"]),
    events=st.lists(st.tuples(*[st.sampled_from(EVENTS)] * 3), max_size=50),
)
def test_every_window_is_that_of_the_lists(shape, padding, events):
    num_envs, stack, num_steps, spare_rows = shape
    pair = Pair(stack + num_steps + 1 + spare_rows, num_envs, stack, num_steps, padding)
    for index, event in enumerate(events):
        pair.step(event[:num_envs])
        if index % 7 == 0:
            pair.check()
    pair.check()


@pytest.mark.parametrize(("num_envs", "stack", "num_steps"), [(1, 4, 10), (3, 4, 3), (2, 1, 1)])
def test_windows_stay_right_over_many_rounds_of_the_ring(num_envs, stack, num_steps):
    pair = Pair(37, num_envs, stack, num_steps, "zeros", seed=1)
    chances = [0.93, 0.02, 0.02, 0.005, 0.005, 0.015, 0.005]
    names = ["go", "terminate", "truncate", "both", "cut", "go on", "restart"]
    for step in range(700):
        pair.step(pair.generator.choice(names, num_envs, p=chances).tolist())
        if step % 50 == 49:
            pair.check()
    assert pair.slow.time > 15 * 37


def small_replay(num_envs=1, capacity=60, **arguments):
    defaults = {"stack": 4, "num_steps": 3, "discount": DISCOUNT}
    return FrameReplay(capacity, num_envs, (2, 1, 2), torch.uint8, (), torch.int64, **(defaults | arguments))


def play(replay, steps, seed=0, begin=True, first=0, chance=0.025):
    """Random episodes, of 20 steps on average; the same from the same seed."""
    generator = np.random.default_rng(seed)
    ended = np.zeros(replay.num_envs, bool)
    if begin:
        replay.begin(numbered_frames(first, replay.num_envs))
    for step in range(steps):
        reset = ended
        terminated, truncated = (generator.random((2, replay.num_envs)) < chance) & ~reset
        ended = terminated | truncated
        actions, rewards = generator.integers(0, 9, replay.num_envs), generator.normal(size=replay.num_envs)
        frames = numbered_frames(first + step + 1, replay.num_envs)
        replay.add(actions, rewards, terminated, truncated, frames, reset)
    return replay


def assert_equal_batches(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


def yes(*values):
    return np.array(values, bool)


def step(replay, frame, *, reward=0.0, terminated=False, truncated=False, reset=False, action=0):
    frames = numbered_frames(frame, 1)
    replay.add(np.array([action]), np.array([reward]), yes(terminated), yes(truncated), frames, yes(reset))


def test_a_worked_example():
    """Two steps and a termination, seen with three-step returns and two frames in a stack."""
    replay = small_replay(stack=2)
    replay.begin(numbered_frames(0, 1))
    step(replay, 1, reward=1.0, action=5)
    assert len(replay) == 0, "one of three steps"
    step(replay, 2, reward=10.0, terminated=True, action=6)
    batch = replay.gather(replay.starting_points())
    zero, first, second, third = torch.zeros(2, 1, 2), *(torch.from_numpy(numbered_frames(i, 1)[0]) for i in range(3))
    assert batch["index"].tolist() == [0, 1]
    assert batch["actions"].tolist() == [5, 6]
    assert batch["rewards"].tolist() == pytest.approx([1 + 0.9 * 10, 10])
    assert batch["discounts"].tolist() == [0, 0]
    assert (
        batch["observations"].tolist() == torch.stack([torch.cat([zero, first]), torch.cat([first, second])]).tolist()
    )
    assert batch["next_observations"].tolist() == torch.cat([second, third]).expand(2, -1, -1, -1).tolist()


def test_a_truncation_is_bootstrapped_from_the_final_frame_with_the_steps_there_were():
    replay = small_replay(stack=1)
    replay.begin(numbered_frames(0, 1))
    step(replay, 1)
    step(replay, 2, truncated=True)
    step(replay, 3, reset=True)
    batch = replay.gather(replay.starting_points())
    assert batch["discounts"].tolist() == pytest.approx([0.9**2, 0.9])
    assert batch["next_observations"].tolist() == numbered_frames(2, 1).repeat(2, axis=0).tolist()


def test_states_are_rows_of_numbers():
    replay = FrameReplay(20, 2, (3,), np.float32, (2,), "float32", discount=DISCOUNT)
    frames = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    no = yes(False, False)
    replay.begin(frames[0])
    for i in range(3):
        actions = torch.tensor([[0.0, 0.0], [0.5, 0.5]]) + i
        replay.add(actions, torch.tensor([1, 2]), no, no, torch.from_numpy(frames[i + 1]), no)
    batch = replay.gather(replay.starting_points())
    assert batch["observations"].shape == (6, 3)
    np.testing.assert_array_equal(batch["observations"], frames[:3].reshape(6, 3))
    np.testing.assert_array_equal(batch["next_observations"], frames[1:].reshape(6, 3))
    np.testing.assert_array_equal(batch["actions"], [[0, 0], [0.5, 0.5], [1, 1], [1.5, 1.5], [2, 2], [2.5, 2.5]])
    assert batch["rewards"].tolist() == [1, 2] * 3
    assert {name: value.dtype for name, value in batch.items()} == {
        "observations": torch.float32,
        "actions": torch.float32,
        "rewards": torch.float32,
        "discounts": torch.float32,
        "next_observations": torch.float32,
        "index": torch.int64,
    }


@pytest.mark.parametrize("padding", ["zeros", "first"])
def test_what_is_acted_on_is_what_is_stored(padding):
    """The observation of a lost life's frame is that of a new episode, as is the one stored with the next action."""
    pair = Pair(15, 2, 3, 1, padding)
    for events in [("go", "go"), ("go", "terminate"), ("go", "go on"), ("truncate", "go"), ("go", "go")] * 8:
        acted_on = pair.fast.last_observations()
        assert acted_on.shape == (2, 6, 1, 2)
        reset = pair.ended & (np.array(events) != "go on")
        place = pair.slow.time % 15 * 2
        pair.step(events)
        for env in np.flatnonzero(~reset):
            stored = pair.fast.gather(torch.tensor([place + env]))["observations"][0]
            torch.testing.assert_close(stored, acted_on[env])


@pytest.mark.parametrize("dense", [True, False], ids=["by trial", "from a list"])
def test_all_starting_points_are_equally_likely(dense):
    """Chi-square at a level of one in a thousand, for both ways of drawing."""
    replay = small_replay(2, 40 if dense else 2000, num_steps=6)
    for restart in range(21):  # each adds seven rows and, without an end in them, one starting point per environment
        play(replay, 111 if dense else 6, seed=restart, chance=0.05 if dense else 0)
    written = 40 if dense else 2 * 21 * 7
    assert (len(replay) * DENSE >= written) == dense
    assert 8 < len(replay) < written
    points = replay.starting_points()
    assert not dense or {0, written - 1} <= set(points.tolist()), "the ring's first and last cell are among them"
    generator = torch.Generator().manual_seed(3)
    index = torch.cat([replay.sample(1000, generator)["index"] for _ in range(20)])
    counts = (index[:, None] == points).sum(0)
    assert counts.sum() == 20_000
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_same_generator_draws_the_same_batch():
    replay = play(small_replay(2), 100)
    first, second = (replay.sample(16, torch.Generator().manual_seed(5)) for _ in range(2))
    assert_equal_batches(first, second)
    assert not torch.equal(first["index"], replay.sample(16, torch.Generator().manual_seed(6))["index"])


def test_a_hundred_thousand_atari_frames_take_less_than_three_quarters_of_a_gigabyte():
    replay = FrameReplay(100_000, 1, (1, 84, 84), torch.uint8, (), torch.int64, stack=4, num_steps=10, device="meta")
    per_transition = 8 + 4 + 1 + 1 + 1 + 1  # action, reward, terminated, ended, history, mark
    assert replay.num_bytes == 84 * 84 * (100_000 + 1) + 100_000 * per_transition
    assert replay.num_bytes < 0.75e9


@pytest.mark.parametrize("steps", [0, 17, 200], ids=["first frames", "half full", "full"])
def test_all_goes_on_from_a_file_as_without_it(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(replay_file, "CHUNK_BYTES", 64)
    replay = play(small_replay(2), steps)
    digest = replay.save(tmp_path / "new" / "replay")
    loaded = play(small_replay(2), 33, seed=9)  # what it held before is gone
    loaded.load_state_dict(replay.state_dict())
    loaded.load(tmp_path / "new" / "replay", digest)
    assert loaded.state_dict() == replay.state_dict()
    for _ in range(3):  # the open episode goes on
        torch.testing.assert_close(loaded.last_observations(), replay.last_observations())
        assert loaded.starting_points().tolist() == replay.starting_points().tolist()
        assert len(loaded) == len(replay)
        if len(replay):
            assert_equal_batches(*(r.sample(64, torch.Generator().manual_seed(1)) for r in (replay, loaded)))
        for each in (replay, loaded):
            play(each, 11, seed=2, begin=False, first=400)
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "replay"]


def test_the_hash_is_that_of_the_content(tmp_path):
    replay = play(small_replay(), 20)
    first = replay.save(tmp_path / "first")
    assert replay.save(tmp_path / "second") == first
    play(replay, 1, begin=False)
    assert replay.save(tmp_path / "third") != first


@pytest.mark.parametrize("damage", ["missing", "other", "flipped"])
def test_a_file_that_is_not_the_checkpoints_is_refused_and_nothing_is_lost(tmp_path, damage):
    path = tmp_path / "replay"
    replay = play(small_replay(), 30)
    digest = replay.save(path)
    before = replay.sample(64, torch.Generator().manual_seed(1))
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        play(small_replay(), 31).save(path)
    else:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        replay.load(path, digest)
    message = str(raised.value)
    assert str(path) in message
    assert "point to the replay that was saved with the checkpoint, or start with an empty memory" in message
    assert "\n" not in message
    assert_equal_batches(before, replay.sample(64, torch.Generator().manual_seed(1)))


def test_a_file_that_cannot_be_read_to_its_end_leaves_an_empty_memory(tmp_path, monkeypatch):
    replay = play(small_replay(), 30)
    digest = replay.save(tmp_path / "replay")

    def broken(*arguments):
        raise OSError("Input/output error")

    monkeypatch.setattr(frame_replay, "read_tensors", broken)
    with pytest.raises(OSError, match="Input/output error"):
        replay.load(tmp_path / "replay", digest)
    assert len(replay) == 0
    assert replay.state_dict()["written"] == 0
    play(replay, 5)
    assert 0 < len(replay) <= 5


@pytest.mark.parametrize("spare", [-1, 1])
def test_bytes_that_do_not_fit_are_refused(tmp_path, spare):
    digest = replay_file.save_tensors(tmp_path / "replay", {}, {"frames": torch.zeros(5 + spare)})
    assert replay_file.read_description(tmp_path / "replay", digest) == {}
    with pytest.raises(DataError, match="ends too early" if spare < 0 else "holds more"):
        replay_file.read_tensors(tmp_path / "replay", {"frames": torch.zeros(5)})


@pytest.mark.gpu
def test_frames_on_a_gpu_give_the_batches_of_the_cpu(tmp_path):
    on_cpu, on_gpu = play(small_replay(2), 200), play(small_replay(2, device="cuda"), 200)
    loaded = small_replay(2, device="cuda")
    loaded.load(tmp_path / "replay", on_cpu.save(tmp_path / "replay"))
    assert on_gpu.save(tmp_path / "gpu") == on_cpu.save(tmp_path / "cpu")
    expected = on_cpu.sample(64, torch.Generator().manual_seed(1))
    for replay in (on_gpu, loaded):
        batch = replay.sample(64, torch.Generator().manual_seed(1))
        assert all(value.is_cuda for value in batch.values())
        assert_equal_batches({name: value.cpu() for name, value in batch.items()}, expected)
        torch.testing.assert_close(replay.last_observations().cpu(), on_cpu.last_observations())


@pytest.mark.parametrize(("name", "value"), [("stack", 2), ("num_steps", 1), ("discount", 0.5), ("padding", "first")])
def test_other_settings_than_the_checkpoints_are_refused(tmp_path, name, value):
    saved = play(small_replay(), 30)
    digest = saved.save(tmp_path / "replay")
    other = small_replay(**{name: value})
    with pytest.raises(DataError, match=f"the checkpoint's replay has {name}=.*, this run {value}: .*empty memory"):
        other.load_state_dict(saved.state_dict())
    with pytest.raises(DataError, match=f"replay has {name}="):
        other.load(tmp_path / "replay", digest)
    assert len(other) == 0


def test_a_kill_in_the_middle_of_saving_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "replay"
    replay = play(small_replay(), 30)
    digest = replay.save(path)
    play(replay, 5, begin=False)
    child = os.fork()
    if child == 0:  # writes half of the frames, and is gone
        monkeypatch.setattr(replay_file, "CHUNK_BYTES", 64)
        whole = replay_file._pieces
        monkeypatch.setattr(replay_file, "_pieces", lambda *arguments: killed_after(whole(*arguments), 3))
        replay.save(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (tmp_path / "replay.part").exists(), "the kill came too early to show anything"
    small_replay().load(path, digest)
    replay.load(path, replay.save(path))
    assert not (tmp_path / "replay.part").exists()


def killed_after(pieces, number):
    for index, piece in enumerate(pieces):
        if index == number:
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece


def test_an_error_while_saving_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "replay"
    replay = play(small_replay(), 30)
    digest = replay.save(path)

    def full(*arguments):
        yield b"beginning"
        raise OSError("No space left on device")

    monkeypatch.setattr(replay_file, "_pieces", full)
    with pytest.raises(OSError, match="No space left"):
        replay.save(path)
    small_replay().load(path, digest)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"capacity": 15, "num_envs": 2},
            "capacity must be at least 16 with num_envs=2, stack=4 and num_steps=3, got 15",
        ),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"stack": 0}, "stack must be at least 1 and at most 255, got 0"),
        ({"stack": 256, "capacity": 500}, "stack must be at least 1 and at most 255, got 256"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"discount": 1.5}, "discount must be from 0 to 1, got 1.5"),
        ({"padding": "last"}, "padding must be 'zeros' or 'first', got 'last'"),
    ],
)
def test_settings_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_replay(**arguments)


def test_stacks_of_states_are_refused():
    with pytest.raises(ValueError, match=r"stack=2 needs frames \(C, H, W\), got frame_shape=\(3,\): use stack=1"):
        FrameReplay(20, 1, (3,), torch.float32, (), torch.int64, stack=2)


def test_the_smallest_ring_has_windows():
    replay = small_replay(2, 16)
    assert replay.num_rows == 4 + 3 + 1
    play(replay, 0)
    for frame in range(40):
        replay.add(
            np.zeros(2, int), np.zeros(2), *[yes(False, False)] * 2, numbered_frames(frame, 2), yes(False, False)
        )
    assert len(replay) == 2 * 2


def test_what_does_not_fit_is_named():
    replay = small_replay()
    frames = numbered_frames(0, 1)
    with pytest.raises(ValueError, match="no window of num_steps=3 is complete"):
        replay.sample(2)
    with pytest.raises(ValueError, match=r"add\(\) came before begin\(\)"):
        step(replay, 0)
    with pytest.raises(ValueError, match="no observations yet"):
        replay.last_observations()
    with pytest.raises(ValueError, match=r"frames must be torch.uint8 \(1, 2, 1, 2\), got torch.float32 \(1, "):
        replay.begin(frames.astype(np.float32))
    replay.begin(frames)
    no = yes(False)
    with pytest.raises(ValueError, match=r"actions must be int64 \(1,\), got float64 \(1,\)"):
        replay.add(np.zeros(1), np.zeros(1), no, no, frames, no)
    with pytest.raises(ValueError, match=r"rewards must be float32 \(1,\), got float64 \(1, 1\)"):
        replay.add(np.zeros(1, int), np.zeros((1, 1)), no, no, frames, no)
    with pytest.raises(ValueError, match=r"frames must be torch.uint8 .*, got torch.uint8 \(2, 1, 2\)"):
        replay.add(np.zeros(1, int), np.zeros(1), no, no, frames[0], no)
    assert len(replay) == 0
