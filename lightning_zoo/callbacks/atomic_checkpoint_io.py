"""Checkpoints that are either complete or not there."""

import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill at any moment leaves the last complete one.

    Lightning's own goes through the system's folder for temporary files, from where a move to another disk is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path` by way of `<path>.part`.

        Raises:
            OSError: If the disk is full; what lay at `path` before is untouched and the part is removed.
        """
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        try:
            super().save_checkpoint(checkpoint, part, storage_options)
            _flush(part)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
