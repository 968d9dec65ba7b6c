"""Losses of the second stage (Shang et al. 2018, appendix 5.D, "Stage2 objective"), in float32.

Both kinds of generated images, from samples and from reconstructions of stage 1, have a term of their own with weight
one, so that they weigh twice as much as the real images.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

GeneratorObjective = Literal["non_saturating", "minimax"]


def stage2_discriminator_loss(real: Tensor, samples: Tensor, reconstructions: Tensor) -> Tensor:
    """-E[log D(s)] - E[log(1 - D(G(sample)))] - E[log(1 - D(G(reconstruction)))] of logits (B,)."""
    fakes = F.softplus(samples.float()).mean() + F.softplus(reconstructions.float()).mean()
    return F.softplus(-real.float()).mean() + fakes


def stage2_generator_loss(
    samples: Tensor, reconstructions: Tensor, objective: GeneratorObjective = "non_saturating"
) -> Tensor:
    """The adversarial terms of the generator.

    Args:
        samples: logits (B,) of G(sample).
        reconstructions: logits (B,) of G(reconstruction).
        objective: "minimax": E[log(1 - D)] as printed; "non_saturating": -E[log D].
    """
    if objective == "minimax":
        return -F.softplus(samples.float()).mean() - F.softplus(reconstructions.float()).mean()
    return F.softplus(-samples.float()).mean() + F.softplus(-reconstructions.float()).mean()


def perceptual_distance(wanted: Tensor, got: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Squared distance of features (B, ...), the mean over the batch.

    Args:
        wanted: of the ground truth.
        got: of the generated images.
        reduction: over the features of an image.
    """
    squared = (wanted.float() - got.float()).square()
    return squared.mean() if reduction == "mean" else squared.flatten(1).sum(1).mean()


def balanced_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of the share of real and the share of generated images that logits (B,) and (B',) tell rightly."""
    return ((real > 0).float().mean() + (fake <= 0).float().mean()) / 2
