"""The attentive linear classifier against its formula, clip by clip."""

import pytest
import torch

from lightning_zoo.networks.attentive_classifier import AttentiveClassifier, Standardized


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def built(**options):
    torch.manual_seed(0)
    return AttentiveClassifier(12, 5, 3, **({"hidden_size": 4} | options))


def by_hand(network, statics, dynamics):
    """Logits (3,) and a of one clip."""
    s = (statics - network.scales["statics"].mean) * network.scales["statics"].scale
    p = (dynamics - network.scales["dynamics"].mean) * network.scales["dynamics"].scale
    g_s = network.transforms["statics"].weight @ s + network.transforms["statics"].bias
    g_p = network.transforms["dynamics"].weight @ p + network.transforms["dynamics"].bias
    f = network.attention.weight[0] @ torch.cat([g_s, g_p]) + network.attention.bias[0]
    a = 1 / (1 + (-f).exp())
    w = network.classes.weight
    return w[:, :4] @ g_s * a + w[:, 4:] @ g_p * (1 - a) + network.classes.bias, a


def test_the_formula_and_its_gradient_clip_by_clip():
    network, statics, dynamics = built(), 3 + random(7, 12), 2 * random(7, 5)
    network.measure(statics, dynamics)
    logits, attention = network(statics, dynamics)
    slow = [by_hand(network, s, p) for s, p in zip(statics, dynamics, strict=True)]
    torch.testing.assert_close(logits, torch.stack([row for row, _ in slow]))
    torch.testing.assert_close(attention, torch.stack([a for _, a in slow]))
    assert attention.std() > 1e-4
    parameters, weights = list(network.parameters()), random(7, 3)
    expected = torch.autograd.grad(sum((w * row).sum() for w, (row, _) in zip(weights, slow, strict=True)), parameters)
    for found, wanted in zip(torch.autograd.grad((weights * logits).sum(), parameters), expected, strict=True):
        assert wanted.abs().max() > 1e-5
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("mode", "size", "counted"), [("statics", 12, 1.0), ("dynamics", 5, 0.0)])
def test_one_part_alone_is_one_linear_layer_on_it(mode, size, counted):
    network, statics, dynamics = built(mode=mode), random(6, 12), random(6, 5)
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [(3, size), (3,)]
    network.measure(statics, dynamics)
    logits, attention = network(statics, dynamics)
    assert attention.tolist() == [counted] * 6
    nothing = torch.empty(6, 0)
    again, _ = network(statics if mode == "statics" else nothing, dynamics if mode == "dynamics" else nothing)
    assert torch.equal(logits, again), "the other part is not read"
    own = network.scales[mode](statics if mode == "statics" else dynamics)
    torch.testing.assert_close(logits, own @ network.classes.weight.T + network.classes.bias)


@pytest.mark.parametrize("number", [3, 5000])  # one part, and two
def test_features_are_brought_to_length_one(number):
    features = 1000 + random(number, 9) * torch.arange(1, 10)
    scale = Standardized(9)
    scale.measure(features)
    mean = torch.stack([row.double() for row in features]).mean(0)
    spread = ((features.double() - mean) ** 2).mean(0).sqrt()
    torch.testing.assert_close(scale.mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(scale.scale.double(), 1 / (3 * spread), rtol=1e-5, atol=0)
    assert scale(features).square().sum(1).mean().item() == pytest.approx(1, rel=1e-3)


def test_features_that_hardly_vary_are_not_blown_up():
    features = torch.cat([random(50, 8), torch.full((50, 1), 7.0)], 1)
    scale = Standardized(9)
    scale.measure(features.half())
    assert scale(features[:1] + 1).abs().max() < 100
    one = Standardized(9)
    one.measure(features[:1])
    assert one(features[:1]).abs().max() == 0
    assert scale(features.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "all"}, "mode must be 'both' or 'statics' or 'dynamics', got 'all'"),
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"statics_size": 0}, "statics_size must be at least 1, got 0"),
        ({"dynamics_size": 0, "mode": "dynamics"}, "dynamics_size must be at least 1, got 0"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        AttentiveClassifier(**({"statics_size": 4, "dynamics_size": 4, "num_classes": 2} | options))
