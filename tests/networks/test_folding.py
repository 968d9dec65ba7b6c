"""Batch normalisation folded into convolutions, against the network as it was."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from lightning_zoo.generative import likelihood
from lightning_zoo.generative.crvae import CRVAE
from lightning_zoo.generative.cvae import CVAE
from lightning_zoo.generative.hierarchical_crvae import HierarchicalCRVAE
from lightning_zoo.generative.vae import VAE
from lightning_zoo.networks.folding import folded_norms


def norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def with_statistics(network):
    """Evaluation mode, and normalisation that does something."""
    generator = torch.Generator().manual_seed(5)
    for norm in norms(network):
        for tensor, least in (norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5), (norm.running_var, 0.3):
            tensor.data.uniform_(least, least + 1, generator=generator)
    return network.eval()


def layers():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 5, 4, 2, 1), nn.BatchNorm2d(5)
    )


def tiny(cls, **options):
    torch.manual_seed(0)
    small = {"base_channels": 2, "latent_channels": 8}
    if cls in (CRVAE, HierarchicalCRVAE):
        small |= {"num_steps": 2, "hidden_size": 6}
    return with_statistics(cls(**(small | options)))


def estimates(model, images):
    generator = torch.Generator().manual_seed(1)
    options = {"num_draws": 6, "draws_per_chunk": 4, "generator": generator}
    return torch.stack(likelihood.streamed_log_likelihood(model, images, **options))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("cls", [VAE, CVAE, CRVAE, HierarchicalCRVAE])
def test_likelihoods_are_those_of_the_unfolded_model(cls, channels_last, monkeypatch):
    model = tiny(cls, channels_last=channels_last)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2)).lt(0.3).float()
    folded = estimates(model, images)
    monkeypatch.setattr(likelihood, "folded_norms", lambda network: nullcontext())
    torch.testing.assert_close(folded, estimates(model, images), rtol=0, atol=1e-4)
    for norm in norms(model):
        norm.reset_running_stats()
    assert (folded - estimates(model, images)).abs().max() > 1, "the statistics make no difference here"


@pytest.mark.parametrize("cls", [CVAE, CRVAE, HierarchicalCRVAE])
def test_no_normalisation_is_computed_while_draws_are_decoded(cls):
    model, seen = tiny(cls), []
    latent = torch.randn(2, *model.latent_shape)
    for norm in norms(model):
        norm.register_forward_hook(lambda *_: seen.append(1))
    expected = model.generate(latent)
    assert seen
    seen.clear()
    with torch.no_grad(), folded_norms(model):
        torch.testing.assert_close(model.generate(latent), expected, rtol=1e-4, atol=1e-5)
    assert not seen


def test_by_hand_in_double_precision():
    network = with_statistics(layers()).double()
    images = torch.rand(2, 2, 5, 6, dtype=torch.float64)
    expected = images
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            mean, variance, weight, bias = (
                x[:, None, None] for x in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
            )
            expected = (expected - mean) / (variance + layer.eps).sqrt() * weight + bias
        else:
            expected = layer(expected)
    with folded_norms(network):
        torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)


def test_the_network_is_as_before_even_after_an_error():
    network = with_statistics(layers())
    modules, state = list(network.modules()), copy.deepcopy(network.state_dict())

    def fail():
        with folded_norms(network):
            assert list(network.modules()) != modules
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(network.modules()) == modules
    assert list(network.state_dict()) == list(state)
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize(
    "network",
    [
        layers(),  # in training mode
        nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3)).eval(),
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)).eval(),
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)).eval(),
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)).eval(),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3)), nn.BatchNorm2d(3)).eval(),
    ],
    ids=["training", "norm first", "between", "no statistics", "groups", "parametrised"],
)
def test_what_cannot_be_folded_is_left_alone(network):
    modules = list(network.modules())
    with folded_norms(network):
        assert list(network.modules()) == modules
