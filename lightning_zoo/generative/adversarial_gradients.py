"""All gradients of one VAE-GAN step with as few passes through the discriminator as they need.

The released code of Shang et al. (2018) sends five batches through the discriminator's trunk per step: reconstructions
and samples once for the mutual-information loss and once more for the adversarial loss, then the discriminator's own
batch. The trunk looks at images one by one, so one pass serves all losses: here two batches (all reconstructions and
samples) and the real half of one go through it. Backwards, the trunk is run twice: once for its input, with what the
decoder is to feel, and once for its weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.losses.adversarial import (
    AdversarialLoss,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
)
from lightning_zoo.networks.image_discriminator import ImageDiscriminator

Gradients = list[tuple[nn.Parameter, Tensor | None]]


@dataclass(frozen=True)
class SampleWeights:
    """Weights of the losses that reach the decoder through one of the two kinds of generated images.

    Args:
        adversarial: beta.
        mutual_information: kappa, of the gradient that reaches the decoder; q_psi and the trunk feel it with weight 1.
        blocks: per block of u, the weight of its squared errors.
    """

    adversarial: float
    mutual_information: float
    blocks: tuple[float, ...] = (1.0,)


@dataclass
class AdversarialGradients:
    """What one pass over reconstructions and samples gave.

    Args:
        images: gradients (2 B, C, H, W) of the generated images, weighted by beta and kappa.
        transformed: gradients (2 B, ...) of u, if the mutual-information loss moves it.
        discriminator: (parameter, gradient) of trunk, head and q_psi.
        updates_discriminator: the gate's decision; if False the head has no gradients, the trunk only q_psi's.
        metrics: scalars to log.
    """

    images: Tensor
    transformed: Tensor | None
    discriminator: Gradients
    updates_discriminator: bool
    metrics: dict[str, Tensor] = field(default_factory=dict)


def discriminator_rows(batch_size: int, device: torch.device | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows of a batch the discriminator sees as real, reconstructed and sampled: one half, two quarters.

    The last of every four rows is a reconstruction, the one before it a sample, the others are real, as released.
    """
    rows = torch.arange(batch_size, device=device)
    return rows[rows % 4 < 2], rows[rows % 4 == 3], rows[rows % 4 == 2]


def recovery_loss(recovered: Tensor, transformed: Tensor, block_weights: tuple[float, ...]) -> Tensor:
    """Squared error of the recovered u (eq. 5.2 for a Gaussian q_psi), each block by its weight; mean over all values.

    Args:
        recovered: (B, C, H, W).
        transformed: u, same shape.
        block_weights: one per block of channels.
    """
    error = F.mse_loss(recovered.float(), transformed.float(), reduction="none")
    blocks = error.reshape(len(error), len(block_weights), -1)
    return (blocks * error.new_tensor(block_weights)[:, None]).mean()


def adversarial_gradients(
    discriminator: ImageDiscriminator,
    recover: nn.Module | None,
    real: Tensor,
    generated: tuple[Tensor, Tensor],
    transformed: tuple[Tensor, Tensor],
    weights: tuple[SampleWeights, SampleWeights],
    *,
    gate: Callable[[Tensor], bool],
    loss: AdversarialLoss = "bce",
    gradient_penalty: float = 0.0,
    moves_transformed: bool = False,
) -> AdversarialGradients:
    """Gradients of the discriminator's parameters and of the generated images, at the current weights.

    Args:
        discriminator: its head compares the images of a batch, so that reconstructions, samples and the
            discriminator's own batch go through it one by one.
        recover: q_psi, or None without mutual-information loss.
        real: (B, C, H, W) in [-1, 1].
        generated: reconstructions and samples, both (B, C, H, W).
        transformed: u of each.
        weights: of each.
        gate: from the discriminator's accuracy to whether it is updated.
        loss: "bce" or "hinge".
        gradient_penalty: gamma of R1, gamma / 2 |grad D(x)|^2 at real images (Mescheder et al. 2018).
        moves_transformed: the mutual-information loss has a gradient for u as well (weighted by kappa).
    """
    images = torch.cat(generated).detach().requires_grad_()  # (2 B, C, H, W)
    outputs = discriminator.trunk(images)
    features = outputs.detach().requires_grad_()
    kinds = features.chunk(2)
    targets = [u.detach().requires_grad_(moves_transformed) for u in transformed]

    adversarial = [generator_loss(discriminator.logits(kind), loss) for kind in kinds]
    weighted = weights[0].adversarial * adversarial[0] + weights[1].adversarial * adversarial[1]
    (felt,) = torch.autograd.grad(weighted, features)
    learned = felt
    collected: Gradients = []
    moved = None
    metrics = {"adversarial_reconstruction": adversarial[0], "adversarial_sample": adversarial[1]}
    if recover is not None:
        errors = [recovery_loss(recover(kind), u, w.blocks) for kind, u, w in zip(kinds, targets, weights, strict=True)]
        metrics |= {"mutual_information_reconstruction": errors[0], "mutual_information_sample": errors[1]}
        parameters = list(recover.parameters())
        wanted = [features, *parameters, *(targets if moves_transformed else [])]
        found = torch.autograd.grad(errors[0] + errors[1], wanted)
        learned = found[0]
        collected += list(zip(parameters, found[1 : len(parameters) + 1], strict=True))
        scales = [w.mutual_information for w in weights]
        felt = felt + torch.cat([s * part for s, part in zip(scales, learned.chunk(2), strict=True)])
        if moves_transformed:
            moved = torch.cat([s * part for s, part in zip(scales, found[-2:], strict=True)])
    (image_gradients,) = torch.autograd.grad(outputs, images, felt, retain_graph=True)

    own = _own_loss(discriminator, real, images, features if recover is not None else None, loss, gradient_penalty)
    updates = gate(own.accuracy)
    metrics |= {"discriminator_loss": own.loss, "discriminator_accuracy": own.accuracy}
    roots = [(outputs, learned, features)] if recover is not None else []
    collected += _discriminator_gradients(discriminator, own, roots, updates)
    return AdversarialGradients(image_gradients, moved, collected, updates, metrics)


