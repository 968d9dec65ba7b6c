"""Networks that grow: the same as before at fade 0, as afterwards at 1, and nothing left of the old way in the end."""

from collections import Counter
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_zoo.networks import growing_images
from lightning_zoo.networks.growing_images import GrowingInput, GrowingOutput

BASE = 4
PARTS = {
    "encoder": (
        GrowingInput,
        partial(growing_images.encoder_colours, 3, BASE),
        partial(growing_images.encoder_block, BASE),
    ),
    "discriminator": (
        GrowingInput,
        partial(growing_images.discriminator_colours, 3, BASE),
        partial(growing_images.discriminator_block, BASE),
    ),
    "decoder": (
        GrowingOutput,
        partial(growing_images.decoder_colours, 3, BASE),
        partial(growing_images.decoder_block, BASE),
    ),
}
SIZE = 8
"""Of the first resolution; nothing here depends on its being 64."""

every_part = pytest.mark.parametrize("part", PARTS)


def make(part, num_doublings=0, seed=0):
    torch.manual_seed(seed)
    cls, colours, block = PARTS[part]
    network = cls(colours(), block, num_doublings=num_doublings)
    for module in network.modules():  # statistics and weights that are not those of an untouched normalisation
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    return network


def grown(part, alpha=None, num_doublings=0):
    network = make(part, num_doublings)
    network.grow()
    if alpha is not None:
        network.set_fade(alpha)
    return network


def inputs(part, num_doublings):
    generator = torch.Generator().manual_seed(5)
    if part == "decoder":
        return torch.randn(2, 2 * BASE, SIZE, SIZE, generator=generator)
    side = SIZE * 2**num_doublings
    return torch.rand(2, 3, side, side, generator=generator) * 2 - 1


def as_before(part, network, x):
    """What the network that has not grown makes of the input of one that has."""
    if part == "decoder":
        return F.interpolate(network(x), scale_factor=2.0, mode="nearest")
    return network(F.avg_pool2d(x, 2))


@every_part
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_at_0_it_is_the_old_network(part, before, training):
    old, new = make(part, before).train(training), grown(part, 0.0, before).train(training)
    x = inputs(part, before + 1)
    assert torch.equal(new(x), as_before(part, old, x))


@every_part
@pytest.mark.parametrize("before", [0, 1])
def test_at_1_it_is_the_finished_network(part, before):
    network = grown(part, 1.0, before).eval()
    x = inputs(part, before + 1)
    fading = network(x)
    network.finish()
    assert torch.equal(network(x), fading)
    network.finish()  # a second time changes nothing
    assert torch.equal(network(x), fading)


@every_part
def test_between_it_is_the_mean_of_both(part):
    network = grown(part).eval()
    x = inputs(part, 1)
    ends = []
    for alpha in (0.0, 1.0, 0.25):
        network.set_fade(alpha)
        ends.append(network(x))
    torch.testing.assert_close(ends[2], 0.75 * ends[0] + 0.25 * ends[1])
    assert not torch.allclose(ends[0], ends[1], atol=1e-3)


