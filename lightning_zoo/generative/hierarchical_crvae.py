"""Channel-recurrent variational autoencoder of digits with two layers of latent variables.

Shang, Sohn & Tian (2018) report such a model (table 5.B.1, "2 stochastic layers") without its architecture, and
released no code of it. This one is ours: z2 above z1, both drawn from above to below,

    p(x, z1, z2) = p(z2) p(z1 | z2) p(x | z1, z2),    q(z1, z2 | x) = q(z2 | x) q(z1 | x, z2),

each a diagonal Gaussian with learned mean and log-variance, but p(z2) = N(0, 1). All of q(z2 | x), q(z1 | x, z2) and
p(z1 | z2) have an LSTM before their variances, both layers have one after their draw. The posterior of z1 is not
merged with its prior as in a ladder network: it sees the features of the image and of z2.
"""

from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from lightning_zoo.generative.density_model import (
    LATENT_SIZE,
    DensityModel,
    Draws,
    check_recurrence,
    draw_noise,
)
from lightning_zoo.generative.images import to_unit
from lightning_zoo.losses.likelihood import full_precision, gaussian_kl_between, log_density_ratio
from lightning_zoo.losses.vae import gaussian_kl
from lightning_zoo.networks.digit_networks import DigitDecoder, DigitEncoder
from lightning_zoo.networks.latent_paths import RecurrentPosterior, RecurrentProjection, Shape


class HierarchicalCRVAE(DensityModel):
    """Channel-recurrent VAE with two stochastic layers, of our design.

    ``latent_shape`` is that of the upper layer; `decode` and `sample` take the lower layer's mean given the upper.

    Args:
        base_channels: b; every width is a multiple of it, up to 8 b.
        latent_channels: of both layers together, half of them each, so that there are as many latent variables as in
            the models with one layer.
        num_steps: T, the number of blocks of channels in each layer.
        hidden_size: of the LSTMs.
        num_layers: of the LSTMs.
        gradient_limit: of each element of the LSTMs' gradients, of the loss per pixel; null for none.
        kl_weight: of the KL divergence; 0.784 as released (1e-3 beside a mean over 784 pixels), 1 as in the thesis.
        num_importance_samples: k of the importance-weighted bound; 1 is the ELBO, its divergence in closed form given
            the upper layer's draw.
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
        self.save_hyperparameters()
        self.check_hyperparameters()
        if latent_channels % 2:
            raise ValueError(f"latent_channels must be even, half of them for each layer, got {latent_channels}")
        self.latent_shape = (latent_channels // 2, *LATENT_SIZE)
        self.num_steps = num_steps
        self.encoder = DigitEncoder(base_channels=base_channels, norm_momentum=norm_momentum)
        self.decoder = DigitDecoder(base_channels=base_channels, norm_momentum=norm_momentum)
        features: Shape = self.encoder.feature_shape
        check_recurrence(self.hparams, latent_channels // 2, features[0])
        recurrence: dict[str, Any] = {"num_steps": num_steps, "hidden_size": hidden_size, "num_layers": num_layers}

        def posterior() -> RecurrentPosterior:
            return RecurrentPosterior(features, self.latent_shape, mean="linear", batch_norm=False, **recurrence)

        def projection() -> RecurrentProjection:
            return RecurrentProjection(self.latent_shape, features, norm_momentum=norm_momentum, **recurrence)

        self.posterior_path = posterior()
        self.projection = projection()
        self.joined_features = JoinedFeatures(features[0], norm_momentum)
        self.lower_posterior = posterior()
        self.lower_prior = posterior()
        self.lower_projection = projection()
        self.arrange_memory()

    def infer(self, images: Tensor) -> tuple[Tensor, ...]:
        """Mean and log-variance of z2, float32 (B, *latent_shape), and the encoder's features (B, 8 b, 4, 4)."""
        if self.hparams.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        features = self.encoder(images)
        mean, log_variance = self.posterior_path(features)
        return full_precision(mean), full_precision(log_variance), features

    def generate(self, latent: Tensor) -> Tensor:
        """Upper latent tensors (B, *latent_shape) to logits (B, 1, 28, 28), z1 at its mean given z2."""
        context = self.projection(latent)
        return self._logits(full_precision(self.lower_prior(context)[0]), context)

    def draw(self, inferred: tuple[Tensor, ...], num_draws: int, generator: Generator | None = None) -> Draws:
        """Draw z2 and then z1 from the posterior, and decode both.

        Args:
            inferred: of `infer`.
            num_draws: K per image.
            generator: of the noise, on the same device; None for the global one.
        """
        mean, log_variance, features = inferred
        noise = draw_noise(mean, num_draws, generator)  # (B, K, C, h, w)
        upper = mean.unsqueeze(1) + torch.exp(0.5 * log_variance).unsqueeze(1) * noise
        upper_ratio = log_density_ratio(noise.flatten(2), log_variance.flatten(1).unsqueeze(1), upper.flatten(2))
        context = self.projection(upper.flatten(0, 1))  # (B K, 8 b, 4, 4)
        repeated = features.repeat_interleave(num_draws, 0)
        lower_posterior = _both_in_full_precision(self.lower_posterior(self.joined_features(repeated, context)))
        lower_prior = _both_in_full_precision(self.lower_prior(context))
        lower_noise = draw_noise(mean, num_draws, generator).flatten(0, 1)
        lower = lower_posterior[0] + torch.exp(0.5 * lower_posterior[1]) * lower_noise
        flat_prior = cast(tuple[Tensor, Tensor], tuple(x.flatten(1) for x in lower_prior))
        lower_ratio = log_density_ratio(
            lower_noise.flatten(1), lower_posterior[1].flatten(1), lower.flatten(1), flat_prior
        )
        lower_kl = gaussian_kl_between(*lower_posterior, *lower_prior).unflatten(0, (-1, num_draws))
        return Draws(
            self._logits(lower, context),
            upper_ratio + lower_ratio.unflatten(0, (-1, num_draws)),
            gaussian_kl(mean, log_variance) + lower_kl.mean(1),
        )

    def reconstruct(self, images: Tensor) -> Tensor:
        """Probabilities of white (B, 1, 28, 28), decoded from the posterior's means of both layers."""
        mean, _, features = self.infer(to_unit(images, self.image_shape))
        context = self.projection(mean)
        lower = self.lower_posterior(self.joined_features(features, context))[0]
        return self._logits(full_precision(lower), context).sigmoid()

    def _logits(self, lower: Tensor, context: Tensor) -> Tensor:
        return full_precision(self.decoder(self.lower_projection(lower) + context))


class JoinedFeatures(nn.Module):
    """Features of the image and of the upper layer side by side, brought to the width of one by a 3x3 convolution.

    Args:
        channels: of either.
        norm_momentum: weight of a batch in the running statistics.
    """

    def __init__(self, channels: int, norm_momentum: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels, momentum=norm_momentum),
            nn.LeakyReLU(0.1, inplace=True),
        )

    def forward(self, image_features: Tensor, upper_features: Tensor) -> Tensor:
        """Two times (B, F, H, W) to (B, F, H, W)."""
        joined: Tensor = self.layers(torch.cat([image_features, upper_features], 1))
        return joined


def _both_in_full_precision(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return full_precision(pair[0]), full_precision(pair[1])
