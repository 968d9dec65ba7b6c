"""Where attributes enter the networks, against slow loops over time steps; parameter counts by hand."""

import pytest
import torch
from torch import nn

from lightning_zoo.networks.attribute_paths import (
    AttendedAttributes,
    AttributedLinearPosterior,
    AttributedLinearProjection,
    AttributedPosterior,
    AttributedProjection,
    LinearPrior,
    RecurrentPrior,
    RepeatedAttributes,
    join_blocks,
)
from lightning_zoo.networks.channel_recurrence import recurrent_parameters
from lightning_zoo.networks.conditional_discriminator import BlockJoin, ConditionalDiscriminator, LinearJoin

LATENT, FEATURES, N, T = (8, 4, 4), (16, 4, 4), 5, 4


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def signs(rows=3):
    return torch.randint(0, 2, (rows, N)) * 2.0 - 1


def test_every_column_of_the_mask_is_a_distribution_over_steps():
    attend = AttendedAttributes(T, N)
    bound = 1 / (T * N) ** 0.5
    assert attend.scores.abs().max() <= bound
    with torch.no_grad():
        attend.scores.copy_(torch.randn(T, N))
    mask = attend.mask()
    torch.testing.assert_close(mask.sum(0), torch.ones(N))
    assert not torch.allclose(mask.sum(1), torch.ones(T)), "rows are steps, and not distributions"
    attributes = signs()
    steps = attend(attributes)
    for row in range(3):
        for step in range(T):
            torch.testing.assert_close(steps[row, step], attributes[row] * mask[step])


def test_repeated_attributes():
    attributes = signs()
    assert torch.equal(RepeatedAttributes(T)(attributes), torch.stack([attributes] * T, 1))


def test_blocks_are_joined_channel_block_by_channel_block():
    features = torch.arange(16.0)[None, :, None, None].expand(1, 16, 4, 4)
    first = 100 + torch.arange(4.0)[None, :, None].expand(1, T, 2 * 16)
    joined = join_blocks(first, features)
    assert joined.shape == (1, 24, 4, 4)
    expected = []
    for step in range(T):
        expected += [100 + step] * 2 + [4 * step + k for k in range(4)]
    assert joined[0, :, 0, 0].tolist() == expected


def test_the_recurrent_prior_reads_a_step_at_a_time_and_never_ahead():
    prior = RecurrentPrior(N, LATENT, num_steps=T)
    steps = torch.randn(2, T, N)
    mean, log_variance = prior(steps)
    hidden, state = [], None
    for step in range(T):
        out, state = prior.lstm(steps[:, step : step + 1], state)
        hidden.append(out[:, 0])
    for step in range(T):
        channels = slice(2 * step, 2 * step + 2)
        torch.testing.assert_close(mean[:, channels].flatten(1), prior.mean(hidden[step]))
        torch.testing.assert_close(log_variance[:, channels].flatten(1), prior.log_variance(hidden[step]))
    changed = steps.clone()
    changed[:, 2] += 1
    moved = prior(changed)[0] - mean
    assert moved[:, :4].abs().max() == 0
    assert (moved[:, 4:].flatten(1).abs().amax(1) > 0).all()


def test_published_sizes_by_hand():
    published = {"num_steps": 8}
    latent, features = (64, 4, 4), (256, 4, 4)
    lstm = 4 * 128 * (40 + 128 + 2) + 4 * 128 * (128 + 128 + 2)
    assert count(RecurrentPrior(40, latent, **published)) == lstm + 2 * (128 * 128 + 128)
    posterior = AttributedPosterior(features, latent, 40, **published)
    lstm = 4 * 512 * (640 + 512 + 2) + 4 * 512 * (512 + 512 + 2)
    heads = (320 * 64 * 9 + 64) + 1024 + 2 * 512 + (512 * 128 + 128) + (40 * 128 + 128)
    assert count(posterior) == lstm + heads
    projection = AttributedProjection(latent, features, 40, **published)
    lstm = 4 * 512 * (256 + 512 + 2) + 4 * 512 * (512 + 512 + 2)
    assert count(projection) == lstm + (512 * 128 + 128) + (40 * 128 + 128) + 1024 + (64 * 256 * 9 + 256) + 512
    assert count(LinearPrior(40, latent)) == (40 * 1024 + 1024) + 2 * (1024 * 1024 + 1024)
    linear = (40 * 1024 + 1024) + (5120 * 1024 + 1024) + 2 * (1024 * 1024 + 1024)
    assert count(AttributedLinearPosterior(features, latent, 40)) == linear
    assert count(AttributedLinearProjection(latent, features, 40)) == (40 * 1024 + 1024) + (2048 * 4096 + 4096)


