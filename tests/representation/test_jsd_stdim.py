"""JSD-ST-DIM against the released way: bilinear scores at each place, one cross-entropy over true and random pairs."""

import math

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.representation.jsd_stdim import JSDSTDIM


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (3, 3, 1, 210, 160), dtype=torch.uint8, generator=generator)
    return {"frames": frames[:, :2], "negatives": frames[:, 2]}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return JSDSTDIM()


def loop_losses(model, earlier, later, negatives):
    """GL and LL with both kinds of pairs concatenated, place by place."""
    maps = model.encoder.maps(later.float() / 255)
    true, false = (model.encoder.maps(frames.float() / 255)["conv3"] for frames in (earlier, negatives))
    features = model.encoder.linear(maps["conv4"].flatten(1))
    logits = {"global_local": [], "local_local": []}
    targets = []
    for y in range(11):
        for x in range(8):
            both = torch.cat([true[:, :, y, x], false[:, :, y, x]])
            local = maps["conv3"][:, :, y, x]
            logits["global_local"].append(model.global_scores(torch.cat([features, features]), both))
            logits["local_local"].append(model.local_scores(torch.cat([local, local]), both))
            targets.append(torch.cat([torch.ones(len(later), 1), torch.zeros(len(later), 1)]))
    return {
        name: F.binary_cross_entropy_with_logits(torch.cat(values), torch.cat(targets))
        for name, values in logits.items()
    }


def test_loss_and_gradient_equal_the_loop(model, batch):
    slow = loop_losses(model, batch["frames"][:, 0], batch["frames"][:, 1], batch["negatives"])
    terms = model.loss(batch["frames"], batch["negatives"])
    torch.testing.assert_close(terms["global_local_loss"], slow["global_local"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["local_local_loss"], slow["local_local"], rtol=1e-4, atol=1e-5)
    parameters = list(model.parameters())
    fast_gradients = torch.autograd.grad(terms["loss"], parameters)
    slow_gradients = torch.autograd.grad(slow["global_local"] + slow["local_local"], parameters)
    for fast_gradient, slow_gradient in zip(fast_gradients, slow_gradients, strict=True):
        scale = float(slow_gradient.abs().max())
        assert scale > 0
        torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize(
    "order", [(1, 0, 2), (0, 2, 1), (2, 1, 0)], ids=["pair", "anchor-negative", "earlier-negative"]
)
def test_the_loop_tells_the_three_frames_apart(model, batch, order):
    frames = [batch["frames"][:, 0], batch["frames"][:, 1], batch["negatives"]]
    right = sum(loop_losses(model, *frames).values())
    wrong = sum(loop_losses(model, *(frames[index] for index in order)).values())
    assert abs(right - wrong) > 1e-3


def test_loss_at_chance(model, batch):
    for parameter in [*model.global_scores.parameters(), *model.local_scores.parameters()]:
        torch.nn.init.zeros_(parameter)
    terms = model.loss(batch["frames"], batch["negatives"])
    assert terms["loss"].item() == pytest.approx(2 * math.log(2), rel=1e-5)


def test_accuracy_is_the_mean_of_both_classifiers(model, batch):
    terms = model.loss(batch["frames"], batch["negatives"])
    both = terms["global_local_accuracy"] + terms["local_local_accuracy"]
    torch.testing.assert_close(terms["accuracy"], both / 2)


def test_a_batch_without_negatives_names_the_option(model, batch):
    with pytest.raises(ValueError, match=r"--data\.same_episode_negatives true"):
        model.training_step({"frames": batch["frames"]}, 0)


def test_bfloat16_autocast_keeps_the_loss_in_float32(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch["frames"], batch["negatives"])["loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(batch["frames"], batch["negatives"])["loss"], rtol=0.05, atol=0.05)
