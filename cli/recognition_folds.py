"""Classifiers of whole folds: each is tested on those whom its own training held out (Tables 7.2 and 7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .video_data import difference, facts_of, load_video, video_data_of

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

SAME = ("frame_channels", "frame_size", "num_frames", "base_channels", "feature_size", "head", "pixels")
"""Hyperparameters that folds of one method share."""


@dataclass(frozen=True)
class FoldResult:
    """What one classifier reached.

    Attributes:
        name: who was tested.
        checkpoint: of the classifier.
        num_videos: how many.
        num_right: of them, by the mean logits of a video's clips.
        accuracy: share of videos.
        balanced_accuracy: its mean over the classes that were tested.
    """

    name: str
    checkpoint: str
    num_videos: int
    num_right: int
    accuracy: float
    balanced_accuracy: float


class _Logits:
    """A classifier whose logits are its features."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = model.device

    def features(self, clips: Tensor) -> dict[str, Tensor]:
        return {"logits": self.model.class_logits(clips)}


def folds_of(paths: Sequence[Path], root: str | None) -> list[Any]:
    """The DataModules that classifiers were trained on, if these are folds of one cross-validation.

    Raises:
        CheckpointError: if a file cannot be used.
        UsageError: for other methods, datasets or architectures, and for people that two of them are tested on.
    """
    from lightning_zoo.checkpoints import read

    contents = [read(path) for path in paths]
    data = [video_data_of(path, root) for path in paths]
    for path, content, each in zip(paths[1:], contents[1:], data[1:], strict=True):
        other = _method_difference(contents[0], content) or difference(data[0], each, people=False)
        if other is not None:
            raise UsageError(f"--ckpt_path: {paths[0]} and {path} are no folds of one method: {other}")
    tested: dict[str, Path] = {}
    for path, each in zip(paths, data, strict=True):
        split = getattr(each, "actor_split", None)
        for who in split.test if split is not None else [f"the test split of {type(each).__name__}"]:
            if who in tested:
                raise UsageError(
                    f"--ckpt_path: {tested[who]} and {path} are both tested on {who}: give one checkpoint per fold"
                )
            tested[who] = path
    return data


def _method_difference(first: dict[str, Any], other: dict[str, Any]) -> str | None:
    from lightning_zoo.checkpoints import class_path

    kinds = [(class_path(each) or "nothing known").rpartition(".")[2] for each in (first, other)]
    if kinds[0] != kinds[1]:
        return f"{kinds[0]} and {kinds[1]}"
    given = [each.get("hyper_parameters", {}) for each in (first, other)]
    begun = ["pretrained" if each.get("initial_weights") else "from scratch" for each in given]
    if begun[0] != begun[1]:
        return f"{begun[0]} and {begun[1]}"
    for name in SAME:
        values = [each.get(name) for each in given]
        if values[0] != values[1]:
            return f"{name} {values[0]} and {values[1]}"
    return None


def fold_result(path: Path, data: Any, device: str, number: int | None) -> FoldResult:
    """What the classifier of a checkpoint reaches on the test split of its data.

    Args:
        path: the checkpoint.
        data: its DataModule.
        device: "auto", "cpu" or "cuda".
        number: of clips at most; None for all.

    Raises:
        UsageError: for data without classes, or with others.
    """
    from lightning_zoo.metrics.video_votes import labels_by_video, mean_by_video, share_right

    model = load_video(path, device, "recognize", "class_logits", wanted="VideoClassifier")
    facts = facts_of([_Logits(model)], ["logits"], data, "test", number)
    names = model.hparams["class_names"]
    if facts.labels is None or list(data.class_names or []) != list(names):
        raise UsageError(
            f"--ckpt_path: {path} knows {len(names)} classes ({', '.join(names[:3])}, ...), which are not those of "
            f"{type(data).__name__}: give --root of the data that it was trained on"
        )
    logits, videos = mean_by_video(facts.features[0], facts.videos)
    answers, truth = logits.argmax(1), labels_by_video(facts.labels, facts.videos)
    who = sorted({data.actors[video] for video in videos.tolist()}) if data.actors else ["test split"]
    right = int((answers == truth).sum())
    return FoldResult(" ".join(who), str(path), len(truth), right, *share_right(answers, truth))


def published_accuracy(path: Path, data: Any) -> float | None:
    """That of Table 7.2 or 7.3 in %, from scratch or pretrained as the checkpoint was; None where there is none."""
    from lightning_zoo.checkpoints import read

    from .recognition_report import published_values

    begun = read(path).get("hyper_parameters", {}).get("initial_weights")
    known: float | None = (
        published_values("recognition").get(type(data).__name__, {}).get("pretrained" if begun else "supervised")
    )
    return known


def table_of(folds: Sequence[FoldResult], data: Any, known: float | None) -> Table:
    """A row per fold, and their mean."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from .recognition_report import percent, summary

    table = Table(title=f"Videos recognized in %, {data.name}, folds: {len(folds)}", box=SIMPLE_HEAD)
    table.add_column("tested")
    for column in ("videos", "accuracy", "balanced", *([] if known is None else ["publ."])):
        table.add_column(column, justify="right")
    for fold in folds:
        shares = (f"{100 * share:.1f}" for share in (fold.accuracy, fold.balanced_accuracy))
        table.add_row(fold.name, str(fold.num_videos), *shares)
    whole = summary(folds, ("accuracy", "balanced_accuracy"))
    table.add_section()
    table.add_row("all videos", str(whole["num_videos"]), f"{100 * whole['all_videos']:.1f}")
    cells = [percent(whole, score) for score in ("accuracy", "balanced_accuracy")]
    label = "mean +- s.d." if len(folds) > 1 else "mean"
    table.add_row(label, str(whole["num_videos"]), *cells, *([] if known is None else [f"{known:g}"]))
    return table


def recognize_folds(
    paths: Sequence[Path], root: str | None, number: int | None, published: bool, target: Path, device: str, log: bool
) -> None:
    """Test classifiers fold by fold; print the table, write it as JSON and into the first checkpoint's run."""
    from .probe_report import console
    from .trained import mistakes

    data = folds_of(paths, root)
    with mistakes():
        folds = [fold_result(path, each, device, number) for path, each in zip(paths, data, strict=True)]
    known = published_accuracy(paths[0], data[0]) if published else None
    terminal = console()
    terminal.print(table_of(folds, data[0], known))
    lines = [
        f"chance: balanced {100 / len(data[0].class_names):.1f} ({len(data[0].class_names)} classes)",
        "each checkpoint as it is, on those whom its own run held out; a video's clips answer by their mean logits",
    ]
    if published:
        said = "of the full budget; who is in which fold is unstated" if known is not None else "none for these data"
        lines.append(f"publ.: thesis, Tables 7.2 and 7.3; {said}")
    for line in lines:
        terminal.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
    _write(folds, data[0], target.with_suffix(".json"), paths, log)


def _write(folds: Sequence[FoldResult], data: Any, file: Path, paths: Sequence[Path], log: bool) -> None:
    from .recognition_report import summary
    from .video_files import write_result

    whole = summary(folds, ("accuracy", "balanced_accuracy"))
    entry = {"data": type(data).__name__, "num_folds": len(folds)} | whole | {"folds": [vars(fold) for fold in folds]}
    scores = ("accuracy", "accuracy_deviation", "balanced_accuracy", "balanced_accuracy_deviation")
    values = {f"recognize/folds/{score}": whole[score] for score in scores}
    name = f"folds: {'; '.join(map(str, paths))}"
    write_result(file, name, entry, values, paths[0], log)
