"""Networks for clips: torchvision's where they are torchvision's, published sizes, the rest beside a slow way."""

import math

import pytest
import torch
from torch import nn
from torchvision.models.video import r3d_18

from lightning_zoo.networks.frame_autoencoder import FrameDecoder, FrameEncoder
from lightning_zoo.networks.frame_dynamics import DynamicsPredictor, FrameDynamicsDecoder, FrameDynamicsEncoder
from lightning_zoo.networks.inter_frame import InterFrameTransformer
from lightning_zoo.networks.statics_dynamics import StaticsDynamicsNetworks
from lightning_zoo.networks.video_decoder import VideoDecoder
from lightning_zoo.networks.video_encoder import VideoEncoder, VideoFeatures, VideoTrunk, size_after

PUBLISHED = {
    "digits": {"shape": (1, 64, 64), "c": 64, "grid": 8, "D": 32, "d": 16, "K": 2},
    "weizmann": {"shape": (3, 96, 96), "c": 64, "grid": 12, "D": 512, "d": 128, "K": 4},
    "ravdess": {"shape": (3, 128, 128), "c": 128, "grid": 16, "D": 512, "d": 128, "K": 8},
}
MILLIONS = {
    "encoder": (".22", ".22", ".88"),
    "decoder": (".30", ".30", "1.2"),
    "transformer": (".12", ".37", "1.2"),
    "video": ("37.7", "43.2", "50.9"),
    "frame_encoder": (".56", ".92", "3.3"),
    "frame_decoder": ("1.4", "2.8", "10"),
    "predictor": ("4.4", "7.0", "7.0"),
}
"""Of parameters, counted beforehand in networks written down from the thesis alone, and rounded as they stand here."""


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize("training", [False, True])
def test_the_trunk_is_that_of_torchvision(training):
    torch.manual_seed(0)
    with torch.device("meta"):
        theirs, ours = r3d_18(weights=None), VideoTrunk(3, 64, 4)
    theirs = theirs.to_empty(device="cpu")
    for name, value in theirs.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.5 if "var" in name else 0.02 * torch.randn(value.shape))
        else:
            value.zero_()
    stages = ("stem", "layer1", "layer2", "layer3", "layer4")
    places = {stage: str(number) for number, stage in enumerate(stages)}
    weights = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    renamed = {".".join((places[name.partition(".")[0]], name.partition(".")[2])): w for name, w in weights.items()}
    ours = ours.to_empty(device="cpu")
    ours.load_state_dict(renamed)
    theirs.train(training)
    ours.train(training)
    found = expected = random(2, 3, 8, 16, 16)
    with torch.no_grad():
        for stage, mine in zip(stages, ours, strict=True):
            found, expected = mine(found), getattr(theirs, stage)(expected)
            torch.testing.assert_close(found, expected)
            assert expected.std() > 1e-3, stage


