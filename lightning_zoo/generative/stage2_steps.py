"""The two steps of stage 2, each of one network alone, and what has to be right before the first."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_zoo.generative.perceptual import make_perceptual
from lightning_zoo.gradients import average_gradients, set_gradients
from lightning_zoo.losses.stage2 import (
    balanced_accuracy,
    perceptual_distance,
    stage2_discriminator_loss,
    stage2_generator_loss,
)

if TYPE_CHECKING:
    from lightning_zoo.generative.stage2 import Stage2


def discriminator_step(module: "Stage2", real: Tensor, generated: Tensor, optimizer: Any) -> dict[str, Tensor]:
    """One step of the discriminator.

    Args:
        module: whose networks these are.
        real: images (B, C, H, W) in [-1, 1].
        generated: samples, then reconstructions, (2 B, C, H, W) in [-1, 1], without a graph.
        optimizer: of the discriminator.

    Returns:
        Loss and accuracy before the step.
    """
    real_logits, logits = module.discriminator(real), module.discriminator(generated)
    samples, reconstructions = logits.chunk(2)
    loss = stage2_discriminator_loss(real_logits, samples, reconstructions)
    _step(loss, module.discriminator, optimizer)
    accuracy = balanced_accuracy(real_logits.detach(), logits.detach())
    return {"discriminator_loss": loss.detach(), "discriminator_accuracy": accuracy}


def generator_step(module: "Stage2", images: Tensor, generated: Tensor, optimizer: Any) -> dict[str, Tensor]:
    """One step of the generator.

    Args:
        module: whose networks these are.
        images: ground truth (B, C, H, W) in [0, 1].
        generated: samples, then reconstructions, (2 B, C, H, W) in [-1, 1], with the generator's graph.
        optimizer: of the generator.

    Returns:
        Loss, and where it has one its perceptual term without the weight, before the step.
    """
    options = module.hparams
    samples, reconstructions = module.discriminator(generated).chunk(2)
    loss = stage2_generator_loss(samples, reconstructions, options.adversarial_loss)
    metrics = {}
    if options.perceptual_weight:
        distance = perceptual_loss(module, images, generated.chunk(2)[1])
        loss = loss + options.perceptual_weight * distance
        metrics["perceptual_loss"] = distance.detach()
    _step(loss, module.generator, optimizer)
    return metrics | {"generator_loss": loss.detach()}


def perceptual_loss(module: "Stage2", images: Tensor, reconstructions: Tensor) -> Tensor:
    """|| f(S(x)) - f(G(x~)) ||^2 of images (B, C, H, W) in [0, 1] and enlarged reconstructions in [-1, 1]."""
    features = module.perceptual[0]
    with torch.no_grad():
        wanted = features(images)
    got = features((reconstructions.float() + 1) / 2)
    return perceptual_distance(wanted, got, module.hparams.perceptual_reduction)


def check_options(options: Any) -> None:
    """Raise `ValueError` for hyperparameters of `Stage2` that are out of range."""
    for name in ("learning_rate", "base_channels", "discriminator_channels"):
        if not options[name] > 0:
            raise ValueError(f"{name} must be positive, got {options[name]}")
    if not options.perceptual_weight >= 0:
        raise ValueError(f"perceptual_weight must not be negative, got {options.perceptual_weight}")
    period = options.halving_period_epochs
    if period is not None and period < 1:
        raise ValueError(f"halving_period_epochs must be at least 1 or null, got {period}")
    choices = {"adversarial_loss": ("non_saturating", "minimax"), "perceptual_reduction": ("mean", "sum")}
    for name, allowed in choices.items():
        if options[name] not in allowed:
            raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {options[name]!r}")


def perceptual_of(options: Any) -> nn.Module:
    """The perceptual network that the hyperparameters of `Stage2` ask for.

    Raises:
        ValueError: without a path, or as `make_perceptual`.
    """
    if options.perceptual_path is None:
        wanted = "a Classifier's checkpoint" if options.perceptual_network == "classifier" else "its file of weights"
        raise ValueError(
            f"perceptual_path is not set: {options.perceptual_network} needs {wanted}; "
            "or go without it: --model.perceptual_weight 0"
        )
    return make_perceptual(options.perceptual_network, options.perceptual_path, options.perceptual_layer)


def _step(loss: Tensor, network: nn.Module, optimizer: Any) -> None:
    parameters = list(network.parameters())
    set_gradients(parameters, torch.autograd.grad(loss, parameters))
    average_gradients(parameters)
    optimizer.step()
