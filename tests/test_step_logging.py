"""Metrics are logged at the steps that the logger writes, with that step's value."""

import csv

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from lightning_zoo.step_logging import logs_now


class StepLogger(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.calls = 0

    def training_step(self, batch, batch_index):
        if logs_now(self):
            self.calls += 1
            self.log("train/step", float(self.global_step))
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TwoOptimizerLogger(StepLogger):
    """Manual optimization with two optimizers, the first of which has no gradients at every third batch."""

    def __init__(self, steps_before_asking):
        super().__init__()
        self.automatic_optimization = False
        self.steps_before_asking = steps_before_asking

    def training_step(self, batch, batch_index):
        for number, optimizer in enumerate(self.optimizers()):
            if number == self.steps_before_asking and logs_now(self, steps_per_batch=2):
                self.calls += 1
                self.log("train/step", float(self.global_step // 2))
            self.layer.weight.grad = None if batch_index % 3 == 0 and number == 0 else torch.ones(1, 1)
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD([self.layer.weight], lr=0.1), torch.optim.SGD([self.layer.bias], lr=0.1)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("every", "steps"), [(4, [3, 7, 11]), (1, list(range(14))), (0, [])])
@pytest.mark.parametrize("make", [StepLogger, lambda: TwoOptimizerLogger(0), lambda: TwoOptimizerLogger(1)])
def test_the_written_value_is_that_of_the_written_step(tmp_path, make, every, steps):
    model = make()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=CSVLogger(tmp_path),
        log_every_n_steps=every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(torch.zeros(7, 1)), batch_size=1))  # 7 batches: no multiple of 4
    files = list(tmp_path.rglob("metrics.csv"))
    rows = list(csv.DictReader(files[0].open())) if files else []
    assert [(int(row["step"]), float(row["train/step"])) for row in rows] == [(step, step) for step in steps]
    assert model.calls == len(steps)
