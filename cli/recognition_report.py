"""What `lightning_zoo recognize` prints and writes: table, picture of the attention, JSON, the run in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from .recognition import FoldScores, Protocol
    from .recognition_clips import Recognized
    from .recognition_folds import FoldResult

NAMES = {"both": "S and P", "statics": "S", "dynamics": "P"}
SUPERVISED = "supervised 3D-CNN"
SCORES = ("accuracy", "balanced_accuracy", "most_frequent", "attention")

STATICS_COLOUR, DYNAMICS_COLOUR = (0.15, 0.35, 0.75), (0.95, 0.6, 0.1)
BAR = 6
"""Height of the bar below a clip, in pixels."""
GAP = 2
CLIPS_PER_ROW = 16


@cache
def published_values(name: str) -> dict[str, Any]:
    """A part of the thesis' tables, by its name in published_video.json."""
    table: dict[str, Any] = json.loads(files("lightning_zoo.video").joinpath("published_video.json").read_text())[name]
    return table


def published_accuracies(data: Any, protocol: str, by: str) -> dict[str, float]:
    """Published accuracies in %, by row of the table; empty where the thesis has none for these data and protocol."""
    name = type(data).__name__
    if name == "MovingMNIST" and data.digits == "mnist" and (protocol, by) == ("split", "statics"):
        known = published_values("pairs_of_digits")
        return {"statics": known["statics"], "frame votes": known["frame_votes"]}
    known = published_values("recognition").get(name, {})
    if protocol != "leave_one_actor_out" or by != "both" or "statics_and_dynamics" not in known:
        return {}
    return {"both": known["statics_and_dynamics"], SUPERVISED: known["supervised"]}


def summary(folds: Sequence[FoldScores | FoldResult], scores: Sequence[str] = SCORES) -> dict[str, Any]:
    """Means over folds, sample standard deviations where there are several, and the accuracy over all videos."""
    from statistics import fmean, stdev

    found: dict[str, Any] = {"num_videos": sum(fold.num_videos for fold in folds)}
    found["all_videos"] = sum(fold.num_right for fold in folds) / found["num_videos"]
    for name in scores:
        values = [getattr(fold, name) for fold in folds]
        found[name] = fmean(values)
        found[f"{name}_deviation"] = stdev(values) if len(values) > 1 else None
    return found


def show(found: Recognized, data: Any, protocol: str, how: Protocol, known: Mapping[str, float], asked: bool) -> None:
    """Print the table and how it was measured."""
    from .probe_report import console

    terminal = console()
    terminal.print(_table(found, data, protocol, known))
    for line in caption(data, protocol, how, known, asked):
        terminal.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)


