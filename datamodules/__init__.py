"""One LightningDataModule per dataset; each is imported when it is asked for."""

from importlib import import_module
from typing import Any

DATASETS = {
    "AtariFrames": "datamodules.atari_frames",
    "Birds": "datamodules.birds",
    "CelebA": "datamodules.celeba",
    "ClipFolder": "datamodules.clip_folder",
    "Features": "datamodules.features",
    "ImageFolder": "datamodules.image_folder",
    "LSUN": "datamodules.lsun",
    "MNIST": "datamodules.mnist",
    "MovingMNIST": "datamodules.moving_mnist",
    "RAVDESS": "datamodules.ravdess",
    "Weizmann": "datamodules.weizmann",
}
"""Every dataset: the class's name and the module that defines it."""

__all__ = ["DATASETS", *DATASETS]


def __getattr__(name: str) -> Any:
    if name not in DATASETS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(DATASETS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
