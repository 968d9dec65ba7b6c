"""Adversarial losses against their definitions."""

import math

import pytest
import torch

from lightning_zoo.losses.adversarial import discriminator_accuracy, discriminator_loss, generator_loss
from lightning_zoo.losses.vae import block_kl, gaussian_kl

REAL, FAKE = [0.3, -2.0, 4.0], [1.5, -0.7]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("kind", "generator", "discriminator"),
    [
        (
            "bce",
            -sum(math.log(sigmoid(x)) for x in FAKE) / 2,
            -(sum(math.log(sigmoid(x)) for x in REAL) + sum(math.log(1 - sigmoid(x)) for x in FAKE)) / 5,
        ),
        ("hinge", -sum(FAKE) / 2, (sum(max(0, 1 - x) for x in REAL) + sum(max(0, 1 + x) for x in FAKE)) / 5),
    ],
)
def test_losses(kind, generator, discriminator):
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert generator_loss(fake, kind).item() == pytest.approx(generator, rel=1e-5)
    assert discriminator_loss(real, fake, kind).item() == pytest.approx(discriminator, rel=1e-5)


def test_gradients_of_the_cross_entropy_are_its_errors():
    real, fake = torch.tensor(REAL, requires_grad=True), torch.tensor(FAKE, requires_grad=True)
    discriminator_loss(real, fake).backward()
    assert real.grad.tolist() == pytest.approx([(sigmoid(x) - 1) / 5 for x in REAL], rel=1e-5)
    assert fake.grad.tolist() == pytest.approx([sigmoid(x) / 5 for x in FAKE], rel=1e-5)


def test_large_logits_stay_finite():
    loss = discriminator_loss(torch.tensor([-1e4]), torch.tensor([1e4]))
    assert loss.item() == pytest.approx(1e4)


def test_accuracy_counts_both_sides():
    assert discriminator_accuracy(torch.tensor(REAL), torch.tensor(FAKE)).item() == pytest.approx(3 / 5)


def test_block_kl_is_that_of_each_block():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(3, 6, 2, 2), torch.randn(3, 6, 2, 2)
    blocks = block_kl(mean, log_variance, 3)
    assert blocks.shape == (3, 3)
    for step in range(3):
        part = slice(2 * step, 2 * step + 2)
        torch.testing.assert_close(blocks[:, step], gaussian_kl(mean[:, part], log_variance[:, part]))
    torch.testing.assert_close(blocks.sum(1), gaussian_kl(mean, log_variance))
    last = [x.contiguous(memory_format=torch.channels_last) for x in (mean, log_variance)]
    torch.testing.assert_close(block_kl(*last, 3), blocks)
