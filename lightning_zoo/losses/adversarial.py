"""Adversarial losses on logits of being real, non-saturating for the generator (Goodfellow et al. 2014)."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

AdversarialLoss = Literal["bce", "hinge"]


def generator_loss(fake_logits: Tensor, kind: AdversarialLoss = "bce") -> Tensor:
    """What a generator pays for generated images that are recognised.

    Args:
        fake_logits: (B,).
        kind: "bce": -log sigmoid(logit); "hinge" (Lim & Ye 2017): -logit.

    Returns:
        Mean over the batch.
    """
    return F.softplus(-fake_logits).mean() if kind == "bce" else -fake_logits.mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: AdversarialLoss = "bce") -> Tensor:
    """What a discriminator pays, mean over all images of its batch, real and generated.

    Args:
        real_logits: (R,).
        fake_logits: (F,).
        kind: "bce": -log sigmoid(real), -log(1 - sigmoid(fake)); "hinge": max(0, 1 - real), max(0, 1 + fake).
    """
    if kind == "bce":
        losses = F.softplus(-real_logits).sum() + F.softplus(fake_logits).sum()
    else:
        losses = (1 - real_logits).relu().sum() + (1 + fake_logits).relu().sum()
    return losses / (len(real_logits) + len(fake_logits))


def discriminator_accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of images that are on their side of probability one half."""
    right = (real_logits > 0).sum() + (fake_logits <= 0).sum()
    return right / (len(real_logits) + len(fake_logits))
