"""Where the pictures of a command go: a grid or a folder of PNG files, and the run in MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .trained import run_folder

if TYPE_CHECKING:
    from torch import Tensor

HEADER_HEIGHT = 14
LINE = 2
"""Between the images of a grid, in pixels."""


def destination(output: str | None, checkpoint: Path, name: str) -> tuple[Path, bool]:
    """Where to write, and whether that is a folder: `--output`, or `pictures/<name>.png` in the checkpoint's run.

    Raises:
        UsageError: for a file that is no PNG.
    """
    if output is None:
        best = f"{name}_{checkpoint.stem}" if checkpoint.stem.startswith("best") else name
        return run_folder(checkpoint) / "pictures" / f"{best}.png", False
    path = Path(output)
    if output.endswith(("/", os.sep)) or path.is_dir():
        return path, True
    if path.suffix.lower() != ".png":
        raise UsageError(f"--output {output}: give a file that ends in .png, or a folder with / at its end")
    return path, False


def write_grid(file: Path, picture: Tensor, checkpoint: Path, log: bool = True) -> None:
    """Write a picture (C, H, W) in [0, 1], hand it to the checkpoint's run in MLflow and say where it is.

    Raises:
        UsageError: if it cannot be written there.
    """
    from lightning_zoo.callbacks.sample_grid import write_png

    _attempt(write_png, file, picture)
    logged = log and _log_to_run(file, checkpoint)
    print(f"Written to {file}{' and to its MLflow run' * logged}")


def write_folder(folder: Path, names: Sequence[str], pictures: Iterable[Tensor]) -> None:
    """Write pictures (C, H, W) in [0, 1] as `<name>.png` and say where they are.

    Raises:
        UsageError: if the folder holds other pictures, or cannot be written to.
    """
    from lightning_zoo.callbacks.sample_grid import write_png

    others = sorted({file.stem for file in folder.glob("*.png")} - set(names)) if folder.is_dir() else []
    if others:
        raise UsageError(f"--output {folder}: other pictures lie there ({others[0]}.png); name another folder")
    for name, picture in zip(names, pictures, strict=True):
        _attempt(write_png, folder / f"{name}.png", picture)
    print(f"Written to {folder}/: {len(names)} pictures")


def with_header(picture: Tensor, labels: Sequence[str], width: int) -> Tensor:
    """A grid (C, H, W) with a label above each column of images that are `width` pixels wide.

    The grid is given back as it is where a label does not fit.
    """
    import torch
    from PIL import Image, ImageDraw

    strip = Image.new("L", (picture.shape[2], HEADER_HEIGHT), 255)
    pen = ImageDraw.Draw(strip)
    if max(map(pen.textlength, labels)) > width:
        return picture
    for column, label in enumerate(labels):
        left = LINE + column * (width + LINE) + (width - pen.textlength(label)) / 2
        pen.text((left, 1), label, fill=0)
    levels = torch.frombuffer(bytearray(strip.tobytes()), dtype=torch.uint8).reshape(1, HEADER_HEIGHT, -1)
    return torch.cat([(levels / 255).expand(picture.shape[0], -1, -1), picture], dim=1)


def _attempt(write: object, file: Path, picture: Tensor) -> None:
    try:
        write(file, picture)  # type: ignore[operator]
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise UsageError(f"--output {file} cannot be written: {error.strerror}; name another place") from error


def _log_to_run(file: Path, checkpoint: Path) -> bool:
    noted = run_folder(checkpoint) / "mlflow_run_id"
    if not noted.is_file():
        return False
    from lightning_zoo.callbacks.mlflow_store import log_to_run

    return log_to_run(noted.read_text().strip(), {}, [file])
