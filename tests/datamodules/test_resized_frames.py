"""Atari frames averaged down: against a slow mean over areas, and what goes wrong."""

import math

import numpy as np
import pytest
import torch

from datamodules import AtariFrames, resized_frames
from datamodules.errors import DataError
from datamodules.resized_frames import area_weights


def slow_mean(frame, size):
    """Mean over the exact area of each new pixel: every old pixel is cut into the lcm of both grids."""
    height, width = frame.shape
    fine_rows = np.repeat(np.arange(height), math.lcm(height, size) // height)
    fine_columns = np.repeat(np.arange(width), math.lcm(width, size) // width)
    down, across = len(fine_rows) // size, len(fine_columns) // size
    result = np.empty((size, size))
    for row in range(size):
        part = frame[fine_rows[row * down : (row + 1) * down]].astype(float)
        for column in range(size):
            result[row, column] = part[:, fine_columns[column * across : (column + 1) * across]].mean()
    return result


@pytest.mark.parametrize(("color", "serve"), [("rgb", "images"), ("gray", "labelled")])
def test_frames_are_area_means_of_the_recording(tiny_atari, color, serve):
    small = tiny_atari(color=color, serve=serve, image_size=64)
    small.setup()
    large = tiny_atari(color=color, serve=serve)
    large.setup()
    channels = 3 if color == "rgb" else 1
    assert small.image_shape == small.frames.image_shape == (channels, 64, 64)
    rows = torch.tensor([[0, 7], [390, 7]])
    resized, frames = small.frames.gather(rows), large.frames.gather(rows)
    assert resized.shape == (2, 2, channels, 64, 64)
    assert resized.dtype == torch.uint8
    for index in ((0, 1), (1, 0)):
        for channel in range(channels):
            expected = slow_mean(frames[index][channel].numpy(), 64)
            assert np.abs(resized[index][channel].numpy() - expected).max() <= 0.5 + 1e-3


def test_batches_are_those_of_the_full_size(tiny_atari):
    small, large = (tiny_atari(serve="labelled", image_size=size) for size in (32, None))
    small.setup()
    large.setup()
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"):
        first, second = next(iter(getattr(small, loader)())), next(iter(getattr(large, loader)()))
        assert set(first) == set(second)
        assert first["frames"].shape == (8, 1, 32, 32)
        if "labels" in first:
            assert torch.equal(first["labels"], second["labels"])
        across = area_weights(160, 32)
        down = area_weights(210, 32)
        expected = down @ second["frames"].double().numpy() @ across.T
        assert np.abs(first["frames"].numpy() - expected).max() <= 0.5 + 1e-3
    assert small.fingerprint == large.fingerprint | {"image_size": 32}


def test_area_weights_of_a_grid_that_does_not_divide():
    np.testing.assert_allclose(area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    np.testing.assert_allclose(area_weights(2, 3), [[1, 0], [0.5, 0.5], [0, 1]])


def test_frames_are_resized_once(tiny_atari, monkeypatch):
    first = tiny_atari(serve="images", image_size=16)
    monkeypatch.setattr(resized_frames, "_write", lambda *arguments: pytest.fail("resized again"))
    again = tiny_atari(serve="images", image_size=16)
    again.setup()
    assert first.path == again.path
    with pytest.raises(pytest.fail.Exception):
        tiny_atari(serve="images", image_size=17)


def test_an_interrupted_resize_leaves_nothing(tiny_atari, monkeypatch):
    module = tiny_atari(serve="images")
    before = set(module.root.iterdir())

    def broken(frames):
        raise KeyboardInterrupt

    monkeypatch.setattr(resized_frames.np, "rint", broken)
    with pytest.raises(KeyboardInterrupt):
        tiny_atari(serve="images", image_size=9)
    assert {path.suffix for path in set(module.root.iterdir()) - before} <= {".lock"}
    with pytest.raises(DataError, match=r"9x9_\w+\.npy does not exist: run fit"):
        AtariFrames(**dict(module.hparams) | {"image_size": 9}).setup()


def test_a_damaged_file_is_named(tiny_atari):
    module = tiny_atari(serve="images", image_size=8)
    path = module._resized_path(8)
    whole = path.read_bytes()
    try:
        for content in (b"", b"hello", whole[:-1], whole[:50]):
            path.write_bytes(content)
            with pytest.raises(DataError, match=r"8x8_\w+\.npy is damaged"):
                AtariFrames(**dict(module.hparams)).setup()
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(("size", "serve"), [(0, "images"), (161, "labelled"), (64, "clips")])
def test_bad_sizes_are_named(size, serve):
    with pytest.raises(ValueError, match=rf"image_size must be .* got {size} for '{serve}'"):
        AtariFrames(image_size=size, serve=serve)
