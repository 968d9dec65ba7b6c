"""What is needed to repeat a run: config, command, code, packages, data and seed."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import MLFlowLogger

import lightning_zoo

PACKAGES = (
    "lightning_zoo", "torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "numpy", "h5py", "gymnasium",
    "ale-py", "mlflow",
)  # fmt: skip

WORDS = ("last", "best")
"""Values of `--ckpt_path` that mean a checkpoint of the run itself."""


class RunRecord(SaveConfigCallback):
    """Writes `config.yaml` and `record.json` into the run's folder and to MLflow, when `fit` starts.

    The command line adds it to every run. A run that is taken up again keeps its first config and record; the later
    start is appended to the record as `resumes`, with its config as `config.resume_<n>.yaml`.

    Args:
        parser: Writes the config.
        config: All of it, as parsed.
        command: The words of the command line.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, command: Sequence[str] = ()) -> None:
        super().__init__(parser, config)
        self.command = list(command)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the files on rank zero; every rank has to come here, because the folder's name is broadcast."""
        folder = trainer.log_dir
        if stage != "fit" or folder is None or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        config = self._config_text()
        record = self._record(trainer)
        written = _write(Path(folder), config, record)
        for logger in trainer.loggers:
            if isinstance(logger, MLFlowLogger):
                _log(logger, written, record, pl_module)

    def _config_text(self) -> str:
        config = self.config.clone()
        if config.get("ckpt_path") in WORDS:
            config["ckpt_path"] = None
        return self.parser.dump(config, skip_none=False)

    def _record(self, trainer: L.Trainer) -> dict[str, Any]:
        return {
            "command": self.command,
            "working_directory": os.getcwd(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self.config.get("seed_everything"),
            "git": {"package": revision(Path(lightning_zoo.__file__)), "working_directory": revision(Path.cwd())},
            "versions": versions(),
            "dataset": getattr(trainer.datamodule, "fingerprint", None),  # type: ignore[attr-defined]
            "devices": {"count": trainer.world_size, "accelerator": type(trainer.accelerator).__name__},
        }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that can change a result, with CUDA's and the device's name."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found |= {"cuda": str(torch.version.cuda), "gpu": torch.cuda.get_device_name()}
    return found


def revision(path: Path) -> dict[str, Any] | None:
    """Commit of the git checkout that tracks the file, or holds the folder, `path`, and whether it has changes.

    None outside a checkout, without git, or when the file is not tracked there (an installed package).
    """
    folder = path.parent if path.is_file() else path
    if path.is_file() and _git(folder, "ls-files", "--error-unmatch", path.name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "-uno"))}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _write(folder: Path, config: str, record: dict[str, Any]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    config_file, record_file = folder / "config.yaml", folder / "record.json"
    if record_file.is_file():
        resumed, record = record, json.loads(record_file.read_text())
        record.setdefault("resumes", []).append(resumed)
        config_file = folder / f"config.resume_{len(record['resumes'])}.yaml"
    for file, text in ((config_file, config), (record_file, json.dumps(record, indent=2, default=str) + "\n")):
        part = file.with_name(f"{file.name}.part")
        part.write_text(text)
        os.replace(part, file)
    return [config_file, record_file]


def _log(logger: MLFlowLogger, files: list[Path], record: dict[str, Any], module: L.LightningModule) -> None:
    client, run_id = logger.experiment, logger.run_id
    for file in files:
        client.log_artifact(run_id, str(file))
    tags = {"method": type(module).__name__, "command": " ".join(record["command"]), "seed": record["seed"]}
    for place, state in record["git"].items():
        if state:
            tags |= {f"git.{place}": state["commit"], f"git.{place}.dirty": state["dirty"]}
    tags |= {f"version.{name}": number for name, number in record["versions"].items()}
    tags |= {f"dataset.{name}": value for name, value in (record["dataset"] or {}).items()}
    for name, value in tags.items():
        client.set_tag(run_id, name, str(value)[:5000])
