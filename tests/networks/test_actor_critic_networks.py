"""Actor, critic and slow copies against networks written out, one head at a time."""

import math

import pytest
import torch

from lightning_zoo.networks.actor import GaussianActor, bounded_log_std
from lightning_zoo.networks.critic import Critic
from lightning_zoo.networks.target_network import move_towards


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def disturb(network, seed=1):
    """Give every parameter, biases too, values of its own."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def assert_orthogonal(matrix):
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-4, rtol=0)


def test_parameters_of_the_published_networks():
    hidden = 1024 * 1024 + 1024
    assert num_parameters(GaussianActor(50, 6)) == (50 * 1024 + 1024) + hidden + (1024 * 12 + 12)
    assert num_parameters(Critic(50, 6)) == 2 * ((56 * 1024 + 1024) + hidden + (1024 + 1))
    small = Critic(5, 1, num_heads=4, hidden_sizes=(8,))
    assert num_parameters(small) == 4 * ((6 * 8 + 8) + (8 + 1))


def test_log_std_lies_between_its_bounds():
    assert bounded_log_std(torch.tensor([-50.0, 0.0, 50.0])).tolist() == [-10, -4, 2]
    for raw in (-1.3, 0.2, 2.0):
        expected = -5 + (1 + 5) * (math.tanh(raw) + 1) / 2
        assert bounded_log_std(torch.tensor(raw), -5, 1).item() == pytest.approx(expected)


def test_actor_equals_the_chain_written_out():
    actor = disturb(GaussianActor(4, 3, hidden_sizes=(7, 5), log_std_bounds=(-6.0, 1.0)))
    features = draw(6, 4)
    x = features
    for layer in (actor.body[0], actor.body[2]):
        x = (x @ layer.weight.T + layer.bias).clamp(min=0)
    x = x @ actor.output.weight.T + actor.output.bias
    mean, log_std = actor(features)
    torch.testing.assert_close(mean, x[:, :3])
    torch.testing.assert_close(log_std, -6 + 7 * (torch.tanh(x[:, 3:]) + 1) / 2)


def test_actor_starts_orthogonal():
    actor = GaussianActor(4, 3, hidden_sizes=(7, 5))
    for layer in (actor.body[0], actor.body[2], actor.output):
        assert_orthogonal(layer.weight.detach())
        assert not layer.bias.any()


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_critic_equals_its_heads_one_at_a_time(num_heads):
    critic = disturb(Critic(4, 2, num_heads=num_heads, hidden_sizes=(7, 5)))
    features, actions = draw(6, 4), draw(6, 2, seed=2)
    values = critic(features, actions)
    assert values.shape == (num_heads, 6)
    for head in range(num_heads):
        x = torch.cat([features, actions], 1)
        for layer in critic.hidden:
            x = (x @ layer.weight[head] + layer.bias[head]).clamp(min=0)
        expected = x @ critic.output.weight[head] + critic.output.bias[head]
        torch.testing.assert_close(values[head], expected[:, 0])


def test_views_come_before_heads_and_may_share_actions():
    critic = disturb(Critic(4, 2, num_heads=3, hidden_sizes=(7,)))
    features, actions, own = draw(2, 6, 4), draw(6, 2, seed=2), draw(2, 6, 2, seed=3)
    shared, separate = critic(features, actions), critic(features, own)
    assert shared.shape == separate.shape == (2, 3, 6)
    for view in range(2):
        torch.testing.assert_close(shared[view], critic(features[view], actions))
        torch.testing.assert_close(separate[view], critic(features[view], own[view]))
    for wrong in (actions[:1], own[:, :1]):
        with pytest.raises(AssertionError):
            critic(features, wrong)


def test_heads_start_orthogonal_and_apart():
    torch.manual_seed(0)
    critic = Critic(4, 2, num_heads=3, hidden_sizes=(7, 5))
    for layer in (*critic.hidden, critic.output):
        for head in range(3):
            assert_orthogonal(layer.weight[head].detach())
            assert not torch.allclose(layer.weight[head], layer.weight[head - 1], atol=1e-3)
        assert not layer.bias.any()


def test_a_heads_gradient_stays_in_it_and_reaches_the_actions():
    critic = disturb(Critic(4, 2, hidden_sizes=(7, 5)))
    features, actions = draw(6, 4).requires_grad_(), draw(6, 2, seed=2).requires_grad_()
    critic(features, actions)[0].sum().backward()
    for parameter in critic.parameters():
        assert parameter.grad[0].any()
        assert not parameter.grad[1].any()
    assert features.grad.any()
    assert actions.grad.any()


def test_values_stay_in_single_precision_under_autocast():
    critic, actor = Critic(4, 2, hidden_sizes=(7, 5)), GaussianActor(4, 2, hidden_sizes=(7, 5))
    with torch.no_grad():
        critic.output.bias += 1000
    with torch.autocast("cpu", torch.bfloat16):
        values = critic(draw(6, 4), draw(6, 2, seed=2))
        outputs = actor(draw(6, 4))
    assert all(x.dtype == torch.float32 for x in (values, *outputs))
    assert values.unique().numel() == 12  # in bfloat16 all are 1000


@pytest.mark.parametrize("rate", [0.01, 0.75, 1.0])
def test_targets_move_by_their_rate(rate):
    target, online = (disturb(Critic(4, 2, hidden_sizes=(7,)), seed=seed) for seed in (1, 2))
    old, new = ([p.detach().clone() for p in network.parameters()] for network in (target, online))
    move_towards(target, online, rate)
    for parameter, before, goal, kept in zip(target.parameters(), old, new, online.parameters(), strict=True):
        torch.testing.assert_close(parameter, (1 - rate) * before + rate * goal)
        assert torch.equal(kept, goal)
        assert parameter.grad is None
        assert not parameter.requires_grad or parameter.is_leaf
        if rate == 1:
            assert torch.equal(parameter, goal)


def test_targets_also_have_the_buffers():
    target, online = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    online(draw(8, 3))
    move_towards(target, online, 0.5)
    assert torch.equal(target.running_mean, online.running_mean)
    assert target.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianActor(4, 2, log_std_bounds=(2.0, -10.0)), "a lower and a higher number, got 2.0 and -10.0"),
        (lambda: GaussianActor(4, 2, hidden_sizes=()), "hidden_sizes must be one or more positive widths"),
        (lambda: Critic(4, 2, hidden_sizes=(0,)), r"widths, got \[0\]"),
        (lambda: Critic(4, 2, num_heads=0), "num_heads must be 1 or more, got 0"),
        (lambda: move_towards(torch.nn.Identity(), torch.nn.Identity(), 0.0), "rate must be above 0 .* got 0.0"),
        (lambda: move_towards(torch.nn.Identity(), torch.nn.Identity(), 1.5), "at most 1, got 1.5"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_copies_of_another_structure_are_refused():
    with pytest.raises(AssertionError, match="different structure"):
        move_towards(Critic(4, 2, hidden_sizes=(7,)), Critic(4, 2, hidden_sizes=(8,)), 0.5)
