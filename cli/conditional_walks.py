"""What `lightning_zoo traverse` draws of methods that draw by attributes, and what it says about the pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_zoo.generative.attribute_emergence import Emergence

SEEN = 0.6
"""Balanced accuracy from which on an attribute counts as seen in the finished samples."""

RISE = 0.005
"""Below it, a balanced accuracy has not risen at any block."""


def walk(
    model: Any,
    mode: str,
    attributes: Tensor,
    *,
    step: int | None,
    attribute: str | None,
    columns: int,
    shared_target: bool,
    drawn: dict[str, Any],
) -> tuple[Tensor, list[str]]:
    """Images (rows, columns, C, H, W) of a mode, and the columns' labels.

    Args:
        model: a conditional method.
        mode: of `traverse`.
        attributes: (rows, N).
        step: of "interpolate".
        attribute: the name of "attribute".
        columns: of all modes but "progressive".
        shared_target: of "interpolate".
        drawn: "seed", "truncation" and "batch_size".

    Raises:
        UsageError: for an attribute that the method has not.
        ValueError: for a number out of range.
    """
    import lightning_zoo.generative.conditional_traversal as walks

    if mode == "progressive":
        return walks.progressive(model, attributes, **drawn), block_labels(model.num_steps)
    if mode == "attribute":
        place = attribute_column(model, attribute)
        rows = walks.attribute_walk(model, attributes, place, columns=columns, **drawn)
        return rows, [f"{2 * share - 1:+.2f}" for share in shares(columns)]
    if mode == "content":
        return walks.content(model, attributes, columns=columns, **drawn), angle_labels(columns)
    assert step is not None
    rows = walks.interpolate(model, attributes, step, columns=columns, shared_target=shared_target, **drawn)
    return rows, [f"{share:.2f}" for share in shares(columns)]


def block_labels(num_steps: int) -> list[str]:
    """Of the columns of "progressive"."""
    return ["0", *(f"z{step}" if step == 1 else f"+z{step}" for step in range(1, num_steps + 1))]


def angle_labels(columns: int) -> list[str]:
    """Of the columns of "content": psi in degrees, 0 to 90."""
    return [f"{90 * share:.0f} deg" for share in shares(columns)]


def shares(columns: int) -> list[float]:
    """Of the way from the first column to each."""
    return [column / (columns - 1) for column in range(columns)]


def attribute_column(model: Any, name: str | None) -> int:
    """Where the attribute that `--attribute` names stands among a method's.

    Raises:
        UsageError: for none, or one that the method has not.
    """
    from .attribute_words import parse_attributes

    if name is None:
        raise UsageError(f"--mode attribute needs --attribute: which turns, such as {model.attribute_names[0]}")
    try:
        named = parse_attributes([name], model.attribute_names).nonzero()[:, 0].tolist()
    except UsageError as error:
        raise UsageError(str(error).replace("--attributes:", "--attribute:", 1)) from error
    if len(named) != 1:
        raise UsageError(f"--attribute {name!r} names {len(named)} attributes.{nearest(name, model.attribute_names)}")
    return named[0]


def describe_rows(attributes: Tensor, names: Sequence[str]) -> None:
    """Print which attributes each row (N,) of the picture asks for."""
    from lightning_zoo.callbacks.sample_grid import attributes_in_words

    for row, asked in enumerate(attributes, start=1):
        print(f"Row {row}: {attributes_in_words(asked, names)}")


def describe_blocks(model: Any) -> None:
    """Print which attributes attend the block that each column of "progressive" adds."""
    from lightning_zoo.metrics.attention_table import step_table

    if not callable(getattr(model, "attention", None)):
        return
    import torch

    with torch.no_grad():
        table = step_table(model.attention().float().cpu(), model.attribute_names)
    for label, names in zip(block_labels(model.num_steps)[1:], table.values(), strict=True):
        print(f"{label:>4}  {', '.join(names) or '-'}")


def judge(
    model: Any, logits: Callable[[Tensor], Tensor], attributes: Tensor, file: Path, drawn: dict[str, Any]
) -> None:
    """Let a classifier look for attributes while blocks are added; print and write what it sees.

    Args:
        model: a conditional method.
        logits: of `classifier_logits`.
        attributes: (rows, N) that are asked for.
        file: JSON to write.
        drawn: "seed", "truncation" and "batch_size".

    Raises:
        UsageError: for a file that cannot be written.
    """
    from lightning_zoo.generative.attribute_emergence import attended_steps, attribute_emergence
    from lightning_zoo.metrics.attention_table import write_whole

    emergence = attribute_emergence(model, logits, attributes, **drawn)
    names, attended = model.attribute_names, attended_steps(model)
    for line in emergence_lines(names, emergence, attended, len(attributes)):
        print(line)
    content = {
        "num_images": len(attributes),
        "attributes": list(names),
        "attended_step": attended and [attended[name] for name in names],
        "step_of_largest_rise": emergence.steps().tolist(),
        "accuracy": _plain(emergence.accuracy),
        "balanced_accuracy": _plain(emergence.balanced),
    }
    try:
        write_whole(file, json.dumps(content, indent=1) + "\n")
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise UsageError(f"--output {file} cannot be written: {error.strerror}; name another place") from error


def emergence_lines(
    names: Sequence[str], emergence: Emergence, attended: Mapping[str, int] | None, number: int
) -> list[str]:
    """A table of when each attribute can be seen: those seen best first, a dash for what is not known.

    Args:
        names: of the N attributes.
        emergence: of `number` samples.
        attended: the step that each attribute attends, or None.
        number: of samples.
    """
    balanced, steps, rises = emergence.balanced, emergence.steps().tolist(), emergence.rises().tolist()
    ends = balanced[-1].tolist()
    order = sorted(range(len(names)), key=lambda column: -ends[column] if ends[column] == ends[column] else 1)
    width = max(len("attribute"), *(len(name) for name in names))
    lines = [f"{'attribute':<{width}}  attends  rises most at  by     end"]
    for column in order:
        name = names[column]
        at = attended[name] if attended else "-"
        step = steps[column] if rises[column] >= RISE else "-"
        lines.append(f"{name:<{width}}  {at:>7}  {step:>13}  {rises[column]:+.2f}  {ends[column]:.2f}")
    lines += ["", f"Balanced accuracy of the classifier over {number} samples; 0.50 is chance."]
    seen = [column for column in order if ends[column] >= SEEN]
    if attended and seen:
        fitting = sum(attended[names[column]] == steps[column] for column in seen)
        chance = len(seen) / (len(balanced) - 1)
        lines.append(
            f"{fitting} of the {len(seen)} attributes that are seen in the end ({SEEN:g} or more) rise most at the "
            f"step that they attend; {chance:.1f} would be by chance."
        )
    return lines


def classifier_logits(classifier: str, model: Any, device: str) -> Callable[[Tensor], Tensor]:
    """A function from images (B, C, H, W) in [0, 1] to logits (B, N) of the model's attributes, in its order.

    Raises:
        CheckpointError: for a checkpoint that is no classifier of attributes.
        UsageError: for a classifier of larger images, or of a size that does not divide theirs.
        ValueError: for a classifier that does not know one of the attributes.
    """
    from lightning_zoo.checkpoints import CheckpointError, load
    from lightning_zoo.generative.attribute_names import columns_of
    from lightning_zoo.generative.images import shrink_to

    from .image_data import check_judged_size
    from .trained import pick_device

    judging: Any = load(classifier, pick_device(device))
    if not callable(getattr(judging, "logits", None)) or not getattr(judging, "attribute_names", None):
        raise CheckpointError(
            f"--classifier: {classifier} holds {type(judging).__name__}, which tells no attributes: give the "
            "checkpoint of an AttributeClassifier"
        )
    columns = columns_of(model.attribute_names, judging.attribute_names, "the classifier's")
    check_judged_size(model.image_shape, judging, type(model).__name__)
    side = judging.image_shape[-1]

    def logits(images: Tensor) -> Tensor:
        return judging.logits(shrink_to(images.to(judging.device), side))[:, columns]

    return logits


def _plain(values: Tensor) -> list[list[float | None]]:
    return [[None if value != value else round(value, 5) for value in row] for row in values.tolist()]
