import pytest
import torch
from torch import nn

from lightning_zoo.networks.digit_networks import DigitDecoder, DigitEncoder


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def written_out(layers):
    """Weights, biases and the two vectors of the normalisation, from (inputs, outputs, kernel, normalised)."""
    return sum(i * o * k * k + o + 2 * o * normalised for i, o, k, normalised in layers)


# As the layers are listed in the publication's code for 32 base channels; a concatenated ReLU doubles the channels.
ENCODER = [(1, 32, 5), (64, 64, 3), (64, 64, 3), (128, 128, 3), (128, 128, None), (256, 256, 3)]
DECODER = [(256, 256, 4), (256, 256, 3), (256, 128, 4), (128, 128, 3), (128, 64, 4), (64, 64, 3)]


@pytest.mark.parametrize("last_kernel", [3, 5])
def test_parameters_of_the_released_encoder(last_kernel):
    expected = written_out([(i, o, k or last_kernel, 1) for i, o, k in ENCODER])
    assert count(DigitEncoder(last_kernel=last_kernel)) == expected


def test_parameters_of_the_released_decoder():
    assert count(DigitDecoder()) == written_out([*((i, o, k, 1) for i, o, k in DECODER), (64, 1, 3, 0)])


def test_all_widths_scale_with_the_base():
    encoder = [(1, 4, 5), (8, 8, 3), (8, 8, 3), (16, 16, 3), (16, 16, 3), (32, 32, 3)]
    decoder = [(32, 32, 4), (32, 32, 3), (32, 16, 4), (16, 16, 3), (16, 8, 4), (8, 8, 3)]
    assert count(DigitEncoder(base_channels=4)) == written_out([(*layer, 1) for layer in encoder])
    assert count(DigitDecoder(base_channels=4)) == written_out([*((*x, 1) for x in decoder), (8, 1, 3, 0)])


def sizes(network, x):
    found = []
    for layer in network.layers:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found.append(x.shape[2])
    return found, x


@pytest.mark.parametrize("last_kernel", [3, 5])
def test_sizes_of_the_maps(last_kernel):
    encoder, decoder = DigitEncoder(base_channels=2, last_kernel=last_kernel), DigitDecoder(base_channels=2)
    inner, features = sizes(encoder, torch.rand(2, 1, 28, 28))
    assert inner == [15, 15, 8, 8, 4, 4]
    assert features.shape == (2, *encoder.feature_shape)
    inner, logits = sizes(decoder, features)
    assert inner == [8, 8, 16, 16, 30, 30, 28]
    assert logits.shape == (2, 1, 28, 28)
    assert logits.min() < 0, "logits, not probabilities"


def test_momentum_reaches_every_normalisation():
    for network in (DigitEncoder(base_channels=1, norm_momentum=0.9), DigitDecoder(base_channels=1, norm_momentum=0.9)):
        norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert len(norms) == 6
        assert {norm.momentum for norm in norms} == {0.9}


def test_every_parameter_and_pixel_counts():
    encoder, decoder = DigitEncoder(base_channels=2), DigitDecoder(base_channels=2)
    images = torch.rand(4, 1, 28, 28, requires_grad=True)
    decoder(encoder(images)).square().sum().backward()
    assert (images.grad.abs().sum((0, 1)) > 0).all()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad.isfinite().all(), name
