import pytest
import torch

from lightning_zoo.networks.nature_cnn import NatureCNN
from lightning_zoo.networks.nature_decoder import NatureDecoder


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_mirror_the_encoder(channels):
    decoder = NatureDecoder(feature_size=7, output_channels=channels)
    encoder = NatureCNN(input_channels=channels)
    shapes = []
    hooks = [layer.register_forward_hook(lambda m, i, out: shapes.append(out.shape[1:])) for layer in decoder.layers]
    frames = decoder(torch.randn(2, 7))
    [hook.remove() for hook in hooks]
    assert frames.shape == (2, channels, 210, 160)
    expected = list(encoder.map_shapes.values())
    assert decoder.map_shape == expected[-1]
    assert [tuple(shape) for shape in shapes[:-1]] == expected[-2::-1]
    assert frames.min() > 0
    assert frames.max() < 1


def test_starts_orthogonal_with_gain_sqrt_two():
    torch.manual_seed(0)
    decoder = NatureDecoder()
    for layer in decoder.layers:
        weight = layer.weight.detach().flatten(1)
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(gram, 2 * torch.eye(len(gram)), atol=1e-4, rtol=0)
        assert not layer.bias.any()
    bound = 256**-0.5
    assert 0.99 * bound < decoder.linear.weight.abs().max() <= bound


def test_equals_the_chain_of_layers_written_out():
    torch.manual_seed(0)
    decoder = NatureDecoder(feature_size=5, output_channels=3)
    x = torch.randn(2, 5)
    first, second, third, fourth = decoder.layers
    y = torch.nn.functional.linear(x, decoder.linear.weight, decoder.linear.bias).clamp(min=0).view(2, 64, 9, 6)
    y = torch.nn.functional.conv_transpose2d(y, first.weight, first.bias).clamp(min=0)
    y = torch.nn.functional.conv_transpose2d(y, second.weight, second.bias, 2).clamp(min=0)
    y = torch.nn.functional.conv_transpose2d(y, third.weight, third.bias, 2, 0, 1).clamp(min=0)
    y = torch.nn.functional.conv_transpose2d(y, fourth.weight, fourth.bias, 4, 0, (2, 0))
    torch.testing.assert_close(decoder(x), 1 / (1 + torch.exp(-y)))
