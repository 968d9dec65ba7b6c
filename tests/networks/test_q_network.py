"""Networks of action values against chains of layers written out, and counts made by hand."""

import copy

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.networks.q_network import QNetwork

SMALL = (2, 36, 36)  # the least that leaves one place of the last map


def build(shape=SMALL, num_actions=5, seed=0, **arguments):
    torch.manual_seed(seed)
    return QNetwork(shape, num_actions, **arguments)


def observations(shape=SMALL, batch=3):
    generator = torch.Generator().manual_seed(1)
    if len(shape) == 1:
        return torch.randn(batch, *shape, generator=generator)
    return torch.randint(0, 256, (batch, *shape), generator=generator, dtype=torch.uint8)


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


CONVOLUTIONS = (4 * 8 * 8 * 32 + 32) + (32 * 4 * 4 * 64 + 64) + (64 * 3 * 3 * 64 + 64)
FLAT = 64 * 7 * 7


@pytest.mark.parametrize(
    ("arguments", "heads"),
    [
        ({}, (FLAT * 512 + 512) + (512 * 6 + 6)),
        ({"dueling": True}, (FLAT * 512 + 512) + (512 * 6 + 6) + (512 + 1)),
        ({"dueling": True, "shared_hidden": False}, 2 * (FLAT * 512 + 512) + (512 * 6 + 6) + (512 + 1)),
        ({"shared_hidden": False}, (FLAT * 512 + 512) + (512 * 6 + 6)),
        ({"hidden_sizes": (10, 20)}, (FLAT * 10 + 10) + (10 * 20 + 20) + (20 * 6 + 6)),
    ],
)
def test_parameters_on_atari(arguments, heads):
    network = build((4, 84, 84), 6, initialisation="torch", **arguments)
    assert num_parameters(network) == CONVOLUTIONS + heads
    assert network(observations((4, 84, 84), 2)).shape == (2, 6)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, (4 * 256 + 256) + (256 * 256 + 256) + (256 * 2 + 2)),
        ({"hidden_sizes": (7,), "dueling": True}, (4 * 7 + 7) + (7 * 2 + 2) + (7 + 1)),
        (
            {"hidden_sizes": (9, 7), "dueling": True, "shared_hidden": False},
            (4 * 9 + 9) + 2 * (9 * 7 + 7) + (7 * 2 + 2) + (7 + 1),
        ),
    ],
)
def test_parameters_on_states(arguments, count):
    network = build((4,), 2, **arguments)
    assert num_parameters(network) == count
    assert network(observations((4,))).shape == (3, 2)


def slow_convolutions(network, images):
    """The last maps, flattened, from the parameters in the order of the layers."""
    x = images.float() / 255
    parameters = list(network.parameters())
    for index, stride in enumerate((4, 2, 1)):
        x = F.conv2d(x, parameters[2 * index], parameters[2 * index + 1], stride).clamp(min=0)
    return x.flatten(1), parameters[6:]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dueling", [True, False])
def test_equals_the_chain_written_out(shared, dueling):
    network = build(hidden_sizes=(12,), dueling=dueling, shared_hidden=shared, initialisation="torch")
    images = observations()
    flat, (weight, bias, *_) = slow_convolutions(network, images)
    separate = dueling and not shared
    # With layers of its own, V reads the first twelve rows and A the others.
    rows = (slice(0, 12), slice(12, 24)) if separate else (slice(None), slice(None))
    of_value, of_advantage = ((flat @ weight[row].T + bias[row]).clamp(min=0) for row in rows)
    expected = of_advantage @ network.advantage.weight.T + network.advantage.bias
    if dueling:
        value = of_value @ network.value.weight.T + network.value.bias
        for item in range(3):
            expected[item] += value[item] - expected[item].sum() / 5
    torch.testing.assert_close(network(images), expected)


def test_a_perceptron_equals_the_chain_written_out():
    network = build((4,), hidden_sizes=(8, 6), initialisation="torch")
    states = observations((4,))
    first, second = network.body[0], network.body[2]
    x = (states @ first.weight.T + first.bias).clamp(min=0)
    x = (x @ second.weight.T + second.bias).clamp(min=0)
    expected = x @ network.advantage.weight.T + network.advantage.bias
    torch.testing.assert_close(network(states), expected)


