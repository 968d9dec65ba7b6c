"""What cVAE-GAN, conditional crVAE-GAN and acVAE-GAN share beyond the unconditional ones (Shang & Sohn 2019).

Losses (thesis, eq. 6.1): the terms of `adversarial_autoencoder`, with the KL divergence from a learned prior p(z | a),
samples from that prior, and a discriminator that is shown real, generated and mismatched pairs of image and attributes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_zoo.checkpoints import CheckpointError, class_path, read
from lightning_zoo.generative.adversarial_autoencoder import AdversarialAutoencoder
from lightning_zoo.generative.adversarial_gradients import Judging, Pair, SampleWeights
from lightning_zoo.generative.adversarial_steps import draw_gaussian, joint_step
from lightning_zoo.generative.attribute_conditioning import AttributeConditioned
from lightning_zoo.generative.conditional_networks import ConditionalAutoencoder
from lightning_zoo.generative.growing import Growing
from lightning_zoo.generative.images import images_in, shrink_to, to_signed
from lightning_zoo.networks.conditional_discriminator import ConditionalDiscriminator

DiscriminatorBatch = Literal["thirds", "quarters"]
Gated = Literal["discriminator", "head"]

BATCHES: dict[DiscriminatorBatch, tuple[Pair, ...]] = {
    "thirds": ("real", "reconstruction", "mismatched", "real", "sample", "mismatched"),
    "quarters": ("real", "mismatched", "sample", "reconstruction"),
}
"""What the rows of the discriminator's batch are in turn: as in the thesis (6.5.1), and as released."""

SHAPES = (
    "image_channels",
    "base_channels",
    "latent_channels",
    "num_steps",
    "hidden_size",
    "num_layers",
    "spectral",
    "attribute_names",
)
"""Hyperparameters that the weights' shapes depend on; whether there is a mutual_information_weight is another."""


