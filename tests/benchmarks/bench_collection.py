"""Collecting frames: against one gymnasium environment, against the bare emulator, and what they take in memory."""

import subprocess
import sys
import tempfile
from statistics import median

import gymnasium
import numpy as np
from measure import Result, in_turns, seconds

from datamodules.atari_collection import collect_frames
from datamodules.atari_emulator import CollectionSettings, open_rom, to_gray

FRAMES = 100_000
GAME = "pong"


def collection() -> Result:
    """Agent steps per second, written to disk, against the original's environment that only steps."""
    seeds = iter(range(100))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            collect_frames(CollectionSettings(game=GAME, num_frames=FRAMES, seed=next(seeds)), folder, num_workers=2)

    theirs, own, _ = in_turns(lambda: _gymnasium(FRAMES // 10), ours, rounds=2)
    rates = FRAMES / 10 / theirs, FRAMES / own
    bare = median(2000 / seconds(lambda: _bare(2000)) for _ in range(3))
    detail = (
        f"two workers {rates[1]:.0f}, gymnasium.make {rates[0]:.0f} agent steps per second; "
        f"the bare emulator on two cores would give {2 * bare:.0f} ({rates[1] / (2 * bare):.0%} of it)"
    )
    return Result("collecting on two cores against one environment", rates[1] / rates[0], "x", 2, True, detail)


def _gymnasium(steps: int) -> None:
    """One environment, frame skip 4 with the maximum of the last two frames in gray, and the RAM, for each step."""
    import ale_py

    gymnasium.register_envs(ale_py)
    environment = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
    random = np.random.default_rng(0)
    environment.reset(seed=0)
    for _ in range(steps):
        action = int(random.integers(6))
        screens = []
        for _ in range(4):
            screen, _, terminated, truncated, _ = environment.step(action)
            screens.append(screen)
            if terminated or truncated:
                environment.reset()
                break
        to_gray(np.maximum(screens[-1], screens[-2]) if len(screens) > 1 else screens[-1])
        environment.unwrapped.ale.getRAM()  # type: ignore[attr-defined]
    environment.close()


def _bare(steps: int) -> None:
    ale = open_rom(GAME)
    actions = ale.getMinimalActionSet()
    for index in range(steps):
        for _ in range(4):
            ale.act(actions[index % len(actions)])
        if ale.game_over():
            ale.reset_game()


TRAIN = """
import resource, sys
import lightning as L
from datamodules import AtariFrames
from lightning_zoo import STDIM

if __name__ == "__main__":
    data = AtariFrames(game="pong", root=sys.argv[1], num_frames=100_000)
    trainer = L.Trainer(
        accelerator="cpu", max_steps=20, limit_val_batches=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(STDIM(), datamodule=data)
    print("peak kB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, data.frames.mode)
"""


def memory() -> Result:
    """Peak resident memory of a process that collects 100,000 gray frames and trains on them."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", TRAIN, folder], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("peak kB"))
    gigabytes = int(line.split()[2]) * 1024 / 1e9
    detail = f"100,000 gray frames of Pong, kept {line.split()[3]}, 20 training steps; raw they are 3.36 GB"
    return Result("memory of a training run", gigabytes, "GB", 4, False, detail)
