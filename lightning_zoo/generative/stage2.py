"""Stage 2: 64x64 images of a trained VAE-GAN or crVAE-GAN at 128x128 or 224x224 (Shang et al. 2018, section 5.4.3).

A generator as in StackGAN's second stage, without text, turns frozen stage-1 samples and reconstructions into larger
images; a discriminator compares them with real ones; reconstructions may also be compared with the ground truth by the
features of a classifier (perceptual loss). No training code was released. What thesis and StackGAN leave open:

1. The generator's adversarial loss is non-saturating, as in StackGAN's released code; the printed one, which vanishes
   where the discriminator is sure, is an option.
2. The squared distance of features is a mean over features: the authors' released stage-1 losses are means over
   elements (Torch7's default), and gamma was chosen with them; the printed sum is an option.
3. For 224x224 the stage-1 images are brought to 56x56, from where StackGAN's own network of four upsamplings leads to
   224 ("more modifications", appendix 5.C.4, are not named).
4. Adam's beta1 = 0.5 and the batch of 64 are StackGAN's. Real and generated batches go through the discriminator one
   after the other, so that batch normalisation sees one kind at a time; samples and reconstructions go together.
"""

from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.generative.frozen_stage import build_stage
from lightning_zoo.generative.images import from_signed, images_in, to_unit
from lightning_zoo.generative.perceptual import PerceptualNetwork
from lightning_zoo.generative.rank_noise import batch_generator
from lightning_zoo.generative.stage2_steps import check_options, discriminator_step, generator_step, perceptual_of
from lightning_zoo.losses.stage2 import GeneratorObjective
from lightning_zoo.networks.area_resize import area_resize
from lightning_zoo.networks.batch_statistics import average_batch_statistics
from lightning_zoo.networks.stage2_networks import Stage2Discriminator, Stage2Generator, Upsampling, working_size
from lightning_zoo.step_logging import logs_now


