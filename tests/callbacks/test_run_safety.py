"""Checkpoints that are complete or absent, losses that stop being numbers, random states that come back."""

import random
import warnings

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader

from lightning_zoo.callbacks.atomic_checkpoint_io import AtomicCheckpointIO
from lightning_zoo.callbacks.best_checkpoint import BestCheckpoint, LastCheckpoint
from lightning_zoo.callbacks.exact_resume import ExactResume, random_states, set_random_states
from lightning_zoo.callbacks.stop_on_non_finite import NonFiniteLossError, StopOnNonFinite

warnings.filterwarnings("ignore", ".*LeafSpec.*")


class Scripted(L.LightningModule):
    """Its losses are given."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses
        self.weight = nn.Parameter(torch.zeros(()))
        self.steps = 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return self.weight * 0 + self.losses[self.steps - 1]

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", torch.tensor(1.0 / self.steps if self.steps else 1.0))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module, folder, callbacks, epochs=3, every=2, validate=True, ckpt_path=None):
    trainer = L.Trainer(
        accelerator="cpu", logger=False, default_root_dir=folder, max_epochs=epochs, log_every_n_steps=every,
        callbacks=callbacks, enable_progress_bar=False, enable_model_summary=False, plugins=[AtomicCheckpointIO()],
    )  # fmt: skip
    loader = DataLoader(torch.zeros(4), batch_size=1)
    trainer.fit(module, loader, loader if validate else None, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def test_a_checkpoint_is_complete_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(3)}}, path)
    before = path.read_bytes()

    def cut(checkpoint, file, storage_options=None):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "lightning.fabric.plugins.io.torch_io.TorchCheckpointIO.save_checkpoint", lambda self, *a: cut(*a)
    )
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(("bad_step", "noticed_after"), [(1, 2), (2, 2), (5, 6), (8, 8)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, bad_step, noticed_after, value):
    # From the bad step on all are bad, as with real weights.
    module = Scripted([1.0] * (bad_step - 1) + [value] * 12)
    with pytest.raises(NonFiniteLossError, match=rf"{value} at step \d+ of epoch {(noticed_after - 1) // 4}"):
        fit(module, tmp_path, [StopOnNonFinite()])
    assert module.steps == noticed_after


def test_the_last_good_checkpoint_is_named_and_kept(tmp_path):
    last = LastCheckpoint()
    with pytest.raises(NonFiniteLossError, match=r"the last good checkpoint is .*last\.ckpt"):
        fit(Scripted([1.0] * 7 + [float("nan")] * 9), tmp_path, [BestCheckpoint(), StopOnNonFinite(), last], every=100)
    assert torch.load(last.best_model_path, weights_only=True)["global_step"] == 4


class Exploding(Scripted):
    """Its loss stays finite while its gradient, from step `bad_step` on, is not."""

    def __init__(self, bad_step):
        super().__init__([1.0] * 99)
        self.bad_step = bad_step

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        # sqrt has an infinite slope at 0 and the value 0.
        return loss + (self.weight * 0).abs().sqrt() if self.steps >= self.bad_step else loss


@pytest.mark.parametrize("callbacks", [[LastCheckpoint], [BestCheckpoint], [BestCheckpoint, LastCheckpoint]])
def test_no_checkpoint_is_written_from_weights_that_are_not_finite(tmp_path, callbacks):
    module = Exploding(bad_step=8)
    with pytest.raises(
        NonFiniteLossError, match=r"Some weights are not finite at step 8 .* good checkpoint is"
    ) as told:
        fit(module, tmp_path, [StopOnNonFinite(), *(callback() for callback in callbacks)], every=100)
    assert not torch.isfinite(module.weight)
    files = list(tmp_path.rglob("*.ckpt"))
    assert {file.name for file in files} <= {"last.ckpt", "best-epoch000.ckpt"}
    assert len(files) == len(callbacks)
    assert any(str(file) in str(told.value) for file in files)
    for file in files:
        content = torch.load(file, weights_only=True)
        assert content["global_step"] == 4
        assert torch.isfinite(content["state_dict"]["weight"])


def test_without_a_good_checkpoint_none_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    bad = {"state_dict": {"weight": torch.tensor(float("nan"))}}
    torch.save(bad, tmp_path / "checkpoints/last.ckpt")
    last = LastCheckpoint()
    last.dirpath = str(tmp_path / "checkpoints")
    with pytest.raises(NonFiniteLossError, match="no good checkpoint was written before"):
        fit(Exploding(bad_step=1), tmp_path, [StopOnNonFinite(), last], every=100)


@pytest.mark.parametrize("validate", [True, False])
def test_a_run_that_was_finished_takes_no_further_step(tmp_path, validate):
    def callbacks():
        stop = EarlyStopping("val/loss", patience=2, check_on_train_epoch_end=False)
        return [stop, ExactResume(), LastCheckpoint()] if validate else [ExactResume(), LastCheckpoint()]

    class Constant(Scripted):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + self.weight

        def validation_step(self, batch, batch_idx):
            self.log("val/loss", torch.tensor(1.0))

    epochs = 9 if validate else 2
    first = Constant([1.0] * 99)
    path = fit(first, tmp_path, callbacks(), epochs, validate=validate).checkpoint_callbacks[-1].best_model_path
    assert first.steps == (12 if validate else 8)
    before = torch.load(path, weights_only=True)
    second = Constant([1.0] * 99)
    fit(second, tmp_path, callbacks(), epochs, validate=validate, ckpt_path=path)
    assert second.steps == 0
    assert torch.equal(second.weight, before["state_dict"]["weight"])
    after = torch.load(path, weights_only=True)
    assert (after["global_step"], after["epoch"]) == (before["global_step"], before["epoch"])


def test_finite_losses_go_on(tmp_path):
    module = Scripted([1.0] * 12)
    fit(module, tmp_path, [StopOnNonFinite()])
    assert module.steps == 12


@pytest.mark.parametrize("validate", [True, False])
def test_best_and_last(tmp_path, validate):
    best, last = BestCheckpoint(), LastCheckpoint()
    fit(Scripted([1.0] * 12), tmp_path, [best, last], validate=validate)
    names = {path.name for path in tmp_path.rglob("*.ckpt")}
    # val/loss falls with every step, so the last epoch is the best one.
    assert names == ({"best-epoch002.ckpt", "last.ckpt"} if validate else {"last.ckpt"})
    assert torch.load(last.best_model_path, weights_only=True)["global_step"] == 12


def test_last_is_written_when_the_best_is_not(tmp_path):
    class Worse(Scripted):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", torch.tensor(float(self.steps)))

    best, last = BestCheckpoint(), LastCheckpoint()
    fit(Worse([1.0] * 12), tmp_path, [best, last])
    assert best.best_model_path.endswith("best-epoch000.ckpt")
    assert torch.load(last.best_model_path, weights_only=True)["global_step"] == 12


def draws():
    numpy_draws = [np.random.rand(), np.random.randn()]  # noqa: NPY002
    return [random.random(), random.gauss(0, 1), *numpy_draws, *torch.rand(3).tolist()]


def test_all_generators_come_back(tmp_path):
    draws()  # leaves a second normal number waiting in python's and numpy's generator
    random.gauss(0, 1)
    states = random_states()
    expected = draws()
    torch.save(states, tmp_path / "states.pt")
    draws()
    set_random_states(torch.load(tmp_path / "states.pt", weights_only=True))
    assert draws() == expected


def test_states_come_back_before_the_first_batch_and_only_once():
    callback = ExactResume()
    saved = callback.state_dict()
    expected = draws()
    callback.load_state_dict(saved)
    draws()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    callback.on_train_batch_start(trainer, None, None, 0)
    assert draws() == expected
    callback.on_train_batch_start(trainer, None, None, 1)
    assert draws() != expected


def test_another_number_of_processes_is_said():
    callback = ExactResume()
    callback.load_state_dict({"ranks": [random_states()] * 2})
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.warns(UserWarning, match="Resumed on 1 processes, saved on 2"):
        callback.on_train_batch_start(trainer, None, None, 0)
