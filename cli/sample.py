"""`lightning_zoo sample`: pictures that a generative method draws from its prior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def sample(
    ckpt_path: str,
    *,
    num_images: int = 64,
    seed: int = 0,
    attributes: list[str] | None = None,
    truncation: float = 1.0,
    output: str | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Draw samples of a generative method and write them as one grid, or as a folder of pictures.

    The same seed gives the same pictures, on any device.

    Args:
        ckpt_path: a checkpoint, or `last` or `best` for the newest run's.
        num_images: how many.
        seed: of the latents.
        attributes: what the pictures show, such as `Smiling Eyeglasses -Male`; all that is not named is as it was in
            training, in those combinations that have what is named. For methods that draw by attributes.
        truncation: factor of the latents; below 1 the pictures are more typical and less varied.
        output: a PNG file for a grid, or a folder, with / at its end, for a file each; null for pictures/ in the
            checkpoint's run.
        batch_size: pictures drawn at a time.
        device: where to compute.
        log: add the grid to the checkpoint's MLflow run.
    """
    from .pictures import destination, write_folder, write_grid
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, load_generative, mistakes

    quiet()
    check_numbers(seed, num_images=num_images, batch_size=batch_size)
    if not 0 <= truncation < float("inf"):
        raise UsageError(f"--truncation must be 0 or more, got {truncation}")
    path = find_checkpoint(ckpt_path)
    name = f"sample_seed{seed}" + f"_truncation{truncation:g}" * (truncation != 1)
    target, folder = destination(output, path, name + words_in_a_name(attributes))
    model = load_generative(path, device, "sample")
    with mistakes():
        rows = None if attributes is None else attribute_rows(model, attributes, num_images, seed)
    print(f"{num_images} samples of {type(model).__name__} from {path}, seed {seed}, truncation {truncation:g}")
    with mistakes():
        batches = sample_batches(model, num_images, seed, truncation, batch_size, rows)
        if folder:
            names = [f"{index:06d}" for index in range(num_images)]
            write_folder(target, names, (image for batch in batches for image in batch))
        else:
            write_grid(target, _grid(batches), path, log)


def attribute_rows(model: Any, words: list[str], number: int, seed: int) -> Tensor:
    """Whole combinations of attributes (number, N) that have what the words name; contradictions are told.

    Raises:
        UsageError: for a method without attributes, or words that name none.
    """
    import torch

    from lightning_zoo.generative.attribute_choice import contradictions, fill_in, wanted_of
    from lightning_zoo.generative.conditional_model import is_conditional

    from .attribute_words import parse_attributes

    if not is_conditional(model):
        raise UsageError(f"--attributes: {type(model).__name__} draws without attributes; leave the option out")
    named = parse_attributes(words, model.attribute_names)
    found = contradictions(named, model.attribute_names)
    if found:
        print(f"Contradictory attributes, drawn all the same: {', '.join(found)}")
    return fill_in(wanted_of(named), model.attribute_bank, number, torch.Generator().manual_seed(seed))


def sample_batches(
    model: Any, number: int, seed: int, truncation: float, batch_size: int, attributes: Tensor | None = None
) -> Iterator[Tensor]:
    """Samples (B, C, H, W) in [0, 1] on the CPU, batch by batch; a conditional method takes attributes (number, N)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for start in range(0, number, batch_size):
        with torch.no_grad():
            size = min(batch_size, number - start)
            asked = {} if attributes is None else {"attributes": _on_device(model, attributes[start : start + size])}
            yield model.sample(size, truncation=truncation, generator=generator, **asked).float().cpu()


def _on_device(model: Any, attributes: Tensor) -> Tensor:
    return attributes.to(next(model.parameters()).device)


def words_in_a_name(attributes: list[str] | None) -> str:
    """The words as part of a file's name."""
    if not attributes:
        return ""
    words = "_".join(attributes)
    return "_" + "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in words)[:100]


def _grid(batches: Iterator[Tensor]) -> Tensor:
    import torch

    from lightning_zoo.callbacks.sample_grid import image_grid, square_side

    images = torch.cat(list(batches))
    return image_grid(images, square_side(len(images)))
