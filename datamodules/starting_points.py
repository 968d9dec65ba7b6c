"""Which cells of a ring of frames may start a window: all of its frames are there and belong to one episode."""

import numpy as np
import torch

DENSE = 4
"""Cells are tried at random while at least one in this many starts a window; else the starting points are listed."""


class StartingPoints:
    """The windows of a ring, kept up to date frame by frame.

    A row of the ring holds one frame of each of E environments; cell ``row * E + environment`` is one frame. A window
    starts at a cell, needs the frames of the stack behind it as far as its episode goes, and the ``num_steps`` steps
    ahead of it or as many as there are until the episode's end. Nothing here knows what the frames show.

    Args:
        num_rows: R, rows of the ring, more than ``stack + num_steps``: no window is overwritten before it is complete.
        num_envs: E.
        stack: frames in a stack, 1 to 255.
        num_steps: steps in a window.

    Attributes:
        history: uint8 (R, E), how many frames before this one belong to its episode, at most ``stack - 1``.
        marked: bool (R, E), whether a window starts here.
        steps: int64 (E,), steps of each environment's episode so far, 0 if it has ended.
        count: number of starting points.
    """

    def __init__(self, num_rows: int, num_envs: int, stack: int, num_steps: int) -> None:
        self.num_rows = num_rows
        self.stack = stack
        self.num_steps = num_steps
        self.history = np.zeros((num_rows, num_envs), np.uint8)
        self.marked = np.zeros((num_rows, num_envs), np.bool_)
        self.steps = np.zeros(num_envs, np.int64)
        self.count = 0
        self._ahead = np.arange(stack, dtype=np.uint8)[:, None]

    def begin(self, row: int) -> None:
        """Row ``row`` receives first frames; windows that are not complete now never will be."""
        self._forget(row)
        self.history[row] = 0
        self.steps[:] = 0

    def step(self, row: int, ends: np.ndarray, reset: np.ndarray) -> None:
        """Row ``row`` receives the frames that follow those of the row before.

        Args:
            row: of the new frames.
            ends: bool (E,), the step ended an episode: its windows are complete, and whatever follows is another one.
            reset: bool (E,), the frame is the first of an episode and no step led to it; goes before ``ends``.
        """
        self._forget(row)
        self.steps = np.where(reset, 0, self.steps + 1)
        self._mark(row - self.num_steps, self.steps >= self.num_steps)
        if np.count_nonzero(ends):
            for behind in range(1, self.num_steps):
                self._mark(row - behind, ends & (self.steps >= behind))
            self.steps[ends] = 0
        # The frame of an end starts anew, in case the game goes on from it; as the last of its own episode its history
        # is that of the frame before plus one.
        self.history[row] = np.minimum(self.steps, self.stack - 1)

    def _mark(self, row: int, starts: np.ndarray) -> None:
        self.marked[row % self.num_rows] |= starts
        self.count += int(np.count_nonzero(starts))

    def _forget(self, row: int) -> None:
        """No window starts at ``row`` or needs it in its stack any more."""
        before_the_seam = min(self.stack, self.num_rows - row)
        self._unmark(row, self._ahead[:before_the_seam])
        if before_the_seam < self.stack:
            self._unmark(0, self._ahead[before_the_seam:])

    def _unmark(self, first: int, ahead: np.ndarray) -> None:
        """Rows from ``first`` on, so many rows ahead (rows, 1) of the one that is overwritten."""
        rows = slice(first, first + len(ahead))
        gone = self.marked[rows] & (self.history[rows] >= ahead)
        self.count -= int(np.count_nonzero(gone))
        self.marked[rows] ^= gone

    def recount(self) -> None:
        """Count again, after the arrays were filled from outside."""
        self.count = int(np.count_nonzero(self.marked))

    def cells(self) -> np.ndarray:
        """All starting points, int64 (count,), in the order of the ring."""
        return np.flatnonzero(self.marked)

    def draw(self, number: int, num_written: int, generator: torch.Generator | None) -> np.ndarray:
        """Starting points drawn uniformly and with replacement, int64 (number,).

        Args:
            number: of draws.
            num_written: cells from the beginning of the ring that have been written.
            generator: on the CPU; None for the process's own.
        """
        if self.count * DENSE < num_written:
            cells = self.cells()
            return cells[torch.randint(len(cells), (number,), generator=generator).numpy()]
        marked = self.marked.reshape(-1)
        drawn = np.empty(0, np.int64)
        while len(drawn) < number:  # what is accepted is uniform; a few more are tried than will do on average
            size = (number - len(drawn)) * num_written // self.count + 8
            tried = torch.randint(num_written, (size,), generator=generator).numpy()
            drawn = np.concatenate([drawn, tried[marked[tried]]])
        return drawn[:number]
