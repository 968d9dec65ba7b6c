"""CPC against a loop over steps ahead, sequences, times and negatives."""

import math

import pytest
import torch

from lightning_zoo.representation.cpc import CPC

STEPS = (1, 5, 9)  # below 11 frames


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CPC(feature_size=6, context_size=5, sequence_length=11)


@pytest.fixture
def features():
    torch.manual_seed(1)
    return torch.randn(3, 11, 6, requires_grad=True)


def loop_losses(model, features):
    """The loss of each step ahead, one query and one key at a time."""
    contexts, _ = model.context(features)
    sequences, length, size = features.shape
    losses = []
    for head, step in enumerate(STEPS):
        if step >= length:
            continue
        weight, bias = (tensor[head * size : (head + 1) * size] for tensor in (model.heads.weight, model.heads.bias))
        terms = []
        for b in range(sequences):
            for t in range(length - step):
                prediction = weight @ contexts[b, t] + bias
                scores = {
                    (other, time): prediction @ features[other, time]
                    for other in range(sequences)
                    for time in range(step, length)
                }
                terms.append(torch.logsumexp(torch.stack(list(scores.values())), 0) - scores[b, t + step])
        losses.append(torch.stack(terms).mean())
    return losses


@pytest.mark.parametrize("length", [11, 6, 2])
def test_loss_and_gradient_equal_the_loop(model, features, length):
    features = features[:, :length]
    slow = loop_losses(model, features)
    terms = model.sequence_loss(features)
    assert len(slow) == sum(step < length for step in STEPS)
    torch.testing.assert_close(terms["loss"], torch.stack(slow).sum(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["next_step_loss"], slow[0], rtol=1e-4, atol=1e-5)
    inputs = [features, *model.context.parameters(), *model.heads.parameters()]
    fast_gradients = torch.autograd.grad(terms["loss"], inputs)
    slow_gradients = torch.autograd.grad(torch.stack(slow).sum(), inputs)
    for fast_gradient, slow_gradient in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-3, atol=1e-6)


def test_published_sizes():
    model = CPC()
    assert list(model.steps) == list(range(1, 98, 4))
    assert len(model.steps) == 25
    assert model.heads.weight.shape == (25 * 256, 256)
    assert (model.context.hidden_size, model.context.num_layers, model.context.bidirectional) == (256, 2, False)
    (group,) = model.configure_optimizers().param_groups
    assert (group["lr"], group["eps"]) == (3e-4, 1e-8)


def test_loss_at_chance_is_the_sum_of_each_steps_logarithm(model, features):
    torch.nn.init.zeros_(model.heads.weight)
    torch.nn.init.zeros_(model.heads.bias)
    expected = sum(math.log(3 * (11 - step)) for step in STEPS)
    assert model.sequence_loss(features)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_frames_reach_the_loss_in_their_order(model):
    frames = torch.randint(0, 256, (2, 4, 1, 210, 160), dtype=torch.uint8)
    features = torch.stack([model.encode(sequence) for sequence in frames])
    torch.testing.assert_close(model.loss(frames)["loss"], model.sequence_loss(features)["loss"], rtol=1e-4, atol=1e-5)
    backwards = model.loss(frames.flip(1))["loss"]
    assert abs(backwards - model.loss(frames)["loss"]) > 1e-4


def test_accuracy_of_features_that_name_their_own_time():
    model = CPC(feature_size=16, context_size=16, sequence_length=4)
    features = torch.eye(8, 16).unflatten(0, (2, 4))
    # A context that is the frame itself and a head that maps the frame at t to that at t + 1.
    model.context.forward = lambda values: (values, None)
    torch.nn.init.zeros_(model.heads.bias)
    with torch.no_grad():
        model.heads.weight.copy_(torch.diag(torch.ones(15), -1))
    assert model.sequence_loss(features)["accuracy"].item() == 1.0
    with torch.no_grad():
        model.heads.weight.copy_(torch.eye(16))
    # Frames 1 and 2 of a sequence are found by themselves and not by the frame before; frame 0 is no key and scores 0.
    assert model.sequence_loss(features)["accuracy"].item() <= 1 / 3


def test_no_logits_are_kept_between_forward_and_backward(features):
    model = CPC(feature_size=6, context_size=5, sequence_length=40)
    sequences = torch.randn(4, 40, 6, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept):
        model.sequence_loss(sequences)
    assert sizes
    assert max(sizes) < (4 * 39) ** 2 / 4  # the first step's logits are 156 x 156


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sequence_length": 1}, "sequence_length must be at least 2"), ({"step_stride": 0}, "step_stride .* got 0")],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        CPC(**options)


@pytest.mark.parametrize("length", [1, 12])
def test_sequences_that_do_not_fit_are_refused(model, length):
    with pytest.raises(ValueError, match=rf"got {length}: set --model\.sequence_length"):
        model.loss(torch.zeros(2, length, 1, 210, 160))


def test_bfloat16_autocast_keeps_the_loss_in_float32(model, features):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.sequence_loss(features)["loss"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.sequence_loss(features)["loss"], rtol=0.05, atol=0.05)
