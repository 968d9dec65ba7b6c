"""The losses on the progress bar, and how seldom they are fetched."""

import warnings

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_zoo.callbacks.loss_bar import LossBar

warnings.filterwarnings("ignore", ".*LeafSpec.*")


class Counting(L.LightningModule):
    """Its training loss is the number of the step, its validation loss minus that."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.steps = 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        if self.steps % 3 == 0:
            self.log("train/loss", torch.tensor(float(self.steps)))
        return self.weight * 0 + 1.0

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", torch.tensor(float(-self.steps)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Spy(LossBar):
    """Notes what is shown after each step."""

    def __init__(self):
        super().__init__()
        self.shown = {}

    def get_metrics(self, trainer, pl_module):
        metrics = super().get_metrics(trainer, pl_module)
        self.shown[trainer.global_step] = {name: float(metrics[name]) for name in metrics}
        return metrics


def test_the_losses_that_were_logged_last_are_shown(tmp_path):
    bar = Spy()
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=2, log_every_n_steps=3,
        callbacks=[bar], default_root_dir=tmp_path, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loader = DataLoader(torch.zeros(6), batch_size=1)
    trainer.fit(Counting(), loader, loader)
    shown = {step: (values.get("train/loss"), values.get("val/loss")) for step, values in bar.shown.items()}
    expected = {1: (None, None), 2: (None, None), 3: (3, None), 4: (3, None), 5: (3, None), 6: (6, -6)}
    assert shown == expected | {7: (6, -6), 8: (6, -6), 9: (9, -6), 10: (9, -6), 11: (9, -6), 12: (12, -12)}
