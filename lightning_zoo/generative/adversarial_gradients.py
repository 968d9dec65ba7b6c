"""All gradients of one VAE-GAN step with as few passes through the discriminator as they need.

The released code of Shang et al. (2018) sends five batches through the discriminator's trunk per step: reconstructions
and samples once for the mutual-information loss and once more for the adversarial loss, then the discriminator's own
batch. The trunk looks at images one by one, so one pass serves all losses: here two batches (all reconstructions and
samples) and the real half of one go through it. Backwards, the trunk is run twice: once for its input, with what the
decoder is to feel, and once for its weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

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
        updates_discriminator: the gate's decision; if False the head has no gradients.
        metrics: scalars to log.
    """

    images: Tensor
    transformed: Tensor | None
    discriminator: Gradients
    updates_discriminator: bool
    metrics: dict[str, Tensor] = field(default_factory=dict)


Pair = Literal["real", "mismatched", "reconstruction", "sample"]

_KINDS: tuple[Pair, Pair] = ("reconstruction", "sample")
"""Of generated images, in their order; a method without an encoder has the last alone."""

HALVES: tuple[Pair, ...] = ("real", "real", "sample", "reconstruction")
"""What the rows of the discriminator's batch are in turn, without attributes, as released."""


@dataclass(frozen=True)
class Judging:
    """How a discriminator is trained.

    Args:
        gate: from its accuracy on its batch to whether it is updated.
        batch: what the rows of its batch are, in turn; a mismatched row is a real image with another's attributes.
        gated: "head": a closed gate holds back the head alone; "discriminator": all of its adversarial loss.
        loss: "bce" or "hinge".
        gradient_penalty: gamma of R1, gamma / 2 |grad D(x)|^2 at real images (Mescheder et al. 2018).
        moves_transformed: the mutual-information loss has a gradient for u as well (weighted by kappa).
    """

    gate: Callable[[Tensor], bool]
    batch: tuple[Pair, ...] = HALVES
    gated: Literal["discriminator", "head"] = "discriminator"
    loss: AdversarialLoss = "bce"
    gradient_penalty: float = 0.0
    moves_transformed: bool = False


def discriminator_rows(
    batch_size: int, batch: tuple[Pair, ...] = HALVES, device: torch.device | None = None
) -> dict[Pair, Tensor]:
    """Which rows of a batch the discriminator sees as what."""
    rows = torch.arange(batch_size, device=device)
    kinds: dict[Pair, Tensor] = {}
    for kind in dict.fromkeys(batch):
        places = torch.tensor([place for place, each in enumerate(batch) if each == kind], device=device)
        kinds[kind] = rows[torch.isin(rows % len(batch), places)]
    return kinds


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
    generated: Sequence[Tensor],
    transformed: Sequence[Tensor],
    weights: Sequence[SampleWeights],
    judging: Judging,
    attributes: Tensor | None = None,
) -> AdversarialGradients:
    """Gradients of the discriminator's parameters and of the generated images, at the current weights.

    Args:
        discriminator: its head compares the images of a batch, so that reconstructions, samples and the
            discriminator's own batch go through it one by one.
        recover: q_psi, or None without mutual-information loss.
        real: (B, C, H, W) in [-1, 1].
        generated: reconstructions and samples, or samples alone, all (B, C, H, W).
        transformed: u of each.
        weights: of each.
        judging: how the discriminator is trained.
        attributes: (B, N) of the real images, which the generated ones were made for.
    """
    number = len(generated)
    kinds = _KINDS[-number:]
    images = torch.cat(list(generated)).detach().requires_grad_()  # (2 B, C, H, W)
    outputs = discriminator.trunk(images)
    features = outputs.detach().requires_grad_()
    parts = features.chunk(number)

    adversarial = [generator_loss(discriminator.logits(part, attributes), judging.loss) for part in parts]
    weighted = torch.stack([w.adversarial * each for w, each in zip(weights, adversarial, strict=True)]).sum()
    (felt,) = torch.autograd.grad(weighted, features)
    metrics = {f"adversarial_{kind}": value for kind, value in zip(kinds, adversarial, strict=True)}
    recovered = None
    if recover is not None:
        joined = [discriminator.joined(part, attributes) for part in parts]
        recovered = _recovery(discriminator, recover, features, joined, transformed, weights, judging.moves_transformed)
        scales = [w.mutual_information for w in weights]
        felt = felt + torch.cat([s * g for s, g in zip(scales, recovered.features.chunk(number), strict=True)])
        metrics |= {f"mutual_information_{k}": e for k, e in zip(kinds, recovered.errors, strict=True)}
    (image_gradients,) = torch.autograd.grad(outputs, images, felt, retain_graph=True)

    own = _own_loss(discriminator, real, images, features if recover is not None else None, judging, attributes)
    updates = judging.gate(own.accuracy)
    metrics |= {"discriminator_loss": own.loss, "discriminator_accuracy": own.accuracy, **own.metrics}
    collected = _discriminator_gradients(discriminator, own, recovered, (outputs, features), updates, judging)
    if recovered is None:
        return AdversarialGradients(image_gradients, None, collected, updates, metrics)
    collected = [*recovered.own, *collected]
    return AdversarialGradients(image_gradients, recovered.transformed, collected, updates, metrics)


@dataclass
class _Recovery:
    """Gradients of the mutual-information loss: of trunk features, u, q_psi's parameters and those that join."""

    errors: list[Tensor]
    features: Tensor
    transformed: Tensor | None
    own: Gradients
    joining: list[Tensor]


