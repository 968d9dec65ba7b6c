"""`lightning_zoo complete`: fill in what a mask hides of pictures, by a search of the latent space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_zoo.generative.completion import Completion


def complete(
    ckpt_path: str,
    *,
    mask: str,
    num_images: int = 8,
    images: list[str] | None = None,
    resize: bool = False,
    split: Literal["val", "test"] = "val",
    root: str | None = None,
    restarts: int = 4,
    start: Literal["both", "posterior", "prior"] = "both",
    steps: int = 200,
    learning_rate: float = 0.1,
    prior_weight: float = 1e-5,
    adversarial_weight: float = 3e-3,
    error: Literal["sum", "mean"] = "mean",
    blend: bool = True,
    seed: int = 0,
    output: str | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Complete masked images: search the latents whose image agrees with the pixels that are known.

    The weights are the thesis' (gamma and tau); optimiser, steps, rate, restarts and first latents are not stated there
    and are ours. Columns of the grid: original, masked, best, its image as the model draws it, further restarts.

    Args:
        ckpt_path: a checkpoint, or `last` or `best` for the newest run's.
        mask: what is hidden: half (the right one), left, right, upper, lower, center, eyes, mouth (both for aligned
            faces) or blocks, or a PNG file of the model's size that is dark where it is hidden.
        num_images: of the split.
        images: picture files of your own in place of the dataset's.
        resize: resize such pictures, of the model's aspect ratio, to its size.
        split: of the dataset that the checkpoint was trained on.
        root: the dataset's folder, if it is not where it was.
        restarts: searches per image, side by side; the one with the least objective is the best.
        start: first latents from the "posterior" of the masked image, the "prior", or "both".
        steps: of Adam.
        learning_rate: of Adam.
        prior_weight: gamma, of the latents' negative log-density.
        adversarial_weight: tau, of log(1 - D); without a discriminator there is no such term.
        error: squared errors of an image as their "sum", as printed, or as "mean" over its pixels.
        blend: put the known pixels back into best and restarts.
        seed: of the first latents, and of the mask blocks.
        output: a PNG file for a grid, or a folder, with / at its end, for a file each; null for pictures/ in the
            checkpoint's run.
        batch_size: latents at a time, at least as many as restarts.
        device: where to compute.
        log: add the grid to the checkpoint's MLflow run.
    """
    import lightning_zoo.generative.completion as completion

    from .image_data import images_for
    from .pictures import destination
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes, refuse_conditional

    quiet()
    check_numbers(seed, num_images=num_images, restarts=restarts, batch_size=batch_size)
    path = find_checkpoint(ckpt_path)
    with mistakes():
        search = completion.Search(steps, learning_rate, prior_weight, adversarial_weight, error)
    name = f"complete_{Path(mask).stem}_{'files' if images else split}_seed{seed}"
    target = destination(output, path, name)
    model = load_generative(path, device, "complete")
    refuse_conditional(
        model, path, "complete", "searches latents alone; name a checkpoint of a VAE or GAN without them"
    )
    with mistakes():
        hidden = _mask(mask, model.image_shape, seed)
        real = images_for(model, path, files=images, split=split, root=root, number=num_images, resize=resize)
        print(f"{len(real)} images, {restarts} restarts, {steps} steps of Adam, {type(model).__name__} from {path}")
        result = completion.complete(
            model, real, hidden, restarts=restarts, start=start, search=search, seed=seed, batch_size=batch_size
        )
    _report(result, callable(getattr(model, "realness", None)))
    _write(target, real / 255, hidden, result, blend, path, log)


def _mask(mask: str, image_shape: tuple[int, int, int], seed: int) -> Tensor:
    from lightning_zoo.generative.masks import MASKS, checked_mask, named_mask, read_mask

    size = image_shape[1:]
    is_file = mask not in MASKS and (Path(mask).suffix != "" or Path(mask).is_file())
    if is_file and not Path(mask).is_file():
        raise UsageError(f"--mask {mask}: no such file; named masks are {', '.join(MASKS)}")
    return checked_mask(read_mask(mask, *size) if is_file else named_mask(mask, *size, seed=seed), image_shape)


def _report(result: Completion, judged: bool) -> None:
    least = result.objectives.min(0).values
    first = result.objectives[0]
    print(
        f"Objective: {least.mean():.4g} in the mean of the best restarts, {first.mean():.4g} of the first"
        + ("" if judged else "; no discriminator, so no adversarial term")
    )


def _write(
    target: tuple[Path, bool], real: Tensor, mask: Tensor, result: Completion, blend: bool, path: Path, log: bool
) -> None:
    import torch

    from lightning_zoo.callbacks.sample_grid import image_grid

    from .pictures import with_header, write_folder, write_grid

    masked = mask * real + (1 - mask) * 0.5
    columns: dict[str, Tensor] = {
        "original": real,
        "masked": masked,
        "best": result.images if blend else result.decoded,
    }
    columns |= {"decoded": result.decoded} if blend else {}
    columns |= _others(result, real, mask, blend)
    images = torch.stack(list(columns.values()), dim=1)
    if target[1]:
        names = [f"{index:06d}_{name.replace(' ', '_')}" for index in range(len(real)) for name in columns]
        write_folder(target[0], names, images.flatten(0, 1))
        return
    print(f"Columns: {', '.join(columns)}")
    grid = image_grid(images.flatten(0, 1), len(columns))
    write_grid(target[0], with_header(grid, list(columns), real.shape[-1]), path, log)


def _others(result: Completion, real: Tensor, mask: Tensor, blend: bool) -> dict[str, Any]:
    """The restarts after the best, by what they cost."""
    import torch

    order = result.objectives.nan_to_num(nan=float("inf")).argsort(0)
    # argsort and argmin may break a tie differently.
    order = torch.stack(
        [torch.cat([best[None], row[row != best]]) for best, row in zip(result.best, order.T, strict=True)]
    )
    others = {}
    for place in range(1, order.shape[1]):
        drawn = result.restarts[order[:, place], torch.arange(len(real))]
        others[f"restart {place + 1}"] = torch.where(mask.bool(), real, drawn) if blend else drawn
    return others
