"""Images to work on: of the dataset that a checkpoint was trained on, or the user's own files."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_zoo.checkpoints import CheckpointError

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "val", "test"]
ASPECT_TOLERANCE = 0.02


def data_of(checkpoint: dict[str, Any], path: Path, overrides: dict[str, Any] | None = None) -> Any:
    """The DataModule that a checkpoint was trained on, built but not prepared.

    Args:
        checkpoint: the content of a checkpoint.
        path: its file, for messages.
        overrides: arguments to replace; those that are None stay.

    Raises:
        CheckpointError: if the checkpoint does not name a dataset that can be imported and built.
        UsageError: for an override that the dataset does not take, or refuses.
    """
    arguments = dict(checkpoint.get("datamodule_hyper_parameters", {}))
    cls = _data_class(checkpoint.get("datamodule_name") or arguments.get("_class_path"), path)
    known = inspect.signature(cls).parameters
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    for name in given:
        if name not in known:
            raise UsageError(f"--{name}: {cls.__name__}, which {path} was trained on, has no such argument")
    try:
        return cls(**{name: value for name, value in arguments.items() if name in known} | given)
    except ValueError as error:
        raise UsageError(f"{cls.__name__} of {path}: {error}") from error


def data_name(checkpoint: dict[str, Any]) -> str | None:
    """The name of the dataset's class, if the checkpoint says so."""
    arguments = checkpoint.get("datamodule_hyper_parameters", {})
    dotted = checkpoint.get("datamodule_name") or arguments.get("_class_path")
    return str(dotted).rpartition(".")[2] if dotted else None


def images_of(data: Any, split: Split, number: int | None = None) -> Tensor:
    """The first images (N, C, H, W), uint8, of a split, as an evaluation gets them: nothing is random.

    Args:
        data: a DataModule; its data are prepared and set up here.
        split: "train" is served in its order of the first epoch.
        number: how many; None for all. A split may have fewer, of which a line tells.

    Raises:
        DataError: if data are missing.
    """
    import torch

    from lightning_zoo.generative.images import images_in

    data.prepare_data()
    data.setup({"train": "fit", "val": "validate", "test": "test"}[split])
    parts: list[Tensor] = []
    for batch in getattr(data, f"{split}_dataloader")():
        parts.append(images_in(data.on_after_batch_transfer(batch, 0)))
        if number is not None and sum(map(len, parts)) >= number:
            break
    images = torch.cat(parts)[:number]
    if number is not None and len(images) < number:
        print(f"The {split} split has {len(images)} images.", file=sys.stderr)
    return images


def images_for(
    model: Any,
    path: Path,
    *,
    files: Sequence[str] | None,
    split: Split,
    root: str | None,
    number: int,
    resize: bool = True,
) -> Tensor:
    """Images (N, C, H, W), uint8, in a model's shape: the user's files, or else of the checkpoint's dataset.

    Raises:
        CheckpointError: if the checkpoint names no dataset and no files are given.
        DataError: if data are missing.
        UsageError: for files that are no pictures or of another size, or data of another shape than the model's.
    """
    from lightning_zoo.checkpoints import read

    if files is not None:
        return read_images(files, model.image_shape, resize=resize)
    data = data_of(read(path), path, {"root": root})
    images = images_of(data, split, number)
    if tuple(images.shape[1:]) != tuple(model.image_shape):
        wanted, got = ("x".join(map(str, shape)) for shape in (model.image_shape, images.shape[1:]))
        raise UsageError(
            f"{type(data).__name__} serves images of {got} (channels, height, width), {path} draws {wanted}: give "
            "pictures with --images FILE..."
        )
    return images


def read_images(files: Sequence[str], image_shape: tuple[int, int, int], *, resize: bool = True) -> Tensor:
    """Pictures (N, C, H, W), uint8, in a model's size and colours; a line tells which were resized.

    Args:
        files: of pictures.
        image_shape: of the model.
        resize: resize pictures of another size but the same aspect ratio; others are refused in any case.

    Raises:
        UsageError: for files that are no pictures, or of another size or aspect ratio.
    """
    import torch

    if not files:
        raise UsageError("--images: no file is given")
    return torch.stack([_read_image(Path(file), image_shape, resize) for file in files])


def _read_image(file: Path, image_shape: tuple[int, int, int], resize: bool) -> Tensor:
    import torch
    from PIL import Image, UnidentifiedImageError

    channels, height, width = image_shape
    if channels not in (1, 3):
        raise UsageError(f"--images: the model draws {channels} channels, which no picture file has; leave it out")
    try:
        with Image.open(file) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError) as error:
        reason = getattr(error, "strerror", None) or "it is no picture, or damaged"
        raise UsageError(f"--images {file} cannot be read: {reason}") from error
    if picture.size != (width, height):
        picture = _resized(picture, file, width, height, resize)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(height, width, channels).permute(2, 0, 1).contiguous()


def _resized(picture: Any, file: Path, width: int, height: int, resize: bool) -> Any:
    from PIL import Image

    got = "x".join(map(str, picture.size))
    same_aspect = abs(picture.width * height / (picture.height * width) - 1) <= ASPECT_TOLERANCE
    if not same_aspect:
        raise UsageError(
            f"--images {file} is {got} pixels (width x height), the model's are {width}x{height}: crop it to that "
            "aspect ratio first; --resize changes no shapes"
        )
    if not resize:
        raise UsageError(
            f"--images {file} is {got} pixels (width x height), the model's are {width}x{height}: give --resize, or "
            "resize it"
        )
    print(f"{file}: resized from {got} to {width}x{height}", file=sys.stderr)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _data_class(dotted: str | None, path: Path) -> Any:
    from datamodules import DATASETS

    if not dotted:
        raise CheckpointError(
            f"{path} does not say which dataset it was trained on, as those of `lightning_zoo fit` do: give pictures "
            "with --images FILE..."
        )
    package, _, name = dotted.rpartition(".")
    module = DATASETS.get(name, package) if package in ("", "datamodules", DATASETS.get(name)) else package
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{path} was trained on {dotted}, which cannot be imported: give pictures with --images FILE..."
        ) from error