@pytest.mark.parametrize("shared", [True, False])
def test_dueling_values_average_to_v_and_ignore_what_all_advantages_share(shared):
    network = build(hidden_sizes=(12,), dueling=True, shared_hidden=shared)
    q = network(observations())
    shifted = copy.deepcopy(network)
    with torch.no_grad():
        shifted.advantage.bias += 3
        shifted.value.bias += 2
    torch.testing.assert_close(shifted(observations()), q + 2)


def test_streams_of_their_own_share_no_hidden_layer():
    network = build(hidden_sizes=(12,), dueling=True, shared_hidden=False)
    # The mean over actions is V alone.
    network(observations()).mean(1).sum().backward()
    slopes = network.body[0].linear.weight.grad.abs().sum(1)
    assert slopes[:12].gt(0).any()
    torch.testing.assert_close(slopes[12:], torch.zeros(12))


def test_bytes_are_fractions_of_255():
    network = build(hidden_sizes=(12,))
    images = observations()
    torch.testing.assert_close(network(images), network(images.float() / 255))
    torch.testing.assert_close(network(images), network(images.double().div(255).float()))


def test_values_stay_in_single_precision_under_autocast():
    network = build(hidden_sizes=(12,), dueling=True)
    with torch.no_grad():
        # Numbers that bfloat16 does not have.
        network.value.bias += 1001
        network.advantage.bias += 1000 + 0.5 * torch.arange(5)
    with torch.autocast("cpu", torch.bfloat16):
        q = network(observations())
    assert q.dtype == torch.float32
    assert q[0].unique().numel() == 5
    torch.testing.assert_close(q, network(observations()), rtol=0, atol=0.1)


def test_xavier_start():
    network = build((4, 84, 84), 6, dueling=True)
    parameters = list(network.parameters())
    fans = [(4 * 64, 32 * 64), (32 * 16, 64 * 16), (64 * 9, 64 * 9), (FLAT, 512), (512, 6), (512, 1)]
    for (fan_in, fan_out), weight, bias in zip(fans, parameters[::2], parameters[1::2], strict=True):
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.95 * bound < weight.abs().max() <= bound
        # Uniform, whose deviation is the bound over the root of three; sampling errors of its square.
        assert weight.square().mean().item() == pytest.approx(bound**2 / 3, rel=5 / weight.numel() ** 0.5)
        assert not bias.any()


def test_orthogonal_start():
    network = build((4, 84, 84), 6, dueling=True, shared_hidden=False, initialisation="orthogonal")
    *hidden, advantage, value = list(network.parameters())[::2]
    for weight, square in [(w, 2) for w in hidden] + [(advantage, 1), (value, 1)]:
        flat = weight.detach().flatten(1)
        gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
        torch.testing.assert_close(gram, square * torch.eye(len(gram)), atol=1e-4, rtol=0)
    assert not any(bias.any() for bias in list(network.parameters())[1::2])


def test_start_of_torch_is_that_of_its_layers():
    network = build((4, 84, 84), 6, initialisation="torch")
    for weight in list(network.parameters())[::2]:
        bound = weight[0].numel() ** -0.5
        assert 0.95 * bound < weight.abs().max() <= bound
    assert all(bias.any() for bias in list(network.parameters())[1::2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (84, 84)}, r"observation_shape must be \(C, H, W\) or \(D,\), got \(84, 84\)"),
        ({"num_actions": 0}, "num_actions must be 1 or more, got 0"),
        ({"hidden_sizes": ()}, r"hidden_sizes must be one or more positive widths, got \[\]"),
        ({"hidden_sizes": (5, 0)}, r"got \[5, 0\]"),
        ({"shape": (4, 20, 20)}, "frames of 20x20 leave nothing"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_observations_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"must be \(B, 2, 36, 36\), got \(3, 4, 36, 36\)"):
        build()(observations((4, 36, 36)))
    with pytest.raises(ValueError, match=r"must be \(B, 2, 36, 36\), got \(2, 36, 36\)"):
        build()(observations()[0])
