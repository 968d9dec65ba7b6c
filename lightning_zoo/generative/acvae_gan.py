"""Attentive conditional channel-recurrent VAE-GAN (Shang & Sohn 2019; thesis, chapter 6).

Each attribute learns which time step of the channel recurrency reads it; an LSTM makes the prior of block t from what
step t reads. The numbered differences from thesis and released code are in this folder's FACES.md.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_zoo.generative.conditional_autoencoder import (
    ConditionalAdversarialAutoencoder,
    DiscriminatorBatch,
    Gated,
)
from lightning_zoo.generative.conditional_recurrence import build_recurrent
from lightning_zoo.generative.crvae_gan import BLOCK_WEIGHTS, KL_WEIGHTS, per_block
from lightning_zoo.losses.adversarial import AdversarialLoss
from lightning_zoo.losses.attention import attention_balance, attention_entropy
from lightning_zoo.metrics.celeba_attributes import CELEBA_ATTRIBUTES
from lightning_zoo.networks.attribute_paths import AttendedAttributes, RecurrentPrior
from lightning_zoo.networks.image_networks import NORM_MOMENTUM


class ACVAEGAN(ConditionalAdversarialAutoencoder):
    """AcVAE-GAN of images by attributes, of 64x64 and, with `ProgressiveGrowth`, larger; defaults for CelebA.

    Args:
        attribute_names: which of the data's attributes the images are drawn by; default the forty of CelebA.
        first_size: side of the images to begin with: 64, 128, ...
        image_channels: of the images.
        base_channels: b; every width is a multiple of it, up to 8 b; even where images grow.
        latent_channels: C of the latent tensor (C, 4, 4).
        num_steps: T, the number of blocks.
        hidden_size: of the LSTMs.
        num_layers: of the LSTMs.
        kl_weights: alpha, one per block; null for the published ones, with which T has to be 8.
        adversarial_weight: beta.
        mutual_information_weight: kappa; null leaves q_psi out.
        block_weights: of the recovery of each block of u; null for the released ones, with which T has to be 8.
        entropy_weight: of the mean entropy of the attributes' distributions over time steps.
        balance_weight: of the squared distance of the steps' attention from equal shares; the thesis says that it needs
            none, the released command has this one.
        adversarial_prior: the adversarial loss of samples reaches the prior; not so in the released code.
        discriminator_batch: "thirds" of real, generated and mismatched pairs (thesis), or "quarters" (released): real,
            reconstructed, sampled, mismatched.
        gated: what is not updated while the discriminator is right too often: the "discriminator" (thesis) or its
            "head" alone (released).
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
        learning_rate: LR; discriminator and q_psi learn at LR / 2.
        recurrent_learning_rate: of the LSTMs; null (published) for LR / T.
        beta1: of Adam.
        discriminator_beta1: of the discriminator's Adam; 0.5 in the released command for 64x64.
        halving_period_epochs: after which the learning rates are halved.
        initial_weights: checkpoint of this method to start a new run from, as to grow a finished one.

    Raises:
        ValueError: for blocks that do not divide the channels, a number of weights that is not T, or a number out of
            range.
    """

    def __init__(
        self,
        *,
        attribute_names: Sequence[str] = CELEBA_ATTRIBUTES,
        first_size: int = 64,
        image_channels: int = 3,
        base_channels: int = 32,
        latent_channels: int = 64,
        num_steps: int = 8,
        hidden_size: int = 512,
        num_layers: int = 2,
        kl_weights: Sequence[float] | None = None,
        adversarial_weight: float = 0.0025,
        mutual_information_weight: float | None = 0.01,
        block_weights: Sequence[float] | None = None,
        entropy_weight: float = 0.05,
        balance_weight: float = 0.05,
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
        learning_rate: float = 1e-3,
        recurrent_learning_rate: float | None = None,
        beta1: float = 0.9,
        discriminator_beta1: float = 0.9,
        halving_period_epochs: int = 60,
        initial_weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        number = self.condition(attribute_names)
        latent_shape = (latent_channels, 4, 4)
        prior = RecurrentPrior(number, latent_shape, num_steps=num_steps, num_layers=num_layers)
        build_recurrent(
            self,
            AttendedAttributes(num_steps, number),
            prior,
            kl_weights=per_block("kl_weights", kl_weights, KL_WEIGHTS, num_steps),
            block_weights=per_block("block_weights", block_weights, BLOCK_WEIGHTS, num_steps),
        )

    def attention(self) -> Tensor:
        """The mask M (T, N): how much each time step reads of each attribute, summing to 1 over steps."""
        mask: Tensor = self.networks().attention.mask()
        return mask

    def autoencoding_loss(
        self,
        images: Tensor,
        generated: Tensor,
        posterior: tuple[Tensor, Tensor],
        prior: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """With the regularisers of the attention (thesis, section 6.4.2)."""
        loss, terms = super().autoencoding_loss(images, generated, posterior, prior)
        # In training the live mask, which has to feel it; in evaluation the one that draws.
        network: Any = self.autoencoder if self.training else self.networks()
        mask = network.attention.mask()
        entropy, balance = attention_entropy(mask), attention_balance(mask)
        loss = loss + self.hparams.entropy_weight * entropy + self.hparams.balance_weight * balance
        return loss, terms | {"loss": loss, "attention_entropy": entropy, "attention_balance": balance}
