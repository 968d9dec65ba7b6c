"""Stage-2 generator and discriminator: sizes, counts by hand, and the layers computed one by one."""

import pytest
import torch
from torch.nn import functional as F

from lightning_zoo.networks.stage2_networks import Stage2Discriminator, Stage2Generator, working_size


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def conv(before, after, size, *, norm=True):
    """Weights of a convolution: with batch normalisation no bias but a scale and a shift per channel."""
    return before * after * size * size + (2 * after if norm else after)


@pytest.mark.parametrize(
    ("options", "input_size", "output_size"),
    [
        ({"scale": 2}, 64, 128),
        ({"scale": 2, "upsampling": "deconvolution"}, 64, 128),
        ({"scale": 2, "upsampling": "deconvolution", "num_downsamplings": 1}, 64, 128),
        ({"scale": 4}, 56, 224),
    ],
)
def test_generator_sizes(options, input_size, output_size):
    network = Stage2Generator(base_channels=4, num_residual_blocks=1, **options)
    images = network(torch.rand(2, 3, input_size, input_size) * 2 - 1)
    assert images.shape == (2, 3, output_size, output_size)
    assert images.abs().max() <= 1


@pytest.mark.parametrize(("size", "grid"), [(128, 4), (224, 7), (256, 4)])
def test_discriminator_sizes(size, grid):
    network = Stage2Discriminator(size, base_channels=2)
    assert network(torch.rand(2, 3, size, size)).shape == (2,)
    assert network.layers[-1].kernel_size == (grid, grid)


