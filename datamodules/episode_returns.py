"""True returns of episodes: unclipped, and to the real game over whatever the learner calls an end."""

from typing import NamedTuple

import numpy as np

from datamodules.environments import Steps


class Episode(NamedTuple):
    """An episode that came to its end.

    Attributes:
        env: which of the environments played it.
        score: the sum of its rewards, neither clipped nor discounted.
        length: in agent steps.
        truncated: cut from outside, not over by itself.
    """

    env: int
    score: float
    length: int
    truncated: bool


class EpisodeReturns:
    """Adds up the rewards of E environments and hands out the episodes that ended.

    Lost lives end no episode, the steps that reset count for none. Call `clear` when the environments are reset: what
    was open then has no end.
    """

    def __init__(self, num_envs: int) -> None:
        self._scores = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)

    def clear(self) -> None:
        """Forget the episodes that are open."""
        self._scores[:] = 0
        self._lengths[:] = 0

    def add(self, steps: Steps) -> list[Episode]:
        """Count one step of every environment; the episodes that it ended, in the order of the environments."""
        self._scores += steps.rewards
        self._lengths += ~steps.reset
        ended = np.flatnonzero(steps.over)
        episodes = [
            Episode(int(e), float(self._scores[e]), int(self._lengths[e]), bool(steps.truncated[e])) for e in ended
        ]
        self._scores[ended] = 0
        self._lengths[ended] = 0
        return episodes
