"""What VAE-GAN and crVAE-GAN share: the way through the networks, the step of all modules, sampling.

Losses (Shang et al. 2018, appendix 5.D): L = L_recon + sum over t of alpha_t KL_t + beta L_D + kappa L_MI, where
L_recon is a mean over pixels and all else a mean over images; L_D and L_MI are those of reconstructions and of samples.
"""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.generative.adversarial_checks import check_hyperparameters
from lightning_zoo.generative.adversarial_gradients import Judging, SampleWeights
from lightning_zoo.generative.adversarial_steps import joint_step, released_step, steps_per_batch
from lightning_zoo.generative.discriminator_gate import DiscriminatorGate
from lightning_zoo.generative.images import from_signed, images_in, to_signed
from lightning_zoo.generative.rank_noise import seed_by_rank
from lightning_zoo.losses.vae import block_kl
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.channel_recurrence import recurrent_parameters
from lightning_zoo.networks.image_discriminator import ImageDiscriminator
from lightning_zoo.step_logging import logs_now

IMAGE_SIZE = 64


class Autoencoder(nn.Module):
    """Images to a distribution of latent tensors, and latent tensors to images; all in [-1, 1].

    Args:
        encoder: images to features.
        posterior: features to mean and log-variance.
        projection: latent tensor to features, in two parts, `transform` and `features`.
        decoder: features to images.
    """

    def __init__(self, encoder: nn.Module, posterior: nn.Module, projection: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.posterior = posterior
        self.projection = projection
        self.decoder = decoder

    def decoding_parameters(self) -> list[nn.Parameter]:
        """The last of all parameters: those from the latent tensor on."""
        return [*self.projection.parameters(), *self.decoder.parameters()]

    def infer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W), in float32."""
        mean, log_variance = self.posterior(self.encoder(images))
        return mean.float(), log_variance.float()

    def generate(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, 64, 64), and u, which the latent tensor is turned into on the way."""
        transformed = self.projection.transform(latent)  # type: ignore[operator]
        images: Tensor = self.decoder(self.projection.features(transformed))  # type: ignore[operator]
        return images.float(), transformed


