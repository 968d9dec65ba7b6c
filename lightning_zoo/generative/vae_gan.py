"""VAE-GAN with fully connected latent variables (Larsen et al. 2016), the baseline of Shang et al. (2018).

Reconstruction is judged at the pixels (thesis, appendix 5.D), not at a layer of the discriminator as by Larsen et al.
The numbered differences from thesis and released code are in this folder's README.
"""

from lightning_zoo.generative.adversarial_autoencoder import AdversarialAutoencoder, Autoencoder
from lightning_zoo.generative.adversarial_gradients import SampleWeights
from lightning_zoo.losses.adversarial import AdversarialLoss
from lightning_zoo.networks.image_discriminator import ImageDiscriminator
from lightning_zoo.networks.image_networks import NORM_MOMENTUM, ImageDecoder, ImageEncoder
from lightning_zoo.networks.latent_paths import LinearPosterior, LinearProjection


class VAEGAN(AdversarialAutoencoder):
    """VAE-GAN of 64x64 images; the defaults are the released ones for Birds.

    Args:
        image_channels: of the images.
        base_channels: b; every width is a multiple of it, up to 8 b.
        latent_channels: C; the latent vector has 16 C values, seen as (C, 4, 4).
        kl_weight: alpha.
        adversarial_weight: beta, of reconstructions and of samples.
        adversarial_encoder: the adversarial loss of reconstructions reaches the encoder; not so in the released code.
        adversarial_loss: "bce" (published) or "hinge".
        accuracy_limit: the discriminator is not updated above it; 1 always updates.
        warm_up: the discriminator's updates in the first 30 batches have small learning rates.
        gradient_penalty: gamma of R1; 0 (published) has none.
        spectral: spectral normalisation of the discriminator.
        dropout: of the discriminator.
        averaging_decay: of the running average of the weights that samples are made with; null (published) has none.
        norm_momentum: weight of a batch in the running statistics of batch normalisation.
        shared_statistics: the decoder normalises reconstructions and samples together, so that its running statistics
            fit both; each by itself as released.
        channels_last: memory format of the networks.
        learning_rate: of the autoencoder; the discriminator's is half of it.
        beta1: of Adam.
        halving_period_epochs: after which the learning rates are halved.

    Raises:
        ValueError: for a number out of range.
    """

    def __init__(
        self,
        *,
        image_channels: int = 3,
        base_channels: int = 32,
        latent_channels: int = 64,
        kl_weight: float = 2e-4,
        adversarial_weight: float = 0.05,
        adversarial_encoder: bool = False,
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
        halving_period_epochs: int = 60,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        encoder = ImageEncoder(image_channels, base_channels, norm_momentum=norm_momentum)
        decoder = ImageDecoder(image_channels, base_channels, norm_momentum=norm_momentum)
        latent_shape = (latent_channels, 4, 4)
        b = base_channels
        weights = SampleWeights(adversarial=adversarial_weight, mutual_information=0.0)
        self.build(
            Autoencoder(
                encoder,
                LinearPosterior(encoder.feature_shape, latent_shape),
                LinearProjection(latent_shape, decoder.feature_shape),
                decoder,
            ),
            ImageDiscriminator(
                image_channels, (b, 2 * b, 4 * b, 8 * b), hidden_size=32 * b, dropout=dropout, spectral=spectral
            ),
            None,
            latent_shape=latent_shape,
            kl_weights=(kl_weight,),
            sample_weights=(weights, weights),
            trunk_learning_rate=learning_rate / 2,
            head_learning_rate=learning_rate / 2,
            adversarial_encoder=adversarial_encoder,
            trunk_warms_up=True,
        )
