"""The generator's side of attribute-conditioned methods: q(z | x, a), p(z | a) and p(x | z, a) as one module."""

from torch import Tensor, nn


class ConditionalGenerator(nn.Module):
    """Latent tensors and attributes to images, in [-1, 1]; without a prior they are those of N(0, 1).

    Args:
        attend: attributes (B, N) to what each time step reads (B, T, N).
        projection: latent tensor and steps to features, in two parts, `transform` and `features`.
        decoder: features to images.
    """

    def __init__(self, attend: nn.Module, projection: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.attention = attend
        self.projection = projection
        self.decoder = decoder

    def attend(self, attributes: Tensor) -> Tensor:
        """What each time step reads (B, T, N) of attributes (B, N)."""
        steps: Tensor = self.attention(attributes)
        return steps

    def generate_from(self, latent: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, S, S), and u, which the latent tensor is turned into on the way."""
        transformed = self.projection.transform(latent, steps)  # type: ignore[operator]
        images: Tensor = self.decoder(self.projection.features(transformed))  # type: ignore[operator]
        return images.float(), transformed

    def generate(self, latent: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """As `generate_from`, of attributes (B, N)."""
        return self.generate_from(latent, self.attend(attributes))


class ConditionalAutoencoder(ConditionalGenerator):
    """With an encoder and a learned prior.

    Args:
        encoder: images to features.
        posterior: features and steps to mean and log-variance.
        prior: steps to mean and log-variance.
        attend: attributes (B, N) to what each time step reads (B, T, N).
        projection: latent tensor and steps to features.
        decoder: features to images.
    """

    def __init__(
        self,
        encoder: nn.Module,
        posterior: nn.Module,
        prior: nn.Module,
        attend: nn.Module,
        projection: nn.Module,
        decoder: nn.Module,
    ) -> None:
        super().__init__(attend, projection, decoder)
        self.encoder = encoder
        self.posterior = posterior
        self.prior_network = prior

    def infer(self, images: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W) of q(z | x, a), in float32."""
        mean, log_variance = self.posterior(self.encoder(images), self.attend(attributes))
        return mean.float(), log_variance.float()

    def prior(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W) of p(z | a), in float32."""
        mean, log_variance = self.prior_network(steps)
        return mean.float(), log_variance.float()
