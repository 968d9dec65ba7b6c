"""Losses on clips: errors of frames, and the contrastive prediction of their dynamics (thesis, chapter 7)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import infonce, matching_accuracy, pair_logits

Reduction = Literal["sum", "mean"]
"""Over a frame's values: a squared norm as eq. 7.2 to 7.4 have it, or per value."""

Contrast = Literal["raw", "normalized", "standardized"]
"""Scores of eq. 7.5: inner products, those of unit vectors over a temperature, or of vectors with each component in
units of its deviation within the batch."""


def frame_error(frames: Tensor, targets: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Squared distance of frames (..., C, H, W) from their targets, the mean over frames; in float32."""
    error = (frames.float() - targets.float()).square().flatten(-3)
    return (error.sum(-1) if reduction == "sum" else error.mean(-1)).mean()


def contrastive_prediction(
    predicted: Tensor, targets: Tensor, contrast: Contrast = "raw", temperature: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Eq. 7.5: which of all p of all clips and steps is the predicted one.

    Negatives are the other steps of the clip and all steps of all others, those of other processes too. The thesis has
    the sum over clips and steps; this is their mean, so that a batch's size does not change its weight.

    Args:
        predicted: (B, T - 1, d).
        targets: p_2 ... p_T (B, T - 1, d), which get no gradient.
        contrast: how scores are made.
        temperature: of contrast "normalized".

    Returns:
        The loss in nats, log(B (T - 1)) at chance, and the share of predictions that are nearest to their own.
    """
    queries, own = predicted.flatten(0, 1).float(), targets.detach().flatten(0, 1).float()
    keys, first = gather_keys(own)
    if contrast == "normalized":
        queries, keys = F.normalize(queries, dim=1) / temperature, F.normalize(keys, dim=1)
    elif contrast == "standardized":
        mean, deviation = keys.mean(0), keys.std(0, correction=0).clamp_min(torch.finfo(keys.dtype).eps)
        queries, keys = (queries - mean) / deviation, (keys - mean) / deviation
    logits = pair_logits(queries, keys)
    return infonce(logits, first_positive=first), matching_accuracy(logits.detach(), first_positive=first)