@pytest.mark.parametrize(("upsampling", "kernel"), [("nearest", 3), ("deconvolution", 4)])
def test_parameters_of_the_birds_and_celeba_generators(upsampling, kernel):
    b = 128
    wanted = conv(3, b, 3, norm=False) + conv(b, 2 * b, 4) + conv(2 * b, 4 * b, 4) + conv(4 * b, 4 * b, 3)
    wanted += 4 * 2 * conv(4 * b, 4 * b, 3)
    wanted += conv(4 * b, 2 * b, kernel) + conv(2 * b, b, kernel) + conv(b, b // 2, kernel)
    wanted += conv(b // 2, 3, 3, norm=False)
    with torch.device("meta"):
        assert count(Stage2Generator(upsampling=upsampling)) == wanted


def test_parameters_of_the_generators_for_224_and_after_a_vae_gan():
    b = 128
    shared = conv(3, b, 3, norm=False) + conv(b, 2 * b, 4) + 8 * conv(4 * b, 4 * b, 3)
    lsun = shared + conv(2 * b, 4 * b, 4) + conv(4 * b, 4 * b, 3) + conv(4 * b, 2 * b, 3) + conv(2 * b, b, 3)
    lsun += conv(b, b // 2, 3) + conv(b // 2, b // 4, 3) + conv(b // 4, 3, 3, norm=False)
    once = shared + conv(2 * b, 4 * b, 3) + conv(4 * b, b, 4) + conv(b, b // 2, 4) + conv(b // 2, 3, 3, norm=False)
    with torch.device("meta"):
        assert count(Stage2Generator(scale=4)) == lsun
        assert count(Stage2Generator(num_downsamplings=1, upsampling="deconvolution")) == once


@pytest.mark.parametrize(("size", "grid"), [(128, 4), (224, 7)])
def test_parameters_of_the_discriminator(size, grid):
    b = 64
    wanted = conv(3, b, 4, norm=False) + sum(conv(n * b, 2 * n * b, 4) for n in (1, 2, 4, 8))
    wanted += conv(16 * b, 8 * b, 1)
    wanted += conv(8 * b, 2 * b, 1) + conv(2 * b, 2 * b, 3) + conv(2 * b, 8 * b, 3)
    wanted += 8 * b * grid * grid + 1
    with torch.device("meta"):
        assert count(Stage2Discriminator(size)) == wanted


class Layers:
    """The weights of a network in the order of its layers, applied by functions."""

    def __init__(self, network):
        self.weights = [weight for name, weight in network.state_dict().items() if weight.dim() == 4]
        self.others = {name: value for name, value in network.state_dict().items() if value.dim() == 1}
        self.norms = [name.removesuffix("running_mean") for name in self.others if name.endswith("running_mean")]
        self.biases = [
            value
            for name, value in self.others.items()
            if name.endswith(".bias") and name.removesuffix("bias") not in self.norms
        ]

    def conv(self, x, **options):
        weight = self.weights.pop(0)
        bias = self.biases.pop(0) if options.pop("bias", False) else None
        return (F.conv_transpose2d if options.pop("transposed", False) else F.conv2d)(x, weight, bias, **options)

    def norm(self, x):
        name = self.norms.pop(0)
        scale, shift, mean, variance = (
            self.others[name + part][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def with_random_norms(network):
    for name, value in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3)
    return network.double().eval()


def assert_same_function(network, slow, images):
    images.requires_grad_()
    got, wanted = network(images), slow(images)
    torch.testing.assert_close(got, wanted)
    direction = torch.randn_like(got)
    gradients = [torch.autograd.grad((out * direction).sum(), images)[0] for out in (got, wanted)]
    assert gradients[1].abs().max() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("upsampling", ["nearest", "deconvolution"])
def test_the_generator_layer_by_layer(upsampling):
    torch.manual_seed(0)
    network = with_random_norms(Stage2Generator(base_channels=4, num_residual_blocks=2, upsampling=upsampling))

    def slow(x):
        layers = Layers(network)
        x = layers.conv(x, padding=1, bias=True).clamp_min(0)
        for _ in range(2):
            x = layers.norm(layers.conv(x, stride=2, padding=1)).clamp_min(0)
        x = layers.norm(layers.conv(x, padding=1)).clamp_min(0)
        for _ in range(2):
            y = layers.norm(layers.conv(x, padding=1)).clamp_min(0)
            x = (x + layers.norm(layers.conv(y, padding=1))).clamp_min(0)
        for _ in range(3):
            if upsampling == "nearest":
                x = layers.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1)
            else:
                x = layers.conv(x, stride=2, padding=1, transposed=True)
            x = layers.norm(x).clamp_min(0)
        x = torch.tanh(layers.conv(x, padding=1, bias=True))
        assert not layers.weights
        return x

    assert_same_function(network, slow, torch.randn(2, 3, 8, 8, dtype=torch.float64))


def test_the_discriminator_layer_by_layer():
    torch.manual_seed(0)
    network = with_random_norms(Stage2Discriminator(128, base_channels=2))

    def leaky(x):
        return torch.where(x > 0, x, 0.2 * x)

    def slow(x):
        layers = Layers(network)
        x = leaky(layers.conv(x, stride=2, padding=1, bias=True))
        for _ in range(4):
            x = leaky(layers.norm(layers.conv(x, stride=2, padding=1)))
        x = leaky(layers.norm(layers.conv(x)))
        y = leaky(layers.norm(layers.conv(x)))
        y = leaky(layers.norm(layers.conv(y, padding=1)))
        x = leaky(x + layers.norm(layers.conv(y, padding=1)))
        x = layers.conv(x, bias=True)
        assert not layers.weights
        return x[:, 0, 0, 0]

    assert_same_function(network, slow, torch.randn(2, 3, 128, 128, dtype=torch.float64))


def test_initial_weights():
    torch.manual_seed(0)
    network = Stage2Generator(base_channels=16)
    weights = torch.cat([weight.flatten() for weight in network.state_dict().values() if weight.dim() == 4])
    assert abs(float(weights.std()) - 0.02) < 2e-4
    scales = torch.cat([m.weight.detach() for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    assert abs(float(scales.mean()) - 1) < 5e-3
    assert abs(float(scales.std()) - 0.02) < 5e-3
    assert all(not value.any() for name, value in network.state_dict().items() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("sizes", "working"), [((64, 128), 64), ((64, 256), 64), ((64, 224), 56), ((128, 256), 128), ((64, 96), 48)]
)
def test_working_size(sizes, working):
    assert working_size(*sizes) == working


@pytest.mark.parametrize(("sizes", "message"), [((64, 64), "larger"), ((64, 100), "multiple of 8 here, got 100; 96")])
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(ValueError, match=message):
        working_size(*sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 3}, "scale must be"),
        ({"scale": 1}, "scale must be"),
        ({"num_downsamplings": 3}, "num_downsamplings must be 1 or 2, got 3"),
        ({"upsampling": "bicubic"}, "upsampling must be"),
        ({"base_channels": 1}, "base_channels=1 is too small"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        Stage2Generator(**options)
