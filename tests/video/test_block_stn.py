"""BlockSTN: eq. 7.2 frame by frame, training, what it offers, and what it refuses."""

import re

import pytest
import torch
from video_toy import TRANSFORMER, MovingSquares, changed, copied, fitted, moving_squares, saved, shaken, trainer

from lightning_zoo.checkpoints import load
from lightning_zoo.video.block_stn import BlockSTN, pair_losses
from lightning_zoo.video.clips import check_clips, ends_of, from_pixels, to_pixels
from lightning_zoo.video.hyperparameters import check_hyperparameters


def made(**options):
    torch.manual_seed(0)
    return shaken(BlockSTN(**(TRANSFORMER | options)))


def slow_pair_loss(module, pairs):
    """Eq. 7.2, one pair after the other, pixel by pixel."""
    network, given, total = module.transformer, module.hparams, 0.0
    for source, target in pairs:
        s_source, s_target = (network.encoder(frame[None]) for frame in (source, target))
        theta = network.transformer(s_source, s_target)
        drawn, warped = network.decoder(s_source)[0], network.decoder(network.transformer.warp(s_source, theta))[0]
        for weight, frame, wanted in (
            (given["reconstruction_weight"], drawn, source),
            (given["transformation_weight"], warped, target),
        ):
            squared = sum((a - b) ** 2 for a, b in zip(frame.flatten(), wanted.flatten(), strict=True))
            total = total + weight * (squared if given["reduction"] == "sum" else squared / frame.numel())
    return total / len(pairs)


@pytest.mark.parametrize("options", [{}, {"reduction": "mean", "pixels": "signed", "reconstruction_weight": 0.7}])
def test_the_loss_is_eq_7_2(options):
    module = made(**options).eval()
    pairs = moving_squares(2)[:, [0, 5]] / 255
    loss, terms = pair_losses(module.transformer, pairs, module.hparams)
    expected = slow_pair_loss(module, pairs)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert terms["loss"] == loss
    assert not terms["loss"].requires_grad
    parameters = dict(module.named_parameters())
    found, wanted = (torch.autograd.grad(each, parameters.values()) for each in (loss, expected))
    for name, first, second in zip(parameters, found, wanted, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4 * second.abs().max().item(), msg=name)
        assert second.abs().max() > 0, name


def test_terms_are_the_errors_themselves():
    module = made(reconstruction_weight=0.3, transformation_weight=0.0).eval()
    pairs = moving_squares(3)[:, [0, 5]] / 255
    loss, terms = pair_losses(module.transformer, pairs, module.hparams)
    torch.testing.assert_close(loss, 0.3 * terms["reconstruction"])
    same, _ = pair_losses(module.transformer, pairs.flip(1), module.hparams)
    assert not torch.isclose(loss, same), "the first of a pair is the source"


def test_it_learns_from_pairs_and_is_loaded_again(tmp_path):
    torch.manual_seed(0)
    module = BlockSTN(**TRANSFORMER, learning_rate=0.01, halving_period_epochs=2)
    before = copied(module)
    run = fitted(module, max_epochs=5)
    same = set(before) - changed(before, copied(module))
    assert same == set(), "weights and running statistics all moved"
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 / 4)
    assert {"train/loss", "train/reconstruction", "train/transformation", "val/loss"} <= run.callback_metrics.keys()
    run.save_checkpoint(tmp_path / "block.ckpt")
    again = load(tmp_path / "block.ckpt")
    frames = moving_squares(2)[:, 0]
    assert not again.training
    assert torch.equal(again.encode(frames), module.eval().encode(frames))


def test_validation_is_from_first_to_last_frames():
    module, data = made().eval(), MovingSquares(rows=4)
    run = trainer()
    run.validate(module, data, verbose=False)
    clips = data.clips["val"] / 255
    _, terms = pair_losses(module.transformer, clips[:, [0, 7]], module.hparams)
    for name, value in terms.items():
        assert run.callback_metrics[f"val/{name}"].item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("pixels", ["unit", "signed"])
