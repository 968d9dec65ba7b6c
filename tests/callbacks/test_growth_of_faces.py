"""AcVAE-GAN grows from 64x64 to 128x128: exact across a resume, alike in two processes, nothing left of the old way."""

import copy
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from datamodules import CelebA
from lightning_zoo import ACVAEGAN, load
from lightning_zoo.callbacks.best_checkpoint import LastCheckpoint
from lightning_zoo.callbacks.exact_resume import ExactResume
from lightning_zoo.callbacks.progressive_growth import ProgressiveGrowth

warnings.filterwarnings("ignore", ".*LeafSpec.*")

TINY = {"base_channels": 2, "latent_channels": 8, "hidden_size": 8, "num_layers": 1, "averaging_decay": 0.9}
BATCHES = 2
"""Of an epoch; two optimizer steps each."""


@pytest.fixture(scope="module")
def faces(faces_root, tmp_path_factory):
    """A function that gives the faces at 128x128, decoded once, never mirrored."""
    cache = tmp_path_factory.mktemp("cache")
    settings = {"root": str(faces_root), "image_size": 128, "cache": str(cache), "num_workers": 1}
    return lambda batch_size=4: CelebA(batch_size=batch_size, **settings)


def fit(data, *callbacks, ckpt_path=None, **options):
    L.seed_everything(0, verbose=False)
    module = ACVAEGAN(**TINY)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    short = {"max_epochs": 4, "limit_train_batches": BATCHES, "limit_val_batches": 0, "log_every_n_steps": 1}
    run = L.Trainer(callbacks=list(callbacks), **(quiet | short | options))
    run.fit(module, data, ckpt_path=ckpt_path)
    return module, run


class StopAt(L.Callback):
    """An interruption."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_end(self, trainer, *_):
        if trainer.fit_loop.total_batch_idx == self.batch:
            raise RuntimeError("killed")


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory):
    """A run that was not interrupted: module, trainer and last checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    return *run_in(folder, faces(), every=2), folder / "checkpoints/last.ckpt"


def run_in(folder, data, *more, every, **options):
    """64 in the first epoch, alpha 0 and 1/2 in the second and third, 1 in the last."""
    growth = ProgressiveGrowth((128,), 1, 2, rate_factor=0.3)
    callbacks = [LastCheckpoint(every_n_train_steps=every), ExactResume(), growth, *more]
    return fit(data, *callbacks, default_root_dir=folder, enable_checkpointing=True, **options)


@pytest.mark.parametrize("saved", [1, BATCHES + 1, 2 * BATCHES + 1, 3 * BATCHES + 1])
def test_a_resumed_run_ends_in_the_same_weights(whole, faces, tmp_path, saved):
    with pytest.raises(RuntimeError, match="killed"):
        run_in(tmp_path, faces(), StopAt(saved), every=2 * saved)
    last = tmp_path / "checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == 2 * saved
    assert checkpoint["growth"] == {"image_size": 64 if saved == 1 else 128, "fading": saved in (3, 5)}
    ended, ended_run = run_in(tmp_path, faces(), every=2 * saved, ckpt_path=last)
    expected, expected_run, _ = whole
    weights = expected.state_dict()
    assert ended.state_dict().keys() == weights.keys()
    assert [name for name, value in ended.state_dict().items() if not torch.equal(value, weights[name])] == []
    for ours, theirs in zip(ended_run.optimizers, expected_run.optimizers, strict=True):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        assert ours["state"].keys() == theirs["state"].keys()
        for index, state in theirs["state"].items():
            assert all(torch.equal(ours["state"][index][name], value) for name, value in state.items())


def test_nothing_is_left_of_the_old_way(whole):
    module, run, checkpoint = whole
    plain = ACVAEGAN(**TINY, first_size=128)
    assert {name: value.shape for name, value in module.state_dict().items()} == {
        name: value.shape for name, value in plain.state_dict().items()
    }
    configured = [each["optimizer"] for each in plain.configure_optimizers()]
    for optimizer, fresh in zip(run.optimizers, configured, strict=True):
        sizes = [[p.shape for p in group["params"]] for group in optimizer.param_groups]
        assert sizes == [[p.shape for p in group["params"]] for group in fresh.param_groups]
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.3 * group["lr"] for group in fresh.param_groups])
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        assert {id(parameter) for parameter in optimizer.state} <= held
    loaded = load(checkpoint).eval()
    assert loaded.image_shape == (3, 128, 128)
    generator = torch.Generator().manual_seed(0)
    images = loaded.sample(2, generator=generator)
    assert images.shape == (2, 3, 128, 128)
    assert torch.equal(images, module.eval().sample(2, generator=generator.manual_seed(0)))


class SameOnBoth(L.Callback):
    """Weights, averaged weights and statistics are equal in both processes after every batch."""

    def on_train_batch_end(self, trainer, module, *_):
        for name, tensor in copy.copy(module.state_dict()).items():
            values = trainer.strategy.all_gather(tensor.detach().clone())
            assert torch.equal(values[0], values[1]), name

    def on_train_end(self, trainer, module):
        assert (module.image_shape[-1], module.fading) == (128, False)


def test_two_processes_grow_alike(faces):
    strategy = DDPStrategy(process_group_backend="gloo", start_method="fork")
    fit(
        faces(2),
        ProgressiveGrowth((128,), 1, 1, per="step"),
        SameOnBoth(),
        strategy=strategy,
        devices=2,
        max_epochs=3,
        enable_checkpointing=False,
    )
