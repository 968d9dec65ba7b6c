"""Atari games on ale-py's vector of emulators: single gray frames, raw rewards, lives and time limits kept apart.

What ale-py would mix is done here: it gives a stale picture at its own time limit, hides that limit behind a life lost
in the same step, and lets a lost life either restart the game or look like its end.
"""

from typing import Any

import numpy as np

from datamodules.action_space import ActionSpace
from datamodules.atari_games import resolve_game
from datamodules.environments import Seed, Steps, at_least, environment_seeds

FRAME_SIZE = 84
SCREEN_SIZE = (210, 160)
NO_FRAME_LIMIT = 2**30  # emulator frames; ale-py adds one to it, in 32 bits


class AtariEnvironments:
    """E copies of a game as DQN and its kin see it: 84x84 gray, the brighter of the last two of four frames.

    Actions are the game's minimal set; a new game starts with 0 to 29 no-ops (drawn below `noop_max`).
    With equal seeds and actions, the frames stacked by four, zeros before the first, equal those of ale-py's own stack.

    Args:
        game: in any usual spelling: "Pong", "ms_pacman", "ALE/MsPacman-v5".
        num_envs: E.
        terminal_on_life_loss: flag a lost life as terminated while the game goes on, as Dopamine does. For learning; in
            evaluation the flag has no place. `Steps.life_lost` tells of lost lives either way.
        sticky: probability that the emulator repeats the previous action instead, frame by frame; 0 for Atari 100k.
        noop_max: no-ops after a new game are drawn below this number.
        fire_reset: press the fire button once when a new game starts, where the game has one.
        max_steps: agent steps after which a game is truncated; 27,000 are 30 minutes.
        frame_skip: emulator frames in an agent step.
        num_threads: of the emulators; 0 for as many as there are environments or processors.
        screens: play a second emulator beside each, whose full colour screen `render` shows. Costs as much again.

    Raises:
        DataError: for a game that the emulator has not, with the nearest names.
        ValueError: for a number out of range.
    """

    def __init__(
        self,
        game: str,
        num_envs: int = 1,
        *,
        terminal_on_life_loss: bool = False,
        sticky: float = 0.0,
        noop_max: int = 30,
        fire_reset: bool = False,
        max_steps: int = 27_000,
        frame_skip: int = 4,
        num_threads: int = 0,
        screens: bool = False,
    ) -> None:
        if not 0 <= sticky < 1:
            raise ValueError(f"sticky must lie in [0, 1), got {sticky}")
        self.name = resolve_game(game)
        self.num_envs = at_least("num_envs", num_envs, 1)
        self.frame_shape: tuple[int, ...] = (1, FRAME_SIZE, FRAME_SIZE)
        self.frame_dtype = np.dtype(np.uint8)
        self.frame_skip = at_least("frame_skip", frame_skip, 1)
        self.terminal_on_life_loss = terminal_on_life_loss
        self.max_steps = at_least("max_steps", max_steps, 1)
        settings = {
            "repeat_action_probability": sticky,
            "noop_max": at_least("noop_max", noop_max, 0),
            "use_fire_reset": fire_reset,
            "frameskip": frame_skip,
            "num_threads": at_least("num_threads", num_threads, 0),
        }
        self._game = _Game(self.name, num_envs, img_height=FRAME_SIZE, img_width=FRAME_SIZE, grayscale=True, **settings)
        self._screens = (
            _Game(self.name, num_envs, img_height=SCREEN_SIZE[0], img_width=SCREEN_SIZE[1], grayscale=False, **settings)
            if screens
            else None
        )
        self._actions = ActionSpace(num_actions=self._game.num_actions)
        self.num_actions = self._actions.num_actions
        self.action_shape, self.action_dtype = self._actions.shape, self._actions.dtype
        self.action_low, self.action_high = self._actions.low, self._actions.high

    def reset(self, seed: Seed) -> np.ndarray:
        """Start new games; the first frames (E, 1, 84, 84) uint8."""
        seeds = np.array(environment_seeds(seed, self.num_envs))
        if self._screens:
            self._screens.reset(seeds)
        self._lives = self._game.reset(seeds)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._over = np.zeros(self.num_envs, bool)
        self._cut = np.zeros(self.num_envs, bool)
        return self._game.frames

    def step(self, actions: np.ndarray) -> Steps:
        """Take actions (E,), indices into the game's minimal set."""
        actions = self._actions.checked(actions, self.num_envs)
        if self._screens:
            self._screens.step(actions, restart=self._cut)
        rewards, game_over, lives = self._game.step(actions, restart=self._cut)
        reset = self._over
        self._steps = np.where(reset, 0, self._steps + 1)
        # A game that is over has no lives, yet some lose the last one before they are over: neither goes on.
        life_lost = (lives < self._lives) & (lives > 0) & ~game_over & ~reset
        truncated = (self._steps >= self.max_steps) & ~game_over
        self._lives, self._cut, self._over = lives, truncated.copy(), truncated | game_over
        terminated = game_over | life_lost if self.terminal_on_life_loss else game_over
        return Steps(self._game.frames, rewards, terminated, truncated, reset, life_lost)

    def render(self, env: int = 0) -> np.ndarray:
        """The colour screen (210, 160, 3) with `screens`, else what the agent sees, (84, 84, 3) in gray."""
        if self._screens:
            return self._screens.frames[env, 0]
        return np.repeat(self._game.frames[env, 0, :, :, None], 3, axis=2)

    def close(self) -> None:
        """Free the emulators."""
        self._game.close()
        if self._screens:
            self._screens.close()


class _Game:
    """Emulators that ale-py never cuts, so that the frame at a time limit is a whole one."""

    def __init__(self, name: str, num_envs: int, **settings: Any) -> None:
        from ale_py.vector_env import AtariVectorEnv

        self._vector = AtariVectorEnv(
            name,
            num_envs,
            stack_num=1,
            reward_clipping=False,
            episodic_life=False,
            life_loss_info=False,
            max_num_frames_per_episode=NO_FRAME_LIMIT,
            **settings,
        )
        self.num_actions = len(self._vector.ale.get_action_set())

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """New games; the lives (E,)."""
        self.frames, info = self._vector.reset(seed=seeds)
        return info["lives"]

    def step(self, actions: np.ndarray, restart: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play on, but start the games (E,) anew that were cut; rewards, game over and lives, (E,) each."""
        self.frames, rewards, game_over, _, info = self._vector.step(actions)
        rewards = rewards.astype(np.float32)
        if restart.any():
            # All emulators step together: the cut ones take a step that nobody sees before they are reset.
            self.frames, info = self._vector.reset(options={"reset_mask": restart})
            rewards[restart], game_over[restart] = 0, False
        return rewards, game_over, info["lives"]

    def close(self) -> None:
        """Stop the threads, which live as long as ale-py's object."""
        self._vector.close()
        del self._vector