def test_initial_weights_are_those_of_torchvision():
    torch.manual_seed(0)
    encoder = VideoEncoder((1, 16, 16), 8, 4, 6, base_channels=16)
    for network in (encoder.trunk, encoder.last_stage, VideoFeatures((1, 16, 16), 8, 6, base_channels=16)[0]):
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
        assert convolutions
        for module in convolutions:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        assert all((m.weight == 1).all() for m in network.modules() if isinstance(m, nn.BatchNorm3d))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    given = PUBLISHED[name]
    shape, grid = given["shape"], given["grid"]
    assert size_after((8, *shape[1:]), 3) == (2, grid, grid)
    assert size_after((8, *shape[1:]), 4) == (1, grid // 2, grid // 2)
    with torch.device("meta"):
        encoder, frames = VideoEncoder(shape, 8, given["c"], given["D"]), FrameEncoder(shape[0], given["c"])
        clips = torch.empty(2, 8, *shape)
    statics, dynamics = encoder(clips)
    assert statics.shape == (2, given["c"], grid, grid)
    assert dynamics.shape == (2, given["D"])
    assert frames(clips[:, 0]).shape == statics.shape
    assert encoder.trunk(clips.transpose(1, 2)).shape == (2, 256, 2, grid, grid)


@pytest.mark.parametrize("sizes", [(8, 64, 64), (7, 20, 25), (1, 8, 8), (16, 33, 17)])
def test_sizes_are_known_before_the_forward_pass(sizes):
    with torch.device("meta"):
        features, trunk = torch.empty(2, 1, *sizes), VideoTrunk(1, 2, 4)
    for number, stage in enumerate(trunk):
        features = stage(features)
        assert tuple(features.shape[2:]) == size_after(sizes, number)


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("column", range(3))
def test_numbers_of_parameters(column):
    given = list(PUBLISHED.values())[column]
    with torch.device("meta"):
        frames = InterFrameTransformer(given["shape"], given["c"], given["K"])
        networks = StaticsDynamicsNetworks(
            given["shape"],
            8,
            frames.feature_shape,
            dynamics_size=given["D"],
            frame_dynamics_size=given["d"],
            base_channels=64,
            hidden_size=1024,
            pixels="unit",
        )
    parts = dict(frames.named_children()) | dict(networks.named_children())
    assert parts.keys() == MILLIONS.keys()
    for name, part in parts.items():
        stated = MILLIONS[name][column]
        rounding = 0.5 * 10.0 ** -len(stated.partition(".")[2])
        assert abs(millions(part) - float(stated)) <= rounding, name


def test_statics_see_both_steps_of_time_and_have_no_relu():
    torch.manual_seed(0)
    encoder = VideoEncoder((1, 16, 16), 8, 4, 6, base_channels=2)
    features = random(3, 8, 2, 2, 2).requires_grad_()
    statics = encoder.statics_head(features)
    assert (statics < 0).any()
    gradient = torch.autograd.grad(statics.square().sum(), features)[0]
    assert (gradient.flatten(3).abs().sum((0, 1, 3)) > 1e-3).all()


def test_clips_are_encoded_with_time_and_channels_where_they_belong():
    torch.manual_seed(0)
    encoder, clips = VideoEncoder((3, 16, 16), 8, 4, 6, base_channels=2).eval(), random(2, 8, 3, 16, 16)
    ordered = torch.stack([clips[:, :, channel] for channel in range(3)], 1)
    trunk = encoder.trunk(ordered)
    for found, expected in zip(
        encoder(clips), (encoder.statics_head(trunk), encoder.dynamics_head(encoder.last_stage(trunk))), strict=True
    ):
        torch.testing.assert_close(found, expected)
    features = VideoFeatures((3, 16, 16), 8, 5, base_channels=2).eval()
    torch.testing.assert_close(features(clips), features[1](features[0](ordered)))


def test_frames_of_clips_are_encoded_one_by_one():
    torch.manual_seed(0)
    network, clips = InterFrameTransformer((1, 16, 24), 4, 2).eval(), random(2, 3, 1, 16, 24)
    features = network.encode(clips)
    assert features.shape == (2, 3, *network.feature_shape) == (2, 3, 4, 2, 3)
    frames, warped = network.decode(features), network.warped(features, features.flip(1))
    assert frames.shape == clips.shape
    for clip in range(2):
        for step in range(3):
            one = network.encode(clips[clip, step][None])
            torch.testing.assert_close(features[clip, step], one[0])
            torch.testing.assert_close(frames[clip, step], network.decode(one)[0])
            torch.testing.assert_close(warped[clip, step], network.warped(one, features[clip, 2 - step][None])[0])


def test_frames_have_to_be_multiples_of_eight():
    with pytest.raises(ValueError, match="frame_size must be a multiple of 8, got 16x20"):
        InterFrameTransformer((1, 16, 20), 4, 2)


@pytest.mark.parametrize(("pixels", "low"), [("unit", 0), ("signed", -1)])
def test_frames_are_drawn_in_the_range_of_pixels(pixels, low):
    torch.manual_seed(0)
    drawn = [
        FrameDecoder(1, 4, pixels)(30 * random(3, 4, 2, 2)),
        FrameDynamicsDecoder(1, (4, 2, 2), 5, pixels)(300 * random(3, 5), random(3, 4, 2, 2)),
        VideoDecoder(5, (1, 16, 16), 8, base_channels=2, pixels=pixels)(random(3, 5)),
    ]
    for frames in drawn:
        assert low <= frames.min() < (low + 1) / 2 < frames.max() <= 1
    assert (FrameEncoder(1, 4)(random(3, 1, 16, 16)) >= 0).all()


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 16, 40)])
def test_frame_dynamics_fit_odd_grids(shape):
    statics = random(2, 4, shape[1] // 8, shape[2] // 8)
    p = FrameDynamicsEncoder(shape[0], statics.shape[1:], 5)(random(2, *shape), statics)
    assert p.shape == (2, 5)
    assert FrameDynamicsDecoder(shape[0], statics.shape[1:], 5)(p, statics).shape == (2, *shape)


def slow_predictions(predictor, p, dynamics, feedback):
    """One clip and one gate at a time."""
    cell_weights = dict(predictor.cell.named_parameters())
    weight_in, weight_hidden = cell_weights["weight_ih"], cell_weights["weight_hh"]
    bias = cell_weights["bias_ih"] + cell_weights["bias_hh"]
    clips = []
    for clip in range(len(p)):
        hidden = cell = torch.zeros(predictor.cell.hidden_size)
        told, steps = p[clip, 0], []
        for step in range(1, p.shape[1]):
            gates = weight_in @ torch.cat([told, dynamics[clip]]) + weight_hidden @ hidden + bias
            add, keep, new, show = gates.chunk(4)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(add) * torch.tanh(new)
            hidden = torch.sigmoid(show) * torch.tanh(cell)
            steps.append(predictor.output.weight @ hidden + predictor.output.bias)
            told = {"predicted": steps[-1], "true": p[clip, step]}[feedback]
        clips.append(torch.stack(steps))
    return torch.stack(clips)


@pytest.mark.parametrize("feedback", ["predicted", "true"])
def test_predictions_step_by_step(feedback):
    torch.manual_seed(0)
    predictor, p, dynamics = DynamicsPredictor(3, 4, 5), random(2, 4, 3), random(2, 4)
    expected = slow_predictions(predictor, p, dynamics, feedback)
    torch.testing.assert_close(predictor(p, dynamics, feedback), expected)
    assert (expected[:, 1:] - expected[:, :-1]).abs().max() > 1e-3


def test_without_teacher_only_the_first_frame_is_read():
    torch.manual_seed(0)
    predictor, p, dynamics = DynamicsPredictor(3, 4, 5), random(2, 4, 3).requires_grad_(), random(2, 4)
    read = torch.autograd.grad(predictor(p, dynamics)[:, -1].sum(), p)[0].abs().sum((0, 2)) > 0
    assert read.tolist() == [True, False, False, False]
    read = torch.autograd.grad(predictor(p, dynamics, "true")[:, -1].sum(), p)[0].abs().sum((0, 2)) > 0
    assert read.tolist() == [True, True, True, False], "never what is to be predicted"


@pytest.mark.parametrize("size", [64, 96, 128])
def test_whole_clips_are_drawn(size):
    with torch.device("meta"):
        clips = VideoDecoder(32, (3, size, size), 8)(torch.empty(2, 32))
    assert clips.shape == (2, 8, 3, size, size)


def test_3d_convolutions_on_a_cpu_are_in_float32_under_autocast():
    """Their bfloat16 gradients there hold whatever the memory held before, not a number at worst."""
    torch.manual_seed(0)
    clips, code = torch.rand(2, 1, 8, 16, 16), torch.rand(2, 5)
    for network, inputs in ((VideoTrunk(1, 2, 4), clips), (VideoDecoder(5, (1, 16, 16), 8, base_channels=2), code)):
        network.eval()
        with torch.autocast("cpu", torch.bfloat16):
            found = network(inputs.bfloat16())
        assert torch.equal(found, network(inputs.bfloat16().float()))
