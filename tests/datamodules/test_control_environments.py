"""Against a plain loop over the suite where dm_control is installed, and against scripted tasks anywhere."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from datamodules import control_environments, control_rendering
from datamodules.control_environments import PLANET_ACTION_REPEATS, ControlEnvironments, resolve_task
from datamodules.control_rendering import Camera, load_suite
from datamodules.environments import environment_seeds
from datamodules.errors import DataError
from lightning_zoo.extras import MissingExtraError


@pytest.fixture
def suite():
    pytest.importorskip("dm_control")
    return load_suite()


def state(step):
    return np.concatenate([np.ravel(part) for part in step.observation.values()]).astype(np.float32)


def test_states_equal_a_plain_loop(suite):
    environments = ControlEnvironments("cartpole_swingup", 2, observations="state")
    slow = [suite.load("cartpole", "swingup") for _ in range(2)]
    for environment, seed in zip(slow, environment_seeds(3, 2), strict=True):
        environment.task.random.seed(seed)
    frames = environments.reset(3)
    np.testing.assert_array_equal(frames, [state(environment.reset()) for environment in slow])
    assert (frames.shape, frames.dtype) == ((2, 5), np.float32)
    random = np.random.default_rng(0)
    for _ in range(125):  # 1000 steps of the simulator, eight to an action
        actions = random.uniform(-1, 1, (2, 1)).astype(np.float32)
        step = environments.step(actions)
        assert not step.terminated.any()
        assert not step.reset.any()
        for e, environment in enumerate(slow):
            parts = [environment.step(actions[e]) for _ in range(8)]
            np.testing.assert_array_equal(step.frames[e], state(parts[-1]))
            assert step.rewards[e] == pytest.approx(sum(part.reward for part in parts))
            assert step.truncated[e] == parts[-1].last()
    assert step.truncated.all()
    step = environments.step(actions)
    np.testing.assert_array_equal(step.frames, [state(environment.reset()) for environment in slow])
    assert step.reset.all()
    assert not step.rewards.any()
    environments.close()


def test_a_seed_repeats_everything(suite):
    environments, runs = ControlEnvironments("walker_walk", observations="state"), []
    for seed in (1, 1, 2):
        first = environments.reset(seed)
        runs.append(np.stack([first, *(environments.step(np.full((1, 6), 0.5)).frames for _ in range(20))]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_pixels_are_those_of_the_simulator(suite):
    try:
        environments = ControlEnvironments("cartpole-swingup", 2, action_repeat=2)
    except DataError as error:
        if "MUJOCO_GL" not in str(error):
            raise
        pytest.skip(str(error))
    assert (environments.name, environments.frame_skip) == ("cartpole_swingup", 2)
    assert (environments.frame_shape, environments.frame_dtype) == ((3, 84, 84), np.uint8)
    slow = suite.load("cartpole", "swingup")
    slow.task.random.seed(environment_seeds(1, 2)[1])
    slow.reset()
    camera = Camera(slow.physics, 0, fast=True)
    frames = environments.reset(1)
    assert (frames[0] != frames[1]).any()
    for _ in range(4):
        np.testing.assert_array_equal(frames[1].transpose(1, 2, 0), camera.picture(84, 84))
        frames = environments.step(np.array([[-1.0], [1.0]])).frames
        slow.step([1.0])
        slow.step([1.0])
    assert (environments.render(1).shape, environments.render(1).dtype) == ((256, 256, 3), np.uint8)
    environments.close()


def test_the_planet_tasks_are_in_the_suite(suite):
    known = {f"{domain}_{name}" for domain, name in suite.ALL_TASKS}
    assert set(PLANET_ACTION_REPEATS) <= known


class Scripted:
    """A task of dm_control that ends as told: (reward, last, discount) for each step."""

    def __init__(self, script):
        self.script = script
        self.now = 0
        self.task = SimpleNamespace(random=np.random.RandomState(0))
        self.physics = SimpleNamespace(
            model=SimpleNamespace(vis=SimpleNamespace(quality=SimpleNamespace(shadowsize=1, offsamples=1)))
        )

    def action_spec(self):
        return SimpleNamespace(shape=(2,), minimum=-1.0, maximum=np.array([1.0, 2.0]))

    def reset(self):
        self.now = 0
        return SimpleNamespace(observation={"position": np.float64(self.now), "velocity": np.zeros((1, 2))})

    def step(self, action):
        reward, last, discount = self.script[self.now]
        self.now += 1
        observation = {"position": np.float64(self.now), "velocity": np.zeros((1, 2))}
        return SimpleNamespace(reward=reward, discount=discount, observation=observation, last=lambda: last)


def scripted(monkeypatch, script, **settings):
    suite = SimpleNamespace(ALL_TASKS=(("ball", "roll"),), load=lambda domain, name: Scripted(script))
    monkeypatch.setattr(control_environments, "load_suite", lambda: suite)
    return ControlEnvironments("ball_roll", **({"observations": "state", "action_repeat": 3} | settings))


@pytest.mark.parametrize(("discount", "terminated"), [(0.0, True), (1.0, False), (0.9, False)])
def test_a_last_step_truncates_unless_its_discount_is_nothing(monkeypatch, discount, terminated):
    environments = scripted(monkeypatch, [(1, False, 1.0)] * 4 + [(5, True, discount)])
    np.testing.assert_array_equal(environments.reset(0), [[0, 0, 0]])
    actions = np.zeros((1, 2))
    first, last, after = (environments.step(actions) for _ in range(3))
    assert (first.rewards[0], first.over[0]) == (3, False)
    assert (last.rewards[0], last.frames[0, 0]) == (6, 5)  # the end cuts the repeats short
    assert (last.terminated[0], last.truncated[0]) == (terminated, not terminated)
    assert (after.reset[0], after.rewards[0], after.frames[0, 0]) == (True, 0, 0)
    np.testing.assert_array_equal(environments.action_low, [-1, -1])
    np.testing.assert_array_equal(environments.action_high, [1, 2])


def test_names():
    known = (("ball_in_cup", "catch"), ("cartpole", "swingup"), ("cartpole", "swingup_sparse"))
    assert resolve_task("ball-in-cup-catch", known) == ("ball_in_cup", "catch")
    assert resolve_task("cartpole_swingup_sparse", known) == ("cartpole", "swingup_sparse")
    with pytest.raises(DataError, match="^task: 'cartpole_swing' is no task of dm_control; did you mean cartpole_sw"):
        resolve_task("cartpole_swing", known)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"action_repeat": None}, "^action_repeat: ball_roll is not one of the PlaNet benchmark's tasks"),
        ({"action_repeat": 0}, "^action_repeat must be at least 1, got 0"),
        ({"size": 481}, r"^size must lie in \[1, 480\], got 481"),
        ({"observations": "both"}, "^observations must be 'pixels' or 'state', got 'both'"),
        ({"num_envs": 0}, "^num_envs must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(monkeypatch, option, message):
    with pytest.raises(ValueError, match=message):
        scripted(monkeypatch, [(1, False, 1.0)], **option)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(os.environ, "MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(MissingExtraError, match="^This needs 'dm_control', which is not installed: pip install .*$"):
        ControlEnvironments("cartpole_swingup")


def test_a_renderer_that_cannot_be_loaded_is_one_line(monkeypatch):
    def import_module(name):
        raise AttributeError("'NoneType' object has no attribute 'glGetError'\nand more")

    monkeypatch.setitem(os.environ, "MUJOCO_GL", "osmesa")
    monkeypatch.setattr(control_rendering, "require", lambda package: None)
    monkeypatch.setattr(control_rendering, "import_module", import_module)
    with pytest.raises(DataError, match="^dm_control with MUJOCO_GL=osmesa cannot be drawn .*glGetError.*'state'$"):
        load_suite()


def test_a_renderer_that_does_not_draw_is_said_before_training(monkeypatch):
    monkeypatch.setitem(os.environ, "MUJOCO_GL", "glfw")
    message = "^ball_roll with MUJOCO_GL=glfw cannot be drawn .*start with MUJOCO_GL=egl .*$"
    with pytest.raises(DataError, match=message) as caught:
        scripted(monkeypatch, [(1, False, 1.0)], observations="pixels")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [({}, "egl"), ({"DISPLAY": ":0"}, None), ({"MUJOCO_GL": "osmesa"}, "osmesa"), ({"WAYLAND_DISPLAY": "w"}, None)],
)
def test_egl_is_chosen_where_no_display_is(monkeypatch, environment, chosen):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(control_rendering, "CDLL", lambda name: None)
    monkeypatch.setattr("sys.platform", "linux")
    control_rendering._choose_renderer()
    assert os.environ.get("MUJOCO_GL") == chosen


def test_fast_pictures_set_their_quality_before_the_first():
    physics = Scripted([]).physics
    calls = []
    physics.render = lambda *size, **arguments: calls.append((size, arguments, physics.model.vis.quality.shadowsize))
    Camera(physics, 1, fast=True).picture(84, 80)
    flags = {"shadow": False, "reflection": False}
    assert calls == [((84, 80), {"camera_id": 1, "render_flag_overrides": flags}, 0)]
    physics = Scripted([]).physics
    Camera(physics, 0, fast=False)
    assert physics.model.vis.quality.shadowsize == 1
