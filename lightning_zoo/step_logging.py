"""When a training step's metrics are worth the cost of ``self.log``: only at steps that the logger writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning import LightningModule


def logs_now(module: LightningModule) -> bool:
    """Whether the logger writes after this training step (``Trainer(log_every_n_steps=n)``: steps n, 2 n, ...).

    One call of ``self.log`` costs 0.2 to 0.4 ms per metric, as much as a small layer, and a value logged at any other
    step would be written late under a wrong step.
    """
    trainer: Any = module.trainer  # the attribute is set after the constructor, where type checkers do not see it
    every = trainer.log_every_n_steps
    return every > 0 and (trainer.global_step + 1) % every == 0
