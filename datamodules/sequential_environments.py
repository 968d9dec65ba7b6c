"""Environments of one process that step one after another, each reset in the step after its end."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from datamodules.action_space import ActionSpace
from datamodules.environments import Seed, Steps, at_least, environment_seeds


class Single(Protocol):
    """One environment as a library gives it."""

    def reset(self, seed: int | None) -> None:
        """Start an episode; without a seed the environment's own randomness goes on."""
        ...

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """One step of the simulator; its reward, and whether it terminated or was truncated."""
        ...

    def frame(self) -> np.ndarray:
        """What the last step, or the reset, led to."""
        ...

    def render(self) -> np.ndarray:
        """A picture (H, W, 3) uint8."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class SequentialEnvironments:
    """E single environments behind the one interface.

    Args:
        name: as the library spells it.
        singles: the E environments.
        actions: what they take.
        frame_shape: of one frame.
        frame_dtype: of one frame.
        frame_skip: steps of the simulator in an agent step: the action is repeated, the rewards are added up, and an
            end inside them ends them.
    """

    def __init__(
        self,
        name: str,
        singles: Sequence[Single],
        actions: ActionSpace,
        frame_shape: tuple[int, ...],
        frame_dtype: np.dtype,
        frame_skip: int,
    ) -> None:
        self.name = name
        self.num_envs = len(singles)
        self.frame_shape = frame_shape
        self.frame_dtype = frame_dtype
        self.frame_skip = at_least("action_repeat", frame_skip, 1)
        self.num_actions = actions.num_actions
        self.action_shape, self.action_dtype = actions.shape, actions.dtype
        self.action_low, self.action_high = actions.low, actions.high
        self._singles = list(singles)
        self._actions = actions
        self._over = np.zeros(self.num_envs, bool)

    def reset(self, seed: Seed) -> np.ndarray:
        """Start every environment anew; the first frames (E, *frame_shape)."""
        for single, single_seed in zip(self._singles, environment_seeds(seed, self.num_envs), strict=True):
            single.reset(single_seed)
        self._over = np.zeros(self.num_envs, bool)
        return self._frames()

    def step(self, actions: np.ndarray) -> Steps:
        """Take actions (E, *action_shape)."""
        actions = self._actions.checked(actions, self.num_envs)
        reset = self._over
        rewards = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        for index, single in enumerate(self._singles):
            if reset[index]:
                single.reset(None)
            else:
                rewards[index], terminated[index], truncated[index] = self._repeat(single, actions[index])
        self._over = terminated | truncated
        return Steps(self._frames(), rewards, terminated, truncated, reset, np.zeros(self.num_envs, bool))

    def _repeat(self, single: Single, action: np.ndarray) -> tuple[float, bool, bool]:
        total = 0.0
        for _ in range(self.frame_skip):
            reward, terminated, truncated = single.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        # A limit reached by the very step that terminates cuts nothing off.
        return total, terminated, truncated and not terminated

    def _frames(self) -> np.ndarray:
        frames = np.empty((self.num_envs, *self.frame_shape), self.frame_dtype)
        for index, single in enumerate(self._singles):
            frames[index] = single.frame()
        return frames

    def render(self, env: int = 0) -> np.ndarray:
        """A picture (H, W, 3) uint8 of what an environment shows now."""
        return self._singles[env].render()

    def close(self) -> None:
        """Close every environment."""
        for single in self._singles:
            single.close()
