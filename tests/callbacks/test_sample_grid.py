"""Pictures during training: what is on them, when they come, and that they change nothing else."""

import sqlite3
from contextlib import closing

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_zoo.callbacks.run_folder import RunFolder
from lightning_zoo.callbacks.sample_grid import SampleGrid, pairs_grid, square_side, write_png


@pytest.fixture
def train(generative_toy, tmp_path, monkeypatch):
    """Train the toy for four epochs; the module, and the folder of pictures."""
    monkeypatch.chdir(tmp_path)

    def run(*callbacks, loggers=None, module=None, **arguments):
        torch.manual_seed(7)
        trainer = L.Trainer(
            max_epochs=4,
            accelerator="cpu",
            logger=loggers or RunFolder(str(tmp_path), "a", 0),
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            **arguments,
        )
        module = module or generative_toy.LinearToy()
        trainer.fit(module, generative_toy.ToyPictures(rows=12))
        return module

    return run


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def cell(file, row, column, size=8):
    """The pixels of one image of a grid with lines of two pixels."""
    pixels = np.asarray(Image.open(file).convert("L"))
    top, left = 2 + row * (size + 2), 2 + column * (size + 2)
    return pixels[top : top + size, left : left + size] / 255


def test_both_grids_every_second_epoch(train, tmp_path):
    module = train(SampleGrid(num_images=6, every_n_epochs=2, seed=3))
    folder = tmp_path / "a/version_0/pictures"
    assert names(folder) == [
        "reconstructions_epoch0001.png",
        "reconstructions_epoch0003.png",
        "samples_epoch0001.png",
        "samples_epoch0003.png",
    ]
    module.eval()
    samples = module.sample(6, generator=torch.Generator().manual_seed(3))
    for index in range(6):
        shown = cell(folder / "samples_epoch0003.png", *divmod(index, 3))
        np.testing.assert_allclose(shown, samples[index, 0].numpy(), atol=1 / 255)
    data = module.trainer.datamodule
    real = data.images[:6]  # of two batches of five
    drawn = module.reconstruct(real)
    for index in range(6):
        row, column = divmod(index, 4)
        shown = cell(folder / "reconstructions_epoch0003.png", 2 * row, column)
        np.testing.assert_allclose(shown, real[index, 0] / 255, atol=1e-6)
        below = cell(folder / "reconstructions_epoch0003.png", 2 * row + 1, column)
        np.testing.assert_allclose(below, drawn[index, 0], atol=1 / 255)


def test_the_weights_are_those_of_a_run_without_it(train, generative_toy):
    class Draws(generative_toy.LinearToy):
        @torch.no_grad()
        def sample(self, num_images, **arguments):
            torch.rand(3)
            return super().sample(num_images, **arguments)

    with_it, without = train(SampleGrid(num_images=4), module=Draws()), train(module=Draws())
    for ours, theirs in zip(with_it.parameters(), without.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert with_it.training == without.training


def test_without_validation_there_are_samples_alone(train, tmp_path):
    train(SampleGrid(num_images=2, every_n_epochs=4), limit_val_batches=0)
    assert names(tmp_path / "a/version_0/pictures") == ["samples_epoch0003.png"]


def test_a_trial_writes_nothing(train, tmp_path):
    train(SampleGrid(num_images=2), fast_dev_run=True)
    assert not (tmp_path / "a").exists()


def test_they_go_to_mlflow(train, tmp_path, monkeypatch):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = MLflowStore()
    train(SampleGrid(num_images=2, every_n_epochs=4), loggers=[RunFolder(str(tmp_path), "a", 0), store])
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as base:
        ((place,),) = base.execute("select artifact_uri from runs").fetchall()
    found = sorted(file.name for file in tmp_path.glob(f"mlruns/**/{store.run_id}/artifacts/pictures/*"))
    assert found == ["reconstructions_epoch0003.png", "samples_epoch0003.png"], place


def test_a_method_that_cannot_draw_is_refused(train, generative_toy):
    class Mute(generative_toy.LinearToy):
        sample = None

    with pytest.raises(ValueError, match="Mute has no `sample`; leave the callback out"):
        train(SampleGrid(), module=Mute())


@pytest.mark.parametrize("wrong", [{"num_images": 0}, {"every_n_epochs": 0}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SampleGrid(**wrong)


@pytest.mark.parametrize(("number", "side"), [(1, 1), (2, 2), (4, 2), (5, 3), (64, 8), (65, 9)])
def test_the_grid_is_a_square(number, side):
    assert square_side(number) == side


def test_pairs_lie_one_above_the_other():
    grid = pairs_grid(torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.5), columns=2)
    assert grid.shape == (3, 4 * 4 + 2, 2 * 4 + 2)
    assert [float(grid[0, 2 + 4 * row, 2]) for row in range(4)] == [0, 0.5, 0, 0.5]
    assert [float(grid[0, 2 + 4 * row, 6]) for row in range(4)] == [0, 0.5, 1, 1]


def test_a_picture_is_complete_or_not_there(tmp_path, monkeypatch):
    file = tmp_path / "new" / "a.png"
    write_png(file, torch.zeros(3, 4, 4))
    assert names(file.parent) == ["a.png"]
    before = file.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_png(file, torch.ones(3, 4, 4))
    assert names(file.parent) == ["a.png"]
    assert file.read_bytes() == before
