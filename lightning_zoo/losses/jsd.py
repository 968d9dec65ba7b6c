"""The Jensen-Shannon estimate of mutual information, bilinear scores (Hjelm et al. 2019, arXiv 1808.06670, eq. 4)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def place_scores(bilinear: nn.Bilinear, first: Tensor, second: Tensor) -> Tensor:
    """Score of each item's vectors at every place: what ``bilinear`` with one output gives place by place.

    Its weight is applied to ``first`` once, instead of once per place for vectors of the whole frame, and no place's
    outer product is built. Float32 under autocast too.

    Args:
        bilinear: (D, C) -> 1.
        first: (B, D) of the whole frame, or (B, D, P) local.
        second: (B, C, P) local.

    Returns:
        (B, P), logits.
    """
    with torch.autocast(first.device.type, enabled=False):
        projected = torch.einsum("bd...,dc->bc...", first.float(), bilinear.weight[0].float())
        if projected.dim() == 2:
            projected = projected.unsqueeze(-1)
        return (projected * second.float()).sum(1) + bilinear.bias.float()


def jsd_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Binary cross-entropy of logits of true pairs against logits of random pairs, in nats; log 2 at chance.

    Args:
        positive: any shape.
        negative: the same shape, so that both kinds weigh the same.

    Example:
        >>> import math, torch
        >>> bool(jsd_loss(torch.zeros(3), torch.zeros(3)).isclose(torch.tensor(math.log(2))))
        True
    """
    return (F.softplus(-positive.float()).mean() + F.softplus(negative.float()).mean()) / 2


def binary_accuracy(positive: Tensor, negative: Tensor) -> Tensor:
    """Share of logits on their right side of zero; a logit of zero counts as a random pair."""
    return ((positive > 0).float().mean() + (negative <= 0).float().mean()) / 2
