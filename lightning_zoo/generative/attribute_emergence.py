"""When an attribute can be seen while the latent blocks of a sample are drawn in turn (thesis, section 6.5.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_zoo.generative.conditional_model import ConditionalModel
from lightning_zoo.generative.conditional_traversal import progressive
from lightning_zoo.generative.latent_model import check_positive
from lightning_zoo.metrics.attribute_accuracy import AttributeAccuracy


class Emergence(NamedTuple):
    """How well attributes can be seen while the blocks of samples are drawn in turn; nan where nothing was asked.

    Attributes:
        accuracy: (T + 1, N), share of images in which a classifier sees what was asked for, after 0 ... T blocks.
        balanced: (T + 1, N), mean of that share among the images that were to have the attribute and those that were
            not: one half for pictures that do not tell, however rare the attribute.
    """

    accuracy: Tensor
    balanced: Tensor

    def steps(self) -> Tensor:
        """The step (N,), 1 ... T, after which the balanced accuracy of each attribute has risen most."""
        return self.balanced.diff(dim=0).nan_to_num(-math.inf).argmax(0) + 1

    def rises(self) -> Tensor:
        """By how much (N,) the balanced accuracy has risen after that step."""
        return self.balanced.diff(dim=0).gather(0, self.steps()[None] - 1)[0]


def attribute_emergence(
    model: ConditionalModel,
    classifier_logits: Callable[[Tensor], Tensor],
    attributes: Tensor,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    batch_size: int = 64,
) -> Emergence:
    """Let a classifier look for the attributes in `progressive`'s images.

    Args:
        model: a conditional method.
        classifier_logits: from images (B, C, H, W) in [0, 1] to logits (B, N), positive where an attribute is seen,
            of the model's attributes.
        attributes: (rows, N) that are asked for, 0 for those that are not judged.
        seed: of the samples.
        truncation: factor of their deviations from the prior's mean.
        batch_size: images decoded and judged at a time.

    Raises:
        ValueError: for an argument out of range, or a classifier of another number of attributes.
    """
    check_positive(batch_size=batch_size)
    counters = [AttributeAccuracy(attributes.shape[1]) for _ in range(model.num_steps + 1)]
    rows = max(1, batch_size // (model.num_steps + 1))
    for start in range(0, len(attributes), rows):
        asked = attributes[start : start + rows]
        # Another seed for each part: the same noise in all of them would count as one draw.
        images = progressive(model, asked, seed=seed * 1_000_003 + start, truncation=truncation, batch_size=batch_size)
        for column, counter in enumerate(counters):
            with torch.no_grad():
                counter.update(classifier_logits(images[:, column]).float().cpu(), asked.float().cpu())
    scores = [counter.compute() for counter in counters]
    return Emergence(
        torch.tensor([score["accuracy"] for score in scores]),
        torch.tensor([score["balanced_accuracy"] for score in scores]),
    )


def attended_steps(model: Any) -> Mapping[str, int] | None:
    """The step, 1 ... T, that each attribute attends most; None of a method without attention."""
    if not callable(getattr(model, "attention", None)):
        return None
    with torch.no_grad():
        steps = model.attention().argmax(0) + 1
    return dict(zip(model.attribute_names, steps.tolist(), strict=True))
