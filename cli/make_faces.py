"""`lightning_zoo make_faces`: draw synthetic faces in the layout of CelebA."""

import sys
import time
from pathlib import Path

from .errors import UsageError


def make_faces(
    root: str = "data/synthetic_faces",
    num_images: int = 5000,
    seed: int = 0,
    num_workers: int | None = None,
    preview: str | None = None,
) -> None:
    """Draw cartoon faces with CelebA's forty attributes, so that the CelebA configs run offline on synthetic pictures.

    `lightning_zoo fit --config crvae_celeba --data.root data/synthetic_faces` then trains on them. Their figures say
    nothing about CelebA's.

    Args:
        root: The folder; the pictures lie in `celeba` below it, as CelebA does.
        num_images: How many pictures, 80 % of them for training as in CelebA.
        seed: Another seed draws other faces.
        num_workers: Processes that draw; null for one per core. The pictures do not depend on it.
        preview: Also write the first 72 of them to this PNG file.

    Raises:
        UsageError: For a value that cannot be used.
        DataError: If other files lie there, or the disk is full.
    """
    from rich.progress import Progress

    from datamodules.synthetic_faces import write_faces

    start = time.perf_counter()
    try:
        with Progress(transient=True, disable=not sys.stdout.isatty()) as bar:
            task = bar.add_task("drawing", total=num_images)
            drawn = write_faces(
                root, num_images, seed=seed, num_workers=num_workers, progress=lambda count: bar.advance(task, count)
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    rate = f"{num_images / (time.perf_counter() - start):,.0f} per second" if drawn else "were there already"
    print(f"{Path(root) / 'celeba'}: {num_images:,} synthetic faces, {rate}")
    if preview is not None:
        _write_preview(Path(root) / "celeba", Path(preview))


def _write_preview(folder: Path, png: Path) -> None:
    from datamodules.synthetic_faces import contact_sheet

    sheet = contact_sheet(folder)
    try:
        sheet.save(png)
    except (OSError, ValueError) as error:
        raise UsageError(f"preview {png} cannot be written: {error}") from error
    print(f"{png}: the first of the faces")
