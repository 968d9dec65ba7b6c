"""The conditional GAN of the packaged config paints its grids; what it cannot do it says in one line."""

import pytest
import torch
import yaml
from PIL import Image

from lightning_zoo import ConditionalGAN
from lightning_zoo.callbacks.sample_grid import SampleGrid
from lightning_zoo.cli.zoo import ZooCLI

SIDE = 8 * (64 + 2) + 2
"""Of a grid of eight by eight images with lines between them."""


@pytest.fixture
def built(faces_root, tmp_path):
    """Model, data and trainer of the packaged config, with narrow networks and few steps."""
    changes = {
        "model": {"init_args": {"base_channels": 2, "latent_channels": 4}},
        "data": {
            "init_args": {"root": str(faces_root), "cache": str(tmp_path / "cache"), "batch_size": 4, "num_workers": 1}
        },
        "trainer": {
            "max_epochs": 2,
            "limit_train_batches": 1,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "accelerator": "cpu",
            "default_root_dir": str(tmp_path / "run"),
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    overlay = tmp_path / "small.yaml"
    overlay.write_text(yaml.safe_dump(changes))
    return ZooCLI(["--config", "conditional_gan_celeba", "--config", str(overlay)], run=False)


def test_it_trains_and_paints_what_it_can(built, tmp_path):
    grids = [callback for callback in built.trainer.callbacks if isinstance(callback, SampleGrid)]
    assert len(grids) == 1, "the config asks for them"
    built.trainer.fit(built.model, built.datamodule)
    folder = tmp_path / "run/pictures"
    written = sorted(file.name for file in folder.iterdir())
    assert written == [
        "attributes.txt",
        *(f"{kind}_epoch000{epoch}.png" for kind in ("attributes", "samples") for epoch in range(2)),
    ], "samples and attributes each epoch, and no reconstructions"
    for file in folder.glob("*.png"):
        assert Image.open(file).size == (SIDE, SIDE), file.name
    # The combinations are those of the data, by their names.
    lines = (folder / "attributes.txt").read_text().splitlines()
    rows = {tuple(row) for row in built.datamodule.attributes_of("train").tolist()}
    assert len(lines) == min(8, len(rows))
    for line in lines:
        asked = line.partition(": ")[2].split(", ")
        assert tuple(1 if name in asked else -1 for name in built.model.attribute_names) in rows
    assert (built.model.gate.updates, built.model.gate.skipped) == (2, 0), "a batch in each of two epochs"
    assert torch.isfinite(built.trainer.callback_metrics["val/discriminator_accuracy"])


def test_what_a_gan_cannot_do_it_says():
    module = ConditionalGAN(attribute_names=("a", "b"), base_channels=2, latent_channels=4)
    images = torch.rand(2, 3, 64, 64)
    for given in ((images,), (images, torch.ones(2, 2))):
        with pytest.raises(ValueError, match="ConditionalGAN has no encoder: .*; use ConditionalVAEGAN") as raised:
            module.posterior(*given)
        assert "\n" not in str(raised.value)
    # Callbacks and commands ask whether it can be called.
    assert not callable(module.reconstruct)
    # What it encodes is what its discriminator sees, whatever the attributes are.
    assert module.encode(images).shape == (2, 16 * 16)
    assert torch.equal(module.eval()(images), module.encode(images))


def test_its_prior_is_the_same_whatever_is_asked():
    module = ConditionalGAN(attribute_names=("a", "b"), base_channels=2, latent_channels=4)
    for value in module.prior(torch.tensor([[1, -1], [1, 1]])):
        assert torch.equal(value, torch.zeros(2, 4, 4, 4))
