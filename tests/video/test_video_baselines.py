"""Baselines of clips: a classifier that takes its classes from the data, and an autoencoder."""

import pytest
import torch
from torch.nn import functional as F
from video_toy import TINY, MovingSquares, changed, copied, fitted, moving_squares, saved, shaken, trainer

from lightning_zoo.checkpoints import load
from lightning_zoo.video.video_autoencoder import VideoAutoencoder
from lightning_zoo.video.video_classifier import VideoClassifier

CLASSES = ["left", "right", "up"]


def classifier(**options):
    torch.manual_seed(0)
    return VideoClassifier(**(TINY | {"feature_size": 6} | options))


def autoencoder(**options):
    torch.manual_seed(0)
    return shaken(VideoAutoencoder(**(TINY | {"feature_size": 6} | options)))


def test_classes_are_those_of_the_data(tmp_path):
    module = classifier(learning_rate=0.01, halving_period_epochs=1)
    run = fitted(module, data=MovingSquares(classes=CLASSES), max_epochs=3)
    assert module.classes.out_features == 3
    assert module.hparams["class_names"] == CLASSES
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 / 8)
    held = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in module.parameters()}, "the classes' own layer learns too"
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= run.callback_metrics.keys()
    run.save_checkpoint(tmp_path / "classifier.ckpt")
    again = load(tmp_path / "classifier.ckpt")
    clips = moving_squares(3)
    assert again.hparams["class_names"] == CLASSES
    assert torch.equal(again(clips), module.eval()(clips))


def test_a_checkpoint_without_names_builds_its_classes(tmp_path):
    module = classifier(class_names=CLASSES)
    path = saved(module, tmp_path / "classifier.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["class_names"] = None
    torch.save(checkpoint, path)
    again = load(path)
    assert torch.equal(again(moving_squares(2)), module.eval()(moving_squares(2)))


def test_a_run_is_resumed_with_its_classes(tmp_path):
    data = MovingSquares(classes=CLASSES)
    whole = fitted(classifier(), data=data, max_epochs=2).lightning_module
    half = fitted(classifier(), data=data, max_epochs=1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    torch.rand(7)
    resumed = fitted(classifier(), data=data, max_epochs=2, ckpt_path=tmp_path / "half.ckpt").lightning_module
    assert changed(copied(whole), copied(resumed)) == set()
    assert changed(copied(whole), copied(half.lightning_module))


def test_data_without_classes_are_refused():
    with pytest.raises(ValueError, match=r"^VideoClassifier needs data with classes, or --model\.class_names$"):
        fitted(classifier())
    with pytest.raises(ValueError, match="^the batch has clips, index, pairs, videos but no labels: use data with cla"):
        fitted(classifier(class_names=CLASSES), num_sanity_val_steps=0)


def test_the_classifier_is_scored_by_clip():
    module, data = classifier(class_names=CLASSES).eval(), MovingSquares(rows=6, batch_size=4, classes=CLASSES)
    run = trainer()
    run.test(module, data, verbose=False)
    clips = data.clips["val"] / 255
    features = module.network[1](module.network[0](clips.transpose(1, 2)))
    logits = F.linear(features.clamp_min(0), module.classes.weight, module.classes.bias)
    losses = [(row.exp().sum().log() - row[number % 3]).item() for number, row in enumerate(logits)]
    right = [row.argmax().item() == number % 3 for number, row in enumerate(logits)]
    assert run.callback_metrics["test/loss"].item() == pytest.approx(sum(losses) / 6, rel=1e-4)
    assert run.callback_metrics["test/accuracy"].item() == pytest.approx(sum(right) / 6)
    torch.testing.assert_close(module.features(data.clips["val"])["features"], features)
    torch.testing.assert_close(module.predict_step({"clips": data.clips["val"]}, 0)["features"], features)


@pytest.mark.parametrize("options", [{}, {"pixels": "signed", "reduction": "mean"}])
def test_the_loss_of_the_autoencoder_pixel_by_pixel(options):
    module = autoencoder(**options).eval()
    clips = moving_squares(2)
    inside = clips / 255 if not options else clips / 127.5 - 1
    loss = module._loss({"clips": clips})
    total = 0.0
    for clip in inside:
        drawn = module.decoder(module.encoder(clip[None]))[0]
        for frame, wanted in zip(drawn, clip, strict=True):
            squared = (frame - wanted).flatten().dot((frame - wanted).flatten())
            total = total + (squared / 256 if options else squared)
    expected = total / 16
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    parameters = list(module.parameters())
    for found, wanted in zip(*(torch.autograd.grad(each, parameters) for each in (loss, expected)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
        assert wanted.abs().max() > 0


def test_the_autoencoder_learns_and_is_loaded_again(tmp_path):
    torch.manual_seed(0)
    module = VideoAutoencoder(**TINY, feature_size=6, learning_rate=0.01, halving_period_epochs=1)
    before = copied(module)
    run = fitted(module, max_epochs=2)
    assert changed(before, copied(module)) == set(before)
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 / 4)
    assert {"train/loss", "val/loss"} <= run.callback_metrics.keys()
    run.save_checkpoint(tmp_path / "autoencoder.ckpt")
    again, clips = load(tmp_path / "autoencoder.ckpt"), moving_squares(2)
    assert torch.equal(again.reconstruct(clips), module.eval().reconstruct(clips))


@pytest.mark.parametrize("pixels", ["unit", "signed"])
def test_reconstructions_are_frames(pixels):
    module, clips = autoencoder(pixels=pixels, frame_channels=3).eval(), moving_squares(2, channels=3)
    drawn = module.reconstruct(clips)
    assert drawn.shape == clips.shape
    assert not drawn.requires_grad
    assert 0 <= drawn.min() < drawn.max() <= 1
    raw = module.decoder(module.encode(clips))
    torch.testing.assert_close(drawn, raw if pixels == "unit" else (raw + 1) / 2)
    module.decoder[-2].bias.data -= 5
    assert (module.decoder(module.encode(clips)).min() < 0) == (pixels == "signed")
    assert module.features(clips)["features"].shape == module(clips).shape == (2, 6)


@pytest.mark.parametrize("size", [64, 96, 128])
def test_published_sizes_come_back(size):
    with torch.device("meta"):
        module, clips = VideoAutoencoder(frame_size=size, frame_channels=3), torch.empty(2, 8, 3, size, size)
        features = module.encoder(clips)
        assert features.shape == (2, 32)
        assert module.decoder(features).shape == clips.shape


@pytest.mark.parametrize("build", [classifier, autoencoder])
def test_other_clips_are_refused(build):
    module = build()
    with pytest.raises(ValueError, match=r"clips must be \(B, 8, C, H, W\), got \(2, 6, 1, 16, 16\)"):
        module.features(moving_squares(2, num_frames=6))
    with pytest.raises(ValueError, match="frames must be 1x16x16"):
        module.features(moving_squares(2, size=24))
    with pytest.raises(ValueError, match="feature_size must be at least 1, got 0"):
        build(feature_size=0)
