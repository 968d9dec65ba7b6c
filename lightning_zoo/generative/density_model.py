"""What the density models of black and white images share: bound, training, likelihood, sampling.

The bound is that of Shang et al. (2018), eq. in 5.3.1, with its KL divergence weighted as in the released code (0.784)
or not (1); with several draws it is the importance-weighted one (Burda et al. 2016). The released code selects its
model on the test images; here `val/...` is of training images that are held out, and the test images are read once.
"""

from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Generator, Tensor, nn

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.generative.images import images_in, to_unit
from lightning_zoo.generative.likelihood import streamed_log_likelihood
from lightning_zoo.generative.rank_noise import batch_generator
from lightning_zoo.gradients import clamp_gradients
from lightning_zoo.losses.importance import importance_weighted_bound, mean_and_standard_error
from lightning_zoo.losses.likelihood import bernoulli_log_likelihood, full_precision, log_density_ratio
from lightning_zoo.losses.vae import gaussian_kl
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.channel_recurrence import check_steps, recurrent_parameters
from lightning_zoo.step_logging import logs_now

IMAGE_SHAPE = (1, 28, 28)
LATENT_SIZE = (4, 4)

_EVALUATION_SEED = 2018


class Draws(NamedTuple):
    """K draws of the latent variables of B images, and what follows from them.

    `logits` (B * K, C, H, W), K consecutive rows per image; `log_ratio` (B, K), log p(z) - log q(z|x); `kl` (B,), the
    divergence of q from p, which is exact for one layer and a mean over draws of the upper layers otherwise.
    """

    logits: Tensor
    log_ratio: Tensor
    kl: Tensor