def test_what_it_offers(pixels):
    module = made(pixels=pixels, frame_channels=3).eval()
    clips = moving_squares(2, channels=3)
    sources, targets = clips[:, 0], clips[:, 4]
    assert module(sources).shape == (2, 4 * 2 * 2)
    assert torch.equal(module.encode(sources), module.encode(sources / 255))
    warped = module.warp(sources, targets)
    assert warped.shape == sources.shape
    assert not warped.requires_grad
    assert 0 <= warped.min() < warped.max() <= 1
    network = module.transformer
    pair = [network.encoder(frames / 255 if pixels == "unit" else frames / 127.5 - 1) for frames in (sources, targets)]
    expected = network.decoder(network.transformer.warp(pair[0], network.transformer(*pair)))
    torch.testing.assert_close(warped, expected if pixels == "unit" else (expected + 1) / 2)
    found = module.predict_step({"clips": clips}, 0)["features"]
    assert found.shape == (2, 8, 16)
    torch.testing.assert_close(found[:, 4], module.encode(targets))


def test_options_reach_the_transformer():
    network = BlockSTN(**TRANSFORMER, num_blocks=4, sees_all_channels=True, bounded=True, padding="border").transformer
    blocks = network.transformer
    assert (blocks.num_blocks, blocks.sees_all_channels, blocks.bounded, blocks.padding) == (4, True, True, "border")


def test_frames_of_another_shape_are_refused(tmp_path):
    path = saved(made(), tmp_path / "block.ckpt")
    with pytest.raises(ValueError, match=r"^frames must be 1x16x16 \(channels, height, width\), got 3x16x24: see"):
        load(path).encode(torch.zeros(2, 3, 16, 24))


def test_pixels_there_and_back():
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3)
    assert to_pixels(frames, (1, 1, 3), "unit").flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert to_pixels(frames, (1, 1, 3), "signed").flatten().tolist() == pytest.approx([-1, -0.6, 1])
    assert to_pixels(torch.ones(1, 1, 3), (1, 1, 3), "unit").max() == 1, "floats are in [0, 1] already"
    for pixels in ("unit", "signed"):
        torch.testing.assert_close(from_pixels(to_pixels(frames, (1, 1, 3), pixels), pixels), frames / 255)
        shown = from_pixels(torch.tensor([-7.0, 7.0], dtype=torch.bfloat16), pixels)
        assert shown.dtype == torch.float32
        assert shown.tolist() == [0, 1]


def test_ends_of_clips():
    clips = moving_squares(2)
    assert torch.equal(ends_of(clips), torch.stack([clips[:, 0], clips[:, -1]], 1))


@pytest.mark.parametrize("shape", [(2, 7, 1, 16, 16), (8, 1, 16, 16)])
def test_clips_of_another_length_are_refused(shape):
    message = f"clips must be (B, 8, C, H, W), got {shape}: see --model.num_frames"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_clips(torch.zeros(shape), 8)
    check_clips(torch.zeros(2, 8, 1, 4, 4), 8)


CHOICES = {
    "pixels": "'unit' or 'signed'",
    "padding": "'zeros' or 'border'",
    "reduction": "'sum' or 'mean'",
    "contrast": "'raw' or 'normalized' or 'standardized'",
    "feedback": "'predicted' or 'true'",
}
SIZES = (
    "frame_channels frame_size num_frames channels num_blocks base_channels dynamics_size frame_dynamics_size "
    "hidden_size feature_size halving_period_epochs"
)
WEIGHTS = (
    "reconstruction_weight transformation_weight statics_weight frame_weight contrastive_weight anchor_weight "
    "transformer_epochs warm_up_epochs"
)
RATES = "learning_rate transformer_learning_rate temperature gradient_norm"
BAD = [
    *((name, "other", f"{name} must be {known}, got 'other'") for name, known in CHOICES.items()),
    *((name, 0, f"{name} must be at least 1, got 0") for name in SIZES.split()),
    *((name, -0.5, f"{name} must be 0 or more, got -0.5") for name in WEIGHTS.split()),
    *((name, 0.0, f"{name} must be positive, got 0.0") for name in RATES.split()),
    ("channels", 5, "channels must be even, got 5"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_messages(name, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_hyperparameters({name: value})


def test_what_is_allowed():
    check_hyperparameters({})
    check_hyperparameters({"gradient_norm": None, "warm_up_epochs": 0, "channels": 2, "contrast": "standardized"})


def test_methods_check_what_they_are_given():
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        BlockSTN(**TRANSFORMER, learning_rate=0)
    with pytest.raises(ValueError, match="num_blocks=3 does not divide the 4 channels"):
        BlockSTN(**TRANSFORMER, num_blocks=3)
    with pytest.raises(ValueError, match="frame_size must be a multiple of 8, got 20x20"):
        BlockSTN(channels=4, frame_size=20)