def test_posterior_and_projection_against_loops_over_steps():
    posterior = AttributedPosterior(FEATURES, LATENT, N, num_steps=T, hidden_size=6, num_layers=1).eval()
    features, steps = torch.randn(2, *FEATURES), torch.randn(2, T, N)
    mean, log_variance = posterior(features, steps)
    blocks = []
    for step in range(T):
        own = nn.functional.leaky_relu(posterior.attributes[0](steps[:, step]), 0.1)
        blocks.append(torch.cat([own, features[:, 4 * step : 4 * step + 4].flatten(1)], 1))
    joined = torch.cat([block.unflatten(1, (6, 4, 4)) for block in blocks], 1)
    torch.testing.assert_close(mean, posterior.mean(joined) + posterior.shift.value)
    hidden, _ = posterior.recurrence.lstm(torch.stack(blocks, 1))
    normed = posterior.recurrence.norm(hidden.reshape(-1, 6)).reshape(2, T, 6)
    for step in range(T):
        expected = posterior.recurrence.output(normed[:, step])
        torch.testing.assert_close(log_variance[:, 2 * step : 2 * step + 2].flatten(1), expected)

    projection = AttributedProjection(LATENT, FEATURES, N, num_steps=T, hidden_size=6, num_layers=1)
    latent = torch.randn(2, *LATENT)
    u = projection.transform(latent, steps)
    state = None
    for step in range(T):
        own = nn.functional.leaky_relu(projection.recurrence.attributes[0](steps[:, step]), 0.1)
        read = torch.cat([own, latent[:, 2 * step : 2 * step + 2].flatten(1)], 1)
        out, state = projection.recurrence.lstm(read[:, None], state)
        torch.testing.assert_close(u[:, 2 * step : 2 * step + 2].flatten(1), projection.recurrence.output(out[:, 0]))


def test_lstms_the_prior_and_the_generators_attributes_learn_slowly():
    parts = nn.ModuleDict(
        {
            "prior": RecurrentPrior(N, LATENT, num_steps=T),
            "posterior": AttributedPosterior(FEATURES, LATENT, N, num_steps=T, hidden_size=6),
            "projection": AttributedProjection(LATENT, FEATURES, N, num_steps=T, hidden_size=6),
            "attention": AttendedAttributes(T, N),
        }
    )
    slow = {id(parameter) for parameter in recurrent_parameters(parts)}
    names = {name for name, parameter in parts.named_parameters() if id(parameter) in slow}
    assert any(name.startswith("prior.mean") for name in names)
    assert "projection.recurrence.attributes.0.weight" in names
    assert "posterior.attributes.0.weight" not in names
    assert "attention.scores" not in names
    assert "projection.convolution.weight" not in names


def test_a_discriminator_reads_attributes_beside_the_features_alone():
    for join in (
        BlockJoin(N, FEATURES, LATENT, num_steps=T),
        LinearJoin(N, FEATURES, image_size=6, attribute_size=7),
    ):
        judge = ConditionalDiscriminator(None, 3, 2, join, hidden_size=9).eval()
        images, attributes = torch.rand(4, 3, 64, 64), signs(4)
        logits = judge(images, attributes)
        assert logits.shape == (4,)
        assert not torch.allclose(logits, judge(images, -attributes))
        names = {id(parameter): name for name, parameter in judge.named_parameters()}
        joining = {names[id(parameter)] for parameter in judge.joining_parameters()}
        head = {names[id(parameter)] for parameter in judge.head_parameters()}
        trunk = {name for name in names.values() if name.startswith("trunk.")}
        assert all(name.startswith("join.") for name in joining)
        assert joining | head | trunk == set(names.values())
        assert len(joining) + len(head) + len(trunk) == len(names)


def test_the_joined_features_by_hand():
    join = BlockJoin(N, FEATURES, LATENT, num_steps=T)
    features, attributes = torch.randn(2, *FEATURES), signs(2)
    joined = join(features, attributes)
    own = nn.functional.leaky_relu(attributes @ join.attributes[0].weight.T + join.attributes[0].bias, 0.1)
    for step in range(T):
        torch.testing.assert_close(joined[:, 6 * step : 6 * step + 2], own.reshape(2, 2, 4, 4))
        torch.testing.assert_close(joined[:, 6 * step + 2 : 6 * step + 6], features[:, 4 * step : 4 * step + 4])


def test_the_baselines_prior_begins_near_zero():
    weight = LinearPrior(N, LATENT, initial_bound=1e-4).hidden[0].weight
    assert 0 < weight.abs().max() <= 1e-4
