"""The most frequent label of each state variable, the baseline that looks at no frame (Anand et al. 2019)."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.metrics.variable_scores import VALUES, VariableScores, named_scores
from lightning_zoo.representation.variables import fill_from_data, labels_of


class Majority(Loadable, L.LightningModule):
    """Counts the labels of {"frames": ..., "labels": int64 (B, K)} for one epoch and predicts the most frequent ones.

    The loss is the cross-entropy, mean over variables and in nats, of the counted frequencies with one count added to
    every value. A tie goes to the smaller value.

    Args:
        variables: names of the K variables; None takes those of the data.
        categories: per variable the categories it counts in; None takes those of the data.
    """

    counts: Tensor | None

    def __init__(self, *, variables: list[str] | None = None, categories: dict[str, list[str]] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        # DDP refuses a module without a parameter.
        self.nothing = nn.Parameter(torch.zeros(1))
        self.register_buffer("counts", None)
        if variables is not None:
            self._build(len(variables))

    def setup(self, stage: str) -> None:
        """Take the names from the data where they were not given."""
        fill_from_data(self, variables="variables", categories="categories")

    def configure_model(self) -> None:
        """Make room for the counts if the number of variables is only now known."""
        if self.counts is None:
            self._build(len(self.hparams["variables"]))

    def _build(self, num_variables: int) -> None:
        self.register_buffer("counts", torch.zeros(num_variables, VALUES, dtype=torch.int64))
        self.scores = VariableScores(num_variables)

    def forward(self, frames: Tensor) -> Tensor:
        """A constant (B, 1): of the frames (B, C, H, W) only their number is looked at."""
        return self.nothing.detach().expand(len(frames), 1)

    def encode(self, frames: Tensor) -> Tensor:
        """A constant (B, 1): of the frames (B, C, H, W) only their number is looked at."""
        return self(frames)

    def predict(self, frames: Tensor) -> Tensor:
        """The most frequent values (B, K), the same for every frame."""
        assert self.counts is not None
        return self.counts.argmax(1).expand(len(frames), -1)

    def loss(self, labels: Tensor) -> Tensor:
        """Cross-entropy of labels (B, K) under the frequencies counted so far."""
        assert self.counts is not None
        log_share = (self.counts + 1).float().log() - (self.counts.sum(1, keepdim=True) + VALUES).float().log()
        return -log_share.gather(1, labels.T).mean()

    def count(self, labels: Tensor) -> None:
        """Count labels (n, K) without a training run."""
        assert self.counts is not None
        self.counts += self._count(labels)

    def _count(self, labels: Tensor) -> Tensor:
        assert self.counts is not None
        index = labels + VALUES * torch.arange(len(self.counts), device=labels.device)
        return torch.bincount(index.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Count one batch, on all processes together."""
        assert self.counts is not None
        labels = labels_of(batch)
        # Summed here, not after the epoch: DDP overwrites all buffers by those of the first process at each step.
        self.counts += self.trainer.strategy.reduce(self._count(labels), reduce_op="sum")
        loss = self.loss(labels)
        self.log("train/loss", loss)
        return loss + 0 * self.nothing.sum()

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracy on held-out labels."""
        labels = labels_of(batch)
        accuracy = (self.predict(labels) == labels).float().mean()
        values = {"val/loss": self.loss(labels), "val/accuracy": accuracy}
        self.log_dict(values, batch_size=len(labels), sync_dist=True)

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Compare the most frequent values with the labels."""
        labels = labels_of(batch)
        self.scores.update(self.predict(labels), labels)

    def on_test_epoch_end(self) -> None:
        """Log the scores of every variable, every category and the game."""
        named = named_scores(self.scores.compute(), self.hparams["variables"], self.hparams["categories"] or {})
        self.scores.reset()
        self.log_dict({f"test/{name}": value for name, value in named.items()}, sync_dist=True)

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        """The constant features (B, 1) and the most frequent values (B, K)."""
        return {"features": self.encode(batch["frames"]), "predictions": self.predict(batch["frames"])}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with rate zero: it counts the steps by which checkpoints are written and moves nothing."""
        return torch.optim.SGD(self.parameters(), lr=0.0)
