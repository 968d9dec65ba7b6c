"""`lightning_zoo attention`: which attribute attends which time step of a trained method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_LINE = 120
GAP = 2


def attention(ckpt_path: str, *, output: str | None = None, published: bool = False, log: bool = True) -> None:
    """Print which attributes attend which time step, and write the mask as heat map, text table, JSON and CSV.

    Each attribute is listed at the step that it attends most, with that step's share of its attention and with its
    entropy over all steps in nats: 0 for one step alone, log T for all alike.

    Args:
        ckpt_path: a checkpoint, or `last` or `best` for the newest run's.
        output: a PNG file for the heat map, the text, JSON and CSV files lie beside it; null for attention/ in the
            checkpoint's run.
        published: print Table 6.1 of the thesis beside ours.
        log: add the files to the checkpoint's MLflow run.
    """
    from lightning_zoo.metrics.attention_table import as_text

    from .quiet import quiet
    from .trained import find_checkpoint, mistakes

    quiet()
    path = find_checkpoint(ckpt_path)
    picture = _destination(output, path)
    mask, names, method = _mask_of(path)
    with mistakes():
        print(f"{method} from {path}, {mask.shape[0]} time steps, {mask.shape[1]} attributes\n")
        print(as_text(mask, names))
        if published:
            _print_published(mask, names)
        _write(picture, mask, names, f"{method}, {path.name}", path, log)


def _destination(output: str | None, path: Path) -> Path:
    from .trained import run_folder

    if output is None:
        return run_folder(path) / "attention" / f"attention_{path.stem}.png"
    if Path(output).suffix.lower() != ".png":
        raise UsageError(f"--output {output}: give a file that ends in .png; text, JSON and CSV are written beside it")
    return Path(output)


def _mask_of(path: Path) -> tuple[Tensor, Sequence[str], str]:
    """The mask (T, N), the attributes' names, and the method's."""
    import torch

    from lightning_zoo.checkpoints import CheckpointError, load

    module: Any = load(path)
    name = type(module).__name__
    if not callable(getattr(module, "attention", None)):
        raise CheckpointError(
            f"{path} holds {name}, which has no attention over its attributes: attention needs an ACVAEGAN; name its "
            "checkpoint with --ckpt_path"
        )
    with torch.no_grad():
        return module.attention().float().cpu(), module.attribute_names, name


def _print_published(mask: Tensor, names: Sequence[str]) -> None:
    from lightning_zoo.generative.attention_table import beside_published, pairs_together, published_attention
    from lightning_zoo.metrics.attention_table import step_table

    table = published_attention()
    ours = step_table(mask, names)
    print(f"\nPublished: {table.source}\nIt leaves out {', '.join(table.missing)}.\n")
    for line in _columns([("step", ["ours"], ["published"]), *((str(s), a, b) for s, a, b in beside_published(ours))]):
        print(line)
    both, theirs, chance = pairs_together(ours, table.steps)
    print(
        f"\nOf {theirs} pairs of attributes that the published table has at one step, ours has {both} at one step; "
        f"{chance:.1f} would be by chance. The steps' numbers themselves compare little."
    )


def _columns(rows: Sequence[tuple[str, list[str], list[str]]]) -> list[str]:
    """Lines of a step's number and two lists, each broken into lines that are half as wide as the terminal's."""
    from itertools import zip_longest
    from textwrap import wrap

    number = max(len(step) for step, _, _ in rows)
    width = (LONGEST_LINE - number - 2 * GAP) // 2
    lines = []
    for step, *lists in rows:
        left, right = (wrap(", ".join(words) or "-", width, break_on_hyphens=False) for words in lists)
        for index, (one, two) in enumerate(zip_longest(left, right, fillvalue="")):
            first = step if index == 0 else ""
            lines.append(f"{first:>{number}}{'':{GAP}}{one:<{width}}{'':{GAP}}{two}".rstrip())
    return lines


def _write(picture: Path, mask: Tensor, names: Sequence[str], title: str, checkpoint: Path, log: bool) -> None:
    from lightning_zoo.metrics.attention_table import as_csv, as_plain, as_text, write_heat_map, write_whole

    text, table, sheet = (picture.with_suffix(ending) for ending in (".txt", ".json", ".csv"))
    try:
        write_heat_map(picture, mask, names, title)
        write_whole(text, f"{title}\n\n{as_text(mask, names)}\n")
        write_whole(table, json.dumps(as_plain(mask, names), indent=1) + "\n")
        write_whole(sheet, as_csv(mask, names))
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise UsageError(f"--output {picture} cannot be written: {error.strerror}; name another place") from error
    logged = log and _log_to_run([picture, text, table, sheet], checkpoint)
    beside = f"{text.name}, {table.name} and {sheet.name}"
    print(f"\nWritten to {picture}, {beside}{' and to its MLflow run' * logged}")


def _log_to_run(files: Sequence[Path], checkpoint: Path) -> bool:
    from .trained import run_folder

    noted = run_folder(checkpoint) / "mlflow_run_id"
    if not noted.is_file():
        return False
    from lightning_zoo.callbacks.mlflow_store import log_to_run

    return log_to_run(noted.read_text().strip(), {}, files)
