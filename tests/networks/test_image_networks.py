"""The networks of 64x64 images: released sizes, and each part against a slow version of it."""

import math

import pytest
import torch

from lightning_zoo import CRVAEGAN, VAEGAN
from lightning_zoo.networks.channel_recurrence import ChannelRecurrence, from_blocks, to_blocks
from lightning_zoo.networks.crelu import CReLU
from lightning_zoo.networks.image_discriminator import BatchDiscrimination, ImageDiscriminator, UnscaledDropout
from lightning_zoo.networks.image_networks import ImageDecoder, ImageEncoder
from lightning_zoo.networks.latent_paths import RecurrentPosterior, RecurrentProjection


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def conv(kernel, inputs, outputs):
    return kernel**2 * inputs * outputs + outputs


def lstm(inputs, hidden, layers):
    sizes = [inputs] + [hidden] * (layers - 1)
    return sum(4 * hidden * (size + hidden) + 8 * hidden for size in sizes)


ENCODER = sum(
    conv(*layer) + 2 * layer[2]
    for layer in [(5, 6, 32), (3, 64, 64), (3, 128, 128), (3, 256, 256), (3, 256, 256), (3, 512, 256)]
)
NORMALISED = [(4, 256, 256), (3, 256, 256), (4, 256, 128), (4, 128, 64), (4, 64, 64), (3, 64, 64)]
DECODER = sum(conv(*layer) + 2 * layer[2] for layer in NORMALISED) + conv(3, 64, 3)
HEAD = (4096 * 1024 + 1024) + (1024 * 500 + 500) + (1124 + 1)


def test_the_released_baseline_has_22_8_million_parameters():
    module = VAEGAN()
    network = module.autoencoder
    assert count(network.encoder, network.posterior) == ENCODER + 2 * (4096 * 1024 + 1024)
    assert count(network.projection, network.decoder) == DECODER + 1024 * 4096 + 4096
    trunk = conv(5, 3, 32) + conv(5, 32, 64) + conv(5, 64, 128) + conv(3, 128, 256)
    assert count(module.discriminator) == trunk + HEAD
    millions = [count(network.encoder, network.posterior), count(network.projection, network.decoder), count(module)]
    assert [round(number / 1e6, 2) for number in millions] == [10.94, 6.60, 22.80]


def test_the_released_crvae_gan_has_20_5_million_parameters():
    module = CRVAEGAN()
    network = module.autoencoder
    into, out_of = network.posterior.recurrence, network.projection.recurrence
    linear = 512 * 128 + 128
    assert count(into) == lstm(512, 512, 2) + 2 * 512 + linear
    assert count(out_of) == lstm(128, 512, 2) + linear
    assert count(network.encoder, network.posterior) - count(into) == ENCODER + conv(3, 256, 64) + 1024
    decoder = DECODER + conv(3, 64, 256) + 2 * 256 + 1024
    assert count(network.projection, network.decoder) - count(out_of) == decoder
    trunk = conv(5, 3, 64) + conv(5, 64, 128) + conv(5, 128, 256) + conv(3, 256, 256)
    assert count(module.discriminator) == trunk + HEAD
    recovery = conv(3, 256, 64) + 128 + conv(1, 64, 64) + 128 + 1024 * 1024 + 1024 + 1024
    assert count(module.recover) == recovery
    parts = [count(into), count(out_of), decoder, count(module.discriminator), recovery, count(module)]
    assert [round(number / 1e6, 2) for number in parts] == [4.27, 3.48, 2.55, 6.33, 1.20, 20.53]


def test_shapes_and_range():
    encoder, decoder = ImageEncoder(1, 2), ImageDecoder(1, 2)
    features = encoder(torch.randn(3, 1, 64, 64))
    assert features.shape == (3, *encoder.feature_shape) == (3, 16, 4, 4)
    images = decoder(features)
    assert images.shape == (3, 1, 64, 64)
    assert images.abs().max() <= 1


def test_crelu_keeps_both_signs():
    x = torch.tensor([[[[1.0]], [[-2.0]]]])
    assert CReLU()(x).flatten().tolist() == [1, 0, 0, 2]


