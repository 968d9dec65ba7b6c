"""Strips during training: what is on them, when they come, and that they change nothing else."""

import numpy as np
import pytest
import torch
from PIL import Image
from video_toy import DECOMPOSITION, TINY, TRANSFORMER, MovingSquares, trainer

from lightning_zoo.callbacks.clip_strips import ClipStrips
from lightning_zoo.callbacks.run_folder import RunFolder
from lightning_zoo.video.block_stn import BlockSTN
from lightning_zoo.video.statics_dynamics import StaticsDynamics
from lightning_zoo.video.video_autoencoder import VideoAutoencoder
from lightning_zoo.video.video_classifier import VideoClassifier


def train(folder, module, *callbacks, **options):
    torch.manual_seed(0)
    fitter = trainer(*callbacks, logger=RunFolder(str(folder), "a", 0), **options)
    data = MovingSquares()
    fitter.fit(module, data)
    return data.batch("val", torch.arange(3))["clips"]


def names(folder):
    return sorted(file.name for file in (folder / "a/version_0/pictures").iterdir())


def cells(file, size=16):
    """The frames (rows, columns, size, size) of a picture with lines of two pixels."""
    pixels = np.asarray(Image.open(file).convert("L")) / 255
    assert pixels.shape[0] % (size + 2) == pixels.shape[1] % (size + 2) == 2
    rows, columns = (side // (size + 2) for side in pixels.shape)
    grid = pixels[2:, 2:].reshape(rows, size + 2, columns, size + 2)
    return grid.transpose(0, 2, 1, 3)[:, :, :size, :size]


@pytest.mark.parametrize("method", [lambda: BlockSTN(**TRANSFORMER), lambda: VideoAutoencoder(**TINY, feature_size=5)])
def test_rows_of_one_phase(method, tmp_path):
    module = method()
    clips = train(tmp_path, module, ClipStrips(num_clips=3, every_n_epochs=2), max_epochs=3)
    assert names(tmp_path) == ["strips_epoch0001.png"]
    module.eval()
    shown = cells(tmp_path / "a/version_0/pictures/strips_epoch0001.png").reshape(3, 2, 8, 16, 16)
    np.testing.assert_allclose(shown[:, 0], clips[:, :, 0] / 255, atol=1e-6)


def test_rows_of_both_phases_in_turn(tmp_path):
    module = StaticsDynamics(**DECOMPOSITION, transformer_epochs=1)
    clips = train(tmp_path, module, ClipStrips(num_clips=3), max_epochs=2)
    assert names(tmp_path) == ["strips_epoch0000.png", "strips_epoch0001.png"]
    module.eval()
    first, second = (cells(tmp_path / "a/version_0/pictures" / name) for name in names(tmp_path))
    with torch.no_grad():
        expected = module.strips(clips)[:, :, :, 0].flatten(0, 1)
        seen = module.decode_statics(module.statics(clips))[:, 0]
    assert first.shape[:2] == (6, 8)
    np.testing.assert_allclose(first[::2], clips[:, :, 0] / 255, atol=1e-6)
    np.testing.assert_allclose(second, expected, atol=1 / 255)
    np.testing.assert_allclose(second[::3, 1:], clips[:, :, 0] / 255, atol=1e-6)
    np.testing.assert_allclose(second[1::3, 0], seen, atol=1 / 255)
    np.testing.assert_allclose(second[1::3, 1:], module.warp(clips)[:, :, 0].detach(), atol=1 / 255)
    np.testing.assert_allclose(second[2::3, 1:], module.swap(clips, clips)[:, :, 0].detach(), atol=1 / 255)


def test_the_weights_are_those_of_a_run_without_it(tmp_path):
    runs = []
    for callbacks in ((), (ClipStrips(),)):
        torch.manual_seed(0)
        runs.append(StaticsDynamics(**DECOMPOSITION, transformer_epochs=1))
        train(tmp_path, runs[-1], *callbacks, max_epochs=3)
    for ours, theirs in zip(runs[0].state_dict().values(), runs[1].state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_without_validation_there_are_none(tmp_path):
    train(tmp_path, BlockSTN(**TRANSFORMER), ClipStrips(), max_epochs=1, limit_val_batches=0)
    assert not (tmp_path / "a/version_0/pictures").exists()


def test_a_method_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="VideoClassifier has no `strips`; leave the callback out"):
        train(tmp_path, VideoClassifier(**TINY, class_names=["a", "b"]), ClipStrips())


@pytest.mark.parametrize("wrong", [{"num_clips": 0}, {"every_n_epochs": 0}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClipStrips(**wrong)
