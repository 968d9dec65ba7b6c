"""Soft actor-critic against loops, densities from distribution functions, and finite differences."""

import math

import pytest
import torch

from lightning_zoo.losses.pixel_reconstruction import reconstruction_loss
from lightning_zoo.losses.soft_actor_critic import (
    actor_loss,
    critic_loss,
    soft_q_targets,
    soft_values,
    squashed_gaussian,
    temperature_loss,
)

BATCH, HEADS, VIEWS, ALPHA = 4, 3, 2, 0.3


def draw(*shape, seed=0, spread=1.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probability_below(action, mean, std):
    """P(tanh(N(mean, std)) < action), without any change of variables of densities."""
    return 0.5 * (1 + math.erf((math.atanh(action) - mean) / std / math.sqrt(2)))


def slow_log_density(action, mean, std, h=1e-5):
    below = [probability_below(action + side * h, mean, std) for side in (-1, 1)]
    return math.log((below[1] - below[0]) / (2 * h))


def test_actions_and_their_density():
    mean, log_std, noise = draw(6, 3, spread=0.5), draw(6, 3, seed=1, spread=0.3) - 0.7, draw(6, 3, seed=2)
    actions, log_probabilities = squashed_gaussian(mean, log_std, noise)
    assert log_probabilities.shape == (6,)
    for i in range(6):
        total = 0.0
        for j in range(3):
            m, std = mean[i, j].item(), math.exp(log_std[i, j].item())
            assert actions[i, j].item() == pytest.approx(math.tanh(m + std * noise[i, j].item()))
            total += slow_log_density(actions[i, j].item(), m, std)
        assert log_probabilities[i].item() == pytest.approx(total, abs=1e-6)


def test_gradients_equal_finite_differences():
    noise = draw(3, 2, seed=2)
    arguments = (draw(3, 2).requires_grad_(), (draw(3, 2, seed=1) - 1).requires_grad_())
    assert torch.autograd.gradcheck(lambda mean, log_std: squashed_gaussian(mean, log_std, noise), arguments)


@pytest.mark.parametrize("value", [-400.0, -30.0, 30.0, 400.0])
def test_actions_at_the_border_have_exact_densities_and_slopes(value):
    # Where the action rounds to 1, log(1 - tanh(u)^2) is log 4 - 2 |u| to all digits, and its slope -2.
    mean = torch.tensor([[value]], requires_grad=True)
    actions, log_probabilities = squashed_gaussian(mean, torch.tensor([[-2.0]]), torch.tensor([[0.5]]))
    log_probabilities.sum().backward()
    assert actions.item() == math.copysign(1, value)
    u = value + math.exp(-2) * 0.5
    expected = -0.125 + 2 - 0.5 * math.log(2 * math.pi) - (math.log(4) - 2 * abs(u))
    assert log_probabilities.item() == pytest.approx(expected, rel=1e-6)
    assert mean.grad.item() == math.copysign(2, value)


def test_half_precision_is_widened():
    actions, log_probabilities = squashed_gaussian(*(draw(2, 3, seed=i).bfloat16() for i in range(3)))
    assert actions.dtype == log_probabilities.dtype == torch.float32


def test_soft_values_take_the_least_head_of_each_item():
    q, log_probabilities = draw(HEADS, BATCH), draw(BATCH, seed=1)
    values = soft_values(q, log_probabilities, ALPHA)
    for i in range(BATCH):
        least = min(q[head, i].item() for head in range(HEADS))
        assert values[i].item() == pytest.approx(least - ALPHA * log_probabilities[i].item())
    assert len(set(q.argmin(0).tolist())) > 1  # or the seed shows nothing


def slow_target(reward, discount, heads_of_views, log_probabilities):
    values = [min(heads) - ALPHA * logp for heads, logp in zip(heads_of_views, log_probabilities, strict=True)]
    return reward + discount * sum(values) / len(values)


def test_targets_average_soft_values_of_views_each_of_its_own_pair():
    rewards, next_q, log_probabilities = draw(BATCH, seed=3), draw(VIEWS, HEADS, BATCH), draw(VIEWS, BATCH, seed=1)
    discounts = torch.tensor([0.99, 0.0, 0.9, 1.0], dtype=torch.float64)
    targets = soft_q_targets(rewards, discounts, next_q, log_probabilities, ALPHA)
    single = soft_q_targets(rewards, discounts, next_q[0], log_probabilities[0], ALPHA)
    for i in range(BATCH):
        heads, logps = next_q[:, :, i].tolist(), log_probabilities[:, i].tolist()
        common = rewards[i].item(), discounts[i].item()
        assert targets[i].item() == pytest.approx(slow_target(*common, heads, logps))
        assert single[i].item() == pytest.approx(slow_target(*common, heads[:1], logps[:1]))
    # The least of means is another number.
    assert not torch.allclose(next_q.mean(0).amin(0), next_q.amin(1).mean(0))


def test_targets_have_no_gradient():
    next_q, log_probabilities = draw(HEADS, BATCH).requires_grad_(), draw(BATCH).requires_grad_()
    temperature = torch.tensor(0.2, requires_grad=True)
    assert not soft_q_targets(draw(BATCH), draw(BATCH), next_q, log_probabilities, temperature).requires_grad


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError):
        soft_values(draw(HEADS, BATCH), draw(BATCH, 1), ALPHA)
    with pytest.raises(AssertionError):
        soft_values(draw(VIEWS, HEADS, BATCH), draw(BATCH), ALPHA)
    with pytest.raises(AssertionError):
        squashed_gaussian(draw(BATCH, 2), draw(1, 2), draw(BATCH, 2))
    with pytest.raises(AssertionError):
        critic_loss(draw(HEADS, BATCH), draw(1, BATCH))
    with pytest.raises(AssertionError):
        reconstruction_loss(draw(2, 3, 4, 4), draw(1, 3, 4, 4), draw(2, 5))


