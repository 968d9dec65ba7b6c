import zlib

import numpy as np
import pytest
import torch

from datamodules.frame_memory import FrameMemory


@pytest.mark.parametrize("mode", ["auto", "compressed", "uncompressed", "device"])
@pytest.mark.parametrize("shape", [(21, 16), (21, 16, 3)])
def test_every_mode_gathers_the_frames_that_went_in(mode, shape):
    frames = np.random.default_rng(0).integers(0, 256, (9, *shape), np.uint8)
    memory = FrameMemory([zlib.compress(frame.tobytes(), 1) for frame in frames], shape, mode)
    rows = torch.tensor([[8, 0], [3, 3], [1, 2]])
    gathered = memory.gather(rows)
    expected = frames[rows.numpy()]
    expected = expected[:, :, None] if len(shape) == 2 else expected.transpose(0, 1, 4, 2, 3)
    assert gathered.dtype == torch.uint8
    assert gathered.shape[2:] == memory.image_shape
    np.testing.assert_array_equal(gathered.numpy(), expected)


def test_large_recordings_stay_compressed(monkeypatch):
    monkeypatch.setattr("datamodules.frame_memory.UNCOMPRESSED_BYTES", 100)
    assert FrameMemory([zlib.compress(bytes(64))] * 2, (8, 8)).mode == "compressed"
    assert FrameMemory([zlib.compress(bytes(64))], (8, 8)).mode == "uncompressed"
