"""One training step of a VAE-GAN, in two orders: all gradients at the same weights, or as released, module by module.

The released code of Shang et al. (2018) takes the reconstructions first, then the samples, then the discriminator's
batch, and steps every module as soon as its gradients are there: the decoder twice per batch, the trunk three times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lightning_zoo.generative.adversarial_gradients import (
    AdversarialGradients,
    adversarial_gradients,
    discriminator_rows,
    recovery_loss,
)
from lightning_zoo.gradients import average_gradients, clamp_gradients, set_gradients
from lightning_zoo.losses.adversarial import discriminator_accuracy, discriminator_loss, generator_loss
from lightning_zoo.networks.channel_recurrence import recurrent_parameters

if TYPE_CHECKING:
    from lightning_zoo.generative.adversarial_autoencoder import AdversarialAutoencoder

StepOrder = Literal["joint", "released"]

RECURRENT_GRADIENT_LIMIT = 5.0
"""Elementwise limit of the gradients of LSTMs, as released."""


def steps_per_batch(order: StepOrder, recovers: bool) -> int:
    """How often an optimizer is stepped per batch, in the given order, with or without q_psi."""
    return 2 if order == "joint" else 3 + 2 * recovers


def joint_step(
    module: AdversarialAutoencoder, real: Tensor, generator: Any, judge: Any, attributes: Tensor | None = None
) -> dict[str, Tensor]:
    """All gradients at the same weights, then one Adam step of every module.

    Args:
        module: with its networks and weights.
        real: (B, C, 64, 64) in [-1, 1].
        generator: optimizer of the autoencoder.
        judge: optimizer of the discriminator and q_psi.
        attributes: (B, N) that the images have, for methods that are conditioned on them.

    Returns:
        Scalars to log.
    """
    network = module.autoencoder
    condition = () if attributes is None else (attributes,)
    posterior, latent = draw_posterior(network, real, *condition)
    prior, drawn = module.draw_prior(latent, attributes)
    latents = (latent, drawn)
    if module.hparams.shared_statistics:
        images, u = network.generate(torch.cat(latents), *(torch.cat([each, each]) for each in condition))
        half = len(real)
        generated, transformed = (images[:half], images[half:]), (u[:half], u[half:])
    else:
        (first, first_u), (second, second_u) = (network.generate(each, *condition) for each in latents)
        generated, transformed = (first, second), (first_u, second_u)
    loss, terms = module.autoencoding_loss(real, generated[0], posterior, prior)
    found = adversarial_gradients(
        module.discriminator,
        module.recover,
        real,
        generated,
        transformed,
        module.sample_weights,
        module.judging(),
        attributes,
    )
    parameters = list(network.parameters())
    set_gradients(parameters, _autoencoder_gradients(module, parameters, loss, generated, transformed, found))
    take_step(generator, parameters, recurrent_parameters(network))
    judged, gradients = zip(*found.discriminator, strict=True)
    set_gradients(judged, gradients)
    with module.gate.update(judge, found.updates_discriminator):
        take_step(judge, judged)
    return terms | found.metrics


def _autoencoder_gradients(
    module: AdversarialAutoencoder,
    parameters: list[nn.Parameter],
    loss: Tensor,
    generated: Sequence[Tensor],
    transformed: Sequence[Tensor],
    found: AdversarialGradients,
) -> list[Tensor | None]:
    """Of the autoencoder's loss and of what the images, and u, feel of the discriminator."""
    roots, felt = [loss, *generated], [torch.ones_like(loss), *found.images.chunk(2)]
    if found.transformed is not None:
        roots, felt = [*roots, *transformed], [*felt, *found.transformed.chunk(2)]
    if module.adversarial_encoder:
        return [*torch.autograd.grad(roots, parameters, felt)]
    decoding = module.autoencoder.decoding_parameters()
    inferring = parameters[: len(parameters) - len(decoding)]
    into = torch.autograd.grad(loss, inferring, retain_graph=True)
    return [*into, *torch.autograd.grad(roots, decoding, felt)]