class Stage2(Loadable, L.LightningModule):
    """Larger images from a frozen stage 1; the defaults are those for Birds at 128x128.

    The weights of stage 1 go into this method's checkpoint, which then loads without the file of stage 1. Lightning's
    `global_step` counts two optimizer steps per batch. val/loss is the mean squared error, in [0, 1], of
    reconstructions against the ground truth; it serves to choose a checkpoint and says little about how images look.

    Args:
        stage1: the checkpoint of a VAEGAN or CRVAEGAN, or of any method with `posterior`, `decode`, `image_shape` and
            `latent_shape`; in this method's own checkpoints a description of it; null can be built, not trained.
        output_size: side of the images that come out, which the data have to have.
        upsampling: "nearest" (Birds) or "deconvolution" (CelebA).
        num_downsamplings: in the generator; 2, or 1 after a VAE-GAN on CelebA.
        num_residual_blocks: of the generator.
        base_channels: of the generator, 128 in StackGAN.
        discriminator_channels: base channels of the discriminator, 64 in StackGAN.
        adversarial_loss: of the generator: "non_saturating" or, as printed, "minimax".
        perceptual_weight: gamma; published 1 (Birds, CelebA), 10 (LSUN) or 0, without.
        perceptual_network: "vgg11" (Birds, CelebA) or "resnet50" (LSUN) of torchvision, or a "classifier" of ours.
        perceptual_path: file of torchvision's weights, or the classifier's checkpoint; nothing is downloaded, and only
            training needs it.
        perceptual_layer: name of its layer; null for features.9 of VGG11, layer2 of ResNet50, `features` of ours.
        perceptual_reduction: over features: "mean", or "sum" as printed.
        channels_last: memory format of generator and discriminator.
        learning_rate: of both.
        beta1: of Adam.
        halving_period_epochs: after which the learning rates are halved; null keeps them.

    Raises:
        ValueError: for an argument out of range, sizes that do not fit, or a stage 1 that makes no images.
        CheckpointError: for a stage-1 checkpoint that cannot be used.
    """

    def __init__(
        self,
        *,
        stage1: str | dict[str, Any] | None = None,
        output_size: int = 128,
        upsampling: Upsampling = "nearest",
        num_downsamplings: int = 2,
        num_residual_blocks: int = 4,
        base_channels: int = 128,
        discriminator_channels: int = 64,
        adversarial_loss: GeneratorObjective = "non_saturating",
        perceptual_weight: float = 0.0,
        perceptual_network: PerceptualNetwork = "vgg11",
        perceptual_path: str | None = None,
        perceptual_layer: str | None = None,
        perceptual_reduction: Literal["mean", "sum"] = "mean",
        channels_last: bool = False,
        learning_rate: float = 2e-4,
        beta1: float = 0.5,
        halving_period_epochs: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.hparams: Any
        check_options(self.hparams)
        self.noise_seed = torch.initial_seed()
        self.weights_are_trained = not isinstance(stage1, dict)
        self.perceptual: list[nn.Module] = []  # no submodule: its weights stay out of the checkpoint
        self.stage1: Any = None
        if stage1 is None:
            return
        self.stage1, self.hparams["stage1"] = build_stage(stage1)
        channels, stage1_size, _ = self.stage1.image_shape
        self.image_shape = (channels, output_size, output_size)
        self.latent_shape = tuple(self.stage1.latent_shape)
        self.num_steps = getattr(self.stage1, "num_steps", 1)
        self.stage1_size = stage1_size
        self.working_size = working_size(stage1_size, output_size, num_downsamplings)
        self.generator = Stage2Generator(
            scale=output_size // self.working_size,
            image_channels=channels,
            base_channels=base_channels,
            num_downsamplings=num_downsamplings,
            num_residual_blocks=num_residual_blocks,
            upsampling=upsampling,
        )
        self.discriminator = Stage2Discriminator(
            output_size, image_channels=channels, base_channels=discriminator_channels
        )
        if channels_last:
            self.generator.to(memory_format=torch.channels_last)
            self.discriminator.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Posterior means (B, D), as `encode`."""
        return self.encode(images)

    def encode(self, images: Tensor) -> Tensor:
        """Stage 1's posterior means (B, D) of images (B, C, H, W), uint8 or in [0, 1]."""
        return self.posterior(images)[0].flatten(1)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Stage 1's mean and log-variance (B, *latent_shape) of images at the output's size, which are made smaller."""
        mean, log_variance = self.stage1.posterior(area_resize(self._unit(images), self.stage1_size))
        return mean, log_variance

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] of stage 1's latent tensors (B, *latent_shape)."""
        return from_signed(self.enlarge(self.stage1.decode(latent)))

    def enlarge(self, images: Tensor) -> Tensor:
        """Stage-1 images (B, C, s, s) in [0, 1] at the output's size, in [-1, 1]."""
        enlarged: Tensor = self.generator(self._formatted(area_resize(images, self.working_size) * 2 - 1))
        return enlarged

    @torch.no_grad()
    def sample(self, num_images: int, *, truncation: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Images (N, C, H, W) in [0, 1] of latent tensors from truncation * N(0, 1), drawn on the CPU."""
        latent = truncation * torch.randn((num_images, *self.latent_shape), generator=generator)
        return self.decode(latent.to(self.device))

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], decoded from the posterior's means."""
        return self.decode(self.posterior(images)[0])

    def realness(self, images: Tensor) -> Tensor:
        """Logits (B,) of being real, of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.discriminator(self._formatted(self._unit(images) * 2 - 1))
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step of the discriminator, then one of the generator, on as many samples as there are images."""
        logs = logs_now(self, steps_per_batch=2)
        optimizers: Any = self.optimizers()
        images = self._unit(images_in(batch))
        generated = self.enlarge(self.stage1_images(images, batch_index))
        metrics = discriminator_step(self, self._formatted(images * 2 - 1), generated.detach(), optimizers[1])
        metrics |= generator_step(self, images, generated, optimizers[0])
        average_batch_statistics(nn.ModuleList([self.generator, self.discriminator]))
        if logs:
            self.log_dict({f"train/{name}": value for name, value in metrics.items()})
        return metrics["generator_loss"] + metrics["discriminator_loss"]

    @torch.no_grad()
    def stage1_images(self, images: Tensor, batch_index: int) -> Tensor:
        """B samples, then B reconstructions from drawn latent tensors, (2 B, C, s, s) in [0, 1].

        Args:
            images: (B, C, H, W) in [0, 1], at the output's size.
            batch_index: of the epoch; its noise is drawn from a number, so that a resumed run draws the same.
        """
        mean, log_variance = self.posterior(images)
        generator = batch_generator(images.device, self.noise_seed, self.current_epoch, batch_index, self.global_rank)
        noise = torch.randn((2, *mean.shape), generator=generator, device=images.device)
        drawn = mean.float() + torch.exp(0.5 * log_variance.float()) * noise[1]
        decoded: Tensor = self.stage1.decode(torch.cat([noise[0], drawn]))
        return decoded

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Mean squared error of reconstructions on held-out images."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """As in validation."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> None:
        images = self._unit(images_in(batch))
        loss = F.mse_loss(self.reconstruct(images), images)
        self.log(f"{stage}/loss", loss, batch_size=len(images), sync_dist=True)

    def predict_step(self, batch: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Posterior means (B, D) of stage 1."""
        return {"features": self.encode(images_in(batch))}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the generator, and for the discriminator."""
        options = {"lr": self.hparams.learning_rate, "betas": (self.hparams.beta1, 0.999)}
        return [torch.optim.Adam(network.parameters(), **options) for network in (self.generator, self.discriminator)]

    def configure_callbacks(self) -> list[Any]:
        """None; but this is asked before any data are prepared, and a run that cannot start should say so then."""
        if self.stage1 is None:
            raise ValueError(
                "stage1 is not set: train a VAE-GAN or crVAE-GAN on the same data, such as lightning_zoo fit --config "
                "crvae_atari for stage2_atari, then give its checkpoint: --model.stage1 "
                "runs/<its name>/version_0/checkpoints/last.ckpt"
            )
        training = self.trainer.state.fn == "fit"
        if training and self.hparams.perceptual_weight and not self.perceptual:
            self.perceptual = [perceptual_of(self.hparams)]
        return []

    def on_fit_start(self) -> None:
        """Refuse float16, whose loss scaling would need a pass of its own per loss, and a stage 1 never trained."""
        if self.trainer.precision in ("16-mixed", "16-true"):
            raise ValueError(f"--trainer.precision {self.trainer.precision} is not supported here; use bf16-mixed")

    def on_train_start(self) -> None:
        """Bring the perceptual network to the device; refuse a stage 1 that has never been trained."""
        if not self.weights_are_trained:
            raise ValueError("stage1 is a description without weights; give the path of a checkpoint")
        for network in self.perceptual:
            network.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Set the learning rates by the number of the epoch."""
        period = self.hparams.halving_period_epochs
        if period is not None:
            optimizers: Any = self.optimizers()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.hparams.learning_rate * 0.5 ** (self.current_epoch // period)

    def train(self, mode: bool = True) -> "Stage2":
        """Switch generator and discriminator; stage 1 stays in evaluation mode."""
        super().train(mode)
        if self.stage1 is not None:
            self.stage1.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the number that the noise is drawn from."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["noise_seed"] = self.noise_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the number that the noise is drawn from; the weights of stage 1 come with the others."""
        self.noise_seed = checkpoint["noise_seed"]
        self.weights_are_trained = True

    def _unit(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != self.image_shape[1:]:
            height, width = images.shape[-2:]
            size = self.image_shape[-1]
            raise ValueError(f"images are {height}x{width} and output_size is {size}: set --data.image_size {size}")
        return to_unit(images, self.image_shape)

    def _formatted(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.hparams.channels_last else images