def _table(found: Recognized, data: Any, protocol: str, known: Mapping[str, float]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"Videos recognized in %, {data.name}, {protocol.replace('_', ' ')}"
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("tested")
    for column in ("videos", "accuracy", "balanced", "most frequent", "a", *(["publ."] if known else [])):
        table.add_column(column, justify="right")
    for name, folds in found.rows.items():
        read, whole = NAMES.get(name, name), summary(folds)
        if len(folds) > 1:
            for fold in folds:
                table.add_row(fold.name, *_fold_cells(fold))
            table.add_section()
            table.add_row(f"{read}: all videos", str(whole["num_videos"]), f"{100 * whole['all_videos']:.1f}")
        cells = [percent(whole, score) for score in ("accuracy", "balanced_accuracy", "most_frequent")]
        label = f"{read}: mean +- s.d." if len(folds) > 1 else f"{read}: {folds[0].name}"
        published = f"{known[name]:g}" if name in known else "-"
        table.add_row(label, str(whole["num_videos"]), *cells, _attention(whole), *([published] if known else []))
    for name in known.keys() - found.rows.keys():
        table.add_row(name, *["-"] * 5, f"{known[name]:g}")
    return table


def _fold_cells(fold: FoldScores) -> list[str]:
    shares = [f"{100 * share:.1f}" for share in (fold.accuracy, fold.balanced_accuracy, fold.most_frequent)]
    return [str(fold.num_videos), *shares, f"{fold.attention:.2f}"]


def percent(whole: Mapping[str, Any], name: str) -> str:
    """A score of a summary, with its deviation where there is one."""
    deviation = whole[f"{name}_deviation"]
    return f"{100 * whole[name]:.1f}" + ("" if deviation is None else f" +- {100 * deviation:.1f}")


def _attention(whole: Mapping[str, Any]) -> str:
    deviation = whole["attention_deviation"]
    if isnan(whole["attention"]):
        return "-"
    return f"{whole['attention']:.2f}" + ("" if deviation is None else f" +- {deviation:.2f}")


def caption(data: Any, protocol: str, how: Protocol, known: Mapping[str, float], asked: bool) -> list[str]:
    """How the accuracies were measured, a line each."""
    described = data.fingerprint
    own = described.get("train_actors")
    lines = [
        f"chance: balanced {100 / how.num_classes:.1f} ({how.num_classes} classes); most frequent: always the class "
        "with most training videos",
        f"linear classifiers: {how.epochs} epochs, AdamW, learning rate {how.learning_rate:g}, weight decay "
        f"{how.weight_decay:g}, {how.batch_size} videos a step, seed {how.seed}; the last weights are tested",
    ]
    lines.append(
        "a: mean over clips of the weight of S, 1 - a is that of P; 1 for S alone, 0 for P alone, - for frames"
    )
    if own and protocol == "leave_one_actor_out":
        lines.append(f"encoder: trained without labels on clips of {own}, also where these are tested")
    if known:
        lines.append(
            "publ.: thesis, sections 7.4.4 and 7.5.3, of the full budget; the classifier's training is unstated"
        )
    elif asked:
        lines.append("publ.: the thesis has none for these data, protocol and features")
    return lines


def draw(found: Recognized, data: Any, number: int, target: Path, checkpoint: Path, log: bool) -> None:
    """Write the middle frames of some tested videos' clips, each above a bar: blue as far as S counted (figure 7.7)."""
    from .pictures import write_grid
    from .recognition_clips import middle_frames

    if "both" not in found.rows:
        return
    tested = _clips_of_videos(found, number)
    rows = [row for clips, _ in tested for row in clips]
    frames = iter(middle_frames(data, found, rows))
    picture = attention_picture([([next(frames) for _ in clips], attention) for clips, attention in tested])
    print("Rows: clips of one video; the bar below is blue as far as S counted, orange as far as P did")
    write_grid(target, picture, checkpoint, log)


def _clips_of_videos(found: Recognized, number: int) -> list[tuple[list[int], list[float]]]:
    """Rows and a of the clips of a few tested videos, of as many classes as can be."""
    videos: dict[int, tuple[int, list[int], list[float]]] = {}
    for fold in found.rows["both"]:
        for row, attention in zip(fold.rows.tolist(), fold.attention_by_clip.tolist(), strict=True):
            label = int(found.examples.labels[row])
            _, rows, values = videos.setdefault(int(found.examples.videos[row]), (label, [], []))
            rows.append(row)
            values.append(attention)
    first: dict[int, int] = {}
    for video, (label, _, _) in videos.items():
        first.setdefault(label, video)
    chosen = [*first.values(), *(video for video in videos if video not in set(first.values()))][:number]
    return [(videos[video][1][:CLIPS_PER_ROW], videos[video][2][:CLIPS_PER_ROW]) for video in chosen]


def attention_picture(rows: Sequence[tuple[Sequence[Tensor], Sequence[float]]]) -> Tensor:
    """A picture (3, H, W) in [0, 1]: a row of frames (C, h, w), uint8, per video, a bar of each one's a below it."""
    import torch

    height, width = rows[0][0][0].shape[1:]
    columns = max(len(frames) for frames, _ in rows)
    cell = (height + BAR + 2 * GAP, width + GAP)
    picture = torch.ones(3, GAP + len(rows) * cell[0], GAP + columns * cell[1])
    for line, (frames, attention) in enumerate(rows):
        for column, (frame, a) in enumerate(zip(frames, attention, strict=True)):
            top, left = GAP + line * cell[0], GAP + column * cell[1]
            picture[:, top : top + height, left : left + width] = frame.float() / 255
            bar = picture[:, top + height : top + height + BAR, left : left + width]
            bar[:] = torch.tensor(DYNAMICS_COLOUR)[:, None, None]
            bar[..., : round(a * width)] = torch.tensor(STATICS_COLOUR)[:, None, None]
    return picture


def write(found: Recognized, data: Any, protocol: str, how: Protocol, file: Path, checkpoint: Path, log: bool) -> None:
    """Put the result into a JSON file, beside those of other features and protocols, and into the run in MLflow."""
    from .score_report import fingerprint_hash
    from .video_files import write_result

    settings = {name: value for name, value in vars(how).items() if name not in ("averaged", "device")}
    settings |= {"protocol": protocol, "data": type(data).__name__, "fingerprint": fingerprint_hash(data)}
    rows = {
        name: _plain(summary(folds)) | {"folds": [_fold(fold) for fold in folds]} for name, folds in found.rows.items()
    }
    values = {
        f"recognize/{name}/{score}".replace(" ", "_"): row[score] for name, row in rows.items() for score in SCORES
    }
    write_result(file, f"{checkpoint.stem}_{protocol}_{how.by}", settings | {"rows": rows}, values, checkpoint, log)


def _fold(fold: FoldScores) -> dict[str, Any]:
    return _plain({name: value for name, value in vars(fold).items() if name not in ("rows", "attention_by_clip")})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in values.items()}
