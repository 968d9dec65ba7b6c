"""`lightning_zoo traverse`: walks through the latent blocks of a generative method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def traverse(
    ckpt_path: str,
    *,
    mode: Literal["progressive", "interpolate"] = "progressive",
    step: int | None = None,
    columns: int | None = None,
    shared_target: bool = False,
    start: Literal["prior", "posterior"] | None = None,
    num_images: int = 8,
    images: list[str] | None = None,
    split: Literal["val", "test"] = "val",
    root: str | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    output: str | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Draw the latent blocks z_1 ... z_T in turn, or move one of them while the others stay.

    Each row is one image: "progressive" starts with all latents zero and draws one block more per column;
    "interpolate" moves the block z_t in a straight line to a newly drawn one.

    Args:
        ckpt_path: a checkpoint, or `last` or `best` for the newest run's.
        mode: what changes along a row.
        step: t, counted from 1, of the block that moves.
        columns: images per row of "interpolate", both ends among them; null for 9.
        shared_target: all rows move to the same new block, as in the thesis.
        start: rows of "interpolate" start from samples of the "prior", or from the "posterior" means of images; null
            for the prior, unless files are given.
        num_images: rows.
        images: picture files of your own to start from.
        split: of the dataset that the checkpoint was trained on.
        root: the dataset's folder, if it is not where it was.
        seed: of what is drawn.
        truncation: factor of what is drawn.
        output: a PNG file for a grid, or a folder, with / at its end, for a file each; null for pictures/ in the
            checkpoint's run.
        batch_size: images at a time.
        device: where to compute.
        log: add the grid to the checkpoint's MLflow run.
    """
    import lightning_zoo.generative.traversal as traversal

    from .pictures import destination
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes

    quiet()
    check_numbers(seed, num_images=num_images, batch_size=batch_size)
    if not 0 <= truncation < float("inf"):
        raise UsageError(f"--truncation must be 0 or more, got {truncation}")
    if start == "prior" and images is not None:
        raise UsageError("--start prior: samples start from no picture; leave out --images, or give --start posterior")
    interpolation: dict[str, Any] = {"step": step, "columns": columns, "shared_target": shared_target or None}
    interpolation |= {"start": start, "images": images}
    _check_mode(mode, interpolation)
    path = find_checkpoint(ckpt_path)
    from_images = start == "posterior" or images is not None
    name = f"traverse_{mode}" + f"_step{step}" * (step is not None) + "_posterior" * from_images
    target = destination(output, path, f"{name}{'_shared' * shared_target}_seed{seed}")
    model = load_generative(path, device, "traverse")
    drawn: dict[str, Any] = {"seed": seed, "truncation": truncation, "batch_size": batch_size}
    with mistakes():
        if mode == "progressive":
            rows = traversal.progressive(model, num_images, **drawn)
            labels = ["0", *(f"z{t}" if t == 1 else f"+z{t}" for t in range(1, model.num_steps + 1))]
        else:
            first = _first(model, path, step, images, split, root, num_images, batch_size) if from_images else None
            rows = traversal.interpolate(
                model,
                _step(step, model.num_steps),
                num_rows=num_images,
                columns=9 if columns is None else columns,
                shared_target=shared_target,
                start=first,
                **drawn,
            )
            labels = [f"{share:.2f}" for share in _shares(rows.shape[1])]
    if model.num_steps == 1:
        print(f"{type(model).__name__} has no recurrency: one latent block, z_1, is all there is.")
    _write(target, rows, labels, path, log)


def _check_mode(mode: str, interpolation: dict[str, Any]) -> None:
    given = [f"--{name}" for name, value in interpolation.items() if value is not None]
    if mode == "progressive" and given:
        raise UsageError(f"{', '.join(given)}: of --mode interpolate alone; add it, or leave them out")


def _step(step: int | None, num_steps: int) -> int:
    if step is None:
        raise UsageError(f"--mode interpolate needs --step: which latent block moves, 1 to {num_steps} of this model")
    return step


def _first(
    model: Any,
    path: Path,
    step: int | None,
    images: list[str] | None,
    split: Literal["val", "test"],
    root: str | None,
    number: int,
    batch_size: int,
) -> Tensor:
    """Posterior means of images; the step is looked at before data are read."""
    from lightning_zoo.generative.latent_model import posterior_means
    from lightning_zoo.generative.traversal import block_channels

    from .image_data import images_for

    block_channels(model, _step(step, model.num_steps))
    real = images_for(model, path, files=images, split=split, root=root, number=number)
    return posterior_means(model, real, batch_size)


def _shares(columns: int) -> list[float]:
    return [column / (columns - 1) for column in range(columns)]


def _write(target: tuple[Path, bool], rows: Tensor, labels: list[str], path: Path, log: bool) -> None:
    from lightning_zoo.callbacks.sample_grid import image_grid

    from .pictures import with_header, write_folder, write_grid

    images = rows.flatten(0, 1)
    if target[1]:
        names = [f"row{row:03d}_column{column:02d}" for row in range(rows.shape[0]) for column in range(rows.shape[1])]
        write_folder(target[0], names, images)
        return
    print(f"Columns: {', '.join(labels)}")
    write_grid(target[0], with_header(image_grid(images, rows.shape[1]), labels, rows.shape[-1]), path, log)
