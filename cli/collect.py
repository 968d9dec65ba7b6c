"""`lightning_zoo collect`: play a game and write its frames, RAM, actions and rewards to one file."""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from datamodules.atari_emulator import CollectionSettings


def collect(
    game: str = "pong",
    root: str = "data/atari",
    num_frames: int = 100_000,
    color: Literal["gray", "rgb"] = "gray",
    policy: str = "random",
    epsilon: float = 0.2,
    seed: int = 42,
    num_streams: int = 8,
    exclude_noop: bool = False,
    episodic_life: bool = True,
    num_workers: int | None = None,
    max_pooling: Literal["rgb", "gray"] = "rgb",
    preview: str | None = None,
) -> None:
    """Collect the frames of an Atari game; `fit` does it by itself, with the settings of its config.

    The defaults are those of `AtariFrames`, so that a later `fit` finds the file.

    Args:
        game: The game's name, as `pong` or `ms_pacman`.
        root: The folder of recordings.
        num_frames: How many agent steps are recorded.
        color: One gray channel or three colours.
        policy: `random`, or a checkpoint whose module can `act`.
        epsilon: Share of random actions mixed into a policy.
        seed: Stream i draws from seed + i.
        num_streams: Independent games, recorded one after the other; part of what is recorded.
        exclude_noop: Never draw the first action at random, as the benchmark's random agent.
        episodic_life: A lost life ends an episode; the game goes on.
        num_workers: Processes that play; null for one per core. The frames do not depend on it.
        max_pooling: Of two emulator frames: in colour before gray as in the benchmark, or after.
        preview: Also write a strip of frames to this PNG file.

    Raises:
        UsageError: For a value that cannot be used.
        DataError: For an unknown game, a full disk or a policy that cannot be loaded.
    """
    from datamodules.atari_collection import collect_frames, recording_path
    from datamodules.atari_emulator import CollectionSettings
    from datamodules.atari_games import resolve_game

    try:
        settings = CollectionSettings(
            game=resolve_game(game),
            num_frames=num_frames,
            seed=seed,
            num_streams=num_streams,
            exclude_noop=exclude_noop,
            episodic_life=episodic_life,
            color=color,
            max_pooling=max_pooling,
            policy=policy,
            epsilon=epsilon,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    known = recording_path(settings, root).is_file()
    start = time.perf_counter()
    with _progress(num_frames, game) as advance:
        path = collect_frames(settings, root, num_workers=num_workers, progress=advance)
    rate = "was there already" if known else f"{num_frames / (time.perf_counter() - start):,.0f} frames per second"
    print(f"{path}: {num_frames:,} frames, {path.stat().st_size / 1e6:.1f} MB, {rate}")
    if preview is not None:
        write_preview(path, settings, Path(preview))
        print(f"{preview}: {min(PREVIEW_FRAMES, num_frames)} of the frames")


PREVIEW_FRAMES = 8


def write_preview(recording: Path, settings: CollectionSettings, png: Path) -> None:
    """Write frames from all over a recording side by side, with a gap between them, to a PNG file."""
    import numpy as np
    from matplotlib.image import imsave

    from datamodules import atari_store

    stored = atari_store.read(recording, settings)
    frames: list[np.ndarray] = []
    for index in np.linspace(0, len(stored) - 1, min(PREVIEW_FRAMES, len(stored))).astype(int):
        frame = np.frombuffer(zlib.decompress(stored.frames[index]), np.uint8).reshape(settings.frame_shape)
        frames.append(np.pad(frame, [(0, 0), (0, 4)] + [(0, 0)] * (frame.ndim - 2), constant_values=255))
    try:
        imsave(png, np.concatenate(frames, axis=1), cmap="gray", vmin=0, vmax=255)
    except (OSError, ValueError) as error:
        raise UsageError(f"preview {png} cannot be written: {error}") from error


@contextmanager
def _progress(total: int, game: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(f"Collecting {game}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} frames"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda rows: progress.advance(task, rows)
