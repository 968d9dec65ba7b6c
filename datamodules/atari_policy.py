"""A trained agent as a source of frames."""

from collections import deque

import numpy as np

from datamodules.atari_emulator import CollectionSettings, Policy, num_actions, resize, to_gray
from datamodules.errors import DataError

OBSERVATION_SHAPE = (4, 84, 84)
"""Stack, height and width that an agent sees unless its module has another ``observation_shape``."""


def load_policy(settings: CollectionSettings, stream: int) -> Policy:
    """The agent of a checkpoint, with a share ``settings.epsilon`` of uniform actions, ready to play one stream.

    Any module will do whose ``act(observations, explore)`` takes uint8 (1, stack, height, width) gray frames, oldest
    first, and returns (1,) indices into the minimal action set.

    Raises:
        DataError: if the checkpoint cannot be loaded or its module cannot act.
    """
    # The one place where data needs a method: frames of a trained agent cannot be had without the agent.
    from lightning_zoo.checkpoints import CheckpointError, load

    try:
        agent = load(settings.policy)
    except CheckpointError as error:
        raise DataError(f"policy: {error}") from error
    if not callable(getattr(agent, "act", None)):
        raise DataError(f"policy: {settings.policy} holds a {type(agent).__name__}, which cannot act")
    import torch

    # What an agent draws must not depend on the streams that its process played before.
    torch.manual_seed(settings.stream_seed(stream))
    return _AgentPolicy(agent, settings)


class _AgentPolicy:
    """Keeps the stack of frames between calls."""

    def __init__(self, agent: object, settings: CollectionSettings) -> None:
        self.num_actions = num_actions(settings.game)
        self.agent = agent
        self.epsilon = settings.epsilon
        shape: tuple[int, int, int] = getattr(agent, "observation_shape", OBSERVATION_SHAPE)
        self.stack, self.height, self.width = shape
        self.frames: deque[np.ndarray] = deque(maxlen=self.stack)

    def __call__(self, frame: np.ndarray, random: np.random.Generator, episode_start: bool) -> int:
        import torch

        small = resize(frame if frame.ndim == 2 else to_gray(frame), self.height, self.width)
        if episode_start:
            self.frames.extend([small] * self.stack)
        self.frames.append(small)
        if random.random() < self.epsilon:
            return int(random.integers(self.num_actions))
        observations = torch.from_numpy(np.stack(self.frames)[None])
        with torch.inference_mode():
            return int(self.agent.act(observations, explore=True)[0])  # type: ignore[attr-defined]
