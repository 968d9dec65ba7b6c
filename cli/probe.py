"""`lightning_zoo probe`: the linear-probe table of a checkpoint, beside the published one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_zoo.checkpoints import CheckpointError

from .allocator import keep_freed_memory

if TYPE_CHECKING:
    from rich.table import Table

    from datamodules.atari_frames import AtariFrames

    from .probing import ProbeScores

PUBLISHED_FRAMES = 100_000
PUBLISHED_PROBE_FRAMES = 50_000


def probe(
    ckpt_path: str,
    *,
    game: str | None = None,
    root: str | None = None,
    preset: Literal["clean", "paper"] | None = None,
    label_map: Literal["paper", "head"] | None = None,
    num_probe_frames: int | None = None,
    baselines: bool = False,
    per_variable: bool = False,
    max_epochs: int = 100,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Measure with linear probes what an encoder knows of a game's state.

    Labelled frames are collected if they are missing. What the checkpoint was trained on is the default of every
    option.

    Args:
        ckpt_path: a checkpoint of any module with `encode`, or `last` or `best` for the newest run's.
        game: the game to probe.
        root: folder of the recordings.
        preset: protocol of labels, splits and sampling.
        label_map: annotations of the RAM.
        num_probe_frames: labelled frames, of which 70 % train the probes.
        baselines: add an untrained encoder and the most frequent label.
        per_variable: add a table of single variables.
        max_epochs: of the probes, at most.
        seed: of the probes.
        device: where to compute.
        log: write the scores beside the checkpoint and to its MLflow run.
    """
    from .quiet import quiet

    quiet()
    keep_freed_memory()
    path = _find(ckpt_path)
    options = {
        "game": game,
        "root": root,
        "preset": preset,
        "label_map": label_map,
        "num_probe_frames": num_probe_frames,
    }
    scores, data, published, caption = _probe_all(path, options, baselines, max_epochs, seed, _device(device))
    _print(scores, published, caption, data, per_variable)
    if log:
        _log(path, scores, caption)


def _find(ckpt_path: str) -> Path:
    from lightning_zoo.checkpoints import RUNS, find_last

    if ckpt_path not in ("last", "best"):
        return Path(ckpt_path)
    found = find_last(kind=ckpt_path)
    if found is None:
        raise CheckpointError(f"ckpt_path: no {ckpt_path} checkpoint below {RUNS}/; train first, or name a file")
    print(f"Probing {found}")
    return found


def _probe_all(
    path: Path, options: dict[str, Any], baselines: bool, max_epochs: int, seed: int, device: str
) -> tuple[list[ProbeScores], AtariFrames, list[dict[str, float]], str]:
    from lightning_zoo.checkpoints import load_encoder, read

    from .probing import published_f1

    encoder = load_encoder(path)
    checkpoint = read(path)
    trained_on = dict(checkpoint.get("datamodule_hyper_parameters", {}))
    data = _labelled_data(trained_on, options)
    scores = [_score(encoder, data, max_epochs, seed, device)]
    stems = [_stem(encoder)]
    if baselines:
        for baseline in _baselines(data, seed):
            scores.append(_score(baseline, data, max_epochs, seed, device))
            stems.append(_stem(baseline))
    published = [published_f1(stem, data) for stem in stems]
    return scores, data, published, _caption(checkpoint, trained_on, data)


def _labelled_data(trained_on: dict[str, Any], options: dict[str, Any]) -> AtariFrames:
    import inspect

    from datamodules.atari_frames import AtariFrames
    from datamodules.atari_games import state_variables

    known = inspect.signature(AtariFrames).parameters
    arguments = {name: value for name, value in trained_on.items() if name in known}
    arguments |= {name: value for name, value in options.items() if value is not None}
    arguments |= {"serve": "labelled", "same_episode_negatives": False, "batch_size": 64}
    data = AtariFrames(**arguments)
    state_variables(data.game)  # before minutes go into frames that have no labels
    data.prepare_data()
    data.setup()
    return data


def _score(module: Any, data: AtariFrames, max_epochs: int, seed: int, device: str) -> ProbeScores:
    from .probing import probe_encoder, score_classifier

    if callable(getattr(module, "predict", None)) and "variables" in module.hparams:
        if list(module.hparams["variables"]) != data.variables:
            raise CheckpointError(
                f"{type(module).__name__} was trained for {', '.join(module.hparams['variables'])}; the data have "
                f"{', '.join(data.variables)}: probe it on the frames that it was trained on"
            )
        name = type(module).__name__
        classifier: Any = module.to(device).eval()
        return score_classifier(classifier.predict, data, name=name, device=device)
    return probe_encoder(module, data, max_epochs=max_epochs, seed=seed, device=device, progress=True)


