"""Variational autoencoder of digits with fully connected latent variables (Kingma & Welling 2014, arXiv 1312.6114).

The first baseline of Shang et al. (2018), table 5.B.1. The numbered differences are in this folder's README.
"""

from lightning_zoo.generative.density_model import LATENT_SIZE, DensityModel
from lightning_zoo.networks.digit_networks import DigitDecoder, DigitEncoder
from lightning_zoo.networks.latent_paths import LinearPosterior, LinearProjection


class VAE(DensityModel):
    """VAE with convolutional networks and fully connected layers around its latent variables.

    Args:
        base_channels: b; every width is a multiple of it, up to 8 b.
        latent_channels: C of the latent tensor (C, 4, 4).
        kl_weight: of the KL divergence; 0.784 as released (1e-3 beside a mean over 784 pixels), 1 as in the thesis.
        num_importance_samples: k of the importance-weighted bound; 1 is the ELBO, its divergence in closed form.
        num_val_draws: of val/nll_bound, by 5 of which the released code selects its model; 0 leaves it out.
        num_draws: per image in `test`.
        draws_per_chunk: most draws that go through the decoder at once in `test`; null for 128 on a CPU
            and 2048 elsewhere. Memory grows with it.
        num_test_images: the first so many are tested, 9984 in the released code; null for all.
        norm_momentum: weight of a batch in the running statistics of batch normalisation.
        channels_last: memory format of the networks.
        learning_rate: of Adam.
        halving_period_epochs: after which the learning rate is halved.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        *,
        base_channels: int = 32,
        latent_channels: int = 64,
        kl_weight: float = 0.784,
        num_importance_samples: int = 1,
        num_val_draws: int = 5,
        num_draws: int = 10_000,
        draws_per_chunk: int | None = None,
        num_test_images: int | None = None,
        norm_momentum: float = 0.9,
        channels_last: bool = False,
        learning_rate: float = 3e-4,
        halving_period_epochs: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.check_hyperparameters()
        self.latent_shape = (latent_channels, *LATENT_SIZE)
        self.encoder = DigitEncoder(base_channels=base_channels, last_kernel=5, norm_momentum=norm_momentum)
        self.decoder = DigitDecoder(base_channels=base_channels, norm_momentum=norm_momentum)
        features = self.encoder.feature_shape
        self.posterior_path = LinearPosterior(features, self.latent_shape)
        self.projection = LinearProjection(self.latent_shape, features)
        self.arrange_memory()
