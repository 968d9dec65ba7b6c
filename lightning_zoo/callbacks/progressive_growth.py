"""Trains a method at one resolution after the other, each faded in (Karras et al. 2018; Shang and Sohn 2019)."""

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_zoo.callbacks.growth import UNLIMITED, GrowthSchedule, broadcast, regroup, restart


class ProgressiveGrowth(Callback):
    """Doubles a method's resolution on schedule and fades the new resolution in.

    The state is computed from epoch and batch alone, so that a run that was killed goes on as if nothing had happened;
    new weights are drawn from a seed of their own for the same reason. A checkpoint that is further than the schedule
    is never taken back. The optimizers keep the state of all weights that stay. A fast_dev_run never grows.

    Logged beside the other metrics of a step: `train/image_size` and `train/fade`, alpha of the newest resolution.

    Args:
        sizes: to grow to, each twice the one before, the first twice the method's `first_size`.
        stage_epochs: epochs between two growths, and before the first; null divides all epochs evenly; 0, for a single
            size, grows at once, as after `initial_weights`.
        fade_epochs: how long the new resolution fades in; null for half of stage_epochs, or of all epochs if that is 0.
        per: the new resolution's share rises per "epoch" (released) or per "step".
        rate_factor: of the method's first learning rates at the grown sizes (0.3, 0.0003 after 0.001, as released);
            their schedules begin again at each growth. null leaves rates and schedules alone.

    Raises:
        ValueError: for sizes that do not double, a schedule that the epochs have no room for, a method that does not
            grow, or images that are neither of the largest size nor a whole number of times that.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (128,),
        stage_epochs: int | None = None,
        fade_epochs: float | None = None,
        per: Literal["epoch", "step"] = "epoch",
        rate_factor: float | None = None,
    ) -> None:
        if rate_factor is not None and not rate_factor > 0:
            raise ValueError(f"rate_factor must be positive or null, got {rate_factor}")
        self.schedule = GrowthSchedule(tuple(sizes), stage_epochs, fade_epochs, per)
        self.rate_factor = rate_factor
        self._reached: tuple[int, float] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse what cannot grow as scheduled, before the first step."""
        module: Any = pl_module
        self._reached = None
        name = type(module).__name__
        if not callable(getattr(module, "grow", None)):
            raise ValueError(f"ProgressiveGrowth: {name} does not grow; leave the callback out of trainer.callbacks")
        sizes, first = list(self.schedule.sizes), module.hparams.first_size
        if self.schedule.first_size != first:
            raise ValueError(f"ProgressiveGrowth: sizes {sizes} must begin with {2 * first}, twice {name}'s first_size")
        served = getattr(trainer.datamodule, "image_size", None)  # type: ignore[attr-defined]
        if served is not None and (served < sizes[-1] or served % sizes[-1]):
            raise ValueError(
                f"ProgressiveGrowth grows to {sizes[-1]}, the data's images are {served} and must be {sizes[-1]} or a "
                f"whole number of times that: give --data.image_size {sizes[-1]}"
            )
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if not self.schedule.ends_fading(_max_epochs(trainer)):
            rank_zero_warn(
                f"The growth to {sizes[-1]} is still fading in when max_epochs={trainer.max_epochs} is over."
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to fade per step over epochs of unknown length."""
        if self.schedule.per == "step" and math.isinf(trainer.num_training_batches):
            raise ValueError("ProgressiveGrowth: per 'step' needs epochs of known length; give per: epoch")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Bring the method to where the schedule is; here and not per epoch, because a resumed epoch does not start."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            done = batch_idx / trainer.num_training_batches
            wanted = self.schedule.at(trainer.current_epoch, done, _max_epochs(trainer))
            if wanted != self._reached:
                self.bring(trainer, pl_module, *wanted)
                self._reached = wanted
        self._log(trainer, pl_module)

    def bring(self, trainer: L.Trainer, module: Any, size: int, alpha: float) -> None:
        """Grow the method to ``size`` where it is smaller, and give its newest resolution the share ``alpha``.

        What it is asked again, or what lies behind it, changes nothing.
        """
        while module.image_shape[-1] < size:
            self._finish(trainer, module)
            self._grow(trainer, module, 2 * module.image_shape[-1])
        if module.image_shape[-1] > size:
            return
        if alpha >= 1:
            self._finish(trainer, module)
        elif module.fading:
            module.set_fade(alpha)

    def _grow(self, trainer: L.Trainer, module: Any, size: int) -> None:
        known = {id(tensor) for tensor in _tensors(module)}
        with _seeded_by_weights(module):
            module.grow(size)
        broadcast(tensor for tensor in _tensors(module) if id(tensor) not in known)
        _regroup_all(trainer, module)
        if self.rate_factor is not None:
            _restart_all(trainer, module, self.rate_factor)
        rank_zero_info(f"Epoch {trainer.current_epoch}: grown to {size}x{size}.")

    def _finish(self, trainer: L.Trainer, module: Any) -> None:
        if module.fading:
            module.finish_growth()
            _regroup_all(trainer, module)

    def _log(self, trainer: L.Trainer, module: Any) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (trainer.fit_loop.total_batch_idx + 1) % every == 0:
            values = {"train/image_size": float(module.image_shape[-1]), "train/fade": float(module.fade)}
            module.log_dict(values, on_step=True, on_epoch=False)


def _max_epochs(trainer: L.Trainer) -> int:
    return UNLIMITED if trainer.max_epochs is None else trainer.max_epochs


def _tensors(module: L.LightningModule) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


@contextmanager
def _seeded_by_weights(module: L.LightningModule) -> Iterator[None]:
    # A resumed run gets its random states back after it has grown. Drawn from them, the new weights would be others.
    weights = next(module.parameters()).detach().float().cpu()
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(zlib.crc32(weights.contiguous().numpy().tobytes()))
        yield


def _regroup_all(trainer: L.Trainer, module: Any) -> None:
    for optimizer, groups in zip(trainer.optimizers, module.parameter_groups(), strict=True):
        regroup(optimizer, groups)


def _restart_all(trainer: L.Trainer, module: Any, factor: float) -> None:
    # The method's own rates, not the present ones: a second growth must not scale what the first one has scaled.
    schedules = {id(config.scheduler.optimizer): config.scheduler for config in trainer.lr_scheduler_configs}
    for optimizer, groups in zip(trainer.optimizers, module.parameter_groups(), strict=True):
        restart(schedules[id(optimizer)], [factor * group["lr"] for group in groups])
