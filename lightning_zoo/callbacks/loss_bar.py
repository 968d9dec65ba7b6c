"""The progress bar of the command line: losses at a glance, at no cost per step."""

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

SHOWN = ("train/loss", "val/loss")


class LossBar(RichProgressBar):
    """Lightning's Rich bar with the losses that were logged last.

    `self.log(..., prog_bar=True)` would copy a number from the device after every step. Here they are copied only after
    steps that are logged (`Trainer(log_every_n_steps=n)`) and after validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self._losses: dict[str, float | str] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the losses of an earlier fit."""
        self._losses = {}
        super().on_train_start(trainer, pl_module)

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The losses, then what the method shows itself."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not trainer.training or (every > 0 and trainer.global_step % every == 0):
            self._losses |= {
                name: f"{float(trainer.callback_metrics[name]):.4g}"
                for name in SHOWN
                if name in trainer.callback_metrics
            }
        return self._losses | super().get_metrics(trainer, pl_module)
