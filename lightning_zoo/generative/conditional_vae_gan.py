"""Conditional VAE-GAN with fully connected latent variables, the baseline cVAE-GAN (Shang & Sohn 2019; thesis, 6.3.3).

The numbered differences from thesis and released code are in this folder's FACES.md.
"""

from collections.abc import Sequence

from lightning_zoo.generative.adversarial_gradients import SampleWeights
from lightning_zoo.generative.conditional_autoencoder import (
    ConditionalAdversarialAutoencoder,
    DiscriminatorBatch,
    Gated,
)
from lightning_zoo.generative.conditional_networks import ConditionalAutoencoder
from lightning_zoo.generative.conditional_recurrence import growing_ends
from lightning_zoo.losses.adversarial import AdversarialLoss
from lightning_zoo.metrics.celeba_attributes import CELEBA_ATTRIBUTES
from lightning_zoo.networks.attribute_paths import (
    AttributedLinearPosterior,
    AttributedLinearProjection,
    LinearPrior,
    RepeatedAttributes,
)
from lightning_zoo.networks.conditional_discriminator import ConditionalDiscriminator, LinearJoin
from lightning_zoo.networks.image_networks import NORM_MOMENTUM

PRIOR_BOUND = 1e-4
"""The prior's first weights are drawn from U(-bound, bound), as released."""


class ConditionalVAEGAN(ConditionalAdversarialAutoencoder):
    """The baseline cVAE-GAN of images by attributes, 64x64 and, with `ProgressiveGrowth`, larger; defaults for CelebA.

    Args:
        attribute_names: which of the data's attributes the images are drawn by; default the forty of CelebA.
        first_size: side of the images to begin with: 64, 128, ...
        image_channels: of the images.
        base_channels: b; every width is a multiple of it, up to 8 b; even where images grow.
        latent_channels: C; the latent vector has 16 C values, seen as (C, 4, 4).
        kl_weight: alpha.
        adversarial_weight: beta.
        adversarial_prior: the adversarial loss of samples reaches the prior; not so in the released code.
        discriminator_batch: "thirds" of real, generated and mismatched pairs (thesis), or "quarters" (released): real,
            reconstructed, sampled, mismatched.
        gated: what is not updated while the discriminator is right too often: the "discriminator" (thesis) or its
            "head" alone.
        adversarial_loss: "bce" (published) or "hinge".
        accuracy_limit: the discriminator is not updated above it; 1 always updates.
        warm_up: updates of the discriminator's head in the first 30 batches have small learning rates.
        gradient_penalty: gamma of R1; 0 (published) has none.
        spectral: spectral normalisation of the discriminator.
        dropout: of the discriminator.
        averaging_decay: of the running average of the weights that samples are made with; null (published) has none.
        norm_momentum: weight of a batch in the running statistics of batch normalisation.
        shared_statistics: the decoder normalises reconstructions and samples together; each by itself as released.
        channels_last: memory format of the networks.
        learning_rate: of the autoencoder; the discriminator's is half of it.
        beta1: of Adam.
        discriminator_beta1: of the discriminator's Adam; 0.5 in the released command for 64x64.
        halving_period_epochs: after which the learning rates are halved.
        initial_weights: checkpoint of this method to start a new run from, as to grow a finished one.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(
        self,
        *,
        attribute_names: Sequence[str] = CELEBA_ATTRIBUTES,
        first_size: int = 64,
        image_channels: int = 3,
        base_channels: int = 32,
        latent_channels: int = 64,
        kl_weight: float = 3e-4,
        adversarial_weight: float = 0.0025,
        adversarial_prior: bool = False,
        discriminator_batch: DiscriminatorBatch = "thirds",
        gated: Gated = "discriminator",
        adversarial_loss: AdversarialLoss = "bce",
        accuracy_limit: float = 0.9,
        warm_up: bool = True,
        gradient_penalty: float = 0.0,
        spectral: bool = False,
        dropout: float = 0.5,
        averaging_decay: float | None = None,
        norm_momentum: float = NORM_MOMENTUM,
        shared_statistics: bool = False,
        channels_last: bool = True,
        learning_rate: float = 3e-4,
        beta1: float = 0.9,
        discriminator_beta1: float = 0.9,
        halving_period_epochs: int = 60,
        initial_weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        number, b, latent_shape = self.condition(attribute_names), base_channels, (latent_channels, 4, 4)
        encoder, decoder, stem = growing_ends(self.hparams)
        autoencoder = ConditionalAutoencoder(
            encoder,
            AttributedLinearPosterior(encoder.feature_shape, latent_shape, number),
            LinearPrior(number, latent_shape, initial_bound=PRIOR_BOUND),
            RepeatedAttributes(1),
            AttributedLinearProjection(latent_shape, decoder.feature_shape, number),
            decoder,
        )
        join = LinearJoin(number, (8 * b, 4, 4), image_size=16 * b, attribute_size=32 * latent_channels)
        discriminator = ConditionalDiscriminator(
            stem, b, b, join, hidden_size=16 * b, dropout=dropout, spectral=spectral
        )
        self.build_conditional(
            autoencoder,
            discriminator,
            None,
            latent_shape=latent_shape,
            kl_weights=(kl_weight,),
            sample_weights=SampleWeights(adversarial=adversarial_weight, mutual_information=0.0),
        )
