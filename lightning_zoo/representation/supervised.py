"""Fully supervised classifiers of state variables, the upper baseline of ST-DIM (Anand et al. 2019).

Every variable has an encoder and a linear layer of its own, trained end to end. Parameters, optimizer and schedule are
those of all variables at once. The numbered differences from the released code are in this folder's README.
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lightning_zoo.checkpoints import Loadable
from lightning_zoo.losses.variable_cross_entropy import variable_cross_entropy
from lightning_zoo.metrics.variable_scores import VALUES, VariableAccuracy, VariableScores, named_scores
from lightning_zoo.networks.encoders import EncoderName, as_float, checked_images, make_encoder
from lightning_zoo.representation.variable_adam import VariableAdam
from lightning_zoo.representation.variable_schedule import VariableSchedule, end_epoch, start_run
from lightning_zoo.representation.variables import fill_from_data, labels_of
from lightning_zoo.step_logging import logs_now


class _Classifier(nn.Module):
    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(images)
        return features, self.head(features)


class Supervised(Loadable, L.LightningModule):
    """An encoder and a 256-way linear layer per state variable on {"frames": (B, C, H, W), "labels": (B, K)}.

    Each parameter of ``classifiers`` holds those of all variables, (K, ...). As released, all encoders start with the
    same weights.

    Args:
        variables: names of the K variables, in the order of the labels; None takes those of the data.
        categories: per variable the categories it counts in; None takes those of the data.
        encoder: "nature" (published) or "impala".
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length D of each encoder's feature vector.
        learning_rate: of Adam with eps 1e-5, at first.
        plateau_factor: by which a variable's rate is lowered when its validation accuracy does not rise.
        plateau_patience: epochs that are borne before that.
        min_learning_rate: no rate goes below it.
        stop_patience: epochs without a higher validation accuracy after which a variable's classifier stays as it is.
        vectorize: run all encoders as one grouped convolution per layer instead of one after the other; null does so on
            a GPU, which one encoder leaves idle, and not on a CPU, where it was about two times slower on two cores.
    """

    def __init__(
        self,
        *,
        variables: list[str] | None = None,
        categories: dict[str, list[str]] | None = None,
        encoder: EncoderName = "nature",
        input_channels: int = 1,
        feature_size: int = 256,
        learning_rate: float = 3e-4,
        plateau_factor: float = 0.2,
        plateau_patience: int = 5,
        min_learning_rate: float = 1e-5,
        stop_patience: int = 15,
        vectorize: bool | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.classifiers: _Classifier | None = None
        if variables is not None:
            self._build()

    def setup(self, stage: str) -> None:
        """Take the names from the data where they were not given."""
        fill_from_data(self, variables="variables", categories="categories")

    def configure_model(self) -> None:
        """Build the classifiers if their number is only now known."""
        if self.classifiers is None:
            self._build()

    def _build(self) -> None:
        options = self.hparams
        count, size = len(options["variables"]), options["feature_size"]
        if count == 0:
            raise ValueError("variables is empty: the data have no label that varies enough to be learned")
        encoder = make_encoder(options["encoder"], input_channels=options["input_channels"], feature_size=size)
        self.classifiers = _stacked(encoder, [nn.Linear(size, VALUES) for _ in range(count)])
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

    @property
    def feature_slices(self) -> dict[str, slice]:
        """Which columns of `encode` are each variable's own features."""
        size = self.hparams["feature_size"]
        return {name: slice(k * size, (k + 1) * size) for k, name in enumerate(self.hparams["variables"])}

    def forward(self, frames: Tensor) -> Tensor:
        """Features (B, K * D), see ``feature_slices``, of frames (B, C, H, W), uint8 or float in [0, 1]."""
        features, _ = self._run(frames)
        return features.transpose(0, 1).flatten(1)

    def encode(self, frames: Tensor) -> Tensor:
        """Features (B, K * D), see ``feature_slices``, of frames (B, C, H, W), uint8 or float in [0, 1]."""
        return self(frames)

    def predict(self, frames: Tensor) -> Tensor:
        """Predicted values (B, K) of frames (B, C, H, W)."""
        return self._run(frames)[1].argmax(-1).T

    def _run(self, frames: Tensor, chosen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (K, B, D) and logits (K, B, 256), of the ``chosen`` variables where not all are wanted."""
        images = as_float(checked_images(frames), self.hparams["input_channels"])
        classifiers = self.classifiers
        assert classifiers is not None
        stacked = dict(classifiers.named_parameters())
        vectorize = self.hparams["vectorize"]
        if images.is_cuda if vectorize is None else vectorize:
            if chosen is not None:
                stacked = {name: parameter[chosen] for name, parameter in stacked.items()}  # type: ignore[misc]
            return vmap(lambda one: functional_call(classifiers, one, (images,)))(stacked)
        rows = zip(*(parameter.unbind() for parameter in stacked.values()), strict=True)
        each = [dict(zip(stacked, row, strict=True)) for row in rows]
        wanted = range(len(each)) if chosen is None else chosen.tolist()
        results = [functional_call(classifiers, each[k], (images,)) for k in wanted]
        return torch.stack([features for features, _ in results]), torch.stack([logits for _, logits in results])

    def on_train_start(self) -> None:
        """Take up the rates of a resumed run, or end it if all have stopped."""
        start_run(self, self.schedule)
        self._running = (~self.schedule.stopped).nonzero().flatten().to(self.device)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_index: int) -> int | None:
        """Leave the epoch when nothing is left to train, which `min_epochs` can ask for."""
        return None if len(self._running) else -1

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step of every classifier that has not stopped; the sum has the gradient of each one alone."""
        labels, running = labels_of(batch), self._running
        _, logits = self._run(batch["frames"], running)
        losses = variable_cross_entropy(logits, labels[:, running])
        if logs_now(self):
            self.log("train/loss", losses.detach().mean())
        return losses.sum()

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Loss and accuracy on held-out frames."""
        labels = labels_of(batch)
        _, logits = self._run(batch["frames"])
        self.accuracy.update(logits.argmax(-1).T, labels)
        loss = variable_cross_entropy(logits, labels).mean()
        self.log("val/loss", loss, batch_size=len(labels), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Lower rates and stop classifiers."""
        accuracy = self.accuracy.compute().reshape(-1)
        self.accuracy.reset()
        end_epoch(self, self.schedule, accuracy)
        self._running = (~self.schedule.stopped).nonzero().flatten().to(self.device)
        stopped = float(self.schedule.stopped.sum())
        self.log_dict({"val/accuracy": float(accuracy.mean()), "val/stopped": stopped}, sync_dist=True)

    def test_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Count the predictions on frames that neither training nor stopping has seen."""
        self.scores.update(self.predict(batch["frames"]), labels_of(batch))

    def on_test_epoch_end(self) -> None:
        """Log the scores of every variable, every category and the game."""
        named = named_scores(self.scores.compute(), self.hparams["variables"], self.hparams["categories"] or {})
        self.scores.reset()
        self.log_dict({f"test/{name}": value for name, value in named.items()}, sync_dist=True)

    def predict_step(self, batch: dict[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Features (B, K * D) and predicted values (B, K)."""
        features, logits = self._run(batch["frames"])
        return {"features": features.transpose(0, 1).flatten(1), "predictions": logits.argmax(-1).T}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with one learning rate per variable."""
        return VariableAdam(self.parameters(), learning_rate=self.hparams["learning_rate"], epsilon=1e-5)


def _stacked(encoder: nn.Module, heads: list[nn.Linear]) -> _Classifier:
    """A classifier whose parameters (K, ...) are K copies of the encoder's and those of all heads."""
    stacked = _Classifier(encoder, heads[0])
    for name, parameter in list(encoder.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        copies = parameter.detach().expand(len(heads), *parameter.shape).clone()
        setattr(encoder.get_submodule(owner), leaf, nn.Parameter(copies))
    weight = torch.stack([head.weight.detach() for head in heads])
    bias = torch.stack([head.bias.detach() for head in heads])
    stacked.head.weight, stacked.head.bias = nn.Parameter(weight), nn.Parameter(bias)
    return stacked
