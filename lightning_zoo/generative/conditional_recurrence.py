"""The networks that conditional crVAE-GAN and acVAE-GAN have in common, from their hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_zoo.generative.adversarial_gradients import SampleWeights
from lightning_zoo.generative.conditional_networks import ConditionalAutoencoder
from lightning_zoo.generative.growing import doublings_to
from lightning_zoo.networks.attribute_paths import AttributedPosterior, AttributedProjection
from lightning_zoo.networks.conditional_discriminator import BlockJoin, ConditionalDiscriminator
from lightning_zoo.networks.growing_images import GrowingInput, discriminator_block, discriminator_colours
from lightning_zoo.networks.growing_networks import GrowingDecoder, GrowingEncoder
from lightning_zoo.networks.image_discriminator import LatentReconstruction

if TYPE_CHECKING:
    from lightning_zoo.generative.conditional_autoencoder import ConditionalAdversarialAutoencoder


def growing_ends(given: Any) -> tuple[GrowingEncoder, GrowingDecoder, GrowingInput]:
    """Encoder, decoder and the discriminator's stem for the sizes in the hyperparameters.

    Raises:
        ValueError: for a first_size that is no doubling of 64.
    """
    size: dict[str, Any] = {"num_doublings": doublings_to(given.first_size)}
    channels, b, spectral = given.image_channels, given.base_channels, given.spectral
    make_block = partial(discriminator_block, b, spectral=spectral)
    stem = GrowingInput(discriminator_colours(channels, b, spectral=spectral), make_block, **size)
    size["norm_momentum"] = given.norm_momentum
    return GrowingEncoder(channels, b, **size), GrowingDecoder(channels, b, **size), stem


def build_recurrent(
    method: ConditionalAdversarialAutoencoder,
    attend: nn.Module,
    prior: nn.Module,
    *,
    kl_weights: Sequence[float],
    block_weights: Sequence[float],
) -> None:
    """Build all networks of a method with channel recurrency; those given are where the two methods differ.

    Args:
        method: with its hyperparameters saved and its attributes named.
        attend: attributes (B, N) to what each time step reads (B, T, N).
        prior: what the steps read to mean and log-variance.
        kl_weights: alpha, one per block.
        block_weights: of the recovery of each block of u.
    """
    given, number = method.hparams, len(method.attribute_names)
    latent_shape, b = (given.latent_channels, 4, 4), given.base_channels
    encoder, decoder, stem = growing_ends(given)
    recurrence: dict[str, Any] = {name: given[name] for name in ("num_steps", "hidden_size", "num_layers")}
    posterior = AttributedPosterior(encoder.feature_shape, latent_shape, number, **recurrence)
    projection = AttributedProjection(
        latent_shape, decoder.feature_shape, number, norm_momentum=given.norm_momentum, **recurrence
    )
    join = BlockJoin(number, (8 * b, 4, 4), latent_shape, num_steps=given.num_steps)
    discriminator = ConditionalDiscriminator(
        stem, b, b, join, hidden_size=16 * b, dropout=given.dropout, spectral=given.spectral
    )
    kappa = given.mutual_information_weight
    recover = None
    if kappa is not None:
        recover = LatentReconstruction(
            join.shape, latent_shape, hidden_channels=2 * b, norm_momentum=given.norm_momentum
        )
    method.build_conditional(
        ConditionalAutoencoder(encoder, posterior, prior, attend, projection, decoder),
        discriminator,
        recover,
        latent_shape=latent_shape,
        kl_weights=kl_weights,
        sample_weights=SampleWeights(given.adversarial_weight, kappa or 0.0, tuple(block_weights)),
    )