@pytest.mark.parametrize(("reduction", "share"), [("mean", 1 / VIEWS), ("sum", 1.0)])
def test_critic_loss_sums_heads_and_reduces_views(reduction, share):
    q, targets = draw(VIEWS, HEADS, BATCH).requires_grad_(), draw(BATCH, seed=1)
    loss = critic_loss(q, targets, reduction)
    loss.backward()
    total = 0.0
    for m in range(VIEWS):
        for head in range(HEADS):
            for i in range(BATCH):
                error = (q[m, head, i] - targets[i]).item()
                total += share * error**2 / BATCH
                assert q.grad[m, head, i].item() == pytest.approx(share * 2 * error / BATCH)
    assert loss.item() == pytest.approx(total)
    torch.testing.assert_close(critic_loss(q[0], targets, reduction), critic_loss(q[:1], targets))


def test_actor_loss_and_gradients_equal_a_loop():
    q, log_probabilities = draw(HEADS, BATCH).requires_grad_(), draw(BATCH, seed=1).requires_grad_()
    temperature = torch.tensor(ALPHA, dtype=torch.float64, requires_grad=True)
    loss = actor_loss(q, log_probabilities, temperature)
    loss.backward()
    expected = 0.0
    for i in range(BATCH):
        heads = q[:, i].tolist()
        expected += (ALPHA * log_probabilities[i].item() - min(heads)) / BATCH
        slopes = [-1 / BATCH if head == min(heads) else 0.0 for head in heads]
        assert q.grad[:, i].tolist() == pytest.approx(slopes)
    assert loss.item() == pytest.approx(expected)
    assert log_probabilities.grad.tolist() == pytest.approx([ALPHA / BATCH] * BATCH)
    assert temperature.grad is None


def test_the_actor_follows_the_critic_through_its_actions():
    # Q = 2 a and no entropy: the loss is -2 tanh(mean + std noise), whose slope is known.
    mean, log_std, noise = draw(BATCH, 1).requires_grad_(), draw(BATCH, 1, seed=1) - 1, draw(BATCH, 1, seed=2)
    actions, log_probabilities = squashed_gaussian(mean, log_std, noise)
    actor_loss((2 * actions).T, log_probabilities, 0.0).backward()
    for i in range(BATCH):
        action = math.tanh(mean[i].item() + math.exp(log_std[i].item()) * noise[i].item())
        assert mean.grad[i].item() == pytest.approx(-2 * (1 - action**2) / BATCH)


@pytest.mark.parametrize("log_alpha", [-2.0, 0.5])
def test_temperature_loss_and_gradient(log_alpha):
    parameter = torch.tensor(log_alpha, dtype=torch.float64, requires_grad=True)
    log_probabilities = draw(BATCH, seed=1).requires_grad_()
    loss = temperature_loss(parameter, log_probabilities, target_entropy=-2.0)
    loss.backward()
    mean = sum(-logp - (-2.0) for logp in log_probabilities.tolist()) / BATCH
    assert loss.item() == pytest.approx(math.exp(log_alpha) * mean)
    assert parameter.grad.item() == pytest.approx(math.exp(log_alpha) * mean)
    assert log_probabilities.grad is None


@pytest.mark.parametrize(("entropy", "grows"), [(-3.0, True), (-1.0, False)])
def test_temperature_grows_while_entropy_is_too_low(entropy, grows):
    parameter = torch.zeros((), requires_grad=True)
    temperature_loss(parameter, torch.full((BATCH,), -entropy), target_entropy=-2.0).backward()
    assert (parameter.grad.item() < 0) is grows


def test_reconstruction_loss_equals_a_loop():
    images, targets, features = draw(2, 1, 2, 3), draw(2, 1, 2, 3, seed=1), draw(2, 4, seed=2, spread=30)
    pairs = zip(images.flatten().tolist(), targets.flatten().tolist(), strict=True)
    error = sum((a - b) ** 2 for a, b in pairs) / 12
    norm = sum(value**2 for value in features.flatten().tolist()) / 2
    assert reconstruction_loss(images, targets, features, 0.01).item() == pytest.approx(error + 0.01 * norm / 2)
    assert reconstruction_loss(images, targets, features, 0.0).item() == pytest.approx(error)
