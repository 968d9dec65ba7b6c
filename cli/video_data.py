"""Clips to work on, and the features that a video method has of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_zoo.checkpoints import CheckpointError

from .errors import UsageError
from .image_data import Split, batches_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClipFacts:
    """What is known of N clips beside their frames.

    Attributes:
        features: by method, (N, D) on the CPU.
        videos: int64 (N,), the video of each.
        labels: int64 (N,), or None.
        keypoints: float32 (N, T, K, 2), or None.
        actors: int64 (N,), a number for each person, or None.
    """

    features: list[Tensor]
    videos: Tensor
    labels: Tensor | None
    keypoints: Tensor | None
    actors: Tensor | None


class InOrder:
    """A DataModule whose training clips are all there are, in order, where it can serve these.

    Args:
        data: a DataModule of clips.
        number: how many are asked for of data that draw them without end; null for those of an epoch.
    """

    def __init__(self, data: Any, number: int | None = None) -> None:
        self.data = data
        self.number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def train_dataloader(self) -> Any:
        """All training clips that do not overlap; of clips that are drawn without end, the first ones."""
        if hasattr(self.data, "clips_dataloader"):
            return self.data.clips_dataloader("train")
        first = getattr(self.data, "first_clips_dataloader", None)
        return self.data.train_dataloader() if first is None else first(self.number)


def load_video(
    path: Path,
    device: str,
    command: str,
    *needs: str | tuple[str, ...],
    wanted: str = "StaticsDynamics",
    option: str = "",
) -> Any:
    """The video method of a checkpoint, in evaluation mode, on a device.

    Args:
        path: the checkpoint.
        device: "auto", "cpu" or "cuda".
        command: for messages.
        needs: names of what the command calls besides `features`; of a tuple, one or the other.
        wanted: the classes that have all of it, in words.
        option: that named the checkpoint, as messages begin, such as "--judge: ".

    Raises:
        CheckpointError: if the file cannot be used, holds a method of another kind, or StaticsDynamics whose run has
            not come to its second phase.
        UsageError: for a device that is not there.
    """
    from lightning_zoo.checkpoints import load, read
    from lightning_zoo.video.hyperparameters import in_first_phase

    from .trained import pick_device

    place = pick_device(device)
    module: Any = load(path)
    either = [(need,) if isinstance(need, str) else need for need in ("features", *needs)]
    has_all = all(any(callable(getattr(module, name, None)) for name in names) for names in either)
    if not has_all or not hasattr(module, "num_frames"):
        raise CheckpointError(
            f"{option}{path} holds {type(module).__name__}, which cannot {command}: name a checkpoint of {wanted}"
        )
    if in_first_phase(read(path)):
        raise CheckpointError(
            f"{option}{path} was written in the first phase, of {module.hparams['transformer_epochs']} epochs, before "
            "its video encoder learnt anything: train on with fit --ckpt_path, or name another checkpoint"
        )
    return module.to(place)


def video_data_of(path: Path, root: str | None = None) -> Any:
    """The DataModule of clips that a checkpoint was trained on, built but not prepared.

    Raises:
        CheckpointError: if the checkpoint names no dataset.
        UsageError: for data without clips.
    """
    from lightning_zoo.checkpoints import read

    from .image_data import data_of

    data = data_of(read(path), path, {"root": root})
    if not hasattr(data, "frame_shape"):
        raise UsageError(f"{type(data).__name__}, which {path} was trained on, has no clips")
    return data


def clips_of(data: Any, split: Split, number: int | None = None) -> Tensor:
    """The first clips (N, T, C, H, W), uint8, of a split.

    Raises:
        DataError: if data are missing.
    """
    import torch

    return torch.cat([batch["clips"] for batch in batches_of(InOrder(data, number), split, number)])


def clips_at(data: Any, split: Split, rows: Sequence[int]) -> Tensor:
    """Clips (len(rows), T, C, H, W), uint8, of a split, without holding the others."""
    import torch

    wanted, first = set(rows), 0
    found: dict[int, Tensor] = {}
    for batch in batches_of(InOrder(data, max(wanted) + 1), split, max(wanted) + 1):
        clips = batch["clips"]
        found |= {row: clips[row - first].clone() for row in wanted if first <= row < first + len(clips)}
        first += len(clips)
    return torch.stack([found[row] for row in rows])


def facts_of(models: Sequence[Any], features: Sequence[str], data: Any, split: Split, number: int | None) -> ClipFacts:
    """Features and all else of the first clips of a split.

    Args:
        models: video methods.
        features: which of each method's `features`.
        data: a DataModule of clips.
        split: of it.
        number: how many clips at most.
    """
    import torch

    kept: list[dict[str, Tensor]] = []
    for batch in batches_of(InOrder(data, number), split, number):
        known = ("videos", "labels", "keypoints")
        made: dict[str, Tensor] = {name: batch[name].cpu() for name in known if name in batch}
        for place, values in enumerate(_features(models, features, batch["clips"])):
            made[f"features{place}"] = values
        kept.append(made)
    whole = {name: torch.cat([part[name] for part in kept]) for name in kept[0]}
    return ClipFacts(
        [whole[f"features{place}"] for place in range(len(models))],
        whole["videos"],
        whole.get("labels"),
        whole.get("keypoints"),
        _actors(data, whole["videos"]),
    )


def _features(models: Sequence[Any], names: Sequence[str], clips: Tensor) -> Iterator[Tensor]:
    import torch

    with torch.no_grad():
        for model, name in zip(models, names, strict=True):
            yield model.features(clips.to(model.device))[name].float().cpu()


def _actors(data: Any, videos: Tensor) -> Tensor | None:
    import torch

    known = getattr(data, "actors", None)
    if not known:
        return None
    numbers = {name: number for number, name in enumerate(sorted(set(known)))}
    return torch.tensor([numbers[known[video]] for video in videos.tolist()])


def numbers_all_videos(data: Any) -> bool:
    """Whether a video has one number in all splits, as stored ones have; drawn clips are counted anew in each."""
    return hasattr(data, "clips_dataloader")


def difference(data: Any, other: Any, *, people: bool = True) -> str | None:
    """In what two DataModules, built but not prepared, serve other videos; None if in nothing that is known of them.

    Args:
        data: a DataModule of clips.
        other: another.
        people: whether those whom they hold out count.
    """
    if type(data) is not type(other):
        return f"{type(data).__name__} and {type(other).__name__}"
    for name in ("digits", "rule", "crop", "alignment", "channel", "resize", "every"):
        values = [getattr(each, name, None) for each in (data, other)]
        if values[0] != values[1]:
            return f"{name} {values[0]} and {values[1]}"
    if not people:
        return None
    held_out = [_held_out(each) for each in (data, other)]
    return None if held_out[0] == held_out[1] else f"held out {held_out[0]} and {held_out[1]}"


def _held_out(data: Any) -> str:
    """What is kept from training, in words; of one's own folder, where it is and how it is cut."""
    split = getattr(data, "actor_split", None)
    if split is not None:
        return " ".join(sorted(split.test)) + (f" (validation {' '.join(sorted(split.val))})" if split.val else "")
    if not numbers_all_videos(data):
        return "digits"
    drawn = "" if (data.root / "test").is_dir() else f", drawn with seed {data.seed} and {getattr(data, 'shares', '')}"
    return f"videos of {data.root}{drawn}"


def feature_of(model: Any, path: Path, wanted: str | None) -> str:
    """Which of a method's features is meant: `--by`, or its first.

    Raises:
        UsageError: for one that it does not have.
    """
    import torch

    clips = torch.zeros(1, model.num_frames, *model.frame_shape, device=model.device)
    with torch.no_grad():
        known = list(model.features(clips))
    if wanted is not None and wanted not in known:
        raise UsageError(
            f"--by {wanted}: {path} holds {type(model).__name__}, which has {' and '.join(known)}: leave the option or "
            "the checkpoint out"
        )
    return wanted or known[0]
