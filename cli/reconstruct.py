"""`lightning_zoo reconstruct`: what a generative method makes of pictures on the way through its latent space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_zoo.checkpoints import CheckpointError

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def reconstruct(
    ckpt_path: str,
    *,
    num_images: int = 32,
    images: list[str] | None = None,
    attributes: list[str] | None = None,
    split: Literal["val", "test"] = "val",
    root: str | None = None,
    output: str | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Reconstruct images from the mean of their posterior, and write them below the originals.

    Args:
        ckpt_path: a checkpoint, or `last` or `best` for the newest run's.
        num_images: of the split.
        images: picture files of your own in place of the dataset's, of the model's aspect ratio; resized to its
            size.
        attributes: what the pictures show, such as `Smiling Eyeglasses -Male`, for methods that draw by attributes: all
            that is known of your own pictures, and in place of what the dataset says of its own.
        split: of the dataset that the checkpoint was trained on.
        root: the dataset's folder, if it is not where it was.
        output: a PNG file for a grid, or a folder, with / at its end, for a file each; null for pictures/ in the
            checkpoint's run.
        batch_size: images at a time.
        device: where to compute.
        log: add the grid to the checkpoint's MLflow run.
    """
    import torch

    from lightning_zoo.callbacks.sample_grid import pairs_grid

    from .pictures import destination, write_folder, write_grid
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes

    quiet()
    check_numbers(num_images=num_images, batch_size=batch_size)
    path = find_checkpoint(ckpt_path)
    target, folder = destination(output, path, "reconstruct_files" if images else f"reconstruct_{split}")
    model = load_generative(path, device, "reconstruct")
    real, known = _inputs(model, path, attributes, files=images, split=split, root=root, number=num_images)
    with mistakes(), torch.no_grad():
        parts = [
            model.reconstruct(*(values.to(model.device) for values in part)).float().cpu()
            for part in zip(*(values.split(batch_size) for values in (real, *known)), strict=True)
        ]
    drawn, real = torch.cat(parts), real / 255
    error = (2 * (drawn - real)).square().mean()
    print(f"{len(real)} images through {type(model).__name__} from {path}")
    print(f"Mean squared error: {error:.4f} (pixels in [-1, 1])")
    if folder:
        write_folder(target, *_named(real, drawn))
    else:
        print("Rows: originals, reconstructions below")
        write_grid(target, pairs_grid(real, drawn), path, log)


def _inputs(model: Any, path: Path, words: list[str] | None, **wanted: Any) -> tuple[Tensor, list[Tensor]]:
    """The images and, for a method that draws by them, their attributes in a list."""
    from lightning_zoo.generative.conditional_model import is_conditional

    from .attribute_words import parse_attributes
    from .image_data import images_and_attributes_for, images_for
    from .trained import reconstructs

    if not is_conditional(model):
        if words is not None:
            raise UsageError(f"--attributes: {type(model).__name__} draws without attributes; leave the option out")
        return images_for(model, path, **wanted), []
    if not reconstructs(model):
        raise CheckpointError(f"{path} holds {type(model).__name__}, which has no encoder: it reconstructs nothing")
    named = None if words is None else parse_attributes(words, model.attribute_names)
    images, attributes = images_and_attributes_for(model, path, named=named, **wanted)
    return images, [attributes]


def _named(real: Tensor, drawn: Tensor) -> tuple[list[str], list[Tensor]]:
    names = [f"{index:06d}_{kind}" for index in range(len(real)) for kind in ("original", "reconstruction")]
    return names, [image for pair in zip(real, drawn, strict=True) for image in pair]
