"""Environments that step together: what each kind offers, what a step says, and the one function that makes them.

An *agent step* is one action of one environment; E environments that step together make E agent steps. A *frame* is one
observation without stacking: uint8 (C, H, W) pixels or float32 (D,) states.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from datamodules.errors import DataError

Kind = Literal["atari", "gymnasium", "control"]
Seed = int | Sequence[int]
"""One number of zero or more, or several, as [seed, rank, purpose]: different ones share no draw."""

_CLASSES: dict[str, tuple[str, str]] = {
    "atari": ("datamodules.atari_environments", "AtariEnvironments"),
    "gymnasium": ("datamodules.gym_environments", "GymEnvironments"),
    "control": ("datamodules.control_environments", "ControlEnvironments"),
}


class Steps(NamedTuple):
    """What one action in each of E environments led to.

    An environment that is over ignores its next action and starts anew: that step is flagged `reset`, its frame is the
    first of the new episode, its reward is 0 and its other flags are False. It is no transition and no agent step.

    Attributes:
        frames: (E, *frame_shape), what the actions led to; at an end the episode's own last frame.
        rewards: (E,) float32, as the environment gives them, never clipped.
        terminated: (E,) bool, nothing can follow: no bootstrapping. A lost life too, where that is asked for.
        truncated: (E,) bool, stopped from outside: bootstraps from `frames`. Together with `terminated` only where a
            life was lost, as its termination, at the very step at which the game was cut.
        reset: (E,) bool, this step started a new episode and took no action.
        life_lost: (E,) bool, a life was lost and the game goes on, unless `truncated`.
    """

    frames: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    reset: np.ndarray
    life_lost: np.ndarray

    @property
    def over(self) -> np.ndarray:
        """(E,) bool: the game is over or cut, lost lives aside; exactly these environments reset in the next step."""
        return self.truncated | (self.terminated & ~self.life_lost)

    @property
    def agent_steps(self) -> int:
        """How many of the actions were taken: E less the resets."""
        return len(self.reset) - int(np.count_nonzero(self.reset))


class Environments(Protocol):
    """E environments of one name that step together; `reset` comes first.

    Attributes:
        name: of the game, environment or task, as its library spells it.
        num_envs: E.
        frame_shape: (C, H, W) or (D,).
        frame_dtype: uint8 for pixels, float32 for states.
        num_actions: of a discrete choice; None for continuous actions.
        action_shape: () for a discrete choice, (A,) for continuous actions.
        action_dtype: int64 or float32.
        action_low: (A,) float32, None for a discrete choice; actions beyond the bounds are moved onto them.
        action_high: as `action_low`.
        frame_skip: frames of the emulator, or steps of the simulator, in an agent step.
    """

    name: str
    num_envs: int
    frame_shape: tuple[int, ...]
    frame_dtype: np.dtype
    num_actions: int | None
    action_shape: tuple[int, ...]
    action_dtype: np.dtype
    action_low: np.ndarray | None
    action_high: np.ndarray | None
    frame_skip: int

    def reset(self, seed: Seed) -> np.ndarray:
        """Start every environment anew; all that follows depends on the seed and the actions alone.

        Returns:
            The first frames (E, *frame_shape), an array of its own.
        """
        ...

    def step(self, actions: np.ndarray) -> Steps:
        """Take one action (E, *action_shape) in each environment; the arrays returned are the caller's."""
        ...

    def render(self, env: int = 0) -> np.ndarray:
        """A picture (H, W, 3) uint8 of what an environment shows now."""
        ...

    def close(self) -> None:
        """Free emulators and windows; nothing else may follow."""
        ...


def make_environments(kind: Kind, name: str, num_envs: int = 1, **options: Any) -> Environments:
    """The environments of a game, an id or a task.

    Args:
        kind: "atari" for games of ale-py, "gymnasium" for the ids of gymnasium, "control" for tasks of dm_control.
        name: "Pong", "CartPole-v1", "cartpole_swingup".
        num_envs: how many step together.
        options: keyword arguments of `AtariEnvironments`, `GymEnvironments` or `ControlEnvironments`.

    Raises:
        ValueError: for an unknown kind or option, or a value out of range.
        DataError: for an unknown name, with the nearest ones, and for what is missing to run it.
        MissingExtraError: if the package is not installed.
    """
    if kind not in _CLASSES:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(get_args(Kind))}")
    module, class_name = _CLASSES[kind]
    environments = getattr(import_module(module), class_name)
    known = list(signature(environments).parameters)[2:]
    for option in options:
        if option not in known:
            raise ValueError(f"{option}: {class_name} has no such option; {nearest(option, known)}")
    return environments(name, num_envs, **options)


def environment_seeds(seed: Seed, num_envs: int) -> list[int]:
    """A seed below 2^31 for each environment, unrelated to those of other seeds; the first ones do not depend on E.

    Consecutive seeds would give environment 1 of seed 0 and environment 0 of seed 1 the same games.
    """
    words = [seed] if isinstance(seed, int) else [*seed]
    # With their number in front: numpy takes 1 and [1, 0] for the same.
    return [int(word) >> 1 for word in np.random.SeedSequence([len(words), *words]).generate_state(num_envs)]


def at_least(name: str, value: int, lowest: int) -> int:
    """The value itself.

    Raises:
        ValueError: if it is below the lowest.
    """
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error's line: the nearest of the known names, or all of them where none is near."""
    by_lower = {entry.lower(): entry for entry in known}
    near = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(sorted(by_lower.values()))}"


def one_line(error: BaseException) -> str:
    """The first line of what an error says, after its type's name."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def cannot_draw(what: str, error: BaseException, way_out: str) -> DataError:
    """The error of an environment whose pictures cannot be drawn on this machine; it comes before any training."""
    return DataError(f"{what} cannot be drawn on this machine ({one_line(error)}); {way_out}")
