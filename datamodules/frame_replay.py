"""Replay memory of single frames: stacks and n-step returns are built by index when a batch is drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.replay_arguments import DType, check_settings, numpy_dtype, on_host, torch_dtype
from datamodules.replay_file import read_description, read_tensors, save_tensors
from datamodules.starting_points import StartingPoints

Batch = dict[str, Tensor]
Padding = Literal["zeros", "first"]


class FrameReplay:
    """A ring of single frames of E environments, and the windows of ``num_steps`` transitions drawn from it.

    A frame is stored once, whatever the stack: 100,000 frames of 84x84 pixels take 0.71 GB. Frames lie on ``device``;
    all else, some 20 bytes per frame, lies on the host, where environments deliver it and indices are computed.
    A row of the ring holds one frame per environment; the last frame of an episode has a row and no transition.

    An episode that *terminated* is not bootstrapped from; one that was *truncated* is, from its last frame. Vector
    environments have to reset in the step after the end (gymnasium's ``NEXT_STEP``): that step is marked ``reset``. An
    environment that ended and is not reset goes on (a lost life that counts as an end): its frame is the last of one
    episode and the first of the next, and its stack as an observation of the next begins with it.

    Args:
        capacity: transitions of all environments together, counting an end's frame as one; rounded down to whole rows.
        num_envs: E.
        frame_shape: of one frame without stacking, (C, H, W) of pixels or (D,) of a state.
        frame_dtype: of the frames, of torch or NumPy.
        action_shape: of one action, () for a number.
        action_dtype: of the actions, of torch or NumPy.
        stack: frames in an observation, oldest first; more than one only of pixels.
        num_steps: transitions in a window, n of the n-step return.
        discount: per transition.
        padding: what stands before the first frame of an episode: "zeros" as in Dopamine and ale-py, "first", the first
            frame itself, as in gymnasium.
        device: of the frames and batches.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        frame_shape: tuple[int, ...],
        frame_dtype: DType,
        action_shape: tuple[int, ...],
        action_dtype: DType,
        *,
        stack: int = 1,
        num_steps: int = 1,
        discount: float = 0.99,
        padding: Padding = "zeros",
        device: torch.device | str = "cpu",
    ) -> None:
        check_settings(capacity, num_envs, tuple(frame_shape), stack, num_steps, discount, padding)
        self.num_rows = capacity // num_envs
        self.num_envs = num_envs
        self.frame_shape = tuple(frame_shape)
        self.stack = stack
        self.num_steps = num_steps
        self.padding = padding
        self.device = torch.device(device)
        cells = (self.num_rows, num_envs)
        # One cell more, always zero, stands before the first frame of an episode.
        self._frames = torch.zeros(
            (self.num_rows * num_envs + 1, *frame_shape), dtype=torch_dtype(frame_dtype), device=self.device
        )
        self._actions = np.zeros((*cells, *action_shape), numpy_dtype(action_dtype))
        self._rewards = np.zeros(cells, np.float32)
        self._terminated = np.zeros(cells, np.bool_)
        self._ended = np.zeros(cells, np.bool_)
        self._row_shape = torch.Size((num_envs, *frame_shape))
        self._points = StartingPoints(self.num_rows, num_envs, stack, num_steps)
        self._written = 0
        self._steps_ahead = np.arange(num_steps)
        self._frames_back = np.arange(stack)[::-1]
        self._powers = discount ** np.arange(num_steps + 1, dtype=np.float64)
        self._settings = {
            "capacity": capacity,
            "num_envs": num_envs,
            "frame_shape": list(frame_shape),
            "frame_dtype": str(self._frames.dtype),
            "action_shape": list(action_shape),
            "action_dtype": str(self._actions.dtype),
            "stack": stack,
            "num_steps": num_steps,
            "discount": discount,
            "padding": padding,
        }

    def __len__(self) -> int:
        """Number of starting points: transitions whose stack and whole window are in memory."""
        return self._points.count

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """(stack * C, H, W) or (D,)."""
        return (self.stack * self.frame_shape[0], *self.frame_shape[1:])

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole memory, on the device and on the host."""
        return self._frames.nbytes + sum(array.nbytes for array in self._host_arrays().values())

    def begin(self, frames: np.ndarray | Tensor) -> None:
        """Take the first frames of a run, also after a restart.

        Episodes that were open are cut: their transitions without a whole window will never be drawn.

        Args:
            frames: (E, *frame_shape).

        Raises:
            ValueError: if shape or dtype is another.
        """
        self._write_frames(frames)
        self._points.begin(self._written % self.num_rows)
        self._written += 1

    def add(
        self,
        actions: np.ndarray | Tensor,
        rewards: np.ndarray | Tensor,
        terminated: np.ndarray | Tensor,
        truncated: np.ndarray | Tensor,
        frames: np.ndarray | Tensor,
        reset: np.ndarray | Tensor,
    ) -> None:
        """Take the outcome of one vector step.

        Args:
            actions: (E, *action_shape), taken on the last frames.
            rewards: (E,).
            terminated: bool (E,), the environment came to an end; goes before ``truncated``.
            truncated: bool (E,), the episode was broken off.
            frames: (E, *frame_shape) that followed; of an episode that ended its last, not the next one's first.
            reset: bool (E,), the step only reset the environment: ``frames`` is the first one of an episode, action,
                reward and ends are ignored.

        Raises:
            ValueError: if a shape or dtype is another, or nothing has begun.
        """
        if not self._written:
            raise ValueError("add() came before begin(): give begin() the frames that the environments were reset to")
        envs = (self.num_envs,)
        reset = on_host(reset, "reset", envs, np.bool_)
        terminated = on_host(terminated, "terminated", envs, np.bool_)
        ends = on_host(truncated, "truncated", envs, np.bool_) | terminated
        actions = on_host(actions, "actions", self._actions.shape[1:], self._actions.dtype)
        rewards = on_host(rewards, "rewards", envs, self._rewards.dtype)
        self._write_frames(frames)
        row = self._written % self.num_rows
        # Row -1 is the last one: the ring closes by itself. Where `reset`, no window will ever look at these.
        self._actions[row - 1] = actions
        self._rewards[row - 1] = rewards
        self._terminated[row - 1] = terminated
        self._ended[row - 1] = ends
        self._points.step(row, ends, reset)
        self._written += 1

    def _write_frames(self, frames: np.ndarray | Tensor) -> None:
        frames = torch.as_tensor(frames)
        if frames.shape != self._row_shape or frames.dtype != self._frames.dtype:
            expected = f"{self._frames.dtype} {tuple(self._row_shape)}"
            raise ValueError(f"frames must be {expected}, got {frames.dtype} {tuple(frames.shape)}")
        self._frames.narrow(0, self._written % self.num_rows * self.num_envs, self.num_envs).copy_(frames)

    def last_observations(self) -> Tensor:
        """What the next actions are taken on: stacks (E, *observation_shape) that end with the last frames.

        An environment that has just ended counts as one that begins: if it is not reset, the action of its stack is
        stored with exactly this stack.

        Raises:
            ValueError: if nothing has begun.
        """
        if not self._written:
            raise ValueError("no observations yet: give begin() the frames that the environments were reset to")
        row = (self._written - 1) % self.num_rows
        cells = row * self.num_envs + np.arange(self.num_envs)
        return self._select(self._stacks(cells, self._points.history[row])).view(-1, *self.observation_shape)

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> Batch:
        """Windows drawn uniformly and with replacement from all starting points; see `gather`.

        Args:
            batch_size: B.
            generator: of the CPU, whatever the device; None for the process's own.

        Raises:
            ValueError: if there is no starting point.
        """
        if not self._points.count:
            raise ValueError(f"no window of num_steps={self.num_steps} is complete: add more steps before sampling")
        return self._gather(self._points.draw(batch_size, self._num_used * self.num_envs, generator))

    def starting_points(self) -> Tensor:
        """Indices int64 (len(self),) of all windows that can be drawn, on the host."""
        return torch.from_numpy(self._points.cells())

    def gather(self, index: Tensor) -> Batch:
        """The windows that start at given indices.

        With k the steps of a window, ``num_steps`` or as many as there are until the end of its episode:

        - "observations" (B, *observation_shape) of the frame dtype, at t
        - "actions" (B, *action_shape), at t
        - "rewards" float32 (B,), sum of discount^i r_{t+i} over i < k
        - "discounts" float32 (B,), discount^k, 0 if the window ends with a termination
        - "next_observations" as "observations", at t + k
        - "index" int64 (B,), the place in the ring, ``row * num_envs + environment``

        Both observations are views of one tensor, and share frames where ``num_steps`` is 1: not to be written to.

        Args:
            index: int64 (B,), from `starting_points` or a batch; of another cell the answer means nothing.
        """
        return self._gather(index.cpu().numpy())

    def _gather(self, index: np.ndarray) -> Batch:
        rewards, discounts, last = self._windows(index)
        history = self._points.history.reshape(-1)
        # An end's own history is that of an episode which begins with it, so count on from the frame before.
        next_history = np.minimum(history[last] + 1, self.stack - 1)
        next_index = (last + self.num_envs) % self._ended.size
        cells = self._stacks(np.stack([index, next_index], axis=1), np.stack([history[index], next_history], axis=1))
        if self.num_steps == 1:  # all but one of the next frames are there already
            cells = np.concatenate([cells[:, 0], cells[:, 1, -1:]], axis=1)
        frames = self._select(cells)  # (B * slots, *frame_shape)
        frames = frames.view(len(index), -1, *self.frame_shape[1:])  # (B, slots * C, H, W)
        channels = self.observation_shape[0]
        host = {"actions": self._actions.reshape(-1, *self._actions.shape[2:])[index]}
        host |= {"rewards": rewards, "discounts": discounts, "index": index}
        batch = {"observations": frames[:, :channels], "next_observations": frames[:, -channels:]}
        return batch | {name: torch.from_numpy(values).to(self.device) for name, values in host.items()}

    def _windows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rewards float32 (B,), discounts float32 (B,), cells (B,) of the last transitions of windows."""
        steps = index[:, None] + self._steps_ahead * self.num_envs  # (B, n), past the seam still to be wrapped
        ended = self._ended.take(steps, mode="wrap")
        ended[:, -1] = True  # a window is over at the latest with its last step
        lengths = ended.argmax(axis=1) + 1  # k
        received = self._rewards.take(steps, mode="wrap") * self._powers[:-1]
        rewards = np.where(self._steps_ahead < lengths[:, None], received, 0).sum(axis=1)
        last = (index + (lengths - 1) * self.num_envs) % self._ended.size
        discounts = np.where(self._terminated.take(last), 0, self._powers[lengths])
        return rewards.astype(np.float32), discounts.astype(np.float32), last

    def _stacks(self, cells: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Cells (..., stack) of the stacks that end at cells (...) with so many frames of their episode before them."""
        history = history[..., None]
        stacks = (cells[..., None] - np.minimum(self._frames_back, history) * self.num_envs) % self._ended.size
        if self.padding == "first":
            return stacks
        return np.where(self._frames_back > history, self._ended.size, stacks)

    def _select(self, cells: np.ndarray) -> Tensor:
        return self._frames.index_select(0, torch.from_numpy(cells.reshape(-1)).to(self.device))

    @property
    def _num_used(self) -> int:
        """Rows that have been written."""
        return min(self._written, self.num_rows)

    def _host_arrays(self) -> dict[str, np.ndarray]:
        """What lies on the host, each (rows, E, ...)."""
        return {
            "actions": self._actions,
            "rewards": self._rewards,
            "terminated": self._terminated,
            "ended": self._ended,
            "history": self._points.history,
            "marked": self._points.marked,
        }

    def state_dict(self) -> dict[str, Any]:
        """The settings and where the memory stands, without its content: that goes to a file of its own, see `save`."""
        return {"settings": self._settings, "written": self._written, "steps": self._points.steps.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a state is of this memory's settings. Its content and its cursor come with `load`.

        Raises:
            DataError: if a setting differs.
        """
        self._check_settings(state, "the checkpoint's replay")

    def _check_settings(self, state: Mapping[str, Any], source: str) -> None:
        for name, value in self._settings.items():
            if state["settings"].get(name) != value:
                raise DataError(
                    f"{source} has {name}={state['settings'].get(name)}, this run {value}: "
                    "set it to that value, or start with an empty memory"
                )

    def save(self, path: str | Path) -> str:
        """Write all that the memory holds into one file and return its hash, which `load` asks for.

        The file at ``path`` is replaced when the new one is complete. A checkpoint that is replaced later than its file
        needs a file name of its own, or a kill between the two leaves a checkpoint without its replay.

        Raises:
            OSError: if the disk is full.
        """
        return save_tensors(path, self.state_dict(), self._content(self._num_used))

    def load(self, path: str | Path, digest: str) -> None:
        """Take content, cursor and open episodes from a file of `save`, so that all goes on as it would have.

        Args:
            path: of the file.
            digest: the hash that `save` returned.

        Raises:
            DataError: if the file is missing, is another, or is of other settings; the memory is then as it was.
            OSError: if the file cannot be read to its end; the memory is then empty.
        """
        state = read_description(path, digest)
        self._check_settings(state, f"the replay {path}")
        self._points.marked[:] = False  # beyond the rows that are read, too
        self._points.count = self._written = 0
        read_tensors(path, self._content(min(state["written"], self.num_rows)))
        self._written = state["written"]
        self._points.steps[:] = state["steps"]
        self._points.recount()

    def _content(self, rows: int) -> dict[str, Tensor]:
        """Views of the first rows of the ring."""
        host = {name: torch.from_numpy(array[:rows]) for name, array in self._host_arrays().items()}
        return host | {"frames": self._frames[: rows * self.num_envs]}
