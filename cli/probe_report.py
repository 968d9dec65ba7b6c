"""What `lightning_zoo probe` prints: tables of scores, and the lines that say how they were measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .published import method_stem

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from datamodules.atari_frames import AtariFrames

    from .probing import ProbeScores
    from .published import Published

PUBLISHED_FRAMES = 100_000
PUBLISHED_PROBE_FRAMES = 50_000


def console() -> Console:
    """The terminal; elsewhere 120 columns, which hold three methods, so that nothing is cut off."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


def category_table(scores: list[ProbeScores], published: list[Published]) -> Table:
    """Weighted F1 per category, one pair of columns per method: ours and the published value, "-" for none."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title=f"Weighted F1 of linear probes, {scores[0].game}"
    )
    table.add_column("category")
    beside = "published" if len(scores) == 1 else "publ."  # three methods fit into 80 columns
    for score in scores:
        table.add_column(score.method, justify="right", no_wrap=True)
        table.add_column(beside, justify="right", style="dim", no_wrap=True)
    for category in scores[0].f1_per_category:
        ours = [score.f1_per_category[category] for score in scores]
        theirs = [values.f1_per_category.get(category) for values in published]
        table.add_row(category.replace("_", " "), *_pairs(ours, theirs))
    table.add_section()
    means = _pairs([score.f1 for score in scores], [values.f1 for values in published])
    table.add_row("mean over categories", *means, style="bold")
    accuracies = _pairs([score.accuracy for score in scores], [values.accuracy for values in published])
    table.add_row("accuracy, mean", *accuracies)
    return table


def variable_table(score: ProbeScores, published: Published, data: AtariFrames) -> Table:
    """F1 beside the published one, accuracy, and mean absolute error in RAM units of every variable."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        title=f"Variables of {score.game}, {score.method}",
        caption="error: mean absolute, in units of RAM",
    )
    table.add_column("variable", overflow="fold")
    table.add_column("category")
    for column in ("F1", "published", "accuracy", "error"):
        table.add_column(column, justify="right", no_wrap=True, style="dim" if column == "published" else None)
    for variable, values in score.per_variable.items():
        table.add_row(
            variable,
            ", ".join(data.categories[variable]).replace("_", " "),
            *_pairs([values["f1"]], [published.f1_per_variable.get(variable)]),
            f"{values['accuracy']:.3f}",
            f"{values['mean_absolute_error']:.2f}",
        )
    return table


def caption(
    module: Any, checkpoint: dict[str, Any], data: AtariFrames, scores: list[ProbeScores], published: list[Published]
) -> list[str]:
    """How the scores were measured and what the published ones are, a line for each."""
    trained_on = checkpoint.get("datamodule_hyper_parameters", {})
    agent = "random" if data.settings.policy == "random" else data.settings.policy
    protocol = f"{data.hparams['preset']} protocol, label map {data.protocol.label_map}"
    lines = [
        _training(module, checkpoint, trained_on),
        f"probed on: {data.game}, {agent} agent, {protocol}",
        _labelled(data),
        _probing(scores[0]),
        _distance(module, trained_on, data, published),
    ]
    return [line for line in lines if line] + list(dict.fromkeys(values.note for values in published if values.note))


def summary(score: ProbeScores, published: Published) -> str:
    """The result in one line."""
    beside = "" if published.f1 is None else f" (published {published.f1:.2f})"
    return f"{score.method} on {score.game}: mean F1 {score.f1:.3f}{beside}"


def _training(module: Any, checkpoint: dict[str, Any], trained_on: dict[str, Any]) -> str:
    if method_stem(module) == "random_cnn":
        return "encoder: untrained"
    labelled = trained_on.get("serve") == "labelled"
    frames = trained_on.get("num_probe_frames" if labelled else "num_frames")
    if frames is None:
        return ""
    epochs = checkpoint.get("epoch", 0) + 1
    return (
        f"{type(module).__name__}: {frames:,} {'labelled ' * labelled}frames of {trained_on.get('game')}, "
        f"{trained_on.get('preset')} protocol, {epochs} epoch{'s' * (epochs != 1)}"
    )


def _labelled(data: AtariFrames) -> str:
    drawn = {
        "train": "drawn by episode" if data.protocol.sampling == "episode" else "each once an epoch",
        "test": "drawn with replacement" if data.protocol.test_sampling == "with_replacement" else "each once",
    }
    notes = {split: f" ({note})" for split, note in drawn.items()}
    sizes = [f"{split} {len(part.rows):,}{notes.get(split, '')}" for split, part in data.labelled.items()]
    return f"labelled frames: {', '.join(sizes)}"


def _probing(score: ProbeScores) -> str:
    if "test_weights" not in score.details:
        return f"{score.method} names the variables' values itself: no probes"
    epochs = score.details["epochs"]
    return f"probes: {epochs} epoch{'s' * (epochs != 1)}, {score.details['test_weights']} weights"


def _distance(module: Any, trained_on: dict[str, Any], data: AtariFrames, published: list[Published]) -> str:
    learns_alone = method_stem(module) != "random_cnn" and trained_on.get("serve") != "labelled"
    frames = trained_on.get("num_frames", PUBLISHED_FRAMES) if learns_alone else PUBLISHED_FRAMES
    ours = (frames, data.settings.num_frames, data.hparams["preset"])
    if ours == (PUBLISHED_FRAMES, PUBLISHED_PROBE_FRAMES, "paper") or all(values.f1 is None for values in published):
        return ""
    encoder = f"{PUBLISHED_FRAMES:,} frames, " if learns_alone else ""
    return f"published, unlike here: paper protocol, {encoder}{PUBLISHED_PROBE_FRAMES:,} labelled frames"


def _pairs(ours: list[float], published: list[float | None]) -> list[str]:
    cells = []
    for own, theirs in zip(ours, published, strict=True):
        cells += [f"{own:.3f}", "-" if theirs is None else f"{theirs:.2f}"]
    return cells
