"""Global-T DIM against an explicit cross-entropy over pairs of whole frames."""

import math

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.representation.global_dim import GlobalDIM


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 2, 1, 210, 160), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GlobalDIM()


def slow_loss(model, pairs, asking=1):
    frames = pairs.float() / 255
    queries = model.encoder(frames[:, asking]) @ model.scores.weight.T + model.scores.bias
    keys = model.encoder(frames[:, 1 - asking])
    return torch.stack(
        [F.cross_entropy(torch.stack([(q * k).sum() for k in keys]), torch.tensor(i)) for i, q in enumerate(queries)]
    ).mean()


def test_loss_and_gradient_equal_the_explicit_sum(model, pairs):
    fast, slow = model.loss(pairs)["loss"], slow_loss(model, pairs)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    parameters = list(model.parameters())
    for fast_gradient, slow_gradient in zip(
        torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters), strict=True
    ):
        scale = float(slow_gradient.abs().max())
        assert scale > 0
        torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-3, atol=1e-4 * scale)


def test_the_later_frame_asks(model, pairs):
    assert abs(slow_loss(model, pairs) - slow_loss(model, pairs, asking=0)) > 1e-3


def test_loss_at_chance(model, pairs):
    torch.nn.init.zeros_(model.scores.weight)
    torch.nn.init.zeros_(model.scores.bias)
    assert model.loss(pairs)["loss"].item() == pytest.approx(math.log(4), rel=1e-5)


def test_bfloat16_autocast_keeps_the_loss_in_float32(model, pairs):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(pairs)["loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(pairs)["loss"], rtol=0.05, atol=0.05)
