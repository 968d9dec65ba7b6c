"""Which folder a run gets, and what `--ckpt_path last` means for it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_zoo.checkpoints import RUNS, CheckpointError, class_path, find_last, read

from .errors import UsageError
from .find_config import read_yaml

NOT_DATA = frozenset({"root", "num_workers", "memory", "pin_memory", "prefetch_factor", "persistent_workers"})
"""Arguments of datasets that change where data lie and how they are read, but no batch."""

NOTES = frozenset({"config.yaml", "record.json", "hparams.yaml", "mlflow_run_id", "metrics.csv"})
"""What lies in a run's folder before the run has done anything."""


@dataclass(frozen=True)
class Run:
    """Where a run lies and where it starts from.

    Args:
        name: Folder below `runs/`.
        folder: `runs/<name>/version_<n>`, or `<command>_<n>` for an evaluation.
        ckpt_path: The checkpoint to start from, None for new weights.
        step: Optimizer steps that the checkpoint has behind it, if the run goes on in its own folder.
    """

    name: str
    folder: Path
    ckpt_path: str | None = None
    step: int | None = None


def run_name(configs: Sequence[Path], method: str, game: str | None) -> str:
    """The name of a run: the stems of its config files, with the game that is really played.

    `stdim_pong.yaml` with `--data.game boxing` is `stdim_boxing`, and with `--config quick` after it
    `stdim_boxing_quick`; a game that the first stem does not name is appended to it. The config of an earlier run,
    `runs/<name>/version_<n>/config.yaml`, stands for `<name>`. Without a config file the name is the method's, in
    lower case.
    """
    if not configs:
        return method.lower()
    first, *overlays = [_stem(config) for config in configs]
    return "_".join([_with_game(first, game_of(configs[0]), game), *overlays])


def _stem(config: Path) -> str:
    in_run = config.parent.name.startswith("version_") and config.name.startswith("config.")
    return config.parents[1].name if in_run else config.stem


def _with_game(stem: str, stated: str | None, game: str | None) -> str:
    if game is None or game in stem.split("_") or game == stated:
        return stem
    if stated and re.search(rf"(^|_){re.escape(stated)}($|_)", stem):
        return re.sub(rf"(^|_){re.escape(stated)}($|_)", rf"\g<1>{game}\g<2>", stem)
    return f"{stem}_{game}"


def game_of(config: Path) -> str | None:
    """The game that a config file states, if it does."""
    arguments: Any = read_yaml(config)
    for key in ("data", "init_args", "game"):
        arguments = arguments.get(key) if isinstance(arguments, dict) else None
    return arguments if isinstance(arguments, str) else None


def settle(command: str, name: str, ckpt_path: str | None, model: type, data: Mapping[str, Any] | None = None) -> Run:
    """Find the checkpoint and the folder of a run.

    `last` and `best` are the newest of the runs of that name. `fit` goes on in that run's own folder, and starts
    anew, with a line that says so, where there is none; a path starts a new run from that file.

    Args:
        command: `fit` or an evaluation.
        name: The run's name.
        ckpt_path: What `--ckpt_path` was given.
        model: The method's class.
        data: The arguments of the dataset; a run does not go on in its own folder with other data.

    Raises:
        CheckpointError: If the checkpoint is missing, damaged, or of another class than `model`.
        UsageError: If a run would go on with other data than before.
    """
    found = Path(ckpt_path) if ckpt_path else None
    if ckpt_path in ("last", "best"):
        found = find_last(name, ckpt_path)
        if found is None and command != "fit":
            raise CheckpointError(f"--ckpt_path {ckpt_path}: no run in {RUNS / name} has such a checkpoint yet.")
        if found is None:
            print(f"No {ckpt_path} checkpoint in {RUNS / name}: starting anew.", file=sys.stderr)
    step = _checked(found, model) if found else None
    if found and command == "fit" and ckpt_path in ("last", "best"):
        _refuse_other_data(found, data or {})
        return Run(name, found.parents[1], str(found), step)
    return Run(
        name, _next_folder(RUNS / name, "version" if command == "fit" else command), str(found) if found else None
    )


def _checked(path: Path, model: type) -> int:
    checkpoint = read(path)
    written = class_path(checkpoint)
    # The same class may be named by the module that defines it or by a package that hands it on.
    if written and written.rpartition(".")[2] != model.__name__:
        raise CheckpointError(f"{path} holds {written.rpartition('.')[2]}, the config asks for {model.__name__}.")
    return int(checkpoint.get("global_step", 0))


def _refuse_other_data(path: Path, data: Mapping[str, Any]) -> None:
    before = read(path).get("datamodule_hyper_parameters", {})
    for name in (name for name in data if name in before and name not in NOT_DATA):
        if _plain(data[name]) != _plain(before[name]):
            raise UsageError(
                f"--data.{name} is {data[name]!r}, but the run of {path} has {before[name]!r}: go on with that value, "
                f"give the new run a --name of its own, or start it from these weights with --ckpt_path {path}"
            )


def _plain(value: Any) -> Any:
    # A checkpoint gives back lists and strings where a config had tuples and paths.
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else str(value)


def _next_folder(parent: Path, kind: str) -> Path:
    numbers = [
        int(found[1]) for folder in parent.glob(f"{kind}_*") if (found := re.fullmatch(rf"{kind}_(\d+)", folder.name))
    ]
    return parent / f"{kind}_{max(numbers, default=-1) + 1}"


def reserve(run: Run) -> Run:
    """Make the run's folder; when another process took the number meanwhile, take the next free one."""
    folder = run.folder
    while run.step is None:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            folder = _next_folder(folder.parent, folder.name.rpartition("_")[0])
    return Run(run.name, folder, run.ckpt_path, run.step)


def discard_empty(run: Run) -> bool:
    """Remove the folder of a new run that ended before it wrote a metric or a checkpoint.

    Returns:
        Whether it was removed; a folder that holds anything but the run's own notes stays.
    """
    if run.step is not None or not run.folder.is_dir():
        return False
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    metrics = run.folder / "metrics.csv"
    if metrics in files and len(metrics.read_text().splitlines()) > 1:
        return False
    if {path.relative_to(run.folder).as_posix() for path in files} - NOTES:
        return False
    shutil.rmtree(run.folder, ignore_errors=True)
    with suppress(OSError):
        run.folder.parent.rmdir()
    return True
