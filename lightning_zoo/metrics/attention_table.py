"""Which attribute attends which time step: what the mask of an attention over steps says, as table and heat map.

Shang & Sohn 2019; thesis, section 6.4.2 and Table 6.1. A mask M is (T, N): column n is attribute n's distribution over
the T steps. Steps are counted from 1, as there.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Attending(NamedTuple):
    """One attribute's attention.

    Attributes:
        name: of the attribute.
        step: that it attends most, 1 ... T; the first of several alike.
        share: of its attention that this step has, 1 / T to 1.
        entropy: of its distribution over steps, in nats, 0 to log T.
    """

    name: str
    step: int
    share: float
    entropy: float


def entropies(mask: Tensor) -> Tensor:
    """Entropy (N,) in nats of each attribute's distribution over the steps of a mask (T, N)."""
    mask = mask.float()
    return torch.special.xlogy(mask, mask).sum(0).abs()  # no number is -0


def attending(mask: Tensor, names: Sequence[str]) -> list[Attending]:
    """Each attribute's step, in the order of the names.

    Args:
        mask: (T, N), columns sum to 1.
        names: of the N attributes.

    Raises:
        ValueError: for a mask of another shape, or columns that are no distributions.
    """
    mask = _checked(mask, names)
    shares, steps = mask.max(0)
    columns = zip(names, steps.tolist(), shares.tolist(), entropies(mask).tolist(), strict=True)
    return [Attending(name, step + 1, share, entropy) for name, step, share, entropy in columns]


def steps_used(mask: Tensor) -> int:
    """How many of the T steps of a mask (T, N) are the one that some attribute attends most."""
    return len(mask.argmax(0).unique())


def step_table(mask: Tensor, names: Sequence[str]) -> dict[int, list[str]]:
    """Table 6.1: each step 1 ... T and the attributes that attend it most, in the order of the names."""
    table: dict[int, list[str]] = {step: [] for step in range(1, mask.shape[0] + 1)}
    for row in attending(mask, names):
        table[row.step].append(row.name)
    return table


def as_text(mask: Tensor, names: Sequence[str]) -> str:
    """Table 6.1, then a line per attribute, those of a step together and the surest of them first."""
    rows = sorted(attending(mask, names), key=lambda row: (row.step, -row.share))
    width = max([len("attribute"), *(len(name) for name in names)])
    lines = ["step  attributes"]
    lines += [f"{step:>4}  {', '.join(attributes) or '-'}" for step, attributes in step_table(mask, names).items()]
    lines += ["", f"{'attribute':<{width}}  step  share  entropy"]
    lines += [f"{row.name:<{width}}  {row.step:>4}  {row.share:>5.2f}  {row.entropy:>7.3f}" for row in rows]
    return "\n".join([*lines, "", summary(mask)])


def summary(mask: Tensor) -> str:
    """One line: mean entropy beside its largest value, and how many steps are used."""
    num_steps = mask.shape[0]
    even = torch.log(torch.tensor(float(num_steps)))
    return (
        f"Mean entropy {entropies(mask).mean():.3f} nats of at most {even:.3f}; {steps_used(mask)} of {num_steps} "
        "steps are attended most by some attribute."
    )


def as_plain(mask: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """All of the table in plain values, for JSON: "steps", "attributes", "mean_entropy", "steps_used" and "mask"."""
    return {
        "steps": {str(step): attributes for step, attributes in step_table(mask, names).items()},
        "attributes": {row.name: row._asdict() for row in attending(mask, names)},
        "mean_entropy": float(entropies(mask).mean()),
        "steps_used": steps_used(mask),
        "mask": mask.float().tolist(),
    }


def as_csv(mask: Tensor, names: Sequence[str]) -> str:
    """A line per attribute: name, step, share, entropy, and its attention to step 1 ... T."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*Attending._fields, *(f"step_{step}" for step in range(1, mask.shape[0] + 1))])
    for row, shares in zip(attending(mask, names), mask.float().T.tolist(), strict=True):
        writer.writerow([row.name, row.step, *(f"{value:.6f}" for value in (row.share, row.entropy, *shares))])
    return stream.getvalue()


def heat_map(mask: Tensor, names: Sequence[str], title: str = "") -> Figure:
    """A mask (T, N) as colours, attributes from top to bottom in the order of the steps that they attend.

    The figure belongs to no window and no registry: it is gone when the caller lets go of it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = attending(mask, names)
    order = sorted(range(len(rows)), key=lambda column: (rows[column].step, -rows[column].share))
    num_steps = mask.shape[0]
    figure = Figure(figsize=(2.9 + 0.4 * num_steps, 1.2 + 0.2 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = axes.imshow(mask.float().T[order].numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(num_steps), [str(step) for step in range(1, num_steps + 1)])
    axes.set_yticks(range(len(order)), [rows[column].name.replace("_", " ") for column in order], fontsize=8)
    axes.set_xticks([step - 0.5 for step in range(1, num_steps)], minor=True)
    axes.set_yticks([place - 0.5 for place in range(1, len(order))], minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("time step")
    axes.set_title(title, fontsize=9)
    figure.colorbar(colours, ax=axes, label="attention", fraction=0.08, pad=0.03, shrink=min(1, 8 / len(names)))
    return figure


def write_heat_map(file: Path, mask: Tensor, names: Sequence[str], title: str = "") -> None:
    """Write the heat map as PNG, so that the file is complete or not there."""
    figure = heat_map(mask, names, title)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    write_whole(file, stream.getvalue())


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file by way of `<file>.part`, so that it is complete or not there; folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _checked(mask: Tensor, names: Sequence[str]) -> Tensor:
    if mask.dim() != 2 or mask.shape[1] != len(names):
        raise ValueError(f"mask must be (T, {len(names)}), a column for each attribute, got {tuple(mask.shape)}")
    mask = mask.float()
    if not torch.allclose(mask.sum(0), torch.ones(len(names), device=mask.device), atol=1e-3) or (mask < 0).any():
        raise ValueError("mask must have distributions over steps as columns: entries of 0 or more that sum to 1")
    return mask
