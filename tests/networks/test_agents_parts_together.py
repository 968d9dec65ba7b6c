"""Networks, augmentations and losses of DrQ in one step, against the same step one view and one item at a time."""

import copy
import math

import pytest
import torch

from lightning_zoo.augmentations import augmented_views
from lightning_zoo.losses.q_learning import greedy_values, q_targets, td_loss
from lightning_zoo.losses.soft_actor_critic import (
    actor_loss,
    critic_loss,
    soft_q_targets,
    squashed_gaussian,
    temperature_loss,
)
from lightning_zoo.networks.actor import GaussianActor
from lightning_zoo.networks.critic import Critic
from lightning_zoo.networks.pixel_autoencoder import PixelEncoder, PixelHead
from lightning_zoo.networks.q_network import QNetwork

BATCH, VIEWS, ACTION, ALPHA = 3, 2, 2, 0.1


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frames(*shape, seed):
    return torch.randint(0, 256, (BATCH, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


REWARDS, DISCOUNTS = draw(BATCH, seed=1), torch.tensor([0.9, 0.0, 0.5])


def test_a_step_of_deep_q_learning():
    torch.manual_seed(0)
    online, target = (QNetwork((2, 36, 36), 4, hidden_sizes=(9,), dueling=True) for _ in range(2))
    generator = torch.Generator().manual_seed(5)
    views, next_views = (augmented_views(frames(2, 36, 36, seed=s), VIEWS, 4, 0.05, generator) for s in (2, 3))
    actions = torch.tensor([3, 0, 1])
    next_q, next_online = (net(next_views.flatten(0, 1)).unflatten(0, (VIEWS, -1)) for net in (target, online))
    targets = q_targets(REWARDS, DISCOUNTS, greedy_values(next_q, next_online))
    loss = td_loss(online(views.flatten(0, 1)).unflatten(0, (VIEWS, -1)), actions, targets, "mse")
    total = 0.0
    for i in range(BATCH):
        values = []
        for k in range(VIEWS):
            best = online(next_views[k, i : i + 1])[0].argmax()
            values.append(target(next_views[k, i : i + 1])[0, best].item())
        y = REWARDS[i].item() + DISCOUNTS[i].item() * sum(values) / VIEWS
        assert targets[i].item() == pytest.approx(y, abs=1e-5)
        total += sum((online(views[m, i : i + 1])[0, actions[i]].item() - y) ** 2 for m in range(VIEWS))
    assert loss.item() == pytest.approx(total / VIEWS / BATCH, rel=1e-4)
    loss.backward()
    assert all(parameter.grad is not None for parameter in online.parameters())
    assert all(parameter.grad is None for parameter in target.parameters())


class Agent:
    """An actor with a head of its own on the maps of the critic's encoder."""

    def __init__(self):
        torch.manual_seed(0)
        self.encoder = PixelEncoder((3, 16, 16), 5, num_filters=4)
        self.head = PixelHead(self.encoder.map_shape, 5)
        self.actor = GaussianActor(5, ACTION, hidden_sizes=(8,), log_std_bounds=(-3.0, 0.0))
        self.critic = Critic(5, ACTION, hidden_sizes=(8,))
        self.old_encoder, self.old_critic = copy.deepcopy(self.encoder), Critic(5, ACTION, hidden_sizes=(8,))

    def act(self, images, noise):
        mean, log_std = self.actor(self.head(self.encoder.maps(images).detach()))
        return squashed_gaussian(mean, log_std, noise)


def test_a_step_of_the_critic():
    agent, noise = Agent(), draw(VIEWS, BATCH, ACTION, seed=4)
    generator = torch.Generator().manual_seed(5)
    views, next_views = (augmented_views(frames(3, 16, 16, seed=s), VIEWS, generator=generator) for s in (2, 3))
    actions = draw(BATCH, ACTION, seed=6).tanh()
    flat = next_views.flatten(0, 1)
    next_actions, log_probabilities = (x.unflatten(0, (VIEWS, -1)) for x in agent.act(flat, noise.flatten(0, 1)))
    next_q = agent.old_critic(agent.old_encoder(flat).unflatten(0, (VIEWS, -1)), next_actions)
    targets = soft_q_targets(REWARDS, DISCOUNTS, next_q, log_probabilities, ALPHA)
    loss = critic_loss(agent.critic(agent.encoder(views.flatten(0, 1)).unflatten(0, (VIEWS, -1)), actions), targets)
    total = 0.0
    for i in range(BATCH):
        y = REWARDS[i].item()
        for k in range(VIEWS):
            image = next_views[k, i : i + 1]
            action, logp = agent.act(image, noise[k, i : i + 1])
            heads = agent.old_critic(agent.old_encoder(image), action)[:, 0].tolist()
            y += DISCOUNTS[i].item() * (min(heads) - ALPHA * logp.item()) / VIEWS
        assert targets[i].item() == pytest.approx(y, abs=1e-5)
        for m in range(VIEWS):
            heads = agent.critic(agent.encoder(views[m, i : i + 1]), actions[i : i + 1])[:, 0].tolist()
            total += sum((q - y) ** 2 for q in heads) / VIEWS / BATCH
    assert loss.item() == pytest.approx(total, rel=1e-4)
    loss.backward()
    for network, learns in [(agent.encoder, 1), (agent.critic, 1), (agent.head, 0), (agent.actor, 0)]:
        assert all((parameter.grad is not None) == learns for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in agent.old_critic.parameters())


def test_a_step_of_the_actor_leaves_the_convolutions_alone():
    agent = Agent()
    maps = agent.encoder.maps(frames(3, 16, 16, seed=2)).detach()  # once for both
    mean, log_std = agent.actor(agent.head(maps))
    actions, log_probabilities = squashed_gaussian(mean, log_std, draw(BATCH, ACTION, seed=4))
    actor_loss(agent.critic(agent.encoder.features(maps), actions), log_probabilities, ALPHA).backward()
    assert all(parameter.grad is None for parameter in agent.encoder.convolutions.parameters())
    assert all(parameter.grad is not None for net in (agent.head, agent.actor) for parameter in net.parameters())


def test_an_actor_with_a_temperature_finds_the_best_action_and_keeps_its_entropy():
    # Of Q = -8 (a - 0.5)^2 the maximum lies at 0.5; the policy's entropy is what is asked for.
    torch.manual_seed(0)
    actor, noise = GaussianActor(1, 1, hidden_sizes=(8,)), draw(256, 1, seed=1)
    log_alpha = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([*actor.parameters(), log_alpha], lr=0.05)
    for _ in range(200):
        mean, log_std = actor(torch.ones(256, 1))
        actions, log_probabilities = squashed_gaussian(mean, log_std, noise)
        q = (-8 * (actions - 0.5) ** 2).T
        loss = actor_loss(q, log_probabilities, log_alpha.exp()) + temperature_loss(log_alpha, log_probabilities, -1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert actions.mean().item() == pytest.approx(0.5, abs=0.05)
    assert -log_probabilities.mean().item() == pytest.approx(-1, abs=0.1)
    # A narrow density of that entropy is nearly normal: log(std sqrt(2 pi e)) = -1.
    assert actions.std().item() == pytest.approx(math.exp(-1) / math.sqrt(2 * math.pi * math.e), rel=0.15)
