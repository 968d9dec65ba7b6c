"""A classifier that started from published weights is resumed without them."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_zoo import Classifier
from lightning_zoo.networks.vgg11 import VGG11


@pytest.fixture
def taken(monkeypatch):
    """What networks were given to start from; the published weights fit large networks alone."""
    given = []
    monkeypatch.setattr(VGG11, "take_torchvision_weights", lambda self, weights: given.append(weights))
    return given


def fit(path, *, max_epochs=1, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = L.Trainer(max_epochs=max_epochs, enable_checkpointing=False, limit_val_batches=0, **quiet)
    batch = {"images": torch.rand(4, 3, 32, 32), "labels": torch.tensor([0, 1, 0, 1])}
    module = Classifier(initial_weights=str(path), base_channels=2, image_shape=(3, 32, 32), class_names=["a", "b"])
    run.fit(module, DataLoader([batch], batch_size=None), **options)
    return run


def test_a_resumed_run_needs_no_initial_weights(tmp_path, taken):
    torch.save({"features.0.weight": torch.ones(2)}, tmp_path / "vgg.pth")
    run = fit(tmp_path / "vgg.pth")
    assert [set(weights) for weights in taken] == [{"features.0.weight"}], "a new run takes them, once"
    run.save_checkpoint(tmp_path / "half.ckpt")
    (tmp_path / "vgg.pth").unlink()
    assert fit(tmp_path / "vgg.pth", ckpt_path=tmp_path / "half.ckpt", max_epochs=2).current_epoch == 2
    assert len(taken) == 1
    with pytest.raises(ValueError, match=r"initial_weights: no file .*vgg\.pth"):
        fit(tmp_path / "vgg.pth")
