"""Tasks of the dm_control suite, from pixels or states, with the action repeats of the PlaNet benchmark."""

from typing import Any, Literal

import numpy as np

from datamodules.action_space import ActionSpace
from datamodules.control_rendering import Camera, load_suite
from datamodules.environments import at_least, nearest
from datamodules.errors import DataError
from datamodules.sequential_environments import SequentialEnvironments

PLANET_ACTION_REPEATS = {
    "cartpole_swingup": 8,
    "reacher_easy": 4,
    "cheetah_run": 4,
    "finger_spin": 2,
    "ball_in_cup_catch": 4,
    "walker_walk": 2,
}
"""The six tasks of the PlaNet benchmark (Hafner et al. 2019), each with its action repeat."""

PICTURE_SIZE = 256
LARGEST_PICTURE = 480  # pixels; the buffer that dm_control draws into is no higher


class ControlEnvironments(SequentialEnvironments):
    """Copies of a task of the suite; its time limit (1000 steps of the simulator as a rule) truncates.

    Args:
        task: domain and task, as "cartpole_swingup" or "cartpole-swingup".
        num_envs: E.
        observations: "pixels" are frames (3, size, size) uint8 of the task's first camera, "state" all that the task
            observes, in its order, as one float32 vector (D,).
        action_repeat: steps of the simulator in an agent step; None for that of the PlaNet benchmark.
        size: of the frames, in pixels.
        fast_rendering: draw without shadows, reflections and antialiasing, ten times as fast on a CPU; the published
            results are of frames drawn with them.

    Raises:
        MissingExtraError: if dm_control is not installed.
        DataError: for an unknown task, with the nearest ones, and for pixels where nothing can be drawn.
        ValueError: for a number out of range, or a task outside the benchmark without an action repeat.
    """

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        *,
        observations: Literal["pixels", "state"] = "pixels",
        action_repeat: int | None = None,
        size: int = 84,
        fast_rendering: bool = True,
    ) -> None:
        if observations not in ("pixels", "state"):
            raise ValueError(f"observations must be 'pixels' or 'state', got {observations!r}")
        if not 1 <= size <= LARGEST_PICTURE:
            raise ValueError(f"size must lie in [1, {LARGEST_PICTURE}], got {size}")
        suite = load_suite()
        domain, name = resolve_task(task, suite.ALL_TASKS)
        task = f"{domain}_{name}"
        repeat = _action_repeat(task) if action_repeat is None else action_repeat
        side = size if observations == "pixels" else None
        singles = [
            _Control(suite.load(domain, name), domain, side, fast_rendering)
            for _ in range(at_least("num_envs", num_envs, 1))
        ]
        if observations == "pixels":
            singles[0].camera.try_drawing(task)
        frame = singles[0].frame()
        super().__init__(task, singles, singles[0].actions(), frame.shape, frame.dtype, repeat)


class _Control:
    """One environment of dm_control; frames have `side` pixels a side, or are states where it is None."""

    def __init__(self, environment: Any, domain: str, side: int | None, fast: bool) -> None:
        self._environment = environment
        self._side = side
        # The quadruped's first camera stands still; its published pixels are those of the third.
        self.camera = Camera(environment.physics, camera=2 if domain == "quadruped" else 0, fast=fast)
        self._observation = environment.reset().observation

    def actions(self) -> ActionSpace:
        """What the task takes."""
        bounds = self._environment.action_spec()
        low, high = (np.full(bounds.shape, bound, np.float32) for bound in (bounds.minimum, bounds.maximum))
        return ActionSpace(low=low, high=high)

    def reset(self, seed: int | None) -> None:
        """Start an episode."""
        if seed is not None:
            self._environment.task.random.seed(seed)
        self._observation = self._environment.reset().observation

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """One step of the simulator; an end with a discount of 0 terminates, any other is the time limit."""
        step = self._environment.step(action)
        self._observation = step.observation
        terminated = step.last() and step.discount == 0
        return float(step.reward), terminated, step.last() and not terminated

    def frame(self) -> np.ndarray:
        """Pixels (3, side, side) or the state (D,)."""
        if self._side is not None:
            return self.camera.picture(self._side, self._side).transpose(2, 0, 1)
        return np.concatenate([np.ravel(part) for part in self._observation.values()]).astype(np.float32)

    def render(self) -> np.ndarray:
        """A picture (256, 256, 3)."""
        return self.camera.picture(PICTURE_SIZE, PICTURE_SIZE)

    def close(self) -> None:
        """Free the physics and what it was drawn with."""
        self._environment.close()


def resolve_task(task: str, known: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Domain and task of the suite for "ball_in_cup_catch" or "ball-in-cup-catch".

    Raises:
        DataError: for a task that the suite has not, with the nearest names.
    """
    by_name = {f"{domain}_{name}": (domain, name) for domain, name in known}
    plain = task.replace("-", "_").lower()
    if plain not in by_name:
        raise DataError(f"task: {task!r} is no task of dm_control; {nearest(plain, by_name)}")
    return by_name[plain]


def _action_repeat(task: str) -> int:
    if task not in PLANET_ACTION_REPEATS:
        raise ValueError(
            f"action_repeat: {task} is not one of the PlaNet benchmark's tasks, which have one; choose it, as 2"
        )
    return PLANET_ACTION_REPEATS[task]
