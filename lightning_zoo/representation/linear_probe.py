"""Linear probes of the AtariARI benchmark (Anand et al. 2019, arXiv 1906.08226, section 5), all variables at once.

One 256-way linear classifier per RAM variable, on features that an encoder computed once. Every classifier has its own
learning rate, schedule and end, so that this is the training of K separate probes in one tensor operation. The numbered
differences from the released code are in this folder's README.
"""

from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.losses.variable_cross_entropy import variable_cross_entropy
from lightning_zoo.metrics.variable_scores import VALUES, VariableAccuracy, VariableScores, named_scores
from lightning_zoo.representation.variable_adam import VariableAdam
from lightning_zoo.representation.variable_schedule import VariableSchedule, end_epoch, start_run
from lightning_zoo.representation.variables import fill_from_data
from lightning_zoo.step_logging import logs_now


class LinearProbe(Loadable, L.LightningModule):
    """One linear classifier per state variable on batches {"features": (B, D) or (B, M, D), "labels": (B, K)}.

    Args:
        variables: names of the K variables, in the order of the labels; None takes those of the data.
        categories: per variable the categories it counts in; None takes those of the data.
        num_features: D; None takes it from the data.
        feature_of_variable: with features (B, M, D), which of the M each variable reads; None for M = K in order.
        learning_rate: of Adam with eps 1e-5, at first.
        plateau_factor: by which a variable's rate is lowered when its validation accuracy does not rise.
        plateau_patience: epochs that are borne before that.
        min_learning_rate: no rate goes below it.
        stop_patience: epochs without a higher validation accuracy after which a variable's probe stays as it is.
        test_weights: "last" (published) or "best", per variable by validation accuracy.

    Raises:
        ValueError: for a bad option, or features that do not fit ``feature_of_variable``.
    """

    best_weight: Tensor
    best_bias: Tensor

    def __init__(
        self,
        *,
        variables: list[str] | None = None,
        categories: dict[str, list[str]] | None = None,
        num_features: int | None = None,
        feature_of_variable: list[int] | None = None,
        learning_rate: float = 3e-4,
        plateau_factor: float = 0.2,
        plateau_patience: int = 5,
        min_learning_rate: float = 1e-5,
        stop_patience: int = 15,
        test_weights: Literal["last", "best"] = "last",
    ) -> None:
        super().__init__()
        if test_weights not in ("last", "best"):
            raise ValueError(f"test_weights must be 'last' or 'best', got {test_weights!r}")
        self.save_hyperparameters()
        self.weight: nn.Parameter | None = None
        if variables is not None and num_features is not None:
            self._build()

    def setup(self, stage: str) -> None:
        """Take names and sizes from the data where they were not given."""
        fill_from_data(self, variables="variables", categories="categories")
        fill_from_data(self, num_features="feature_shape")
        if isinstance(shape := self.hparams["num_features"], list):
            self.hparams["num_features"] = shape[-1]

    def configure_model(self) -> None:
        """Build the probes if their number is only now known."""
        if self.weight is None:
            self._build()

    def _build(self) -> None:
        options = self.hparams
        count, size, sources = len(options["variables"]), options["num_features"], options["feature_of_variable"]
        if count == 0:
            raise ValueError("variables is empty: the data have no label that varies enough to be probed")
        if sources is not None and len(sources) != count:
            raise ValueError(f"feature_of_variable must name one feature per variable, got {len(sources)} for {count}")
        probes = [nn.Linear(size, VALUES) for _ in range(count)]
        weights = torch.stack([probe.weight.detach().T for probe in probes])
        self.weight = nn.Parameter(weights.contiguous())  # (K, D, 256)
        self.bias = nn.Parameter(torch.stack([probe.bias.detach() for probe in probes]))  # (K, 256)
        if options["test_weights"] == "best":
            self.register_buffer("best_weight", self.weight.detach().clone())
            self.register_buffer("best_bias", self.bias.detach().clone())
        self.schedule = VariableSchedule(
            count,
            learning_rate=options["learning_rate"],
            factor=options["plateau_factor"],
            patience=options["plateau_patience"],
            min_learning_rate=options["min_learning_rate"],
            stop_patience=options["stop_patience"],
        )
        self.accuracy = VariableAccuracy(count)
        self.scores = VariableScores(count)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K, 256) of features (B, D) or (B, M, D), with the weights as they are now."""
        assert self.weight is not None
        return self._logits(features, self.weight, self.bias).transpose(0, 1)

    def _logits(self, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if features.dim() == 2:
            return torch.matmul(features, weight) + bias[:, None]  # (K, B, 256)
        sources = self.hparams["feature_of_variable"]
        if sources is not None:
            features = features[:, sources]
        elif features.shape[1] != len(weight):
            raise ValueError(
                f"feature_of_variable must say which of the {features.shape[1]} features each of the {len(weight)} "
                "variables reads"
            )
        return torch.baddbmm(bias[:, None], features.transpose(0, 1), weight)

    def losses(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each variable (K,), in nats."""
        return variable_cross_entropy(self(features).transpose(0, 1), labels)

    def predict(self, features: Tensor) -> Tensor:
        """Predicted values (B, K) of features, with the weights that ``test_weights`` chooses."""
        assert self.weight is not None
        if self.hparams["test_weights"] == "best":
            return self._logits(features, self.best_weight, self.best_bias).argmax(-1).T
        return self._logits(features, self.weight, self.bias).argmax(-1).T

    def on_train_start(self) -> None:
        """Take up the rates of a resumed run, or end it if all have stopped."""
        start_run(self, self.schedule)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step of every probe; the sum of their losses has the gradient of each one alone."""
        losses = self.losses(batch["features"], batch["labels"])
        if logs_now(self):
            self.log("train/loss", losses.detach().mean())
        return losses.sum()

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracy on held-out features."""
        logits, labels = self(batch["features"]), batch["labels"]
        self.accuracy.update(logits.argmax(-1), labels)
        loss = variable_cross_entropy(logits.transpose(0, 1), labels).mean()
        self.log("val/loss", loss, batch_size=len(labels), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Lower rates, stop probes, keep the best weights."""
        accuracy = self.accuracy.compute().reshape(-1)
        self.accuracy.reset()
        improved = end_epoch(self, self.schedule, accuracy)
        if improved is not None and self.hparams["test_weights"] == "best":
            assert self.weight is not None
            improved = improved.to(self.device)
            self.best_weight[improved] = self.weight.detach()[improved]
            self.best_bias[improved] = self.bias.detach()[improved]
        stopped = float(self.schedule.stopped.sum())
        self.log_dict({"val/accuracy": float(accuracy.mean()), "val/stopped": stopped}, sync_dist=True)

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Count the predictions on features that neither training nor stopping has seen."""
        self.scores.update(self.predict(batch["features"]), batch["labels"])

    def on_test_epoch_end(self) -> None:
        """Log the scores of every variable, every category and the game."""
        named = named_scores(self.scores.compute(), self.hparams["variables"], self.hparams["categories"] or {})
        self.scores.reset()
        self.log_dict({f"test/{name}": value for name, value in named.items()}, sync_dist=True)

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Predicted values (B, K)."""
        return {"predictions": self.predict(batch["features"])}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with one learning rate per variable."""
        return VariableAdam(self.parameters(), learning_rate=self.hparams["learning_rate"], epsilon=1e-5)
