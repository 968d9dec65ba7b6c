"""Encoder, decoder and targets of pixels beside an agent, written out and counted by hand."""

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.networks.pixel_autoencoder import PixelDecoder, PixelEncoder, PixelHead
from lightning_zoo.networks.pixels import quantised_target, unit_pixels

SMALL = (3, 16, 15)


def images_of(shape=SMALL, batch=2):
    return torch.randint(0, 256, (batch, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_sizes_on_stacked_colour_frames():
    encoder, decoder = PixelEncoder((9, 84, 84), start="full"), PixelDecoder((9, 84, 84), start="full")
    inner, places = 3 * (32 * 9 * 32 + 32), 32 * 35 * 35
    assert encoder.map_shape == decoder.map_shape == (32, 35, 35)
    assert num_parameters(encoder) == (9 * 9 * 32 + 32) + inner + (places * 50 + 50) + 2 * 50
    assert num_parameters(decoder) == (50 * places + places) + inner + (32 * 9 * 9 + 9)
    features = encoder(images_of((9, 84, 84)))
    assert features.shape == (2, 50)
    assert decoder(features).shape == (2, 9, 84, 84)


def test_encoder_equals_the_chain_written_out():
    torch.manual_seed(0)
    encoder = PixelEncoder(SMALL, 6, num_filters=4, start="full")
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = images_of()
    x = images.float() / 255
    for index, layer in enumerate(encoder.convolutions[::2]):
        x = F.conv2d(x, layer.weight, layer.bias, stride=2 if index == 0 else 1).clamp(min=0)
    torch.testing.assert_close(encoder.maps(images), x)
    assert x.shape[1:] == encoder.map_shape == (4, 1, 1)
    y = x.flatten(1) @ encoder.head.linear.weight.T + encoder.head.linear.bias
    deviation = (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    y = (y - y.mean(1, keepdim=True)) / deviation * encoder.head.norm.weight + encoder.head.norm.bias
    torch.testing.assert_close(encoder(images), torch.tanh(y))
    torch.testing.assert_close(encoder(images.float() / 255), torch.tanh(y))


def test_decoder_equals_the_chain_written_out():
    torch.manual_seed(0)
    decoder = PixelDecoder(SMALL, 6, num_filters=4, start="full")
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    features = torch.randn(2, 6)
    x = (features @ decoder.linear.weight.T + decoder.linear.bias).clamp(min=0).view(2, *decoder.map_shape)
    *inner, last = decoder.convolutions[::2]
    for layer in inner:
        x = F.conv_transpose2d(x, layer.weight, layer.bias).clamp(min=0)
    x = F.conv_transpose2d(x, last.weight, last.bias, stride=2, output_padding=(1, 0))
    torch.testing.assert_close(decoder(features), x)
    assert x.min() < 0  # nothing holds the pixels on one side of 0


@pytest.mark.parametrize("size", [(84, 84), (83, 84), (84, 83), (33, 32)])
@pytest.mark.parametrize("num_layers", [1, 4])
def test_decoded_images_have_the_size_of_encoded_ones(size, num_layers):
    arguments = {"num_layers": num_layers, "num_filters": 2, "start": "full"}
    encoder, decoder = PixelEncoder((1, *size), 3, **arguments), PixelDecoder((1, *size), 3, **arguments)
    images = images_of((1, *size), 1)
    assert encoder.maps(images).shape[1:] == encoder.map_shape
    assert decoder(encoder(images)).shape == images.shape


def test_an_actors_head_on_detached_maps_spares_the_convolutions():
    encoder = PixelEncoder(SMALL, 6, num_filters=4)
    actors = PixelHead(encoder.map_shape, 6)
    actors(encoder.maps(images_of()).detach()).sum().backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in actors.parameters())
    encoder(images_of()).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def assert_orthogonal(matrix, square):
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, square * torch.eye(len(gram)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("network", [PixelEncoder, PixelDecoder])
@pytest.mark.parametrize("start", ["delta", "full"])
def test_start(network, start):
    torch.manual_seed(0)
    built = network((9, 20, 20), 12, start=start)
    for layer in built.convolutions[::2]:
        weight = layer.weight.detach().clone()
        if start == "delta":
            assert_orthogonal(weight[:, :, 1, 1], 2)
            weight[:, :, 1, 1] = 0
            assert not weight.any()
        else:
            assert_orthogonal(weight.flatten(1), 2)
        assert not layer.bias.any()
    linear = built.linear if network is PixelDecoder else built.head.linear
    assert_orthogonal(linear.weight.detach(), 1)
    assert not linear.bias.any()


def test_quantised_targets_equal_a_loop():
    images = images_of((1, 8, 8), 4)
    for bits in (1, 5, 8):
        targets = quantised_target(images, bits, torch.Generator().manual_seed(0))
        noise = []
        for pixel, target in zip(images.flatten().tolist(), targets.flatten().tolist(), strict=True):
            level = pixel // 2 ** (8 - bits)  # 0 ... 2^bits - 1
            noise.append((target + 0.5) * 2**bits - level)
        assert targets.dtype == torch.float32
        assert targets.min() >= -0.5
        assert targets.max() < 0.5
        assert -1e-4 < min(noise) < 0.05
        assert 0.95 < max(noise) < 1 + 1e-4
        assert sum(noise) / 256 == pytest.approx(0.5, abs=5 * (1 / 12 / 256) ** 0.5)


def test_noise_of_targets_is_drawn_per_pixel_by_the_generator_alone():
    images = torch.zeros(2, 3, 5, 5, dtype=torch.uint8)
    state = torch.get_rng_state()
    first, same, other = (quantised_target(images, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.unique().numel() == first.numel()


def test_unit_pixels():
    images = torch.arange(256, dtype=torch.uint8)
    assert unit_pixels(images).tolist() == pytest.approx([value / 255 for value in range(256)])
    floats = torch.rand(3)
    assert unit_pixels(floats) is floats


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PixelEncoder((84, 84)), r"observation_shape must be \(C, H, W\), got \(84, 84\)"),
        (lambda: PixelEncoder((1, 9, 84)), "images of 9x84 leave nothing after num_layers=4"),
        (lambda: PixelDecoder((1, 84, 8)), "images of 84x8 leave nothing"),
        (lambda: PixelEncoder((1, 84, 84), num_layers=0), "num_layers must be 1 or more, got 0"),
        (lambda: PixelEncoder(SMALL, 3)(images_of((3, 15, 16))), r"must be \(B, 3, 16, 15\), got \(2, 3, 15, 16\)"),
        (lambda: quantised_target(torch.rand(1, 1, 2, 2)), "images must be uint8 .* got torch.float32"),
        (lambda: quantised_target(images_of(), 0), "bits must be 1 to 8, got 0"),
        (lambda: quantised_target(images_of(), 9), "bits must be 1 to 8, got 9"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
