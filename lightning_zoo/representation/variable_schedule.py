"""When each of many models trained side by side lowers its learning rate, and when it stops."""

from typing import cast

import lightning as L
import torch
from torch import Tensor, nn

from lightning_zoo.representation.variable_adam import VariableAdam

_STATE = ("learning_rates", "best", "plateau_best", "plateau_epochs", "stop_epochs", "stopped")


class VariableSchedule(nn.Module):
    """A plateau schedule and early stopping for K models at once, on K scores of which higher is better.

    Model k's rate is that of `torch.optim.lr_scheduler.ReduceLROnPlateau` with its default threshold (a score counts as
    better above 1.0001 times the best). Its stopping is the AtariARI benchmark's: a score that is not above the best
    counts, and the model stops at ``stop_patience`` of them in a row. The state is part of ``state_dict``, but neither
    parameter nor buffer: it stays float64 on the CPU, whatever the precision and the device of the models.

    Args:
        num_models: K.
        learning_rate: of every model at first.
        factor: by which a rate is lowered.
        patience: epochs without a better score that are borne before the rate is lowered.
        min_learning_rate: no rate goes below it.
        stop_patience: epochs without a better score after which a model stops.

    Raises:
        ValueError: for a factor outside (0, 1) or a stop_patience below 1.
    """

    threshold = 1e-4
    smallest_change = 1e-8

    def __init__(
        self,
        num_models: int,
        *,
        learning_rate: float = 3e-4,
        factor: float = 0.2,
        patience: int = 5,
        min_learning_rate: float = 1e-5,
        stop_patience: int = 15,
    ) -> None:
        super().__init__()
        if not 0 < factor < 1:
            raise ValueError(f"plateau_factor must lie between 0 and 1, got {factor}")
        if stop_patience < 1:
            raise ValueError(f"stop_patience must be at least 1, got {stop_patience}")
        self.factor = factor
        self.patience = patience
        self.min_learning_rate = min_learning_rate
        self.stop_patience = stop_patience
        none_yet = torch.full((num_models,), -torch.inf, dtype=torch.float64)
        self.learning_rates = torch.full_like(none_yet, learning_rate)
        self.best = none_yet
        self.plateau_best = none_yet.clone()
        self.plateau_epochs = torch.zeros(num_models, dtype=torch.int64)
        self.stop_epochs = torch.zeros(num_models, dtype=torch.int64)
        self.stopped = torch.zeros(num_models, dtype=torch.bool)

    def get_extra_state(self) -> Tensor:
        """The state as float64 (6, K), for ``state_dict``."""
        return torch.stack([getattr(self, name).double() for name in _STATE])

    def set_extra_state(self, state: Tensor) -> None:
        """Take up a state that `get_extra_state` gave."""
        for name, row in zip(_STATE, state.cpu(), strict=True):
            setattr(self, name, row.to(getattr(self, name).dtype))

    def rates(self) -> Tensor:
        """The learning rates (K,), zero for a model that has stopped."""
        return self.learning_rates.masked_fill(self.stopped, 0.0)

    @torch.no_grad()
    def step(self, scores: Tensor) -> Tensor:
        """Take the scores (K,) of one epoch.

        Returns:
            Whether each model that still runs has its best score so far, bool (K,).
        """
        scores = scores.cpu().double().reshape(-1)
        improved = ~(scores <= self.best) & ~self.stopped
        self.best = torch.where(improved, scores, self.best)
        self.stop_epochs = torch.where(improved, 0, self.stop_epochs + (~self.stopped).long())
        self.stopped = self.stopped | (self.stop_epochs >= self.stop_patience)
        self._lower_rates(scores)
        return improved

    def _lower_rates(self, scores: Tensor) -> None:
        running = ~self.stopped
        better = (scores > self.plateau_best * (1 + self.threshold)) & running
        self.plateau_best = torch.where(better, scores, self.plateau_best)
        self.plateau_epochs = torch.where(better, 0, self.plateau_epochs + running.long())
        due = (self.plateau_epochs > self.patience) & running
        lower = (self.learning_rates * self.factor).clamp(min=self.min_learning_rate)
        lowered = due & (self.learning_rates - lower > self.smallest_change)
        self.learning_rates = torch.where(lowered, lower, self.learning_rates)
        self.plateau_epochs = self.plateau_epochs.masked_fill(due, 0)


def start_run(module: L.LightningModule, schedule: VariableSchedule) -> None:
    """Give the rates of a resumed run to the optimizer; where all models have stopped, the run ends at once."""
    set_rates(module, schedule)
    if bool(schedule.stopped.all()):
        module.trainer.should_stop = True


def end_epoch(module: L.LightningModule, schedule: VariableSchedule, scores: Tensor) -> Tensor | None:
    """Give validation scores (K,) to the schedule, its rates to the optimizer, and end the run with the last model.

    Returns:
        As `VariableSchedule.step`; None outside of `fit` and in its sanity check, where nothing is learned.
    """
    if module.trainer.state.fn != "fit" or module.trainer.sanity_checking:
        return None
    improved = schedule.step(scores)
    set_rates(module, schedule)
    if bool(schedule.stopped.all()):
        module.trainer.should_stop = True
    return improved


def set_rates(module: L.LightningModule, schedule: VariableSchedule) -> None:
    """Give the schedule's rates to the module's only optimizer."""
    cast(VariableAdam, module.optimizers(use_pl_optimizer=False)).set_rates(schedule.rates())
