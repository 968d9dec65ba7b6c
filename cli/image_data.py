"""Images to work on: of the dataset that a checkpoint was trained on, or the user's own files."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_zoo.checkpoints import CheckpointError

from .errors import UsageError
from .own_pictures import read_images

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "val", "test"]


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

    return torch.cat([images_in(batch) for batch in batches_of(data, split, number)])


def images_and_attributes_of(model: Any, data: Any, split: Split, number: int | None = None) -> tuple[Tensor, Tensor]:
    """As `images_of`, and what the images show: attributes (N, A), float in {-1, +1}, in the model's order.

    Raises:
        DataError: if data are missing.
        UsageError: for data without these attributes.
    """
    import torch

    from lightning_zoo.generative.images import images_in

    parts = [(images_in(batch), own_attributes(model, data, batch)) for batch in batches_of(data, split, number)]
    images, attributes = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(attributes)


def attributes_of(model: Any, data: Any, split: Split, number: int) -> Tensor:
    """The attributes alone of `images_and_attributes_of`; nothing tells where a split has fewer."""
    import torch

    parts: list[Tensor] = []
    for batch in batches_of(data, split):
        parts.append(own_attributes(model, data, batch))
        if sum(map(len, parts)) >= number:
            break
    return torch.cat(parts)[:number]


def own_attributes(model: Any, data: Any, batch: dict[str, Tensor]) -> Tensor:
    """The attributes (B, A), float, of a batch that a method or a classifier knows, in its order.

    Raises:
        UsageError: for data without attributes, or without one of these, with the nearest names.
    """
    from lightning_zoo.generative.attribute_names import columns_of

    names = getattr(data, "attribute_names", None)
    if "attributes" not in batch or not names:
        raise UsageError(
            f"{type(data).__name__} has no attributes, which {type(model).__name__} needs: use data with attributes "
            "(CelebA)"
        )
    try:
        return batch["attributes"][:, columns_of(model.attribute_names, names, type(data).__name__)].float()
    except ValueError as error:
        raise UsageError(f"{type(model).__name__}: {error}") from error


def batches_of(data: Any, split: Split, number: int | None = None) -> Iterator[dict[str, Tensor]]:
    """The batches of `images_of`, of which the last may be shorter than the others."""
    data.prepare_data()
    data.setup({"train": "fit", "val": "validate", "test": "test"}[split])
    served = 0
    for batch in getattr(data, f"{split}_dataloader")():
        made = data.on_after_batch_transfer(batch, 0)
        left = None if number is None else number - served
        yield {name: values[:left] for name, values in made.items()}
        served += len(next(iter(made.values())))
        if number is not None and served >= number:
            return
    if number is not None:
        print(f"The {split} split has {served} {'clips' if 'clips' in made else 'images'}.", file=sys.stderr)


def averaged_down(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Images (N, C, H, W), uint8, of a whole multiple of a size as rounded means over squares of pixels; else as is.

    Args:
        images: uint8.
        image_shape: (C, H, W) that is wanted.
    """
    import torch

    from lightning_zoo.generative.images import shrink_to

    if whole_factor(tuple(images.shape[1:]), image_shape) < 2:
        return images
    return (shrink_to(images, image_shape[1]) * 255).round().to(torch.uint8)


def whole_factor(given: tuple[int, ...], wanted: tuple[int, ...]) -> int:
    """By how much the sides of images (C, H, W) are larger than others'; 0 where that is no whole factor."""
    (channels, height, width), (own, h, w) = given, wanted
    fits = channels == own and height % h == 0 and width % w == 0 and height // h == width // w
    return height // h if fits else 0


def check_judged_size(image_shape: tuple[int, ...], judge: Any, owner: str) -> None:
    """Refuse images that a classifier cannot be shown; a line tells of those that are averaged down for it.

    Args:
        image_shape: (C, H, W).
        judge: the classifier.
        owner: of the images, in messages.

    Raises:
        UsageError: for images that are neither of the classifier's size nor a whole multiple of it.
    """
    factor = whole_factor(image_shape, judge.image_shape)
    got, wanted = ("x".join(map(str, shape)) for shape in (image_shape, judge.image_shape))
    if not factor:
        raise UsageError(
            f"--classifier: it judges images of {wanted} (channels, height, width), {owner} has {got}: give a "
            f"classifier of {got}"
        )
    if factor > 1:
        print(f"{owner}: images of {got} are averaged down to {wanted} for the classifier", file=sys.stderr)


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
    return _made_to_fit(images, model, path, data)


def images_and_attributes_for(
    model: Any,
    path: Path,
    *,
    files: Sequence[str] | None,
    named: Tensor | None,
    split: Split,
    root: str | None,
    number: int,
) -> tuple[Tensor, Tensor]:
    """As `images_for`, with the attributes (N, A), float, of a method that draws by them, in its own order.

    What is named (A,) in {-1, 0, +1} is written over the dataset's where it is not 0, and all that is known of files.

    Raises:
        CheckpointError: if the checkpoint names no dataset and no files are given.
        DataError: if data are missing.
        UsageError: as `images_for`, for data without these attributes, and for files if none are named.
    """
    import torch

    from lightning_zoo.checkpoints import read

    if files is not None:
        if named is None:
            raise UsageError(
                f"--images: {type(model).__name__} of {path} has to be told what the pictures show: name it with "
                "--attributes, such as --attributes Smiling -Male"
            )
        images = read_images(files, model.image_shape)
        return images, named.expand(len(images), -1)
    data = data_of(read(path), path, {"root": root})
    images, own = images_and_attributes_of(model, data, split, number)
    images = _made_to_fit(images, model, path, data)
    return images, own if named is None else torch.where(named == 0, own, named)


def _made_to_fit(images: Tensor, model: Any, path: Path, data: Any) -> Tensor:
    if tuple(images.shape[1:]) == tuple(model.image_shape):
        return images
    wanted, got = ("x".join(map(str, shape)) for shape in (model.image_shape, images.shape[1:]))
    if whole_factor(tuple(images.shape[1:]), model.image_shape):
        print(f"{type(data).__name__} serves images of {got}, averaged down to {wanted}", file=sys.stderr)
        return averaged_down(images, model.image_shape)
    raise UsageError(
        f"{type(data).__name__} serves images of {got} (channels, height, width), {path} draws {wanted}: give "
        "pictures with --images FILE..."
    )


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
