"""The Jensen-Shannon loss and its scores against `nn.Bilinear` and the cross-entropy at one place after the other."""

import math

import pytest
import torch
from torch import nn

from lightning_zoo.losses.jsd import binary_accuracy, jsd_loss, place_scores


@pytest.fixture
def bilinear():
    torch.manual_seed(0)
    return nn.Bilinear(6, 4, 1)


@pytest.mark.parametrize("local_queries", [False, True])
def test_scores_and_gradients_are_those_of_bilinear_at_each_place(bilinear, local_queries):
    first = torch.randn(3, 6, 5) if local_queries else torch.randn(3, 6)
    second = torch.randn(3, 4, 5)
    inputs = [first.requires_grad_(), second.requires_grad_(), *bilinear.parameters()]
    mixture = torch.randn(3, 5)  # so that every score has a gradient of its own
    fast = place_scores(bilinear, first, second)
    places = [bilinear(first[:, :, p] if local_queries else first, second[:, :, p])[:, 0] for p in range(5)]
    slow = torch.stack(places, dim=1)
    torch.testing.assert_close(fast, slow)
    fast_gradients = torch.autograd.grad((fast * mixture).sum(), inputs)
    slow_gradients = torch.autograd.grad((slow * mixture).sum(), inputs)
    for fast_gradient, slow_gradient in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(fast_gradient, slow_gradient)


def test_loss_is_the_cross_entropy_over_both_kinds():
    torch.manual_seed(0)
    positive, negative = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    logits = torch.cat([positive, negative])
    targets = torch.cat([torch.ones(3, 5), torch.zeros(3, 5)])
    slow = -(targets * torch.log(logits.sigmoid()) + (1 - targets) * torch.log(1 - logits.sigmoid())).mean()
    fast = jsd_loss(positive, negative)
    torch.testing.assert_close(fast, slow)
    for fast_gradient, slow_gradient in zip(
        torch.autograd.grad(fast, (positive, negative)), torch.autograd.grad(slow, (positive, negative)), strict=True
    ):
        torch.testing.assert_close(fast_gradient, slow_gradient)


def test_loss_at_chance():
    assert jsd_loss(torch.zeros(4), torch.zeros(4)).item() == pytest.approx(math.log(2))


def test_loss_of_large_scores_is_finite():
    torch.testing.assert_close(jsd_loss(torch.tensor([-200.0]), torch.tensor([200.0])), torch.tensor(200.0))


def test_accuracy_takes_both_kinds():
    positive, negative = torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert binary_accuracy(positive, negative).item() == pytest.approx(5 / 8)


def test_scores_stay_in_float32_under_bfloat16_autocast(bilinear):
    first, second = torch.randn(3, 6).bfloat16(), torch.randn(3, 4, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        scores = place_scores(bilinear, first, second)
        loss = jsd_loss(scores, scores)
    assert scores.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(scores, place_scores(bilinear, first.float(), second.float()))