def test_blocks_are_consecutive_channels():
    x = torch.arange(2 * 6 * 2 * 2.0).reshape(2, 6, 2, 2)
    blocks = to_blocks(x, 3)
    for step in range(3):
        assert torch.equal(blocks[:, step], x[:, 2 * step : 2 * step + 2].flatten(1))
    assert torch.equal(from_blocks(blocks, (6, 2, 2)), x)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_blocks(last, 3), blocks)


def test_a_block_reaches_itself_and_later_ones():
    torch.manual_seed(0)
    projection = RecurrentProjection((8, 2, 2), (4, 2, 2), num_steps=4, hidden_size=6)
    latent = torch.randn(1, 8, 2, 2)
    changed = latent.clone()
    changed[:, 4:6] += 1  # the third block
    moved = (projection.transform(changed) - projection.transform(latent)).abs().amax((0, 2, 3))
    assert (moved[:4] == 0).all()
    assert (moved[4:] > 0).all()


def test_the_mean_has_no_recurrency_and_the_variance_has():
    torch.manual_seed(0)
    posterior = RecurrentPosterior((8, 2, 2), (4, 2, 2), num_steps=4, hidden_size=6).eval()
    features = torch.randn(1, 8, 2, 2)
    changed = features.clone()
    changed[:, 6:] += 1  # the last block of the features
    (mean, log_variance), (other_mean, other_log_variance) = posterior(features), posterior(changed)
    assert torch.equal(log_variance[:, :3], other_log_variance[:, :3])
    assert not torch.equal(log_variance[:, 3], other_log_variance[:, 3])
    assert ((mean - other_mean).abs().amax((0, 2, 3)) > 0).all()  # a convolution sees all channels


def test_forget_gates_begin_open():
    recurrence = ChannelRecurrence(3, (4, 1, 1), num_steps=2, hidden_size=5, num_layers=2)
    for layer in range(2):
        assert (getattr(recurrence.lstm, f"bias_ih_l{layer}")[5:10] == 1).all()


def test_channels_have_to_be_cut_evenly():
    with pytest.raises(ValueError, match="latent_channels=6 cannot be cut into num_steps=4"):
        CRVAEGAN(latent_channels=6, num_steps=4, base_channels=1)


def test_batch_discrimination_against_loops():
    torch.manual_seed(0)
    layer = BatchDiscrimination(4, num_kernels=3, kernel_size=2).double()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def slow(x):
        m = (x @ layer.kernels.weight.T + layer.kernels.bias).reshape(5, 3, 2)
        closeness = [
            [sum(math.e ** -(m[i, k] - m[j, k]).abs().sum() for j in range(5)) / 5 for k in range(3)] for i in range(5)
        ]
        return torch.cat([x, torch.stack([torch.stack(row) for row in closeness])], 1)

    weights = torch.randn(5, 7, dtype=torch.float64)
    ours, theirs = layer(x), slow(x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_dropout_scales_in_evaluation_not_in_training():
    torch.manual_seed(0)
    layer = UnscaledDropout(0.5, whole_channels=True)
    x = torch.full((200, 4, 2, 2), 3.0)
    out = layer(x)
    assert set(out.unique().tolist()) == {0.0, 3.0}
    per_channel = out.flatten(2)
    assert (per_channel.amin(2) == per_channel.amax(2)).all(), "whole channels fall"
    assert 0.4 < (per_channel[..., 0] > 0).float().mean() < 0.6
    assert (layer.eval()(x) == 1.5).all()


def test_the_head_is_normalised_before_it_is_rectified():
    torch.manual_seed(0)
    network = ImageDiscriminator(1, (1, 1, 1, 2), hidden_size=6, num_kernels=3, dropout=0.0)
    features = torch.randn(4, 2, 4, 4)
    hidden = network.hidden(features.flatten(1))
    hidden = (hidden / hidden.square().sum(1, keepdim=True).sqrt()).relu()
    expected = network.output(network.batch_discrimination(hidden)).squeeze(1)
    torch.testing.assert_close(network.logits(features), expected)
    torch.testing.assert_close(network.logits(7 * features + 0), network.logits(7 * features))


def test_spectral_norm_bounds_the_weights():
    network = ImageDiscriminator(3, (2, 2, 2, 2), hidden_size=4, num_kernels=2, spectral=True)
    for _ in range(30):
        network(torch.randn(2, 3, 64, 64))
    for layer in (network.trunk[0], network.trunk[4], network.hidden, network.output):
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2) < 1.05
