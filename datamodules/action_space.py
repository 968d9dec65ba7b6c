"""The actions that an environment takes, checked before it sees them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ActionSpace:
    """A choice among several actions, or a vector within bounds.

    Attributes:
        num_actions: of a discrete choice; None for continuous actions.
        low: (A,) float32 for continuous actions, else None.
        high: as `low`.
    """

    num_actions: int | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """() or (A,)."""
        return () if self.low is None else self.low.shape

    @property
    def dtype(self) -> np.dtype:
        """int64 or float32."""
        return np.dtype(np.int64 if self.low is None else np.float32)

    def checked(self, actions: np.ndarray, num_envs: int) -> np.ndarray:
        """The actions (E, *shape) in their type; continuous ones moved onto the bounds where rounding left them.

        Raises:
            ValueError: for another shape, an index that is no action, or a number that is none.
        """
        actions = np.asarray(actions)
        if actions.shape != (num_envs, *self.shape):
            raise ValueError(f"actions must have the shape {(num_envs, *self.shape)}, got {actions.shape}")
        return self._checked_indices(actions) if self.num_actions is not None else self._checked_vectors(actions)

    def _checked_indices(self, actions: np.ndarray) -> np.ndarray:
        assert self.num_actions is not None
        if actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be whole numbers below {self.num_actions}, got {actions.dtype}")
        # ale-py waits for ever on an action that the game has not.
        if actions.min() < 0 or actions.max() >= self.num_actions:
            raise ValueError(f"actions must lie in [0, {self.num_actions - 1}], got {actions.tolist()}")
        return actions.astype(np.int64, copy=False)

    def _checked_vectors(self, actions: np.ndarray) -> np.ndarray:
        if np.isnan(actions).any():
            raise ValueError("actions contain NaN; the policy has diverged")
        return np.clip(actions, self.low, self.high, dtype=np.float32, casting="same_kind")