class ConditionalAdversarialAutoencoder(Growing, AttributeConditioned, AdversarialAutoencoder):
    """An autoencoder of images and attributes, a discriminator of pairs, and ends that may grow."""

    def build_conditional(
        self,
        autoencoder: ConditionalAutoencoder,
        discriminator: ConditionalDiscriminator,
        recover: torch.nn.Module | None,
        *,
        latent_shape: tuple[int, int, int],
        kl_weights: Sequence[float],
        sample_weights: SampleWeights,
    ) -> None:
        """Take the networks and weights; everything else is read from the hyperparameters.

        Args:
            autoencoder: the generator's side.
            discriminator: of images in [-1, 1] and attributes.
            recover: q_psi, or None.
            latent_shape: (C, H, W).
            kl_weights: alpha, one per block of latent channels.
            sample_weights: of losses on reconstructions and on samples alike.

        Raises:
            ValueError: for a hyperparameter out of range.
        """
        given = self.hparams
        self.build(
            autoencoder,  # type: ignore[arg-type]
            discriminator,
            recover,
            latent_shape=latent_shape,
            kl_weights=kl_weights,
            sample_weights=(sample_weights, sample_weights),
            head_learning_rate=given.learning_rate / 2,
            trunk_learning_rate=given.learning_rate / 2,
            recover_learning_rate=given.learning_rate / 2,
        )
        self.image_shape = (given.image_channels, given.first_size, given.first_size)

    def networks(self) -> Any:
        """What draws: the averaged networks, if there are any."""
        return self._trained()

    def encode(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Posterior means (B, D) of images (B, C, S, S), uint8 or in [0, 1]; without attributes, of unknown ones."""
        return self.posterior(images, attributes)[0].flatten(1)

    def posterior(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, C, H, W) of q(z | x, a)."""
        network: Any = self._trained()
        mean, log_variance = network.infer(self._signed(images), self.known_or_none(attributes, len(images)))
        return mean, log_variance

    @torch.no_grad()
    def reconstruct(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Images (B, C, S, S) in [0, 1], decoded from the posterior's means."""
        return self.decode(self.posterior(images, attributes)[0], attributes)

    def realness(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Logits (B,) of being real and of these attributes, each depending on the others in its batch."""
        known = self.known_or_none(attributes, len(images))
        logits: Tensor = self.discriminator(self._signed(images), known)
        return logits

    def take_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of all modules on a batch of images (B, C, S, S) and attributes (B, N); scalars to log."""
        real = self._signed(images_in(batch))
        return joint_step(self, real, *self.optimizers(), attributes=self.attributes_of(batch))  # type: ignore[misc]

    def draw_prior(self, like: Tensor, attributes: Tensor | None) -> tuple[tuple[Tensor, Tensor] | None, Tensor]:
        """Mean and log-variance of p(z | a), and a draw from it."""
        network: Any = self.autoencoder
        mean, log_variance = network.prior(network.attend(attributes))
        if self.hparams.adversarial_prior:
            return (mean, log_variance), draw_gaussian(mean, log_variance)
        return (mean, log_variance), draw_gaussian(mean.detach(), log_variance.detach())

    def judging(self) -> Judging:
        """With mismatched pairs."""
        given = self.hparams
        return Judging(
            gate=self.gate.opens,
            batch=BATCHES[given.discriminator_batch],
            gated=given.gated,
            loss=given.adversarial_loss,
            gradient_penalty=given.gradient_penalty,
        )

    def configure_optimizers(self) -> Any:
        """As `AdversarialAutoencoder` has them; a new run starts from the weights that `initial_weights` names."""
        # Not in configure_model: there the trainer does not know yet whether it resumes a run.
        path, trainer = self.hparams.initial_weights, self._trainer
        if path is not None and trainer is not None and trainer.training and not trainer.ckpt_path:
            self._take_weights(path)
        return super().configure_optimizers()

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Posterior means (B, D)."""
        return {"features": self.encode(images_in(batch), self.attributes_of(batch))}

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        images, attributes = self._signed(images_in(batch)), self.attributes_of(batch)
        network: Any = self._trained()
        posterior = network.infer(images, attributes)
        generated, _ = network.generate(posterior[0], attributes)
        prior = network.prior(network.attend(attributes))
        _, terms = self.autoencoding_loss(images, generated, posterior, prior)
        self._log_terms(terms, stage, len(images))

    def _signed(self, images: Tensor) -> Tensor:
        signed = to_signed(shrink_to(images, self.image_size), self.image_shape)
        return signed.contiguous(memory_format=torch.channels_last) if self.hparams.channels_last else signed

    def _take_weights(self, path: str) -> None:
        try:
            checkpoint = read(Path(path))
        except CheckpointError as error:
            raise CheckpointError(f"initial_weights: {error}") from error
        written = (class_path(checkpoint) or type(self).__name__).rpartition(".")[2]
        if written not in [cls.__name__ for cls in type(self).__mro__]:
            raise ValueError(f"initial_weights: {path} is of {written}, not of {type(self).__name__}")
        theirs = checkpoint.get("hyper_parameters", {})
        for name in (*SHAPES, "mutual_information_weight"):
            ours, given = _plain(self.hparams.get(name)), _plain(theirs.get(name))
            both = name not in SHAPES and None not in (ours, given)
            if ours != given and not both:
                raise ValueError(
                    f"initial_weights: {path} has {name}={given}, this method {name}={ours}; "
                    f"give --model.{name} its value, or another checkpoint"
                )
        self.on_load_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        # The counters of the gate's warm-up begin anew, and the bank is of this run's data where they were seen.
        anew = ("gate.", "attribute_bank") if self.attribute_bank.any() else ("gate.",)
        kept = {name: value for name, value in weights.items() if not name.startswith(anew)}
        try:
            missing, unknown = self.load_state_dict(kept, strict=False)
        except RuntimeError as error:
            raise ValueError(f"initial_weights: {path} does not fit {type(self).__name__}: other shapes") from error
        # A run with averaging may start from one without it, and the other way round.
        wrong = [name for name in [*missing, *unknown] if not name.startswith((*anew, "averaged."))]
        if wrong:
            raise ValueError(f"initial_weights: {path} does not fit {type(self).__name__}: {wrong[0]}")
        if self.averaged is not None and any(name.startswith("averaged.") for name in missing):
            self.averaged.module.load_state_dict(self.autoencoder.state_dict())
        rank_zero_info(f"Begins with the weights of {path}, of {self.image_size}x{self.image_size} pixels.")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
