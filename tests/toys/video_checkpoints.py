"""Checkpoints as runs on videos write them, of methods that nobody trained, and small videos to use them on."""

import torch
from video_files import walker, write_video
from video_toy import saved

DIGITS = {"digits": "digits8x8", "num_train": 24, "num_val": 8, "num_test": 16, "batch_size": 8}
TINY = {
    "base_channels": 2,
    "channels": 4,
    "dynamics_size": 6,
    "frame_dynamics_size": 5,
    "hidden_size": 8,
    "transformer_epochs": 1,
}

WALKERS = ["daria_walk", "daria_run", "lena_walk1", "lena_walk2", "lena_run1", "shahar_walk", "shahar_run"]
"""Two actions of three actors, one of them in two takes."""


def checkpoint(path, module, dataset="MovingMNIST", *, epoch=1, **arguments):
    """A checkpoint as of a run on a dataset, in its second epoch; that it was never trained does not matter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = torch.load(saved(module, path), weights_only=True)
    arguments = arguments or DIGITS
    torch.save(content | {"datamodule_name": dataset, "datamodule_hyper_parameters": arguments, "epoch": epoch}, path)
    return path


def write_walkers(folder, names=WALKERS, frames=26):
    """Videos as Weizmann names them, and the arguments of a DataModule that reads them."""
    for place, name in enumerate(names):
        pictures, _ = walker(frames, seed=place, start=30, speed=2 + 3 * ("run" in name))
        write_video(folder / f"{name}.avi", pictures)
    actors = sorted({name.partition("_")[0] for name in names})
    return {"root": str(folder), "image_size": 64, "batch_size": 1, "crop": "center", "actors": actors}
