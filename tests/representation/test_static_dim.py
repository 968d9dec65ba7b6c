"""Static DIM against the released method's loop over places of one frame."""

import math

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.representation.static_dim import StaticDIM


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 2, 1, 210, 160), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return StaticDIM()


def loop_loss(model, frames):
    maps = model.encoder.maps(frames.float() / 255)
    predictions = model.encoder.linear(maps["conv4"].flatten(1)) @ model.scores.weight.T + model.scores.bias
    losses = [
        F.cross_entropy(predictions @ maps["conv3"][:, :, y, x].T, torch.arange(len(frames)))
        for y in range(11)
        for x in range(8)
    ]
    return torch.stack(losses).mean()


def test_loss_and_gradient_equal_the_loop(model, clips):
    fast, slow = model.loss(clips[:, 0])["loss"], loop_loss(model, clips[:, 0])
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    parameters = list(model.parameters())
    for fast_gradient, slow_gradient in zip(
        torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters), strict=True
    ):
        scale = float(slow_gradient.abs().max())
        assert scale > 0
        torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-3, atol=1e-4 * scale)


def test_clips_give_their_last_frame(model, clips):
    loss = model.loss(clips)["loss"]
    torch.testing.assert_close(loss, model.loss(clips[:, 1])["loss"])
    assert abs(loss - model.loss(clips[:, 0])["loss"]) > 1e-4


def test_loss_at_chance(model, clips):
    torch.nn.init.zeros_(model.scores.weight)
    torch.nn.init.zeros_(model.scores.bias)
    assert model.loss(clips)["loss"].item() == pytest.approx(math.log(3), rel=1e-5)


def test_bfloat16_autocast_keeps_the_loss_in_float32(model, clips):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(clips)["loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(clips)["loss"], rtol=0.05, atol=0.05)
