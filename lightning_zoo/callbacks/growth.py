"""When a method grows, and what its optimizers keep of it: numbers and functions that know nothing of a trainer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

UNLIMITED = -1
"""``max_epochs`` of a trainer that goes on until it is stopped."""


@dataclass(frozen=True)
class GrowthSchedule:
    """Which resolution is trained when, and how much of it counts.

    Shang and Sohn (2019) train 150 epochs at 64x64 and 150 at 128x128; over the first 75 of these the new resolution is
    faded in, alpha = min(e / 75, 1) with e epochs since the growth: 0 in the first epoch, 1 from the 76th on.

    Args:
        sizes: to grow to, each twice the one before; training begins at half of the first.
        stage_epochs: epochs between two growths, and before the first; None divides all epochs evenly; 0, for a single
            size, grows at once.
        fade_epochs: how long alpha rises; None for half of ``stage_epochs``, or of all epochs if that is 0; 0 begins
            at 1.
        per: alpha changes from "epoch" to epoch (as released), or from "step" to step.

    Raises:
        ValueError: for sizes that do not double, numbers out of range, or a growth before the last one has faded in.
    """

    sizes: tuple[int, ...]
    stage_epochs: int | None = None
    fade_epochs: float | None = None
    per: Literal["epoch", "step"] = "epoch"

    def __post_init__(self) -> None:
        sizes, stage, fade = self.sizes, self.stage_epochs, self.fade_epochs
        if not sizes or sizes[0] < 2 or sizes[0] % 2:
            raise ValueError(f"sizes must begin with an even number, got {list(sizes)}")
        if any(after != 2 * before for before, after in pairwise(sizes)):
            raise ValueError(f"sizes must double from one to the next, got {list(sizes)}")
        if stage is not None and stage < (len(sizes) > 1):
            raise ValueError(f"stage_epochs must be at least {int(len(sizes) > 1)}, got {stage}")
        if fade is not None and not 0 <= fade < float("inf"):
            raise ValueError(f"fade_epochs must not be negative, got {fade}")
        if stage is not None and fade is not None and len(sizes) > 1 and fade > stage:
            raise ValueError(
                f"fade_epochs={fade} is longer than stage_epochs={stage}: the next growth would come first"
            )
        if self.per not in ("epoch", "step"):
            raise ValueError(f"per must be 'epoch' or 'step', got {self.per!r}")

    @property
    def first_size(self) -> int:
        """The resolution that training begins with."""
        return self.sizes[0] // 2

    def stage(self, max_epochs: int) -> int:
        """Epochs between two growths.

        Raises:
            ValueError: if the last growth would come after ``max_epochs``, or if these are unlimited and not divisible.
        """
        growths = len(self.sizes)
        if self.stage_epochs is None and max_epochs == UNLIMITED:
            raise ValueError("stage_epochs is needed where max_epochs is unlimited; give one of the two")
        length = max(max_epochs // (growths + 1), 1) if self.stage_epochs is None else self.stage_epochs
        if max_epochs != UNLIMITED and growths * length >= max_epochs:
            raise ValueError(
                f"max_epochs={max_epochs} ends before the growth to {self.sizes[-1]} in epoch {growths * length}; "
                "raise it, or lower stage_epochs"
            )
        return length

    def fade(self, max_epochs: int) -> float:
        """Epochs that alpha takes from 0 to 1.

        Raises:
            ValueError: as of `stage`, or for half of unlimited epochs.
        """
        if self.fade_epochs is not None:
            return self.fade_epochs
        whole = self.stage(max_epochs) or max_epochs
        if whole == UNLIMITED:
            raise ValueError("fade_epochs is needed where stage_epochs is 0 and max_epochs unlimited")
        return whole / 2

    def at(self, epoch: int, done: float, max_epochs: int) -> tuple[int, float]:
        """The resolution and its alpha; errors as of `fade`.

        Args:
            epoch: counted from 0.
            done: part of this epoch that is over, in [0, 1); only "step" looks at it.
            max_epochs: of the run.
        """
        stage = self.stage(max_epochs)
        growths = min(epoch // stage, len(self.sizes)) if stage else 1
        if not growths:
            return self.first_size, 1.0
        since = epoch - growths * stage + (done if self.per == "step" else 0.0)
        fade = self.fade(max_epochs)
        return self.sizes[growths - 1], 1.0 if since >= fade else since / fade

    def ends_fading(self, max_epochs: int) -> bool:
        """Whether training goes on after the last resolution has faded in; errors as of `fade`."""
        since_growth = max_epochs - (self.per == "epoch") - len(self.sizes) * self.stage(max_epochs)
        return max_epochs == UNLIMITED or since_growth >= self.fade(max_epochs)


def regroup(optimizer: Any, groups: Sequence[dict[str, Any]]) -> None:
    """Give an optimizer other parameters; those that stay keep their state, bit by bit.

    Args:
        optimizer: of torch, or Lightning's wrapper of one.
        groups: as many as it has and in their order, the parameters under "params". Everything else that a group of the
            optimizer holds (learning rate, betas, keys of our own) stays.

    Raises:
        ValueError: for another number of groups, or for a parameter in two of them.
    """
    optimizer = getattr(optimizer, "optimizer", optimizer)
    if len(groups) != len(optimizer.param_groups):
        raise ValueError(f"groups has {len(groups)} entries, the optimizer has {len(optimizer.param_groups)} groups")
    parameters = [list(group["params"]) for group in groups]
    staying = {parameter for group in parameters for parameter in group}
    if len(staying) != sum(map(len, parameters)):
        raise ValueError("groups has a parameter twice")
    # In place: schedules and Lightning's wrapper hold the same lists.
    for group, chosen in zip(optimizer.param_groups, parameters, strict=True):
        group["params"] = chosen
    for parameter in [*optimizer.state]:
        if parameter not in staying:
            del optimizer.state[parameter]


def restart(schedule: Any, rates: Sequence[float]) -> None:
    """Let a learning-rate schedule of torch, and its optimizer, begin again from these rates, one per group."""
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = group["initial_lr"] = rate
    schedule.base_lrs = list(rates)
    schedule._last_lr = list(rates)
    schedule.last_epoch = 0


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Let all processes of `torch.distributed` have the first one's values; without any, nothing happens."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    for tensor in tensors:
        values = tensor.detach().contiguous()
        dist.broadcast(values, 0)
        tensor.copy_(values)