def released_step(module: AdversarialAutoencoder, real: Tensor, generator: Any, judge: Any) -> dict[str, Tensor]:
    """The released order; arguments and result as of `joint_step`, without R1 and without a moving u."""
    network = module.autoencoder
    metrics: dict[str, Tensor] = {}
    posterior, latent = draw_posterior(network, real)
    fakes = []
    for index, kind in enumerate(("reconstruction", "sample")):
        image, transformed = network.generate(latent if index == 0 else torch.randn_like(latent))
        gradient, terms = _generated_pass(module, image, transformed, index, judge)
        metrics |= {f"{name}_{kind}": value for name, value in terms.items()}
        roots, felt = [image], [gradient]
        parameters = list(network.parameters())
        if index == 0:
            loss, terms = module.autoencoding_loss(real, image, posterior)
            metrics |= terms
            roots, felt = [*roots, loss], [*felt, torch.ones_like(loss)]
        else:
            parameters = network.decoding_parameters()
        set_gradients(parameters, torch.autograd.grad(roots, parameters, felt))
        take_step(generator, parameters, [p for p in recurrent_parameters(network) if p.grad is not None])
        fakes.append(image.detach())
    return metrics | _judge_pass(module, real, fakes, judge)


def _generated_pass(
    module: AdversarialAutoencoder, image: Tensor, transformed: Tensor, index: int, judge: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Step q_psi and the trunk, then look again: the gradient of the images, and what to log."""
    weights = module.sample_weights[index]
    discriminator, recover = module.discriminator, module.recover
    leaf = image.detach().requires_grad_()
    felt, terms = torch.zeros_like(leaf), {}
    if recover is not None:
        error = recovery_loss(recover(discriminator.trunk(leaf)), transformed.detach(), weights.blocks)
        parameters = [*recover.parameters(), *discriminator.trunk.parameters()]
        image_gradient, *gradients = torch.autograd.grad(error, [leaf, *parameters])
        set_gradients(parameters, gradients)
        take_step(judge, parameters)
        felt, terms = weights.mutual_information * image_gradient, {"mutual_information": error}
    adversarial = generator_loss(discriminator(leaf), module.hparams.adversarial_loss)
    (slope,) = torch.autograd.grad(adversarial, leaf)
    return felt + weights.adversarial * slope, terms | {"adversarial": adversarial}


def _judge_pass(module: AdversarialAutoencoder, real: Tensor, fakes: Sequence[Tensor], judge: Any) -> dict[str, Tensor]:
    """Step the discriminator on half real, a quarter reconstructed, a quarter sampled images, if the gate opens."""
    rows = discriminator_rows(len(real), device=real.device)
    shown = [real[rows["real"]], fakes[0][rows["reconstruction"]], fakes[1][rows["sample"]]]
    logits = module.discriminator(torch.cat(shown))
    parts = logits[: len(shown[0])], logits[len(shown[0]) :]
    loss = discriminator_loss(*parts, module.hparams.adversarial_loss)
    accuracy = discriminator_accuracy(parts[0].detach(), parts[1].detach())
    opens = module.gate.opens(accuracy)
    with module.gate.update(judge, opens):
        parameters = list(module.discriminator.parameters())
        if opens:
            set_gradients(parameters, torch.autograd.grad(loss, parameters))
        # Without gradients the step changes nothing, and Lightning counts the same number of steps in every batch.
        take_step(judge, parameters)
    return {"discriminator_loss": loss, "discriminator_accuracy": accuracy}


def draw_posterior(network: Any, images: Tensor, *condition: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Posterior (mean, log-variance) of images, and attributes if given, and a draw from it, all (B, C, H, W)."""
    mean, log_variance = network.infer(images, *condition)
    return (mean, log_variance), draw_gaussian(mean, log_variance)


def draw_gaussian(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A draw from N(mean, exp(log_variance)), differentiable with respect to both; the noise has their shape."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)


def take_step(optimizer: Any, parameters: Sequence[nn.Parameter], recurrent: Sequence[nn.Parameter] = ()) -> None:
    """Average the gradients over the processes, limit those of LSTMs, step, and forget all gradients.

    Args:
        optimizer: steps the parameters that have gradients.
        parameters: that were given gradients.
        recurrent: those of them whose gradients are limited.
    """
    average_gradients(parameters)
    clamp_gradients(recurrent, RECURRENT_GRADIENT_LIMIT)
    optimizer.step()
    optimizer.zero_grad()