def _baselines(data: AtariFrames, seed: int) -> list[Any]:
    import lightning as L
    import torch

    from lightning_zoo.representation.majority import Majority
    from lightning_zoo.representation.random_cnn import RandomCNN

    L.seed_everything(seed, verbose=False)
    random_cnn = RandomCNN(input_channels=data.image_shape[0])
    majority = Majority(variables=data.variables, categories=data.categories)
    majority.count(torch.from_numpy(data.labelled["train"].labels))
    return [random_cnn, majority]


def _stem(module: Any) -> str:
    return type(module).__module__.rpartition(".")[2]


def _device(device: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _caption(checkpoint: dict[str, Any], trained_on: dict[str, Any], data: AtariFrames) -> str:
    frames = trained_on.get("num_frames")
    parts = [f"{data.game}, {data.hparams['preset']} protocol, {data.settings.policy} agent"]
    if frames is not None:
        parts.append(f"encoder: {frames:,} frames, {checkpoint.get('epoch', 0) + 1} epochs")
    parts.append(f"probes: {data.settings.num_frames:,} frames")
    below = (frames or 0) < PUBLISHED_FRAMES or data.settings.num_frames < PUBLISHED_PROBE_FRAMES
    if below:
        parts.append("less than the published 100,000 and 50,000 frames")
    return "; ".join(parts)


def _print(
    scores: list[ProbeScores], published: list[dict[str, float]], caption: str, data: AtariFrames, per_variable: bool
) -> None:
    from rich.console import Console

    # Outside a terminal nothing may be cut off: 120 columns hold three methods.
    console = Console() if os.isatty(1) else Console(width=120)
    console.print(category_table(scores, published, caption))
    if per_variable:
        console.print(variable_table(scores[0], data))
    own, theirs = scores[0], published[0].get("f1")
    beside = f" (published {theirs:.2f})" if theirs is not None else ""
    console.print(f"{own.method} on {own.game}: mean F1 {own.f1:.3f}{beside}", highlight=False)


def category_table(scores: list[ProbeScores], published: list[dict[str, float]], caption: str) -> Table:
    """Weighted F1 per category, one pair of columns per method: ours and the published value."""
    from rich.table import Table

    table = Table(title="Weighted F1 of linear probes", caption=caption)
    table.add_column("category")
    for score in scores:
        table.add_column(score.method, justify="right")
        table.add_column("published", justify="right", style="dim")
    rows = {category: [score.f1_per_category[category] for score in scores] for category in scores[0].f1_per_category}
    for category, values in rows.items():
        table.add_row(category, *_pairs(values, [theirs.get(category) for theirs in published]))
    table.add_section()
    means = _pairs([score.f1 for score in scores], [theirs.get("f1") for theirs in published])
    table.add_row("mean over categories", *means, style="bold")
    table.add_row("accuracy, mean", *_pairs([score.accuracy for score in scores], [None] * len(scores)))
    return table


def variable_table(score: ProbeScores, data: AtariFrames) -> Table:
    """F1, accuracy and mean absolute error in RAM units of every variable."""
    from rich.table import Table

    table = Table(title=f"Variables of {score.game}, {score.method}")
    for column, justify in (("variable", "left"), ("category", "left"), ("F1", "right"), ("accuracy", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("error in RAM units", justify="right")
    for variable, values in score.per_variable.items():
        table.add_row(
            variable,
            ", ".join(data.categories[variable]),
            f"{values['f1']:.3f}",
            f"{values['accuracy']:.3f}",
            f"{values['mean_absolute_error']:.2f}",
        )
    return table


def _pairs(ours: list[float], published: list[float | None]) -> list[str]:
    cells = []
    for own, theirs in zip(ours, published, strict=True):
        cells += [f"{own:.3f}", "-" if theirs is None else f"{theirs:.2f}"]
    return cells


def _log(path: Path, scores: list[ProbeScores], caption: str) -> None:
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    target = folder / f"probe_{path.stem}_{scores[0].game}.json"
    temporary = target.with_suffix(".partial")
    temporary.write_text(
        json.dumps({"caption": caption, "scores": [asdict(score) for score in scores]}, indent=1) + "\n"
    )
    os.replace(temporary, target)
    print(f"Written to {target}")
    noted = folder / "mlflow_run_id"
    if noted.is_file():
        from lightning_zoo.callbacks.mlflow_store import log_to_run

        log_to_run(noted.read_text().strip(), scores[0].metrics(), [target])
