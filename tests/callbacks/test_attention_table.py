"""The table of attention while training: files, numbers, MLflow, and that nothing else changes."""

import json
import math

import lightning as L
import pytest
import torch

from lightning_zoo.callbacks.attention_table import AttentionTable
from lightning_zoo.callbacks.run_folder import RunFolder


class Pictures(L.LightningDataModule):
    def train_dataloader(self):
        attributes = torch.ones(8, 5, dtype=torch.int8)
        return torch.utils.data.DataLoader([{"attributes": row} for row in attributes], batch_size=4)

    val_dataloader = train_dataloader


@pytest.fixture
def train(conditional_toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Attending(conditional_toy.ConditionalToy):
        def validation_step(self, batch, batch_index):
            pass

    def run(*callbacks, module=None, loggers=None, **options):
        torch.manual_seed(7)
        settings = {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1, "num_sanity_val_steps": 1}
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(
            callbacks=list(callbacks),
            logger=loggers or RunFolder(str(tmp_path), "a", 0),
            **(settings | quiet | options),
        )
        module = module or Attending()
        trainer.fit(module, Pictures())
        return module, trainer

    return run


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_files_and_numbers(train, tmp_path):
    module, trainer = train(AttentionTable(every_n_epochs=2))
    folder = tmp_path / "a/version_0/attention"
    assert names(folder) == ["attention.txt", "attention_epoch0001.json", "attention_epoch0001.png"]
    written = json.loads((folder / "attention_epoch0001.json").read_text())
    assert written["epoch"] == 1
    assert written["steps"] == {"1": ["Bald", "Young"], "2": ["Eyeglasses"], "3": ["Male"], "4": ["Smiling"]}
    assert "   3  Male\n" in (folder / "attention.txt").read_text()
    sure = math.exp(3) / (math.exp(3) + 3)
    certain = -sure * math.log(sure) - (1 - sure) * math.log((1 - sure) / 3)
    expected = (4 * certain + math.log(4)) / 5
    assert written["mean_entropy"] == pytest.approx(expected, abs=1e-3)
    assert trainer.callback_metrics["val/attention_steps_used"] == 4
    mask = module.attention()
    assert mask.requires_grad, "it is still learned"


def test_the_newest_table_replaces_the_one_before(train, tmp_path):
    train(AttentionTable())
    folder = tmp_path / "a/version_0/attention"
    assert len(names(folder)) == 7
    assert (folder / "attention.txt").read_text().startswith("epoch 2\n")


def test_the_weights_are_those_of_a_run_without_it(train):
    (with_it, _), (without, _) = train(AttentionTable()), train()
    for ours, theirs in zip(with_it.parameters(), without.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_they_go_to_mlflow(train, tmp_path, monkeypatch):
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = MLflowStore()
    train(AttentionTable(every_n_epochs=3), loggers=[RunFolder(str(tmp_path), "a", 0), store])
    found = sorted(file.name for file in tmp_path.glob(f"mlruns/**/{store.run_id}/artifacts/attention/*"))
    assert found == ["attention.txt", "attention_epoch0002.json", "attention_epoch0002.png"]


def test_a_trial_writes_nothing(train, tmp_path):
    train(AttentionTable(), fast_dev_run=True)
    assert not (tmp_path / "a").exists()


def test_a_method_without_attention_is_refused(train, conditional_toy):
    class Inattentive(conditional_toy.ConditionalToy):
        attention = None

    with pytest.raises(ValueError, match="Inattentive has no `attention`; leave the callback out"):
        train(AttentionTable(), module=Inattentive())


def test_a_number_out_of_range():
    with pytest.raises(ValueError, match="every_n_epochs must be at least 1, got 0"):
        AttentionTable(every_n_epochs=0)
