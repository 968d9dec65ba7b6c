"""Conditional GAN of images by attributes, with mismatched pairs (Gauthier 2014; Reed et al. 2016; thesis, 6.3.2).

The discriminator tells real pairs of image and attributes from generated ones and from real images beside attributes of
others; the three terms of the thesis' game weigh alike.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_zoo.generative.adversarial_autoencoder import AdversarialAutoencoder
from lightning_zoo.generative.adversarial_gradients import Judging, Pair, SampleWeights, adversarial_gradients
from lightning_zoo.generative.adversarial_steps import take_step
from lightning_zoo.generative.attribute_conditioning import AttributeConditioned
from lightning_zoo.generative.conditional_networks import ConditionalGenerator
from lightning_zoo.generative.images import images_in, shrink_to, to_signed
from lightning_zoo.gradients import set_gradients
from lightning_zoo.losses.adversarial import AdversarialLoss, discriminator_accuracy
from lightning_zoo.metrics.celeba_attributes import CELEBA_ATTRIBUTES
from lightning_zoo.networks.attribute_paths import AttributedLinearProjection, RepeatedAttributes
from lightning_zoo.networks.conditional_discriminator import ConditionalDiscriminator, LinearJoin
from lightning_zoo.networks.image_networks import NORM_MOMENTUM, ImageDecoder

BATCHES: dict[str, tuple[Pair, ...]] = {
    "thirds": ("real", "sample", "mismatched"),
    "quarters": ("real", "mismatched", "real", "sample"),
}
"""What the rows of the discriminator's batch are in turn: all terms alike, or half of the weight for real pairs."""


