"""Checkpoints: what a method writes so that it can be loaded from the file alone, where they lie, and how they fail.

Reading never runs code from the file (`weights_only=True`). The class is imported by its name, so it has to be
installed or importable from the working directory.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_zoo import __version__

if TYPE_CHECKING:
    import torch
    from lightning import LightningModule

KEY = "lightning_zoo"
"""The entry of a checkpoint that names its class and the version of this package that wrote it."""

RUNS = Path("runs")
"""Where the command line keeps its runs, below the working directory: `runs/<name>/version_<n>/`."""


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line and says what to do."""


class Loadable:
    """Mixin that writes a method's class into its checkpoints: `class STDIM(Loadable, L.LightningModule)`.

    With it `lightning_zoo.load` needs nothing but the file, also for runs that never saw the command line.
    """

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the class path and the package version to `checkpoint`."""
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        cls = type(self)
        checkpoint[KEY] = {"class_path": f"{cls.__module__}.{cls.__qualname__}", "version": __version__}


def load(path: str | Path, map_location: str | torch.device = "cpu") -> LightningModule:
    """Build a trained method from its checkpoint alone, in evaluation mode.

    Args:
        path: A checkpoint of any `Loadable` module, or of any module that was trained by the command line.
        map_location: The device that gets the weights.

    Raises:
        CheckpointError: If the file is missing, damaged or no checkpoint, or its class cannot be imported or built.
    """
    checkpoint = read(path)
    cls = _class_of(checkpoint, path)
    try:
        module = cls.load_from_checkpoint(path, map_location=map_location, weights_only=True)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit {cls.__name__} as it is now: {_first_line(error)}") from error
    return module.eval()


def load_encoder(path: str | Path, map_location: str | torch.device = "cpu") -> LightningModule:
    """Like `load`, for callers that need `encode(frames: (B, C, H, W)) -> (B, D)`.

    Raises:
        CheckpointError: As `load`, and if the class has no `encode`.
    """
    module = load(path, map_location)
    if not callable(getattr(module, "encode", None)):
        raise CheckpointError(
            f"{path} holds {type(module).__name__}, which has no `encode(frames)` to take features from."
        )
    return module


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint as plain tensors, numbers and strings, memory-mapped on the CPU.

    Raises:
        CheckpointError: If the file is missing, damaged or not written by Lightning.
    """
    import torch

    path = Path(path)
    if path.is_dir():
        inside = sorted(path.rglob("last.ckpt"), key=lambda file: file.stat().st_mtime_ns)
        raise CheckpointError(f"{path} is a folder." + (f" Did you mean {inside[-1]}?" if inside else ""))
    if not path.is_file():
        raise CheckpointError(f"No checkpoint {path}.{_nearest_file(path)}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # torch raises RuntimeError, UnpicklingError, EOFError or ValueError by the place where the file breaks off.
        raise CheckpointError(f"{path} is damaged or no checkpoint of plain weights: {_first_line(error)}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is no Lightning checkpoint: it has no `state_dict`.")
    return checkpoint


def class_path(checkpoint: dict[str, Any]) -> str | None:
    """The dotted name of the class that wrote `checkpoint` (a result of `read`), if it says so."""
    written = checkpoint.get(KEY, {}).get("class_path")
    return written or checkpoint.get("hyper_parameters", {}).get("_class_path")


def find_last(name: str | None = None, kind: str = "last") -> Path | None:
    """The newest checkpoint below `runs/`, by the time it was written.

    Args:
        name: The run's name, that is the folder in `runs/`; None looks at all of them.
        kind: `last` or `best`.
    """
    stem = {"last": "last.ckpt", "best": "best*.ckpt"}[kind]
    found = RUNS.glob(f"{name or '*'}/version_*/checkpoints/{stem}")
    return max(found, key=lambda file: (file.stat().st_mtime_ns, file.as_posix()), default=None)


def _class_of(checkpoint: dict[str, Any], path: str | Path) -> type[LightningModule]:
    import lightning

    dotted = class_path(checkpoint)
    if dotted is None:
        raise CheckpointError(f"{path} does not say which class wrote it; derive the module from checkpoints.Loadable.")
    module, _, name = dotted.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path} was written by {dotted}, which cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, lightning.LightningModule)):
        raise CheckpointError(f"{path} was written by {dotted}, which is no LightningModule.")
    return cls


def _first_line(error: Exception) -> str:
    # load_state_dict puts the reason on its second line.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:200] if lines else type(error).__name__


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {path.parent}."
    near = get_close_matches(path.name, [file.name for file in path.parent.glob("*.ckpt")], n=1, cutoff=0.3)
    return f" Did you mean {path.parent / near[0]}?" if near else ""
