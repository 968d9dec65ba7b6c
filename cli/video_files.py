"""What commands on clips write: strips of frames as PNG, mp4 where PyAV is installed, results as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_zoo.extras import MissingExtraError, require

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

FRAMES_PER_SECOND = 8
ENLARGED_TO = 128
"""Small frames are enlarged, by whole factors, at least to this side: players blur what they enlarge."""


def strips(rows: Sequence[Tensor]) -> Tensor:
    """A picture (3, H, W) in [0, 1] with one clip (T, C, H, W), uint8 or in [0, 1], per row."""
    import torch
    from torchvision.utils import make_grid

    frames = torch.cat([_unit(row) for row in rows])
    return make_grid(frames, nrow=len(rows[0]), padding=2, pad_value=1.0)


def side_by_side(rows: Sequence[Tensor]) -> Tensor:
    """One clip (T, 3, H, W), uint8, that plays several of (T, C, H, W) one below the other."""
    import torch
    from torchvision.utils import make_grid

    steps = zip(*(_unit(row) for row in rows), strict=True)
    played = torch.stack([make_grid(torch.stack(step), nrow=1, padding=2, pad_value=1.0) for step in steps])
    factor = max(1, -(-ENLARGED_TO // rows[0].shape[-1]))
    larger = played.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return (larger * 255).round().to(torch.uint8)


def write_mp4(file: Path, clip: Tensor) -> bool:
    """Write a clip (T, 3, H, W), uint8, as H.264, whole or not at all.

    Returns:
        Whether it was written; without PyAV a line says how it is installed.

    Raises:
        UsageError: if the place cannot be written to.
    """
    try:
        av = require("av")
    except MissingExtraError as error:
        print(f"No {file.name}: {error}")
        return False
    frames = clip[..., : clip.shape[2] // 2 * 2, : clip.shape[3] // 2 * 2].permute(0, 2, 3, 1).contiguous().numpy()
    partial = file.with_name(f".{file.name}.{os.getpid()}.mp4")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(partial), "w") as container:
            stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": "16"})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        partial.replace(file)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise UsageError(f"--output {file} cannot be written: {error.strerror}; name another place") from error
    finally:
        partial.unlink(missing_ok=True)
    print(f"Written to {file}")
    return True


def write_result(
    file: Path, name: str, entry: dict[str, Any], values: Mapping[str, float | None], checkpoint: Path, log: bool
) -> None:
    """Put a result into a JSON file, beside those of other names, and into the checkpoint's run in MLflow.

    Args:
        file: of JSON.
        name: of the entry; one of the same name is replaced.
        entry: what is written.
        values: metrics for the run; None is left out.
        checkpoint: whose run it is.
        log: whether the run gets them, and the file.
    """
    from .score_report import add_entry
    from .trained import run_folder

    file.parent.mkdir(parents=True, exist_ok=True)
    add_entry(file, name, entry)
    print(f"Written to {file}")
    noted = run_folder(checkpoint) / "mlflow_run_id"
    if log and noted.is_file():
        from lightning_zoo.callbacks.mlflow_store import log_to_run

        known = {key: value for key, value in values.items() if value is not None}
        log_to_run(noted.read_text().strip(), known, [file])


def _unit(clip: Tensor) -> Tensor:
    import torch

    values = clip.float() / 255 if clip.dtype == torch.uint8 else clip.float()
    return values.cpu().expand(-1, 3, -1, -1) if values.shape[1] == 1 else values.cpu()
