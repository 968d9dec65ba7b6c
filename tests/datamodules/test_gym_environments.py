"""Against gymnasium's own vector of environments, which resets in the next step as well."""

import gymnasium
import numpy as np
import pytest

from datamodules.environments import environment_seeds
from datamodules.errors import DataError
from datamodules.gym_environments import GymEnvironments


def sample(environments, num_steps):
    random = np.random.default_rng(0)
    if environments.num_actions is not None:
        return random.integers(0, environments.num_actions, (num_steps, environments.num_envs))
    shape = (num_steps, environments.num_envs, *environments.action_shape)
    return random.uniform(environments.action_low, environments.action_high, shape).astype(np.float32)


@pytest.mark.parametrize(("environment_id", "truncates"), [("CartPole-v1", False), ("Pendulum-v1", True)])
def test_steps_equal_gymnasiums_vector(environment_id, truncates):
    environments = GymEnvironments(environment_id, 3)
    slow = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(environment_id)] * 3)
    observation, _ = slow.reset(seed=environment_seeds(2, 3))
    np.testing.assert_array_equal(environments.reset(2), observation)
    ended, ends = np.zeros(3, bool), 0
    for actions in sample(environments, 450):
        observation, rewards, terminated, truncated, _ = slow.step(actions)
        step = environments.step(actions)
        np.testing.assert_array_equal(step.frames, observation)
        np.testing.assert_array_equal(step.rewards, rewards.astype(np.float32))
        np.testing.assert_array_equal(step.terminated, terminated)
        np.testing.assert_array_equal(step.truncated, truncated)
        np.testing.assert_array_equal(step.reset, ended)
        assert not step.life_lost.any()
        ended = terminated | truncated
        assert (truncated if truncates else terminated)[ended].all()
        ends += ended.sum()
    assert ends >= 6


def falls_after(max_steps):
    """Steps of a cart pushed to the right without end."""
    environments = GymEnvironments("CartPole-v1", max_steps=max_steps)
    environments.reset(0)
    steps = []
    while not steps or not steps[-1].over[0]:
        steps.append(environments.step(np.array([1])))
    return len(steps), bool(steps[-1].terminated[0]), bool(steps[-1].truncated[0])


def test_termination_and_truncation_are_two_things():
    length, *ends = falls_after(None)
    assert ends == [True, False]
    assert falls_after(length - 1) == (length - 1, False, True)
    assert falls_after(length) == (length, True, False)  # gymnasium sets both


def test_a_repeated_action_adds_up_its_rewards():
    environments = GymEnvironments("Pendulum-v1", action_repeat=3, max_steps=10)
    slow = gymnasium.make("Pendulum-v1", max_episode_steps=10)
    slow.reset(seed=environment_seeds(4, 1)[0])
    environments.reset(4)
    assert environments.frame_skip == 3
    for number, actions in enumerate(sample(environments, 4)):
        parts = [slow.step(actions[0]) for _ in range(3 if number < 3 else 1)]  # ten steps: the limit ends the fourth
        step = environments.step(actions)
        np.testing.assert_array_equal(step.frames[0], parts[-1][0])
        assert step.rewards[0] == pytest.approx(sum(float(part[1]) for part in parts))
        assert (step.truncated[0], step.terminated[0]) == (number == 3, False)


def test_a_seed_repeats_everything():
    environments, runs = GymEnvironments("CartPole-v1", 2), []
    for seed in (1, 1, 2, [1, 0]):
        first = environments.reset(seed)
        runs.append(np.stack([first, *(environments.step(actions).frames for actions in sample(environments, 60))]))
    np.testing.assert_array_equal(runs[0], runs[1])
    for other in runs[2:]:
        assert (runs[0] != other).any()


def test_an_environment_does_not_depend_on_its_neighbours():
    alone, among = GymEnvironments("CartPole-v1", 1), GymEnvironments("CartPole-v1", 3)
    np.testing.assert_array_equal(alone.reset(5), among.reset(5)[:1])


def test_arrays_are_the_callers():
    one, other = GymEnvironments("Pendulum-v1"), GymEnvironments("Pendulum-v1")
    one.reset(0)[...] = 7
    other.reset(0)
    for actions in sample(one, 5):
        step, expected = one.step(actions), other.step(actions)
        np.testing.assert_array_equal(step.frames, expected.frames)
        for array in step:
            array[...] = 1


def test_facts():
    cart, pendulum = GymEnvironments("CartPole-v1", 2), GymEnvironments("Pendulum-v1", arguments={"g": 9.81})
    assert (cart.name, cart.num_envs, cart.frame_shape, cart.frame_dtype) == ("CartPole-v1", 2, (4,), np.float32)
    assert (cart.num_actions, cart.action_shape, cart.action_dtype, cart.action_low) == (2, (), np.int64, None)
    assert (pendulum.num_actions, pendulum.action_shape, pendulum.action_dtype) == (None, (1,), np.float32)
    assert (pendulum.action_low, pendulum.action_high) == (np.float32([-2]), np.float32([2]))
    cart.close()


class Shifted(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2, start=5)
    taken = []

    def reset(self, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.taken.append(action)
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.fixture
def _registered():
    gymnasium.register("Shifted-v0", Shifted)
    yield
    del gymnasium.registry["Shifted-v0"]


@pytest.mark.usefixtures("_registered")
def test_actions_count_from_the_environments_first():
    environments = GymEnvironments("Shifted-v0", 2)
    environments.reset(0)
    environments.step(np.array([0, 1]))
    assert Shifted.taken == [5, 6]


@pytest.mark.parametrize(
    ("environment_id", "message"),
    [
        ("CartPole", "^environment_id: 'CartPole' is not registered in gymnasium; did you mean CartPole-v1"),
        ("pendulum-v1", "'pendulum-v1' is not registered in gymnasium; did you mean Pendulum-v1"),
        ("ALE/Pong-v5", "^environment_id: 'ALE/Pong-v5' is an Atari game: its kind is 'atari'$"),
        ("FrozenLake-v1", "^FrozenLake-v1: observations must be vectors, got Discrete"),
    ],
)
def test_what_it_cannot_be_is_named(environment_id, message):
    with pytest.raises(DataError, match=message):
        GymEnvironments(environment_id)


def test_a_missing_package_is_one_line(monkeypatch):
    def make(*args, **arguments):
        raise gymnasium.error.DependencyNotInstalled('box is missing, run `pip install "gymnasium[box2d]"`\nmore')

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(DataError, match=r'^Pendulum-v1: box is missing, run `pip install "gymnasium\[box2d\]"`$'):
        GymEnvironments("Pendulum-v1")


def test_what_cannot_be_drawn_is_said_at_once(monkeypatch):
    def render(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is missing")

    monkeypatch.setattr("gymnasium.envs.classic_control.cartpole.CartPoleEnv.render", render)
    with pytest.raises(DataError, match="^CartPole-v1 cannot be drawn on this machine .*pygame is missing.*; install"):
        GymEnvironments("CartPole-v1", screens=True)
    with pytest.raises(ValueError, match="CartPole-v1: pictures are drawn only with screens=True"):
        GymEnvironments("CartPole-v1").render()
