"""A method and a dataset so small that the command line itself is what a test waits for."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

TOY = '''
import random
import time

import lightning as L
import numpy as np
import torch
from torch import nn

from datamodules.errors import DataError
from datamodules.index_batches import IndexBatches, in_order, permutation
from lightning_zoo.checkpoints import Loadable
from lightning_zoo.networks.encoders import as_float


class Toy(Loadable, L.LightningModule):
    """A net that draws from every random generator there is.

    Args:
        width: units.
        lr: of SGD with momentum.
        pause: seconds that a step takes.
    """

    def __init__(self, *, width: int = 4, lr: float = 0.01, pause: float = 0.0, validated: bool = True) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, width), nn.Dropout(0.5), nn.Linear(width, 1))

    def encode(self, frames):
        return self.net[0](frames)

    def training_step(self, batch, batch_idx):
        time.sleep(self.hparams.pause)
        noise = random.random() + float(np.random.rand())
        loss = (self.net(batch["x"]) - noise).pow(2).mean()
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch, batch_idx):
        if self.hparams.validated:
            self.log("val/loss", self.net(batch["x"]).pow(2).mean(), batch_size=4)

    def predict_step(self, batch, batch_idx):
        return {"features": self.encode(batch["x"]), "first": batch["x"][:, 0].bfloat16(), "note": "no tensor"}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr, momentum=0.9)


class Other(Toy):
    """Another method."""


class Careless(Toy):
    """A mistake of the user's, or of its author, seen only when it runs.

    Args:
        fault: which.
    """

    def __init__(self, *, fault: str = "labels", **others) -> None:
        super().__init__(**others)
        self.fault = fault

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step >= 4 or self.fault in ("labels", "other_entry"):
            batch[self.fault]
        if self.fault == "channels":
            as_float(torch.zeros(1, 3, 4, 4), 1)
        if self.fault == "theirs":
            torch.ones(2).numpy().reshape(3)
        if self.fault == "own":
            raise ValueError("a fault of the author's")
        return super().training_step(batch, batch_idx)


class ToyData(L.LightningDataModule):
    """Rows of noise.

    Args:
        rows: how many.
        game: one that does not exist is an error about data.
        num_workers: changes nothing.
    """

    def __init__(self, *, rows: int = 24, game: str = "pong", seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.fingerprint = {"source": "noise", "rows": rows}

    def prepare_data(self):
        if self.hparams.game == "nothing":
            raise DataError("game: 'nothing' is no game.")

    def _loader(self, plan):
        x = torch.randn(self.hparams.rows, 3, generator=torch.Generator().manual_seed(1))
        return IndexBatches(lambda rows: {"x": x[rows]}, plan, self.hparams.rows, batch_size=4)

    def train_dataloader(self):
        return self._loader(permutation(self.hparams.rows, self.hparams.seed))

    def val_dataloader(self):
        return self._loader(in_order(self.hparams.rows))

    predict_dataloader = val_dataloader
'''

CONFIG = """\
# A toy.
# Status: runs
seed_everything: 3
model: {class_path: zoo_toy.Toy, init_args: {width: 5}}
data: {class_path: zoo_toy.ToyData, init_args: {game: pong}}
trainer:
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 2
  enable_model_summary: false
  enable_progress_bar: false
"""


def _write_project(folder: Path) -> Path:
    (folder / "zoo_toy.py").write_text(TOY)
    (folder / "toy_pong.yaml").write_text(CONFIG)
    (folder / "short.yaml").write_text("data: {init_args: {rows: 8}}\ntrainer: {max_epochs: 1}\n")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An MLflow database without runs; to make one takes seconds, to copy it none."""
    from lightning_zoo.callbacks.mlflow_store import MLflowStore

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MLflowStore(tracking_uri=f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as base:
        base.execute("pragma wal_checkpoint(truncate)")
    return path


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    """A working directory with the toy, two configs and an empty store, current for this test."""
    monkeypatch.chdir(_write_project(tmp_path))
    shutil.copy(empty_store, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delitem(sys.modules, "zoo_toy", raising=False)
    return tmp_path


@pytest.fixture
def zoo(project):
    """Run `lightning_zoo` in this process; the exit status, 0 where it does not exit."""
    from lightning_zoo.cli.main import main

    def run(*words: str) -> int:
        try:
            main(list(words))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture
def zoo_process(project):
    """Start `lightning_zoo` in a process of its own, with the toy importable from the working directory only."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    def start(*words: str) -> subprocess.Popen:
        code = "from lightning_zoo.cli.main import main; main()"
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, *words],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
