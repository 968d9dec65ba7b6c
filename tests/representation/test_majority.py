import warnings

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score

from lightning_zoo.checkpoints import load
from lightning_zoo.representation.majority import Majority

warnings.filterwarnings("ignore", ".*LeafSpec.*")

VARIABLES = ["x", "lives"]
CATEGORIES = {"x": ["position"], "lives": ["count", "misc"]}


class Labels(L.LightningDataModule):
    variables, categories = VARIABLES, CATEGORIES

    def __init__(self):
        super().__init__()
        generator = np.random.default_rng(0)
        draw = {"train": 40, "val": 20, "test": 20}
        self.labels = {
            split: torch.tensor(np.stack([generator.binomial(9, 0.3, n), 250 + generator.binomial(5, 0.8, n)], 1))
            for split, n in draw.items()
        }

    def loader(self, split):
        world, rank = self.trainer.world_size, self.trainer.global_rank
        batches = self.labels[split].split(10)[rank::world]
        frames = torch.zeros(10, 1, 1, 1, dtype=torch.uint8)
        return torch.utils.data.DataLoader([{"frames": frames, "labels": b} for b in batches], batch_size=None)

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        return self.loader("val")

    def test_dataloader(self):
        return self.loader("test")


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**({"accelerator": "cpu", "max_epochs": 1} | quiet | options))


def test_equals_the_dummy_classifier(tmp_path):
    data, module, run = Labels(), Majority(), trainer()
    run.fit(module, data)
    logged = run.test(module, data, verbose=False)[0]
    train, test = data.labels["train"].numpy(), data.labels["test"].numpy()
    f1 = []
    for k, name in enumerate(VARIABLES):
        dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(train), 1)), train[:, k])
        guess = dummy.predict(np.zeros((len(test), 1)))
        assert module.predict(test)[:, k].tolist() == guess.tolist()
        f1.append(f1_score(test[:, k], guess, average="weighted", zero_division=0))
        assert logged[f"test/variables/{name}/f1"] == pytest.approx(f1[k], abs=1e-6)
        accuracy = accuracy_score(test[:, k], guess)
        assert logged[f"test/variables/{name}/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert logged["test/f1"] == pytest.approx((f1[0] + 2 * f1[1]) / 3, abs=1e-6)
    run.save_checkpoint(tmp_path / "majority.ckpt")
    loaded = load(tmp_path / "majority.ckpt")
    assert torch.equal(loaded.counts, module.counts)
    result = loaded.predict_step({"frames": torch.zeros(3, 1, 210, 160)}, 0)
    assert torch.equal(result["predictions"], module.predict(torch.zeros(3)))
    assert result["features"].shape == (3, 1)


def test_features_do_not_depend_on_the_frames():
    module = Majority(variables=VARIABLES)
    first, second = module.encode(torch.rand(4, 1, 5, 5)), module.encode(torch.rand(4, 1, 5, 5))
    assert first.shape == (4, 1)
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_loss_is_the_cross_entropy_of_smoothed_counts():
    data, module = Labels(), Majority()
    run = trainer()
    run.fit(module, data)
    terms = []
    for k in range(2):
        counts = np.bincount(data.labels["train"][:, k], minlength=256) + 1
        terms += [-np.log(counts[value] / counts.sum()) for value in data.labels["val"][:, k]]
    assert run.callback_metrics["val/loss"].item() == pytest.approx(np.mean(terms), rel=1e-6)
    assert module.loss(data.labels["val"]) < np.log(256)


def test_a_tie_goes_to_the_smaller_value():
    module = Majority(variables=["x"])
    module.counts[0, [9, 200]] = 3
    assert module.predict(torch.zeros(2)).tolist() == [[9], [9]]


def test_two_processes_count_what_one_counts():
    alone, together = Majority(variables=VARIABLES), Majority(variables=VARIABLES)
    trainer().fit(alone, Labels())
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    trainer(strategy=strategy, devices=2, use_distributed_sampler=False).fit(together, Labels())
    assert alone.counts.sum() == 80
    assert torch.equal(together.counts, alone.counts)