def test_the_layers_by_hand():
    """Two doublings written out: which layer sees which resolution."""
    encoder = make("encoder", 2).eval()
    x = inputs("encoder", 2)
    y = F.avg_pool2d(encoder.blocks[1](encoder.colours(x)), 2)  # the newest block is the largest resolution's
    y = F.avg_pool2d(encoder.blocks[0](y), 2)
    assert torch.equal(encoder(x), y)
    decoder = make("decoder", 2).eval()
    x = inputs("decoder", 2)
    y = decoder.blocks[0](x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    y = decoder.blocks[1](y.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(decoder(x), decoder.colours(y))
    assert decoder(x).shape == (2, 3, 4 * SIZE, 4 * SIZE)
    assert decoder(x).abs().max() <= 1


@every_part
def test_gradients_reach_both_ways(part):
    network = grown(part, 0.5)
    network(inputs(part, 1)).square().sum().backward()
    names = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad.abs().sum() > 0}
    assert names == {"colours", "old_colours", "blocks"}


@every_part
def test_new_colours_are_a_copy_of_the_old_ones(part):
    network = make(part)
    before = network.colours
    network.grow()
    assert network.old_colours is before
    pairs = zip(network.colours.state_dict().values(), before.state_dict().values(), strict=True)
    assert all(torch.equal(new, old) and new.data_ptr() != old.data_ptr() for new, old in pairs)


@every_part
def test_finished_it_is_the_network_built_that_large(part):
    network, plain = grown(part, 0.3), make(part, 1)
    names = [name for name, _ in network.named_modules()]
    network.finish()
    network.grow()
    network.finish()
    plain = make(part, 2)
    assert {name: v.shape for name, v in network.state_dict().items()} == {
        name: v.shape for name, v in plain.state_dict().items()
    }
    assert [name for name, _ in network.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert set(names) - {name for name, _ in plain.named_modules()} == {n for n in names if n.startswith("old_colours")}
    plain.load_state_dict(network.state_dict())
    x = inputs(part, 2)
    assert torch.equal(plain.eval()(x), network.eval()(x))


class Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self):
        super().__init__()
        self.counted = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counted[str(function)] += 1
        return function(*args, **(kwargs or {}))


def operations(network, x):
    with Operations() as seen:
        network(x).sum().backward()
    return seen.counted


@every_part
def test_finished_it_computes_nothing_more(part):
    x = inputs(part, 1)
    network = grown(part, 1.0)
    fading, plain = operations(network, x), operations(make(part, 1), x)
    network.finish()
    network.zero_grad()
    assert operations(network, x) == plain
    assert fading.total() > plain.total()


def conv(kernel, inputs, outputs, norm=True):
    return kernel**2 * inputs * outputs + outputs + 2 * outputs * norm


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_released_sizes():
    assert count(growing_images.encoder_colours()) == conv(1, 6, 32) == 288
    assert count(growing_images.encoder_block()) == conv(3, 32, 16) + conv(3, 16, 32) == 9360
    assert count(growing_images.decoder_colours()) == conv(1, 64, 3, norm=False) == 195
    assert count(growing_images.decoder_block()) == conv(3, 64, 32) + conv(3, 32, 64) == 37152
    assert count(growing_images.discriminator_colours()) == conv(1, 3, 32, norm=False) == 128
    plain = conv(3, 32, 16, norm=False) + conv(3, 16, 32, norm=False)
    assert count(growing_images.discriminator_block()) == plain == 9264
    network = GrowingInput(growing_images.encoder_colours(), growing_images.encoder_block)
    network.grow()
    assert count(network) == 9360 + 2 * 288
    network.finish()
    assert count(network) == 9360 + 288


def test_weights_start_as_released():
    block = growing_images.decoder_block(16)
    assert 0.95 < block[0].weight.abs().max() * (9 * 16) ** 0.5 <= 1
    assert not block[0].bias.any()
    assert block[1].eps == 1e-6
    assert block[1].momentum == 0.9


def test_new_layers_are_where_the_old_ones_are():
    network = make("encoder").to(torch.float64, memory_format=torch.channels_last).eval()
    network.grow()
    kernel = network.blocks[0][0].weight
    assert kernel.dtype == torch.float64
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    assert not any(module.training for module in network.modules())
    assert network.fade.dtype == torch.float32
    assert network(inputs("encoder", 1).double()).dtype == torch.float64
    plain = make("decoder")
    plain.grow()
    assert plain.blocks[0][0].weight.is_contiguous()
    assert plain.blocks[0].training


@every_part
def test_under_autocast_the_fade_changes_no_type(part):
    network, plain = grown(part, 0.5), make(part, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(inputs(part, 1)).dtype == plain(inputs(part, 1)).dtype


@every_part
def test_what_it_says_of_itself(part):
    network = make(part)
    assert (network.num_doublings, network.fading) == (0, False)
    assert "fade" not in network.state_dict()
    network.grow()
    assert (network.num_doublings, network.fading, network.fade.item()) == (1, True, 0.0)
    network.set_fade(0.25)
    assert network.state_dict()["fade"] == 0.25
    with pytest.raises(ValueError, match=r"still fading in its newest resolution; finish\(\)"):
        network.grow()
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\], got 1.5"):
        network.set_fade(1.5)
    with pytest.raises(ValueError, match="got nan"):
        network.set_fade(float("nan"))
    network.finish()
    assert (network.num_doublings, network.fading) == (1, False)
    with pytest.raises(ValueError, match=r"nothing is fading in: grow\(\) comes first"):
        network.set_fade(0.5)
    assert not hasattr(network, "fade")
    assert not hasattr(network, "old_colours")


@pytest.mark.parametrize("block", [growing_images.encoder_block, growing_images.discriminator_block])
def test_odd_widths_are_named(block):
    with pytest.raises(ValueError, match="base_channels must be even where a network grows, got 3"):
        block(3)
