"""Losses of stage 2 against the printed sums over images, with gradients."""

import math

import pytest
import torch

from lightning_zoo.losses.stage2 import (
    balanced_accuracy,
    perceptual_distance,
    stage2_discriminator_loss,
    stage2_generator_loss,
)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return [torch.randn(number).mul(2).requires_grad_() for number in (5, 4, 3)]


def test_discriminator_loss(logits):
    real, samples, reconstructions = logits
    loss = stage2_discriminator_loss(*logits)
    wanted = mean(-math.log(sigmoid(x)) for x in real.tolist())
    wanted += mean(-math.log(1 - sigmoid(x)) for x in samples.tolist())
    wanted += mean(-math.log(1 - sigmoid(x)) for x in reconstructions.tolist())
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert real.grad.tolist() == pytest.approx([(sigmoid(x) - 1) / 5 for x in real.tolist()], rel=1e-5)
    assert samples.grad.tolist() == pytest.approx([sigmoid(x) / 4 for x in samples.tolist()], rel=1e-5)
    assert reconstructions.grad.tolist() == pytest.approx([sigmoid(x) / 3 for x in reconstructions.tolist()], rel=1e-5)


@pytest.mark.parametrize(
    ("objective", "value", "slope"),
    [
        ("minimax", lambda x: math.log(1 - sigmoid(x)), lambda x: -sigmoid(x)),
        ("non_saturating", lambda x: -math.log(sigmoid(x)), lambda x: sigmoid(x) - 1),
    ],
)
def test_generator_loss(logits, objective, value, slope):
    _, samples, reconstructions = logits
    loss = stage2_generator_loss(samples, reconstructions, objective)
    wanted = mean(map(value, samples.tolist())) + mean(map(value, reconstructions.tolist()))
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert samples.grad.tolist() == pytest.approx([slope(x) / 4 for x in samples.tolist()], rel=1e-5)
    assert reconstructions.grad.tolist() == pytest.approx([slope(x) / 3 for x in reconstructions.tolist()], rel=1e-5)


@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 2), ("mean", 2 * 24)])
def test_perceptual_distance(reduction, divisor):
    torch.manual_seed(0)
    wanted, got = torch.randn(2, 4, 3, 2), torch.randn(2, 4, 3, 2, requires_grad=True)
    loss = perceptual_distance(wanted, got, reduction)
    pairs = list(zip(wanted.flatten().tolist(), got.flatten().tolist(), strict=True))
    assert float(loss.detach()) == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / divisor, rel=1e-5)
    loss.backward()
    slopes = [2 * (b - a) / divisor for a, b in pairs]
    assert got.grad.flatten().tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-6)


def test_losses_are_float32_also_for_bfloat16():
    logits = torch.randn(4, dtype=torch.bfloat16)
    assert stage2_discriminator_loss(logits, logits, logits).dtype == torch.float32
    assert stage2_generator_loss(logits, logits).dtype == torch.float32
    assert perceptual_distance(logits[:, None], logits[:, None]).dtype == torch.float32


def test_accuracy_does_not_depend_on_how_many_are_real():
    real, fake = torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -1.0, -1.0, 1.0])
    assert float(balanced_accuracy(real, fake)) == pytest.approx((0.5 + 0.75) / 2)