def _recovery(
    discriminator: ImageDiscriminator,
    recover: nn.Module,
    features: Tensor,
    joined: Sequence[Tensor],
    transformed: Sequence[Tensor],
    weights: Sequence[SampleWeights],
    moves_transformed: bool,
) -> _Recovery:
    targets = [u.detach().requires_grad_(moves_transformed) for u in transformed]
    errors = [recovery_loss(recover(each), u, w.blocks) for each, u, w in zip(joined, targets, weights, strict=True)]
    parameters, joining = list(recover.parameters()), discriminator.joining_parameters()
    wanted = [features, *parameters, *joining, *(targets if moves_transformed else [])]
    found = torch.autograd.grad(torch.stack(errors).sum(), wanted)
    split = 1 + len(parameters)
    moved = None
    if moves_transformed:
        scales = [w.mutual_information for w in weights]
        moved = torch.cat([s * part for s, part in zip(scales, found[-len(targets) :], strict=True)])
    own: Gradients = list(zip(parameters, found[1:split], strict=True))
    return _Recovery(errors, found[0], moved, own, list(found[split : split + len(joining)]))


@dataclass
class _OwnLoss:
    """The discriminator's loss on its own batch, whose trunk features are leaves that gradients are taken of."""

    loss: Tensor
    penalty: Tensor | None
    accuracy: Tensor
    outputs: Tensor
    features: Tensor
    metrics: dict[str, Tensor]


def _own_loss(
    discriminator: ImageDiscriminator,
    real: Tensor,
    fakes: Tensor,
    fake_features: Tensor | None,
    judging: Judging,
    attributes: Tensor | None,
) -> _OwnLoss:
    """With `fake_features` only the real images go through the trunk, else the generated ones once more."""
    rows = discriminator_rows(len(real), judging.batch, real.device)
    kinds = [kind for kind in _KINDS[-(len(fakes) // len(real)) :] if kind in rows]
    first = _KINDS[-(len(fakes) // len(real)) :][0]
    chosen = torch.cat([rows[kind] + (len(real) if kind != first else 0) for kind in kinds])
    mismatched = rows.get("mismatched", rows["real"][:0])
    others = (mismatched + _another(len(real))) % len(real)
    inputs = real[torch.cat([rows["real"], others])].requires_grad_(judging.gradient_penalty > 0)
    batch = inputs if fake_features is not None else torch.cat([inputs, fakes[chosen].detach()])
    outputs = discriminator.trunk(batch)
    features = outputs.detach().requires_grad_()
    judged = features if fake_features is None else torch.cat([features, fake_features[chosen]])
    given = None
    if attributes is not None:
        given = attributes[torch.cat([rows["real"], mismatched, *(rows[kind] for kind in kinds)])]
    logits = discriminator.logits(judged, given)
    number = len(rows["real"])
    parts = logits[:number], logits[number:]
    penalty = None
    if judging.gradient_penalty > 0:
        known = None if given is None else given[:number]
        slopes = torch.autograd.grad(discriminator.logits(outputs[:number], known).sum(), inputs, create_graph=True)[0]
        penalty = 0.5 * judging.gradient_penalty * slopes[:number].float().square().flatten(1).sum(1).mean()
    accuracy = discriminator_accuracy(parts[0].detach(), parts[1].detach())
    metrics = {}
    if len(mismatched):
        metrics["mismatch_accuracy"] = (parts[1][: len(mismatched)].detach() <= 0).float().mean()
    return _OwnLoss(discriminator_loss(*parts, judging.loss), penalty, accuracy, outputs, features, metrics)


def _another(batch_size: int) -> int:
    """By how many rows images are moved against attributes: never by none."""
    return int(torch.randint(1, max(2, batch_size), ()))


def _discriminator_gradients(
    discriminator: ImageDiscriminator,
    own: _OwnLoss,
    recovered: _Recovery | None,
    fakes: tuple[Tensor, Tensor],
    updates: bool,
    judging: Judging,
) -> Gradients:
    """Of trunk, joining layers and head; `fakes` are trunk outputs of generated images, and their features."""
    trunk, joining = list(discriminator.trunk.parameters()), discriminator.joining_parameters()
    head = discriminator.head_parameters()
    roots, felt = ([fakes[0]], [recovered.features]) if recovered is not None else ([], [])
    joining_gradients: list[Tensor | None] = [*recovered.joining] if recovered is not None else [None] * len(joining)
    head_gradients: list[Tensor | None] = [None] * len(head)
    learns = updates or judging.gated == "head"
    if learns:
        leaves = [own.features] if recovered is None else [own.features, fakes[1]]
        found = torch.autograd.grad(own.loss, [*leaves, *joining, *head])
        roots, felt = [own.outputs, *roots], [found[0], *(g + found[1] for g in felt)]
        joined = found[len(leaves) : len(leaves) + len(joining)]
        joining_gradients = [_sum_of(*pair) for pair in zip(joining_gradients, joined, strict=True)]
        head_gradients = [*found[len(leaves) + len(joining) :]] if updates else head_gradients
    parameters = [*trunk, *joining, *head]
    if not roots:
        return [(parameter, None) for parameter in parameters]
    penalised = updates and own.penalty is not None
    of_trunk = torch.autograd.grad(roots, trunk, felt, retain_graph=penalised)
    gradients = [*of_trunk, *joining_gradients, *head_gradients]
    if penalised:
        assert own.penalty is not None
        steep = torch.autograd.grad(own.penalty, parameters, allow_unused=True)
        gradients = [_sum_of(*pair) for pair in zip(gradients, steep, strict=True)]
    return list(zip(parameters, gradients, strict=True))


def _sum_of(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first + second