class DensityModel(Loadable, L.LightningModule):
    """One layer of Gaussian latent variables between convolutional networks; subclasses say which networks.

    Logged values are nats per image; training minimises nats per pixel, as released, on which the gradients' limit and
    Adam's eps depend.
    """

    encoder: nn.Module
    posterior_path: nn.Module
    projection: nn.Module
    decoder: nn.Module
    latent_shape: tuple[int, int, int]
    image_shape = IMAGE_SHAPE
    num_steps = 1

    def __init__(self) -> None:
        super().__init__()
        self.hparams: Any
        self.noise_seed = torch.initial_seed()
        self._totals = [0.0] * 4
        self._images_seen = 0

    def check_hyperparameters(self) -> None:
        """Check what all models share.

        Raises:
            ValueError: for one that is out of range.
        """
        given = self.hparams
        at_least_one = ("base_channels", "latent_channels", "num_importance_samples", "num_draws", "draws_per_chunk")
        for name in (*at_least_one, "halving_period_epochs"):
            if given[name] is not None and given[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {given[name]}")
        if given.num_val_draws < 0:
            raise ValueError(f"num_val_draws must not be negative (0 leaves the bound out), got {given.num_val_draws}")
        if given.num_test_images is not None and given.num_test_images < 2:
            raise ValueError(f"num_test_images must be at least 2 or null for all, got {given.num_test_images}")
        if given.kl_weight < 0:
            raise ValueError(f"kl_weight must not be negative, got {given.kl_weight}")
        if given.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {given.learning_rate}")
        if not 0 < given.norm_momentum <= 1:
            raise ValueError(f"norm_momentum must lie in (0, 1], got {given.norm_momentum}")

    def arrange_memory(self) -> None:
        """Set the networks' memory format, once they are there."""
        if self.hparams.channels_last:
            self.to(memory_format=torch.channels_last)

    # Uses of a trained model.

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent tensor, each (B, *latent_shape), of images uint8 or in [0, 1]."""
        mean, log_variance = self.infer(to_unit(images, self.image_shape))[:2]
        return mean, log_variance

    def decode(self, latent: Tensor) -> Tensor:
        """Latent tensors (B, *latent_shape) to probabilities of white (B, 1, 28, 28)."""
        return self.generate(latent).sigmoid()

    def sample(self, num_images: int, *, truncation: float = 1.0, generator: Generator | None = None) -> Tensor:
        """Probabilities of white (N, 1, 28, 28) for latent tensors of the prior.

        Args:
            num_images: N.
            truncation: factor of the latent tensors; below 1 the samples are more typical and less varied.
            generator: on the CPU, so that a seed gives the same pictures on any device; None for the global one.
        """
        latent = truncation * torch.randn(num_images, *self.latent_shape, generator=generator)
        return self.decode(latent.to(self.device))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Probabilities of white (B, 1, 28, 28), decoded from the posterior's mean."""
        return self.decode(self.posterior(images)[0])

    def encode(self, images: Tensor) -> Tensor:
        """The posterior's mean, flattened (B, D)."""
        return self.posterior(images)[0].flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """As `encode`."""
        return self.encode(images)

    # The model.

    def infer(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the encoder says of float images (B, 1, 28, 28): mean and log-variance, float32 (B, *latent_shape)."""
        if self.hparams.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        mean, log_variance = self.posterior_path(self.encoder(images))
        return full_precision(mean), full_precision(log_variance)

    def generate(self, latent: Tensor) -> Tensor:
        """Latent tensors (B, *latent_shape) to logits (B, 1, 28, 28) in float32."""
        return full_precision(self.decoder(self.projection(latent)))

    def draw(self, inferred: tuple[Tensor, ...], num_draws: int, generator: Generator | None = None) -> Draws:
        """Draw latent tensors from the posterior and decode them.

        Args:
            inferred: of `infer`.
            num_draws: K per image.
            generator: of the noise, on the same device; None for the global one.
        """
        mean, log_variance = inferred
        noise = draw_noise(mean, num_draws, generator)  # (B, K, C, h, w)
        latent = mean.unsqueeze(1) + torch.exp(0.5 * log_variance).unsqueeze(1) * noise
        ratio = log_density_ratio(noise.flatten(2), log_variance.flatten(1).unsqueeze(1), latent.flatten(2))
        return Draws(self.generate(latent.flatten(0, 1)), ratio, gaussian_kl(mean, log_variance))

    def loss(self, images: Tensor, generator: Generator | None = None) -> dict[str, Tensor]:
        """The negative bound and its terms, in nats, means over images.

        Args:
            images: uint8 or in [0, 1] (B, 1, 28, 28); a pixel is white with its intensity as probability.
            generator: of pixels and latent variables, on the images' device; None for the global one.

        Returns:
            "loss" with the weighted divergence, and without weight "reconstruction" and "kl".
        """
        pixels = binarise(to_unit(images, self.image_shape), generator)
        draws = self.draw(self.infer(pixels), self.hparams.num_importance_samples, generator)
        log_likelihood = bernoulli_log_likelihood(draws.logits, pixels)  # (B, K)
        weight = self.hparams.kl_weight
        if self.hparams.num_importance_samples == 1:
            bound = log_likelihood.squeeze(1) - weight * draws.kl
        else:
            bound = importance_weighted_bound(log_likelihood + weight * draws.log_ratio)
        return {"loss": -bound.mean(), "reconstruction": -log_likelihood.mean(), "kl": draws.kl.mean()}

    # Lightning.

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step on grey images, whose pixels are drawn anew."""
        images = images_in(batch)
        # Not the step's number, which is the same for all batches whose gradients are accumulated.
        terms = self.loss(images, self._generator(self.noise_seed, batch_index, self.current_epoch))
        if logs_now(self):
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        return terms["loss"] / images[0].numel()

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same terms with noise that does not change from epoch to epoch, and the bound by several draws."""
        images = images_in(batch)
        terms = self.loss(images, self._generator(_EVALUATION_SEED, batch_index))
        terms["elbo"] = -terms["reconstruction"] - terms["kl"]
        if self.hparams.num_val_draws:
            generator = self._generator(_EVALUATION_SEED + 1, batch_index)
            terms["nll_bound"] = -self._log_likelihood(images, self.hparams.num_val_draws, generator)[0].float().mean()
        values = {f"val/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=len(images), sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Forget what an earlier test summed up."""
        self._totals, self._images_seen = [0.0] * 4, 0

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Sum up the log-likelihoods of a batch."""
        images = self._within_limit(images_in(batch))
        if not len(images):
            return
        generator = self._generator(_EVALUATION_SEED + 2, batch_index)
        log_likelihood, bound = self._log_likelihood(images, self.hparams.num_draws, generator)
        sums = torch.stack([-log_likelihood.sum(), log_likelihood.square().sum(), bound.sum()]).tolist()
        self._totals = [a + b for a, b in zip(self._totals, [*sums, len(images)], strict=True)]

    def on_test_epoch_end(self) -> None:
        """Log the mean over the images of all processes."""
        totals = torch.tensor(self._totals, dtype=torch.float64)
        if self.trainer.world_size > 1:
            totals = totals.to(self.device)
            torch.distributed.all_reduce(totals)
        total, total_of_squares, bound, count = totals.tolist()
        nll, error = mean_and_standard_error(total, total_of_squares, count)
        values = {"nll": nll, "nll_standard_error": error, "elbo": bound / count, "num_images": count}
        self.log_dict({f"test/{name}": value for name, value in values.items()}, sync_dist=True)

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """The features of a batch."""
        return {"features": self.encode(images_in(batch))}

    def on_after_backward(self) -> None:
        """Let all processes have the same running statistics."""
        average_batch_statistics(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the number that the noise is drawn from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["noise_seed"] = self.noise_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the number that the noise is drawn from, if the checkpoint says."""
        self.noise_seed = checkpoint.get("noise_seed", self.noise_seed)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clamp the gradients of the LSTMs, element by element."""
        limit = self.hparams.get("gradient_limit")
        if limit is not None:
            clamp_gradients(recurrent_parameters(self), limit)

    def configure_optimizers(self) -> Any:
        """Adam, LSTMs at the T-th part of the learning rate; all are halved after a number of epochs."""
        given = self.hparams
        recurrent = recurrent_parameters(self)
        inside = {id(parameter) for parameter in recurrent}
        groups = [{"params": [p for p in self.parameters() if id(p) not in inside], "name": "networks"}]
        if recurrent:
            groups.append({"params": recurrent, "lr": given.learning_rate / self.num_steps, "name": "recurrence"})
        optimizer = torch.optim.Adam(groups, lr=given.learning_rate)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, given.halving_period_epochs, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def _log_likelihood(self, images: Tensor, num_draws: int, generator: Generator) -> tuple[Tensor, Tensor]:
        pixels = binarise(to_unit(images, self.image_shape), generator)
        # More draws at once outgrow a CPU's caches; a GPU is not filled by fewer.
        chunk = self.hparams.draws_per_chunk or (128 if images.device.type == "cpu" else 2048)
        return streamed_log_likelihood(self, pixels, num_draws=num_draws, draws_per_chunk=chunk, generator=generator)

    def _generator(self, seed: int, batch_index: int, epoch: int = 0) -> Generator:
        return batch_generator(self.device, seed, epoch, batch_index, self.global_rank)

    def _within_limit(self, images: Tensor) -> Tensor:
        """Those of the images that are among the first `num_test_images` of all processes."""
        limit = self.hparams.num_test_images
        if limit is None:
            return images
        sizes = [len(images)]
        if self.trainer.world_size > 1:
            gathered = [torch.zeros(1, dtype=torch.long, device=self.device) for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather(gathered, torch.tensor([len(images)], device=self.device))
            sizes = [int(size) for size in gathered]
        first = self._images_seen + sum(sizes[: self.global_rank])
        self._images_seen += sum(sizes)
        return images[: max(0, limit - first)]


def binarise(images: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw pixels in {0, 1} from intensities in [0, 1]; black and white images stay as they are."""
    return (torch.rand(images.shape, generator=generator, device=images.device) < images).to(images.dtype)


def draw_noise(mean: Tensor, num_draws: int, generator: Generator | None) -> Tensor:
    """Standard normal noise (B, K, ...) for means (B, ...)."""
    shape = (mean.shape[0], num_draws, *mean.shape[1:])
    return torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)


def check_recurrence(given: Any, latent_channels: int, feature_channels: int) -> None:
    """Check the hyperparameters of channel-recurrent models.

    Raises:
        ValueError: for one that is out of range, or steps that do not divide the channels.
    """
    for name in ("num_steps", "hidden_size", "num_layers"):
        if given[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {given[name]}")
    check_steps(latent_channels, given.num_steps)
    if feature_channels % given.num_steps:
        raise ValueError(
            f"num_steps={given.num_steps} does not divide the {feature_channels} feature channels of "
            f"base_channels={given.base_channels}: raise base_channels"
        )
    if given.gradient_limit is not None and given.gradient_limit <= 0:
        raise ValueError(f"gradient_limit must be positive or null, got {given.gradient_limit}")
