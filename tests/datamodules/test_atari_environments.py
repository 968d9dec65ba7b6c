"""Our vector of games against ale-py's own: what is to be the same, and what ale-py would mix."""

from collections import deque

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from datamodules.atari_emulator import resize, to_gray
from datamodules.atari_environments import AtariEnvironments
from datamodules.environments import environment_seeds
from datamodules.episode_returns import EpisodeReturns
from datamodules.errors import DataError


def ale(game, seeds, **settings):
    defaults = {"reward_clipping": False, "use_fire_reset": False, "stack_num": 1, "num_threads": 1}
    vector = AtariVectorEnv(game, len(seeds), **(defaults | settings))
    return vector, vector.reset(seed=np.array(seeds))


def play(environments, seed, num_steps):
    """First frames and steps under random actions."""
    random = np.random.default_rng(0)
    first = environments.reset(seed)
    taken = random.integers(0, environments.num_actions, (num_steps, environments.num_envs))
    return first, taken, [environments.step(actions) for actions in taken]


def assert_same(these, those):
    for this, other in zip(these, those, strict=True):
        for name in this._fields:
            np.testing.assert_array_equal(getattr(this, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize(("game", "num_steps"), [("breakout", 600), ("pong", 1100)])
def test_stacked_single_frames_are_ale_pys_stack(game, num_steps):
    environments = AtariEnvironments(game, 2)
    first, taken, steps = play(environments, 3, num_steps)
    vector, (observation, _) = ale(game, environment_seeds(3, 2), stack_num=4)
    zero = np.zeros((84, 84), np.uint8)
    stacks = [deque([zero, zero, zero, first[e, 0]], maxlen=4) for e in range(2)]
    np.testing.assert_array_equal(stacks, observation)
    ended, ends = np.zeros(2, bool), 0
    for actions, step in zip(taken, steps, strict=True):
        observation, rewards, terminated, truncated, _ = vector.step(actions)
        for e in range(2):
            if ended[e]:
                stacks[e].extend([zero] * 4)
            stacks[e].append(step.frames[e, 0])
        np.testing.assert_array_equal(stacks, observation)
        np.testing.assert_array_equal(step.rewards, rewards)
        np.testing.assert_array_equal(step.terminated, terminated)
        np.testing.assert_array_equal(step.truncated, truncated)
        np.testing.assert_array_equal(step.reset, ended)
        assert not step.rewards[ended].any()
        ended = terminated | truncated
        ends += ended.sum()
    assert ends >= 2


def test_a_lost_life_is_flagged_and_the_game_goes_on():
    _, taken, flagged = play(AtariEnvironments("breakout", 2, terminal_on_life_loss=True), 5, 350)
    _, _, plain = play(AtariEnvironments("breakout", 2), 5, 350)
    vector, _ = ale("breakout", environment_seeds(5, 2), life_loss_info=True)
    lost = 0
    for actions, step, other in zip(taken, flagged, plain, strict=True):
        frames, rewards, terminated, _, info = vector.step(actions)
        np.testing.assert_array_equal(step.frames, frames)
        np.testing.assert_array_equal(step.rewards, rewards)
        np.testing.assert_array_equal(step.terminated, terminated)
        np.testing.assert_array_equal(step.life_lost, terminated & (info["lives"] > 0))
        np.testing.assert_array_equal(other.life_lost, step.life_lost)
        np.testing.assert_array_equal(other.terminated, terminated & (info["lives"] == 0))
        np.testing.assert_array_equal(other.over, step.over)
        lost += step.life_lost.sum()
    assert lost >= 8
    assert sum(step.over.sum() for step in plain) >= 2


def test_a_cut_game_shows_a_whole_frame_and_starts_anew():
    limit, seeds = 33, environment_seeds(7, 3)
    first, taken, steps = play(AtariEnvironments("breakout", 3, max_steps=limit), 7, 240)
    for e, seed in enumerate(seeds):  # slow: one emulator each, reset by hand
        vector, (frame, _) = ale("breakout", [seed])
        np.testing.assert_array_equal(first[e], frame[0])
        played, over = 0, False
        for actions, step in zip(taken, steps, strict=True):
            if over:
                frame, _ = vector.reset()
                expected, played = (0, False, False, True), 0
            else:
                frame, reward, terminated, _, _ = vector.step(actions[[e]])
                played += 1
                expected = (reward[0], terminated[0], played == limit and not terminated[0], False)
            over = expected[1] or expected[2]
            assert (step.rewards[e], step.terminated[e], step.truncated[e], step.reset[e]) == expected
            np.testing.assert_array_equal(step.frames[e], frame[0])


def test_games_that_end_at_different_times_leave_each_other_alone():
    _, _, steps = play(AtariEnvironments("breakout", 3, max_steps=150), 1, 310)
    over = np.array([step.over for step in steps])
    truncated = np.array([step.truncated for step in steps])
    assert (over & ~truncated).any()
    assert truncated.any()
    assert (over.sum(1) == 1).sum() >= 3
    np.testing.assert_array_equal([step.reset for step in steps][1:], over[:-1])
    assert not steps[0].reset.any()


def test_a_life_lost_at_the_cut_is_both():
    _, _, steps = play(AtariEnvironments("breakout", 1), 2, 200)
    first_loss = next(index for index, step in enumerate(steps) if step.life_lost[0])
    for flagged in (True, False):
        environments = AtariEnvironments("breakout", 1, max_steps=first_loss + 1, terminal_on_life_loss=flagged)
        _, _, steps = play(environments, 2, first_loss + 2)
        last, after = steps[-2:]
        assert (last.terminated[0], last.truncated[0], last.life_lost[0], last.over[0]) == (flagged, True, True, True)
        assert (after.terminated[0], after.truncated[0], after.life_lost[0], after.reset[0]) == (False,) * 3 + (True,)


def test_a_game_over_at_the_limit_is_not_cut():
    _, _, steps = play(AtariEnvironments("breakout", 1), 2, 400)
    end = next(index for index, step in enumerate(steps) if step.over[0])
    _, _, steps = play(AtariEnvironments("breakout", 1, max_steps=end + 1), 2, end + 1)
    assert (steps[-1].terminated[0], steps[-1].truncated[0]) == (True, False)


def test_returns_are_unclipped_and_to_the_real_game_over():
    _, taken, steps = play(AtariEnvironments("ms_pacman", 1, terminal_on_life_loss=True), 0, 600)
    vector, _ = ale("ms_pacman", environment_seeds(0, 1))
    score = length = clipped = 0
    while True:
        _, rewards, terminated, *_ = vector.step(taken[length])
        score, length, clipped = score + int(rewards[0]), length + 1, clipped + int(rewards[0] > 0)
        if terminated[0]:
            break
    returns = EpisodeReturns(1)
    episodes = [episode for step in steps for episode in returns.add(step)]
    assert episodes[0] == (0, score, length, False)
    assert score >= 10 * clipped > 0  # the least that this game gives is 10
    assert sum(step.life_lost[0] for step in steps[:length]) == 2


class Scripted:
    """ale-py's vector of one game, with lives and ends as told."""

    def __init__(self, script):
        self.script = iter(script)
        self.ale = self

    def get_action_set(self):
        return [0, 1]

    def reset(self, seed=None, options=None):
        return np.zeros((1, 1, 84, 84), np.uint8), {"lives": np.array([3])}

    def step(self, actions):
        lives, over = next(self.script)
        frames, rewards, info = np.zeros((1, 1, 84, 84), np.uint8), np.array([0]), {"lives": np.array([lives])}
        return frames, rewards, np.array([over]), np.array([False]), info


def test_which_lost_lives_count(monkeypatch):
    script = [
        (4, False),  # a bonus life
        (3, False),  # lost
        (0, False),  # the last: some games take a while to be over
        (0, True),
        (3, False),  # the reset
        (5, False),
        (4, True),  # over with lives left
        (3, False),  # the reset: fewer lives than before, none lost
    ]
    monkeypatch.setattr("ale_py.vector_env.AtariVectorEnv", lambda *args, **settings: Scripted(script))
    environments = AtariEnvironments("pong", 1, terminal_on_life_loss=True)
    environments.reset(0)
    steps = [environments.step(np.array([0])) for _ in script]
    assert [bool(step.life_lost[0]) for step in steps] == [False, True] + [False] * 6
    assert [index for index, step in enumerate(steps) if step.terminated[0]] == [1, 3, 6]
    assert [index for index, step in enumerate(steps) if step.over[0]] == [3, 6]
    assert [index for index, step in enumerate(steps) if step.reset[0]] == [4, 7]


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_a_seed_repeats_everything(sticky):
    environments = AtariEnvironments("breakout", 2, sticky=sticky, max_steps=50)
    first, _, steps = play(environments, 4, 110)
    again, _, repeated = play(environments, 4, 110)
    np.testing.assert_array_equal(first, again)
    assert_same(steps, repeated)
    _, _, alone = play(AtariEnvironments("breakout", 2, sticky=sticky, max_steps=50), 4, 110)
    assert_same(steps, alone)
    _, _, other = play(environments, 5, 110)
    assert any((this.frames != that.frames).any() for this, that in zip(steps, other, strict=True))


def test_environments_of_one_seed_are_different_games():
    environments = AtariEnvironments("pong", 6)
    environments.reset(0)
    for _ in range(30):  # the same actions, after other numbers of no-ops
        frames = environments.step(np.zeros(6, np.int64)).frames
    assert len({frame.tobytes() for frame in frames}) > 2


def test_sticky_actions_are_those_of_the_option():
    _, _, plain = play(AtariEnvironments("breakout", 1), 4, 100)
    _, _, sticky = play(AtariEnvironments("breakout", 1, sticky=0.25), 4, 100)
    assert any((this.frames != that.frames).any() for this, that in zip(plain, sticky, strict=True))


def test_arrays_are_the_callers():
    _, taken, steps = play(AtariEnvironments("breakout", 1), 6, 60)
    environments = AtariEnvironments("breakout", 1)
    environments.reset(6)
    for actions, expected in zip(taken, steps, strict=True):
        step = environments.step(actions)
        assert_same([step], [expected])
        for array in step:
            array[...] = 1


def test_the_colour_screen_is_that_of_the_same_game():
    settings = {"max_steps": 40}
    plain = AtariEnvironments("breakout", 2, **settings)
    shown = AtariEnvironments("breakout", 2, screens=True, **settings)
    plain.reset(1)
    shown.reset(1)
    random, differences = np.random.default_rng(0), []
    for _ in range(130):
        actions = random.integers(0, 4, 2)
        expected, step = plain.step(actions), shown.step(actions)
        assert_same([step], [expected])
        screen = shown.render(1)
        assert (screen.shape, screen.dtype) == ((210, 160, 3), np.uint8)
        differences.append(np.abs(resize(to_gray(screen), 84, 84).astype(int) - step.frames[1, 0]).max())
    assert max(differences) < 40  # where two colours were pooled; another moment of the game differs by 100 and more
    np.testing.assert_array_equal(plain.render(1), np.stack([expected.frames[1, 0]] * 3, axis=2))


def test_facts_of_a_game():
    environments = AtariEnvironments("ALE/MsPacman-v5", 2)
    assert (environments.name, environments.num_actions, environments.frame_skip) == ("ms_pacman", 9, 4)
    assert (environments.action_shape, environments.action_dtype) == ((), np.int64)
    assert (environments.frame_shape, environments.frame_dtype) == ((1, 84, 84), np.uint8)
    assert environments.reset(0).shape == (2, 1, 84, 84)
    step = environments.step(np.array([0, 8]))
    assert (step.frames.shape, step.rewards.dtype) == ((2, 1, 84, 84), np.float32)
    with pytest.raises(ValueError, match=r"actions must lie in \[0, 8\], got \[0, 9\]"):
        environments.step(np.array([0, 9]))
    environments.close()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"sticky": 1.0}, r"sticky must lie in \[0, 1\), got 1.0"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"noop_max": -1}, "noop_max must be at least 0, got -1"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
    ],
)
def test_bad_numbers_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        AtariEnvironments("pong", **option)


def test_an_unknown_game_is_told_its_nearest():
    with pytest.raises(DataError, match="game: 'Pongg' is no game of the emulator; did you mean pong"):
        AtariEnvironments("Pongg")
