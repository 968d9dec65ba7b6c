"""Channel-recurrent variational autoencoder of digits (Shang, Sohn & Tian 2018, sections 5.3.2 and 5.B).

An LSTM over blocks of channels leads from the features to the variances, and another from the latent variables to u,
which is decoded. Either can be left out. With several importance samples it is the paper's crIWAE. The numbered
differences from thesis and released code are in this folder's README.
"""

import math
from typing import Any, Literal

from torch import Tensor, nn

from lightning_zoo.generative.density_model import LATENT_SIZE, DensityModel, check_recurrence
from lightning_zoo.networks.channel_recurrence import AdditiveTensor
from lightning_zoo.networks.digit_networks import DigitDecoder, DigitEncoder
from lightning_zoo.networks.latent_paths import ConvolutionalProjection, RecurrentPosterior, RecurrentProjection, Shape

Recurrency = Literal["inference", "generation", "both"]


class CRVAE(DensityModel):
    """Channel-recurrent VAE; the defaults are the released ones.

    Args:
        base_channels: b; every width is a multiple of it, up to 8 b.
        latent_channels: C of the latent tensor (C, 4, 4).
        recurrency: "inference" has an LSTM before the variances, "generation" one after the latent variables, "both"
            both. Where there is none, a 3x3 convolution stands in its place, as in the convolutional VAE.
        num_steps: T, the number of blocks of channels.
        hidden_size: of the LSTMs.
        num_layers: of the LSTMs.
        gradient_limit: of each element of the LSTMs' gradients, of the loss per pixel; null for none.
        kl_weight: of the KL divergence; 0.784 as released (1e-3 beside a mean over 784 pixels), 1 as in the thesis.
        num_importance_samples: k of the importance-weighted bound; 1 is the ELBO, its divergence in closed form.
        num_val_draws: of val/nll_bound, by 5 of which the released code selects its model; 0 leaves it out.
        num_draws: per image in `test`.
        draws_per_chunk: most draws that go through the decoder at once in `test`; null for 128 on a CPU
            and 2048 elsewhere. Memory grows with it.
        num_test_images: the first so many are tested, 9984 in the released code; null for all.
        norm_momentum: weight of a batch in the running statistics of batch normalisation.
        channels_last: memory format of the networks.
        learning_rate: of Adam; LSTMs learn at its T-th part.
        halving_period_epochs: after which the learning rate is halved.

    Raises:
        ValueError: for an argument out of range, or steps that do not divide the channels.
    """

    def __init__(
        self,
        *,
        base_channels: int = 32,
        latent_channels: int = 64,
        recurrency: Recurrency = "both",
        num_steps: int = 8,
        hidden_size: int = 512,
        num_layers: int = 2,
        gradient_limit: float | None = 5.0,
        kl_weight: float = 0.784,
        num_importance_samples: int = 1,
        num_val_draws: int = 5,
        num_draws: int = 10_000,
        draws_per_chunk: int | None = None,
        num_test_images: int | None = None,
        norm_momentum: float = 0.1,
        channels_last: bool = False,
        learning_rate: float = 3e-3,
        halving_period_epochs: int = 50,
    ) -> None:
        super().__init__()
        if recurrency not in ("inference", "generation", "both"):
            raise ValueError(f"recurrency must be 'inference', 'generation' or 'both', got {recurrency!r}")
        self.save_hyperparameters()
        self.check_hyperparameters()
        self.latent_shape = (latent_channels, *LATENT_SIZE)
        self.num_steps = num_steps
        self.encoder = DigitEncoder(base_channels=base_channels, norm_momentum=norm_momentum)
        self.decoder = DigitDecoder(base_channels=base_channels, norm_momentum=norm_momentum)
        features = self.encoder.feature_shape
        check_recurrence(self.hparams, latent_channels, features[0])
        recurrence: dict[str, Any] = {"num_steps": num_steps, "hidden_size": hidden_size, "num_layers": num_layers}
        self.posterior_path: nn.Module = ShiftedPosterior(features, self.latent_shape)
        if recurrency != "generation":
            self.posterior_path = RecurrentPosterior(
                features, self.latent_shape, mean="linear", batch_norm=False, **recurrence
            )
        self.projection: nn.Module
        if recurrency == "inference":
            self.projection = ConvolutionalProjection(self.latent_shape, features, norm_momentum=norm_momentum)
        else:
            self.projection = RecurrentProjection(
                self.latent_shape, features, norm_momentum=norm_momentum, **recurrence
            )
        self.arrange_memory()


class ShiftedPosterior(nn.Module):
    """Posterior of "generation": the mean as beside an LSTM, the log-variance by a 3x3 convolution.

    Args:
        feature_shape: (F, H, W).
        latent_shape: (C, H, W).
    """

    def __init__(self, feature_shape: Shape, latent_shape: Shape) -> None:
        super().__init__()
        self.mean = nn.Linear(math.prod(feature_shape), math.prod(latent_shape))
        self.shift = AdditiveTensor(latent_shape)
        self.log_variance = nn.Conv2d(feature_shape[0], latent_shape[0], 3, padding=1)
        self.latent_shape = latent_shape

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F, H, W) to mean and log-variance (B, C, H, W)."""
        mean = self.mean(features.flatten(1)).unflatten(1, self.latent_shape)
        return self.shift(mean), self.log_variance(features)
