"""acVAE-GAN: its training step against a bare loop and against separate passes, and what growth leaves behind."""

from functools import partial

import torch
from bench_gan import BATCH, IMAGES, ROUNDS, STEPS, overhead
from measure import Result, in_turns
from torch.nn import functional as F

from lightning_zoo import ACVAEGAN
from lightning_zoo.generative.adversarial_steps import draw_gaussian, joint_step

ATTRIBUTES = torch.randint(0, 2, (BATCH * STEPS, 40), dtype=torch.int8) * 2 - 1
LARGE = torch.randint(0, 256, (BATCH, 3, 128, 128), dtype=torch.uint8)


class AttributedBatches:
    """The same images and attributes in every epoch."""

    def __len__(self) -> int:
        return STEPS

    def __iter__(self):
        for images, attributes in zip(IMAGES.split(BATCH), ATTRIBUTES.split(BATCH), strict=True):
            yield {"images": images, "attributes": attributes}


def made(**changes) -> tuple[ACVAEGAN, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    module = ACVAEGAN(accuracy_limit=1.0, **changes)
    return module, [configured["optimizer"] for configured in module.configure_optimizers()]


def attributed_step_overhead() -> Result:
    """Time per step from the start of one batch to the start of the next, logging included."""

    def step(module: ACVAEGAN, batch: dict, optimizers: list[torch.optim.Optimizer]) -> None:
        joint_step(module, module._signed(batch["images"]), *optimizers, attributes=module.attributes_of(batch))

    return overhead("acVAE-GAN", made, AttributedBatches(), step)


def attributed_order() -> Result:
    """Five passes through the trunk, modules stepped after each, as released; two and a half in ours."""
    plain, plain_optimizers = made(channels_last=False)
    ours, optimizers = made()
    attributes = ATTRIBUTES[:BATCH].float()
    separate = partial(_separate_step, plain, plain._signed(IMAGES[:BATCH]), attributes, *plain_optimizers)
    joint = partial(joint_step, ours, ours._signed(IMAGES[:BATCH]), *optimizers, attributes=attributes)
    slow, fast, ratio = in_turns(separate, joint, ROUNDS)
    detail = f"separate passes {slow:.2f} s, ours {fast:.2f} s per step of {BATCH} images at full width"
    return Result("acVAE-GAN: our step against separate passes (and channels_last)", ratio, "x", 1.3, True, detail)


def _separate_step(module, real, attributes, generator, judge) -> None:
    network, discriminator = module.autoencoder, module.discriminator
    posterior = network.infer(real, attributes)
    generated = []
    for index in range(2):
        prior = network.prior(network.attend(attributes))
        mean, log_variance = (each.detach() for each in prior) if index else posterior
        image, u = network.generate(draw_gaussian(mean, log_variance), attributes)
        recovered = module.recover(discriminator.joined(discriminator.trunk(image), attributes))
        recovery = (recovered - u.detach()).square().mean()
        fooled = F.softplus(-discriminator(image, attributes)).mean()
        judge.zero_grad()
        generator.zero_grad()
        loss = 0.0025 * fooled + 0.01 * recovery
        if index == 0:
            loss = loss + module.autoencoding_loss(real, image, posterior, prior)[0]
        loss.backward()
        generator.step()
        judge.step()
        generated.append(image.detach())
    mixture = torch.stack([(real, generated[row % 2], real.roll(1, 0))[row % 3][row] for row in range(len(real))])
    labels = (torch.arange(len(real)) % 3 == 0).float()
    judge.zero_grad()
    F.binary_cross_entropy_with_logits(discriminator(mixture, attributes), labels).backward()
    judge.step()


def growth_overhead() -> Result:
    """A step at 128x128 of a network that grew, once it has faded in, against one that was built at 128x128."""
    built, built_optimizers = made(first_size=128)
    grown, _ = made()
    grown.grow(128)
    grown.finish_growth()
    optimizers = [configured["optimizer"] for configured in grown.configure_optimizers()]
    attributes = ATTRIBUTES[:BATCH].float()
    after, plain, ratio = in_turns(
        partial(joint_step, grown, grown._signed(LARGE), *optimizers, attributes=attributes),
        partial(joint_step, built, built._signed(LARGE), *built_optimizers, attributes=attributes),
        ROUNDS,
    )
    detail = f"grown {after:.2f} s, built at 128x128 {plain:.2f} s per step of {BATCH} images"
    return Result("acVAE-GAN: a step at 128x128 after growth", ratio, "x", 1.05, False, detail)