@dataclass
class _OwnLoss:
    """The discriminator's loss on its batch of half real, a quarter reconstructed, a quarter sampled images."""

    loss: Tensor
    penalty: Tensor | None
    accuracy: Tensor
    outputs: Tensor
    features: Tensor


def _own_loss(
    discriminator: ImageDiscriminator,
    real: Tensor,
    fakes: Tensor,
    fake_features: Tensor | None,
    loss: AdversarialLoss,
    gradient_penalty: float,
) -> _OwnLoss:
    """With `fake_features` only the real images go through the trunk, else the generated ones once more."""
    rows, reconstructed, sampled = discriminator_rows(len(real), real.device)
    chosen = torch.cat([reconstructed, len(real) + sampled])
    inputs = real[rows].requires_grad_(gradient_penalty > 0)
    batch = inputs if fake_features is not None else torch.cat([inputs, fakes[chosen].detach()])
    outputs = discriminator.trunk(batch)
    features = outputs.detach().requires_grad_()
    judged = features if fake_features is None else torch.cat([features, fake_features[chosen]])
    logits = discriminator.logits(judged)
    parts = logits[: len(rows)], logits[len(rows) :]
    penalty = None
    if gradient_penalty > 0:
        slopes = torch.autograd.grad(discriminator.logits(outputs[: len(rows)]).sum(), inputs, create_graph=True)[0]
        penalty = 0.5 * gradient_penalty * slopes.float().square().flatten(1).sum(1).mean()
    accuracy = discriminator_accuracy(parts[0].detach(), parts[1].detach())
    return _OwnLoss(discriminator_loss(*parts, loss), penalty, accuracy, outputs, features)


def _discriminator_gradients(
    discriminator: ImageDiscriminator, own: _OwnLoss, others: list[tuple[Tensor, Tensor, Tensor]], updates: bool
) -> Gradients:
    """Of trunk and head; `others` are further trunk outputs, the gradients that reach them, and their features."""
    trunk, head = list(discriminator.trunk.parameters()), discriminator.head_parameters()
    parameters = [*trunk, *head]
    roots = [output for output, _, _ in others]
    felt = [gradient for _, gradient, _ in others]
    head_gradients: list[Tensor | None] = [None] * len(head)
    if updates:
        leaves = [own.features, *(features for _, _, features in others)]
        found = torch.autograd.grad(own.loss, [*leaves, *head])
        head_gradients = [*found[len(leaves) :]]
        roots = [own.outputs, *roots]
        felt = [found[0], *(g + f for g, f in zip(felt, found[1 : len(leaves)], strict=True))]
    if not roots:
        return [(parameter, None) for parameter in parameters]
    penalised = updates and own.penalty is not None
    gradients = [*torch.autograd.grad(roots, trunk, felt, retain_graph=penalised), *head_gradients]
    if penalised:
        assert own.penalty is not None
        steep = torch.autograd.grad(own.penalty, parameters, allow_unused=True)
        gradients = [_sum_of(*pair) for pair in zip(gradients, steep, strict=True)]
    return list(zip(parameters, gradients, strict=True))


def _sum_of(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first + second