class ConditionalGAN(AttributeConditioned, AdversarialAutoencoder):
    """Conditional GAN of 64x64 images by attributes and noise, trained with mismatched pairs; without an encoder.

    `encode` gives the features of the discriminator's trunk. Nothing was published of its settings; the defaults are
    those of cVAE-GAN on CelebA where it has them.

    Args:
        attribute_names: which of the data's attributes the images are drawn by; default the forty of CelebA.
        image_channels: of the images.
        base_channels: b; every width is a multiple of it, up to 8 b.
        latent_channels: C; the noise has 16 C values, seen as (C, 4, 4).
        discriminator_batch: "thirds" of real, generated and mismatched pairs (thesis), or "quarters": half real,
            a quarter generated and a quarter mismatched.
        adversarial_loss: "bce" (as cVAE-GAN) or "hinge".
        accuracy_limit: the discriminator is not updated above it; 1 always updates.
        warm_up: updates of the discriminator's head in the first 30 batches have small learning rates.
        gradient_penalty: gamma of R1; 0 has none.
        spectral: spectral normalisation of the discriminator.
        dropout: of the discriminator.
        averaging_decay: of the running average of the weights that samples are made with; null has none.
        norm_momentum: weight of a batch in the running statistics of batch normalisation.
        channels_last: memory format of the networks.
        learning_rate: of the generator, as published for cVAE-GAN; the discriminator's is half of it.
        beta1: of Adam.
        discriminator_beta1: of the discriminator's Adam.
        halving_period_epochs: after which the learning rates are halved.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(
        self,
        *,
        attribute_names: Sequence[str] = CELEBA_ATTRIBUTES,
        image_channels: int = 3,
        base_channels: int = 32,
        latent_channels: int = 64,
        discriminator_batch: Literal["thirds", "quarters"] = "thirds",
        adversarial_loss: AdversarialLoss = "bce",
        accuracy_limit: float = 1.0,
        warm_up: bool = False,
        gradient_penalty: float = 0.0,
        spectral: bool = False,
        dropout: float = 0.5,
        averaging_decay: float | None = None,
        norm_momentum: float = NORM_MOMENTUM,
        channels_last: bool = True,
        learning_rate: float = 3e-4,
        beta1: float = 0.9,
        discriminator_beta1: float = 0.9,
        halving_period_epochs: int = 60,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        number, b, latent_shape = self.condition(attribute_names), base_channels, (latent_channels, 4, 4)
        decoder = ImageDecoder(image_channels, b, norm_momentum=norm_momentum)
        projection = AttributedLinearProjection(latent_shape, decoder.feature_shape, number)
        join = LinearJoin(number, (8 * b, 4, 4), image_size=16 * b, attribute_size=32 * latent_channels)
        discriminator = ConditionalDiscriminator(
            None, image_channels, b, join, hidden_size=16 * b, dropout=dropout, spectral=spectral
        )
        weights = SampleWeights(adversarial=1.0, mutual_information=0.0)
        self.build(
            ConditionalGenerator(RepeatedAttributes(1), projection, decoder),  # type: ignore[arg-type]
            discriminator,
            None,
            latent_shape=latent_shape,
            kl_weights=(0.0,),
            sample_weights=(weights, weights),
            trunk_learning_rate=learning_rate / 2,
            head_learning_rate=learning_rate / 2,
        )

    def networks(self) -> Any:
        """What draws: the averaged networks, if there are any."""
        return self._trained()

    def prior(self, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros: the noise is N(0, 1) whatever the attributes are."""
        zeros = torch.zeros(len(self.checked(attributes)), *self.latent_shape, device=self.device)
        return zeros, zeros

    def encode(self, images: Tensor) -> Tensor:
        """Features (B, D) of the discriminator's trunk, of images (B, C, 64, 64), uint8 or in [0, 1]."""
        features: Tensor = self.discriminator.trunk(self._signed(images))
        return features.flatten(1).float()

    def posterior(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError("ConditionalGAN has no encoder: it draws images and takes none in; use ConditionalVAEGAN")

    reconstruct: Any = None
    """There is nothing to reconstruct with."""

    def realness(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Logits (B,) of being real and of these attributes, each depending on the others in its batch."""
        known = self.known_or_none(attributes, len(images))
        logits: Tensor = self.discriminator(self._signed(images), known)
        return logits

    def take_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of both networks on a batch of images (B, C, 64, 64) and attributes (B, N); scalars to log."""
        real, attributes = self._signed(images_in(batch)), self.attributes_of(batch)
        optimizers: Any = self.optimizers()
        generator, judge = optimizers
        latent = torch.randn((len(real), *self.latent_shape), device=self.device)
        images, transformed = self.autoencoder.generate(latent, attributes)  # type: ignore[call-arg]
        found = adversarial_gradients(
            self.discriminator,
            None,
            real,
            (images,),
            (transformed,),
            self.sample_weights[:1],
            self.judging(),
            attributes,
        )
        parameters = list(self.autoencoder.parameters())
        set_gradients(parameters, torch.autograd.grad(images, parameters, found.images))
        take_step(generator, parameters)
        judged, gradients = zip(*found.discriminator, strict=True)
        set_gradients(judged, gradients)
        with self.gate.update(judge, found.updates_discriminator):
            take_step(judge, judged)
        return found.metrics

    def judging(self) -> Judging:
        """With mismatched pairs."""
        given = self.hparams
        return Judging(
            gate=self.gate.opens,
            batch=BATCHES[given.discriminator_batch],
            loss=given.adversarial_loss,
            gradient_penalty=given.gradient_penalty,
        )

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Features (B, D) of the discriminator's trunk."""
        return {"features": self.encode(images_in(batch))}

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        """How often the discriminator is right on real and generated pairs: near one half it is deceived."""
        images, attributes = self._signed(images_in(batch)), self.attributes_of(batch)
        drawn = self.networks().generate(self.draw(attributes), attributes)[0]
        logits = [self.discriminator(each, attributes) for each in (images, drawn)]
        accuracy = discriminator_accuracy(*logits)
        self._log_terms({"discriminator_accuracy": accuracy}, stage, len(images))

    def _signed(self, images: Tensor) -> Tensor:
        signed = to_signed(shrink_to(images, 64), self.image_shape)
        return signed.contiguous(memory_format=torch.channels_last) if self.hparams.channels_last else signed
