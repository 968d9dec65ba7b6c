"""`lightning_zoo reconstruct`: what a generative method makes of pictures on the way through its latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


def reconstruct(
    ckpt_path: str,
    *,
    num_images: int = 32,
    images: list[str] | None = None,
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

    from .image_data import images_for
    from .pictures import destination, write_folder, write_grid
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes

    quiet()
    check_numbers(num_images=num_images, batch_size=batch_size)
    path = find_checkpoint(ckpt_path)
    target, folder = destination(output, path, "reconstruct_files" if images else f"reconstruct_{split}")
    model = load_generative(path, device, "reconstruct")
    real = images_for(model, path, files=images, split=split, root=root, number=num_images)
    with mistakes(), torch.no_grad():
        parts = [model.reconstruct(part.to(model.device)).float().cpu() for part in real.split(batch_size)]
    drawn, real = torch.cat(parts), real / 255
    error = (2 * (drawn - real)).square().mean()
    print(f"{len(real)} images through {type(model).__name__} from {path}")
    print(f"Mean squared error: {error:.4f} (pixels in [-1, 1])")
    if folder:
        write_folder(target, *_named(real, drawn))
    else:
        print("Rows: originals, reconstructions below")
        write_grid(target, pairs_grid(real, drawn), path, log)


def _named(real: Tensor, drawn: Tensor) -> tuple[list[str], list[Tensor]]:
    names = [f"{index:06d}_{kind}" for index in range(len(real)) for kind in ("original", "reconstruction")]
    return names, [image for pair in zip(real, drawn, strict=True) for image in pair]
