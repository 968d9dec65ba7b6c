import os

import pytest
import torch

from lightning_zoo.metrics.real_features import cached_features


class Counted:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"features": torch.arange(6.0).view(2, 3) + self.calls}


@pytest.fixture
def compute():
    return Counted()


def test_what_was_computed_once_is_read(tmp_path, compute):
    folder = tmp_path / "statistics"
    first = cached_features(folder, {"split": "val"}, compute)
    second = cached_features(folder, {"split": "val"}, compute)
    assert compute.calls == 1
    assert torch.equal(first["features"], second["features"])
    assert set(second) == {"features"}
    assert not list(folder.glob("*partial"))
    cached_features(folder, {"split": "test"}, compute)
    assert compute.calls == 2


def test_the_order_of_the_key_says_nothing(tmp_path, compute):
    cached_features(tmp_path, {"a": 1, "b": 2}, compute)
    cached_features(tmp_path, {"b": 2, "a": 1}, compute)
    assert compute.calls == 1


def test_a_damaged_file_is_written_anew(tmp_path, compute):
    cached_features(tmp_path, {"a": 1}, compute)
    [file] = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(cached_features(tmp_path, {"a": 1}, compute)["features"], torch.arange(6.0).view(2, 3) + 2)
    assert cached_features(tmp_path, {"a": 1}, compute)
    assert compute.calls == 2


def test_a_file_of_another_key_is_not_believed(tmp_path, compute):
    cached_features(tmp_path, {"a": 1}, compute)
    cached_features(tmp_path, {"a": 2}, compute)
    first, second = sorted(tmp_path.glob("*.npz"))
    os.replace(first, second)
    cached_features(tmp_path, {"a": 1}, compute)
    cached_features(tmp_path, {"a": 2}, compute)
    assert compute.calls > 2


def test_a_folder_that_cannot_be_written_to(tmp_path, compute):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", None):
        assert cached_features(folder, {"a": 1}, compute)["features"].shape == (2, 3)
    assert compute.calls == 2
