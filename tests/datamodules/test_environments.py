import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.action_space import ActionSpace
from datamodules.environments import Steps, environment_seeds, make_environments
from datamodules.episode_returns import Episode, EpisodeReturns


def steps(rewards, terminated, truncated, reset, life_lost):
    flags = [np.array(flag, bool) for flag in (terminated, truncated, reset, life_lost)]
    return Steps(np.zeros((len(rewards), 2), np.float32), np.array(rewards, np.float32), *flags)


@pytest.mark.parametrize(
    ("terminated", "truncated", "life_lost", "over"),
    [
        (False, False, False, False),
        (True, False, False, True),
        (False, True, False, True),
        (False, False, True, False),  # a lost life that nobody asked to be told of
        (True, False, True, False),  # one that is flagged: the game goes on
        (False, True, True, True),
        (True, True, True, True),  # a life lost at the very step at which the game was cut
    ],
)
def test_what_is_over(terminated, truncated, life_lost, over):
    assert steps([1.0], [terminated], [truncated], [False], [life_lost]).over.tolist() == [over]


def test_resets_are_no_agent_steps():
    none = [False] * 3
    assert steps([0, 0, 0], none, none, [True, False, True], none).agent_steps == 1


ENDS = st.sampled_from(["goes on", "goes on", "life", "flagged life", "game over", "cut", "cut at a flagged life"])


@given(st.lists(st.lists(st.tuples(st.integers(-300, 300), ENDS), max_size=30), min_size=1, max_size=3))
def test_returns_are_those_of_whole_games(plays):
    """Each play is a list of (reward, what happens); slow: cut it into games first, then add up each."""
    length = 2 * max(len(play) for play in plays)  # resets take steps too
    expected = []
    rows = [[(0, "reset")] * length for _ in plays]
    for env, play in enumerate(plays):
        now, game = 0, []
        for reward, event in play:
            rows[env][now] = (reward, event)
            now += 1
            game.append(reward)
            if event in ("game over", "cut", "cut at a flagged life"):
                expected.append((now, Episode(env, float(sum(game)), len(game), event != "game over")))
                game = []
                now += 1
        rows[env][now:] = [(0, "reset")] * (length - now)
    returns, seen = EpisodeReturns(len(plays)), []
    for now in range(length):
        rewards, events = zip(*(row[now] for row in rows), strict=True)
        episodes = returns.add(
            steps(
                rewards,
                [event in ("flagged life", "game over", "cut at a flagged life") for event in events],
                [event in ("cut", "cut at a flagged life") for event in events],
                [event == "reset" for event in events],
                [event in ("life", "flagged life", "cut at a flagged life") for event in events],
            )
        )
        seen += [(now + 1, episode) for episode in episodes]
    assert seen == sorted(expected, key=lambda entry: (entry[0], entry[1].env))


def test_cleared_returns_begin_at_nothing():
    returns, no, yes = EpisodeReturns(1), [False], [True]
    returns.add(steps([5.0], no, no, no, no))
    returns.clear()
    assert returns.add(steps([1.0], yes, no, no, no)) == [Episode(0, 1.0, 1, False)]


def test_no_two_seeds_share_an_environments_seed():
    seeds = [seed for start in (*range(50), [0, 1], [1, 0], [0, 1, 2]) for seed in environment_seeds(start, 8)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_an_environments_seed_does_not_depend_on_their_number():
    assert environment_seeds(3, 8)[:2] == environment_seeds(3, 2)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gym", {}, "^kind: 'gym' is none of atari, gymnasium, control$"),
        ("atari", {"stiky": 0.25}, "^stiky: AtariEnvironments has no such option; did you mean sticky\\?$"),
        ("gymnasium", {"num_envs": 0}, "^num_envs must be at least 1, got 0$"),
    ],
)
def test_a_wrong_kind_or_option_is_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make_environments(kind, "CartPole-v1", **options)


def test_they_are_made_by_kind():
    environments = make_environments("gymnasium", "CartPole-v1", 2, action_repeat=3)
    assert (environments.name, environments.num_envs, environments.frame_skip) == ("CartPole-v1", 2, 3)


def test_discrete_actions_are_checked():
    space = ActionSpace(num_actions=3)
    assert space.shape == ()
    assert space.checked(np.array([0, 2], np.int32), 2).dtype == space.dtype == np.int64
    for actions, message in [
        ([0, 3], r"actions must lie in \[0, 2\], got \[0, 3\]"),
        ([-1, 0], r"actions must lie in \[0, 2\], got \[-1, 0\]"),
        ([0.0, 1.0], "actions must be whole numbers below 3, got float64"),
        ([0], r"actions must have the shape \(2,\), got \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            space.checked(np.array(actions), 2)


def test_continuous_actions_are_moved_onto_their_bounds():
    space = ActionSpace(low=np.array([-1, -2], np.float32), high=np.array([1, 2], np.float32))
    assert space.shape == (2,)
    checked = space.checked(np.array([[1.0000001, -3.0], [0.25, np.inf]]), 2)
    assert checked.dtype == space.dtype == np.float32
    np.testing.assert_array_equal(checked, [[1, -2], [0.25, 2]])
    with pytest.raises(ValueError, match="actions contain NaN"):
        space.checked(np.array([[np.nan, 0]]), 1)
