"""Channel-recurrent VAE-GAN (Shang, Sohn & Tian 2018, "Channel-Recurrent Autoencoding for Image Modeling").

LSTMs over blocks of channels on the way into the variances and out of the latent variables; the KL divergence is
weighted by block; the discriminator's trunk also recovers u = LSTM(z) from the images (mutual information). The
numbered differences from thesis and released code are in this folder's README.
"""

from collections.abc import Sequence
from typing import Any, Literal

from lightning_zoo.generative.adversarial_autoencoder import AdversarialAutoencoder, Autoencoder
from lightning_zoo.generative.adversarial_gradients import SampleWeights
from lightning_zoo.generative.adversarial_steps import StepOrder
from lightning_zoo.losses.adversarial import AdversarialLoss
from lightning_zoo.networks.image_discriminator import ImageDiscriminator, LatentReconstruction
from lightning_zoo.networks.image_networks import NORM_MOMENTUM, ImageDecoder, ImageEncoder
from lightning_zoo.networks.latent_paths import RecurrentPosterior, RecurrentProjection

KL_WEIGHTS = (3e-4, 3e-4, 3e-4, 2e-4, 2e-4, 2e-4, 2e-4, 2e-4)
"""alpha per time step: alpha_1 for the first three blocks, alpha_2 for the others (appendix 5.D)."""

BLOCK_WEIGHTS = (0.1, 1.5, 1.5, 1.25, 0.1, 0.1, 1.0, 1.0)
"""Weight of the recovery of each block of u, as released."""


class CRVAEGAN(AdversarialAutoencoder):
    """CrVAE-GAN of 64x64 images; the defaults are the released ones for Birds.

    Args:
        image_channels: of the images.
        base_channels: b; every width is a multiple of it, up to 8 b.
        latent_channels: C of the latent tensor (C, 4, 4).
        num_steps: T, the number of blocks.
        hidden_size: of the LSTMs.
        num_layers: of the LSTMs.
        kl_weights: alpha, one per block; null for the published ones, with which T has to be 8.
        adversarial_weight: beta.
        mutual_information_weight: kappa; null leaves q_psi out.
        block_weights: of the recovery of each block of u; null for the released ones, with which T has to be 8.
        sample_weights: for samples from the prior, "released" swaps beta and kappa and weights all blocks alike, as the
            released code does; "thesis" treats them like reconstructions.
        moves_transformed: the mutual-information loss moves u as well as the image; not so in the released code.
        adversarial_loss: "bce" (published) or "hinge".
        accuracy_limit: the discriminator is not updated above it; 1 always updates.
        warm_up: updates of the discriminator's head in the first 30 batches have small learning rates.
        gradient_penalty: gamma of R1; 0 (published) has none.
        spectral: spectral normalisation of the discriminator.
        dropout: of the discriminator.
        averaging_decay: of the running average of the weights that samples are made with; null (published) has none.
        step_order: "joint": all gradients at the same weights, one step per module; "released": reconstructions,
            samples and the discriminator's batch in turn, the decoder steps twice, the trunk three times.
        norm_momentum: weight of a batch in the running statistics of batch normalisation.
        shared_statistics: the decoder normalises reconstructions and samples together, so that its running statistics
            fit both; each by itself as released.
        channels_last: memory format of the networks.
        learning_rate: LR; the discriminator's trunk learns at LR / 2, LSTMs at LR / T.
        beta1: of Adam.
        halving_period_epochs: after which the learning rates are halved.

    Raises:
        ValueError: for blocks that do not divide the channels, a number of weights that is not T, a number out of
            range, or an option that the released order has not.
    """

    def __init__(
        self,
        *,
        image_channels: int = 3,
        base_channels: int = 32,
        latent_channels: int = 64,
        num_steps: int = 8,
        hidden_size: int = 512,
        num_layers: int = 2,
        kl_weights: Sequence[float] | None = None,
        adversarial_weight: float = 0.0125,
        mutual_information_weight: float | None = 0.02,
        block_weights: Sequence[float] | None = None,
        sample_weights: Literal["released", "thesis"] = "released",
        moves_transformed: bool = False,
        adversarial_loss: AdversarialLoss = "bce",
        accuracy_limit: float = 0.9,
        warm_up: bool = True,
        gradient_penalty: float = 0.0,
        spectral: bool = False,
        dropout: float = 0.5,
        averaging_decay: float | None = None,
        step_order: StepOrder = "joint",
        norm_momentum: float = NORM_MOMENTUM,
        shared_statistics: bool = False,
        channels_last: bool = True,
        learning_rate: float = 3e-4,
        beta1: float = 0.9,
        halving_period_epochs: int = 60,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        encoder = ImageEncoder(image_channels, base_channels, norm_momentum=norm_momentum)
        decoder = ImageDecoder(image_channels, base_channels, norm_momentum=norm_momentum)
        latent_shape = (latent_channels, 4, 4)
        recurrence: dict[str, Any] = {"num_steps": num_steps, "hidden_size": hidden_size, "num_layers": num_layers}
        posterior = RecurrentPosterior(encoder.feature_shape, latent_shape, **recurrence)
        projection = RecurrentProjection(latent_shape, decoder.feature_shape, norm_momentum=norm_momentum, **recurrence)
        b = base_channels
        discriminator = ImageDiscriminator(
            image_channels, (2 * b, 4 * b, 8 * b, 8 * b), hidden_size=32 * b, dropout=dropout, spectral=spectral
        )
        recover = None
        if mutual_information_weight is not None:
            recover = LatentReconstruction(
                discriminator.feature_shape, latent_shape, hidden_channels=2 * b, norm_momentum=norm_momentum
            )
        self.build(
            Autoencoder(encoder, posterior, projection, decoder),
            discriminator,
            recover,
            latent_shape=latent_shape,
            kl_weights=per_block("kl_weights", kl_weights, KL_WEIGHTS, num_steps),
            sample_weights=_weights(
                adversarial_weight,
                mutual_information_weight,
                per_block("block_weights", block_weights, BLOCK_WEIGHTS, num_steps),
                sample_weights,
            ),
            trunk_learning_rate=learning_rate / 2,
            head_learning_rate=learning_rate,
        )


def per_block(
    name: str, given: Sequence[float] | None, published: tuple[float, ...], num_steps: int
) -> tuple[float, ...]:
    """One weight per block: those given, or the published ones.

    Raises:
        ValueError: if there are not ``num_steps`` of them.
    """
    weights = tuple(published if given is None else given)
    if len(weights) != num_steps:
        kind = "published" if given is None else "given"
        raise ValueError(f"{name} has {len(weights)} {kind} values for num_steps={num_steps}; give one per block")
    return weights


def _weights(
    beta: float, kappa: float | None, blocks: tuple[float, ...], reading: str
) -> tuple[SampleWeights, SampleWeights]:
    reconstructions = SampleWeights(adversarial=beta, mutual_information=kappa or 0.0, blocks=blocks)
    if reading == "thesis" or kappa is None:
        return reconstructions, reconstructions
    return reconstructions, SampleWeights(adversarial=kappa, mutual_information=beta, blocks=(1.0,) * len(blocks))