class AdversarialAutoencoder(Loadable, L.LightningModule):
    """An autoencoder and a discriminator with their steps; the subclasses say which networks and weights.

    Lightning's `global_step` counts two optimizer steps per batch, five in the released order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.hparams: Any

    def build(
        self,
        autoencoder: Autoencoder,
        discriminator: ImageDiscriminator,
        recover: nn.Module | None,
        *,
        latent_shape: tuple[int, int, int],
        kl_weights: Sequence[float],
        sample_weights: tuple[SampleWeights, SampleWeights],
        trunk_learning_rate: float,
        head_learning_rate: float,
        adversarial_encoder: bool = True,
        trunk_warms_up: bool = False,
        recover_learning_rate: float | None = None,
    ) -> None:
        """Take the networks and weights; everything else is read from the hyperparameters.

        Args:
            autoencoder: the generator's side.
            discriminator: of images in [-1, 1].
            recover: q_psi, or None.
            latent_shape: (C, H, W).
            kl_weights: alpha, one per block of latent channels.
            sample_weights: of losses on reconstructions and on samples.
            trunk_learning_rate: of the discriminator's trunk.
            head_learning_rate: of its head.
            adversarial_encoder: the adversarial loss of reconstructions reaches the encoder.
            trunk_warms_up: small learning rates at first are for the trunk as well as for the head.
            recover_learning_rate: of q_psi; None for the autoencoder's.

        Raises:
            ValueError: for a hyperparameter out of range.
        """
        given = self.hparams
        check_hyperparameters(given, kl_weights)
        self.autoencoder = autoencoder
        self.discriminator = discriminator
        self.recover = recover
        self.gate = DiscriminatorGate(given.accuracy_limit, warm_up=given.warm_up)
        self.averaged: AveragedModel | None = None
        if given.averaging_decay is not None:
            average = get_ema_multi_avg_fn(given.averaging_decay)
            self.averaged = AveragedModel(autoencoder, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
        if given.channels_last:
            self.to(memory_format=torch.channels_last)
        self.image_shape: tuple[int, int, int] = (given.image_channels, IMAGE_SIZE, IMAGE_SIZE)
        self.latent_shape = latent_shape
        self.num_steps = len(kl_weights)
        self.kl_weights = tuple(kl_weights)
        self.sample_weights = sample_weights
        own_rate = given.learning_rate if recover_learning_rate is None else recover_learning_rate
        self.learning_rates = (head_learning_rate, trunk_learning_rate, own_rate)
        self.adversarial_encoder = adversarial_encoder
        self.trunk_warms_up = trunk_warms_up

    def forward(self, images: Tensor) -> Tensor:
        """Posterior means (B, D), as `encode`."""
        return self.encode(images)

    def encode(self, images: Tensor) -> Tensor:
        """Posterior means (B, D) of images (B, C, 64, 64), uint8 or in [0, 1]."""
        return self.posterior(images)[0].flatten(1)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W) of images (B, C, 64, 64), uint8 or in [0, 1]."""
        mean, log_variance = self._trained().infer(self._signed(images))
        return mean, log_variance

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, 64, 64) in [0, 1] of latent tensors (B, C, H, W), by the averaged weights if there are any."""
        return from_signed(self._trained().generate(latent)[0])

    @torch.no_grad()
    def sample(self, num_images: int, *, truncation: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Images (N, C, 64, 64) in [0, 1] of latent tensors from truncation * N(0, 1), drawn on the CPU."""
        latent = truncation * torch.randn((num_images, *self.latent_shape), generator=generator)
        return self.decode(latent.to(self.device))

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (B, C, 64, 64) in [0, 1], decoded from the posterior's means."""
        return self.decode(self.posterior(images)[0])

    def realness(self, images: Tensor) -> Tensor:
        """Logits (B,) of being real, of images (B, C, 64, 64) in [0, 1]; each depends on the others in its batch."""
        logits: Tensor = self.discriminator(self._signed(images))
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step of all modules on the images of a batch (B, C, 64, 64); two are the least."""
        order = self.hparams.get("step_order", "joint")
        logs = logs_now(self, steps_per_batch(order, self.recover is not None))
        metrics = self.take_step(batch)
        average_batch_statistics(self)
        if self.averaged is not None:
            self.averaged.update_parameters(self.autoencoder)
        if logs:
            metrics["discriminator_updates"] = self.gate.updates.float()
            metrics["discriminator_skipped"] = self.gate.skipped.float()
            self.log_dict({f"train/{name}": value.detach() for name, value in metrics.items()})
        # Not minimised as such: a look at whether any loss has stopped being a number.
        return torch.stack([value.detach().float() for value in metrics.values()]).sum()

    def take_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of all modules on a batch; scalars to log."""
        take = released_step if self.hparams.get("step_order") == "released" else joint_step
        return take(self, self._signed(images_in(batch)), *self.optimizers())

    def draw_prior(self, like: Tensor, attributes: Tensor | None) -> tuple[tuple[Tensor, Tensor] | None, Tensor]:
        """Mean and log-variance of the prior, None for N(0, 1), and a draw from it in the shape of `like`."""
        return None, torch.randn_like(like)

    def judging(self) -> Judging:
        """How the discriminator is trained."""
        given = self.hparams
        return Judging(
            gate=self.gate.opens,
            loss=given.adversarial_loss,
            gradient_penalty=given.gradient_penalty,
            moves_transformed=given.get("moves_transformed", False),
        )

    def on_train_epoch_end(self) -> None:
        """Lower the learning rates by their schedule."""
        for scheduler in self.lr_schedulers():  # type: ignore[union-attr]
            scheduler.step()

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Reconstruction from the posterior's mean and the weighted KL divergence, on held-out images."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """As in validation."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Posterior means (B, D)."""
        return {"features": self.encode(images_in(batch))}

    def parameter_groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The optimizers' groups, of the autoencoder and of discriminator and q_psi, with their first learning rates.

        LSTMs learn at LR / T, if no `recurrent_learning_rate` is given.
        """
        rate = self.hparams.learning_rate
        recurrent = recurrent_parameters(self.autoencoder)
        ids = {id(parameter) for parameter in recurrent}
        others = [parameter for parameter in self.autoencoder.parameters() if id(parameter) not in ids]
        groups: list[dict[str, Any]] = [{"params": others, "lr": rate}]
        if recurrent:
            given = self.hparams.get("recurrent_learning_rate")
            groups.append({"params": recurrent, "lr": rate / self.num_steps if given is None else given})
        discriminator = self.discriminator
        head_rate, trunk_rate, recover_rate = self.learning_rates
        trunk = [*discriminator.trunk.parameters(), *discriminator.joining_parameters()]
        judges: list[dict[str, Any]] = [
            {"params": discriminator.head_parameters(), "lr": head_rate, "warms_up": True},
            {"params": trunk, "lr": trunk_rate, "warms_up": self.trunk_warms_up},
        ]
        if self.recover is not None:
            judges.append({"params": list(self.recover.parameters()), "lr": recover_rate, "warms_up": False})
        return groups, judges

    def configure_optimizers(self) -> Any:
        """Adam for autoencoder and discriminator; all rates are halved every so many epochs."""
        given = self.hparams
        configured = []
        betas = given.beta1, given.get("discriminator_beta1", given.beta1)
        for parameters, beta1 in zip(self.parameter_groups(), betas, strict=True):
            optimizer = torch.optim.Adam(parameters, betas=(beta1, 0.999), eps=1e-8)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, given.halving_period_epochs, gamma=0.5)
            configured.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}})
        return configured

    def on_fit_start(self) -> None:
        """Refuse float16, whose loss scaling would need a pass of its own per loss; let processes draw differently."""
        if self.trainer.precision in ("16-mixed", "16-true"):
            raise ValueError(f"--trainer.precision {self.trainer.precision} is not supported here; use bf16-mixed")
        seed_by_rank(self)

    def autoencoding_loss(
        self,
        images: Tensor,
        generated: Tensor,
        posterior: tuple[Tensor, Tensor],
        prior: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_recon + sum of alpha_t KL_t, and its terms, the KL divergence in nats per image."""
        reconstruction = F.mse_loss(generated.float(), images.float())
        divergences = block_kl(*posterior, self.num_steps, prior).mean(0)
        weights = divergences.new_tensor(self.kl_weights)
        loss = reconstruction + (weights * divergences).sum()
        return loss, {"loss": loss, "reconstruction": reconstruction, "kl": divergences.sum()}

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        images = self._signed(images_in(batch))
        posterior = self._trained().infer(images)
        generated, _ = self._trained().generate(posterior[0])
        _, terms = self.autoencoding_loss(images, generated, posterior)
        self._log_terms(terms, stage, len(images))

    def _log_terms(self, terms: dict[str, Tensor], stage: str, batch_size: int) -> None:
        values = {f"{stage}/{name}": value for name, value in terms.items()}
        self.log_dict(values, batch_size=batch_size, sync_dist=True)

    def _signed(self, images: Tensor) -> Tensor:
        signed = to_signed(images, self.image_shape)
        return signed.contiguous(memory_format=torch.channels_last) if self.hparams.channels_last else signed

    def _trained(self) -> Autoencoder:
        # The averaged weights are for use; training goes on with the live ones.
        return self.autoencoder if self.averaged is None else self.averaged.module  # type: ignore[return-value]
