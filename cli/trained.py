"""The checkpoint that a command of a generative method works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_zoo.checkpoints import CheckpointError

from .errors import UsageError, mistake_in

LIKE_A_GENERATIVE_METHOD = ("sample", "decode", "posterior", "reconstruct")
"""What methods without attributes have; of the others some have no encoder."""


def find_checkpoint(ckpt_path: str) -> Path:
    """The file that `--ckpt_path` names; `last` and `best` are those of the newest run of any method.

    Raises:
        CheckpointError: if there is no such run.
    """
    from lightning_zoo.checkpoints import RUNS, find_last

    if ckpt_path not in ("last", "best"):
        return Path(ckpt_path)
    found = find_last(kind=ckpt_path)
    if found is None:
        raise CheckpointError(f"--ckpt_path: no {ckpt_path} checkpoint below {RUNS}/; train first, or name a file")
    return found


def load_generative(path: Path, device: str, command: str) -> Any:
    """The generative method of a checkpoint, in evaluation mode, on `device`: "auto", "cpu" or "cuda".

    Raises:
        CheckpointError: if the file cannot be used, or holds a method of another kind.
        UsageError: for a device that is not there.
    """
    from lightning_zoo.checkpoints import load
    from lightning_zoo.generative.conditional_model import is_conditional

    place = pick_device(device)
    module: Any = load(path)
    if not is_conditional(module) and not all(
        callable(getattr(module, name, None)) for name in LIKE_A_GENERATIVE_METHOD
    ):
        raise CheckpointError(
            f"{path} holds {type(module).__name__}, which is no generative method: {command} needs a VAE or GAN; name "
            "its checkpoint with --ckpt_path"
        )
    return module.to(place)


def reconstructs(model: Any) -> bool:
    """Whether a method makes images of images; of those that draw by attributes, whether it does so by attributes."""
    from inspect import signature

    from lightning_zoo.generative.conditional_model import is_conditional

    method = getattr(model, "reconstruct", None)
    # A GAN may have inherited the method of autoencoders.
    return callable(method) and (not is_conditional(model) or "attributes" in signature(method).parameters)


def refuse_conditional(model: Any, path: Path, command: str, reason: str) -> None:
    """Raise `CheckpointError` for a method that draws by attributes, which a command has no use for."""
    from lightning_zoo.generative.conditional_model import is_conditional

    if is_conditional(model):
        raise CheckpointError(f"{path} holds {type(model).__name__}, which draws by attributes: {command} {reason}")


def pick_device(device: str) -> str:
    """Where to compute; "auto" is the GPU if there is one.

    Raises:
        UsageError: for "cuda" where there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: there is no GPU that torch can use; leave the option out or give cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint, or else the checkpoint's own."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def check_numbers(seed: int = 0, **at_least_one: int | None) -> None:
    """Raise `UsageError` for a negative seed, or the first named number below 1."""
    if seed < 0:
        raise UsageError(f"--seed must not be negative, got {seed}")
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, got {value}")


@contextmanager
def mistakes() -> Iterator[None]:
    """Turn a `ValueError` that this package raises into the one line that a user sees."""
    try:
        yield
    except ValueError as error:
        message = mistake_in(error)
        if message is None:
            raise
        raise UsageError(message) from error
