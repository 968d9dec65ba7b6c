"""`lightning_zoo collect`: play a game and write its frames, RAM, actions and rewards to one file."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from datamodules.atari_frames import AtariFrames


def collect(
    game: str = "pong",
    root: str = "data/atari",
    preset: Literal["clean", "paper"] = "clean",
    probe: bool = False,
    num_frames: int | None = None,
    color: Literal["gray", "rgb"] = "gray",
    policy: str = "random",
    epsilon: float = 0.2,
    seed: int = 42,
    num_streams: int = 8,
    exclude_noop: bool | None = None,
    episodic_life: bool = True,
    num_workers: int | None = None,
    max_pooling: Literal["rgb", "gray"] | None = None,
    preview: str | None = None,
) -> None:
    """Collect the frames of an Atari game ahead of `fit` and `probe`, which otherwise do it themselves.

    With the preset of a config, and its other settings, it writes the very file that `fit` reads, and with --probe the
    one that `probe` reads.

    Args:
        game: The game's name, as `pong` or `ms_pacman`.
        root: The folder of recordings.
        preset: The protocol, `clean` or `paper`; the packaged configs say which one they use.
        probe: Collect the labelled frames of `probe` and of supervised training instead of the encoder's.
        num_frames: How many agent steps are recorded; null for 100,000, and 50,000 with --probe.
        color: One gray channel or three colours.
        policy: `random`, or a checkpoint whose module can `act`.
        epsilon: Share of random actions mixed into a policy.
        seed: The seed of the config; the probe's frames are seeded far from it.
        num_streams: Independent games, recorded one after the other; part of what is recorded.
        exclude_noop: Never draw the first action at random, as the benchmark's random agent; null for the preset's.
        episodic_life: A lost life ends an episode; the game goes on.
        num_workers: Processes that play; null for one per core. The frames do not depend on it.
        max_pooling: Of two emulator frames: in colour before gray as in the benchmark, or after; null for the preset's.
        preview: Also write a strip of frames to this PNG file.

    Raises:
        UsageError: For a value that cannot be used.
        DataError: For an unknown game, a full disk or a policy that cannot be loaded.
    """
    from datamodules.atari_frames import AtariFrames

    count: dict[str, Any] = {} if num_frames is None else {"num_probe_frames" if probe else "num_frames": num_frames}
    try:
        data = AtariFrames(
            game=game,
            root=root,
            preset=preset,
            serve="labelled" if probe else "clips",
            color=color,
            policy=policy,
            epsilon=epsilon,
            seed=seed,
            num_streams=num_streams,
            exclude_noop=exclude_noop,
            episodic_life=episodic_life,
            num_workers=num_workers,
            max_pooling=max_pooling,
            **count,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    _collect(data)
    if preview is not None:
        write_preview(data, Path(preview))


def _collect(data: AtariFrames) -> None:
    known, start = data.path.is_file(), time.perf_counter()
    data.prepare_data()
    number = data.settings.num_frames
    rate = "was there already" if known else f"{number / (time.perf_counter() - start):,.0f} frames per second"
    print(f"{data.path}: {number:,} frames, {data.path.stat().st_size / 1e6:.1f} MB, {rate}")


PREVIEW_FRAMES = 8


def write_preview(data: AtariFrames, png: Path) -> None:
    """Write frames from all over the recording side by side, with a gap between them, to a PNG file."""
    import numpy as np
    from matplotlib.image import imsave

    from datamodules import atari_store

    stored = atari_store.read(data.path, data.settings)
    frames: list[np.ndarray] = []
    for index in np.linspace(0, len(stored) - 1, min(PREVIEW_FRAMES, len(stored))).astype(int):
        frame = np.frombuffer(zlib.decompress(stored.frames[index]), np.uint8).reshape(data.settings.frame_shape)
        frames.append(np.pad(frame, [(0, 0), (0, 4)] + [(0, 0)] * (frame.ndim - 2), constant_values=255))
    try:
        imsave(png, np.concatenate(frames, axis=1), cmap="gray", vmin=0, vmax=255)
    except (OSError, ValueError) as error:
        raise UsageError(f"preview {png} cannot be written: {error}") from error
    print(f"{png}: {len(frames)} of the frames")
