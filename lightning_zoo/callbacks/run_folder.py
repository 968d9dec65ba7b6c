"""The folder of a run, `runs/<name>/version_<n>/`, and the metrics in it."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment


class RunFolder(CSVLogger):
    """CSV logger whose folder is the run's: checkpoints, config and record lie beside `metrics.csv`.

    Unlike Lightning's it takes a run up again: what was logged up to the checkpoint stays, what came after it, and will
    come again, goes.

    Args:
        save_dir: The folder of all runs.
        name: The run's name; None leaves it to the command line.
        version: Number of the run, or the whole name of its folder; None takes the next free number.
        flush_logs_every_n_steps: How many steps at most lie in memory only.
    """

    def __init__(
        self,
        save_dir: str = "runs",
        name: str | None = None,
        version: int | str | None = None,
        flush_logs_every_n_steps: int = 50,
    ) -> None:
        super().__init__(save_dir, name or "", version, flush_logs_every_n_steps=flush_logs_every_n_steps)
        self._resume_step: int | None = None

    def place(self, name: str, folder: str, resume_step: int | None = None) -> None:
        """Settle where the run lies, `<save_dir>/<name>/<folder>`; with `resume_step` keep its metrics up to there."""
        self._name = name
        number = folder.removeprefix("version_")
        self._version = int(number) if number.isdigit() else folder
        self._resume_step = resume_step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of `metrics.csv`, made on first use."""
        if self._experiment is None:
            kept = self._set_aside()
            writer = super().experiment
            writer.metrics.extend(kept)
            writer.save()
            self._kept_file.unlink(missing_ok=True)
        return super().experiment

    @property
    def _kept_file(self) -> Path:
        return Path(self.log_dir) / "metrics.before_resume.csv"

    def _set_aside(self) -> list[dict[str, Any]]:
        # Lightning's writer deletes an existing metrics.csv; a kill in between must not lose it.
        written = Path(self.log_dir) / "metrics.csv"
        if self._resume_step is None:
            return []
        if written.is_file() and not self._kept_file.is_file():
            os.replace(written, self._kept_file)
        if not self._kept_file.is_file():
            return []
        with self._kept_file.open(newline="") as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        return [row for row in rows if int(row["step"]) < self._resume_step]
