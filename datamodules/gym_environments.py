"""Environments of gymnasium that give a state vector, by their id."""

from typing import Any

import numpy as np

from datamodules.action_space import ActionSpace
from datamodules.environments import at_least, cannot_draw, nearest
from datamodules.errors import DataError
from datamodules.sequential_environments import SequentialEnvironments


class GymEnvironments(SequentialEnvironments):
    """Copies of an environment whose observation is a vector, as "CartPole-v1" or "Pendulum-v1".

    Args:
        environment_id: as registered in gymnasium, with its version.
        num_envs: E.
        action_repeat: steps of the environment in an agent step.
        max_steps: steps of the environment after which an episode is truncated; None for the environment's own limit.
        arguments: of the environment's constructor.
        screens: whether `render` can draw; asks for the library that draws, and fails at once where it cannot.

    Raises:
        DataError: for an unknown id, with the nearest ones; if the package of an environment is missing or it cannot be
            drawn; if its observations are no vectors or its actions neither a choice nor a bounded vector.
        ValueError: for a number out of range.
    """

    def __init__(
        self,
        environment_id: str,
        num_envs: int = 1,
        *,
        action_repeat: int = 1,
        max_steps: int | None = None,
        arguments: dict[str, Any] | None = None,
        screens: bool = False,
    ) -> None:
        settings = dict(arguments or {})
        if max_steps is not None:
            settings["max_episode_steps"] = at_least("max_steps", max_steps, 1)
        if screens:
            settings["render_mode"] = "rgb_array"
        singles = [_Gym(environment_id, settings) for _ in range(at_least("num_envs", num_envs, 1))]
        space = singles[0].environment.observation_space
        super().__init__(
            environment_id, singles, singles[0].actions(), space.shape, np.dtype(np.float32), action_repeat
        )
        if screens:
            singles[0].try_drawing()


class _Gym:
    """One environment of gymnasium and its last observation."""

    def __init__(self, environment_id: str, arguments: dict[str, Any]) -> None:
        import gymnasium

        _check_id(environment_id)
        try:
            # The checker of gymnasium.make watches the first steps of somebody's own environment, and slows all.
            self.environment: Any = gymnasium.make(environment_id, disable_env_checker=True, **arguments)
        except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
            raise DataError(f"{environment_id}: {str(error).strip().splitlines()[0]}") from error
        self._id = environment_id
        self._check_observations(gymnasium.spaces)
        self._first_action: int | None = getattr(self.environment.action_space, "start", None)

    def _check_observations(self, spaces: Any) -> None:
        space = self.environment.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise DataError(f"{self._id}: observations must be vectors, got {space}; choose an environment with states")

    def actions(self) -> ActionSpace:
        """What the environment takes."""
        from gymnasium.spaces import Box, Discrete

        space = self.environment.action_space
        if isinstance(space, Discrete):
            return ActionSpace(num_actions=int(space.n))
        if isinstance(space, Box) and len(space.shape) == 1 and space.is_bounded():
            return ActionSpace(low=space.low.astype(np.float32), high=space.high.astype(np.float32))
        raise DataError(f"{self._id}: actions must be one choice or a bounded vector, got {space}")

    def reset(self, seed: int | None) -> None:
        """Start an episode."""
        self._observation, _ = self.environment.reset(seed=seed)

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """One step of the environment."""
        taken = action if self._first_action is None else int(action) + int(self._first_action)
        self._observation, reward, terminated, truncated, _ = self.environment.step(taken)
        return float(reward), bool(terminated), bool(truncated)

    def frame(self) -> np.ndarray:
        """The last observation (D,)."""
        return self._observation

    def try_drawing(self) -> None:
        """Draw once, in order to fail before any training.

        Raises:
            DataError: if it cannot be drawn.
        """
        self.reset(seed=0)
        try:
            self.environment.render()
        except Exception as error:
            raise cannot_draw(self._id, error, "install what it asks for, or do without pictures") from error

    def render(self) -> np.ndarray:
        """The picture that the environment draws of itself."""
        if self.environment.render_mode is None:
            raise ValueError(f"{self._id}: pictures are drawn only with screens=True")
        return self.environment.render()

    def close(self) -> None:
        """Close the environment."""
        self.environment.close()


def _check_id(environment_id: str) -> None:
    import gymnasium

    # Once ale-py is imported its games are in the registry too.
    if environment_id.startswith("ALE/"):
        raise DataError(f"environment_id: {environment_id!r} is an Atari game: its kind is 'atari'")
    if environment_id in gymnasium.registry or ":" in environment_id:
        return
    hint = nearest(environment_id, gymnasium.registry)
    raise DataError(f"environment_id: {environment_id!r} is not registered in gymnasium; {hint}")
