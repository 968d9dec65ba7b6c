"""What a classifier sees in clips that `lightning_zoo swap` made: the class of the one clip, or of the other."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .clip_pairs import pairs_of
from .errors import UsageError
from .video_data import clips_at, load_video

if TYPE_CHECKING:
    from torch import Tensor

    from .image_data import Split

WORDS = {
    "statics": "class of the statics' clip",
    "dynamics": "class of the dynamics' clip",
    "unswapped": "on the statics' clips themselves it is right in",
}


class Share(NamedTuple):
    """How often something was so.

    Attributes:
        share: of the clips.
        low: lower end of the 95 % bootstrap interval, which draws whole videos; nan for a single video.
        high: its upper end.
    """

    share: float
    low: float
    high: float


class Judged(NamedTuple):
    """What a judge said.

    Attributes:
        number: of swapped clips that it saw.
        shares: by the keys of `WORDS`.
    """

    number: int
    shares: dict[str, Share]


def load_judge(path: Path, device: str, model: Any) -> Any:
    """The classifier of a checkpoint, if it takes clips such as a method draws.

    Raises:
        CheckpointError: if the file holds no classifier of clips.
        UsageError: for a classifier of other clips.
    """
    judge = load_video(path, device, "judge", "class_logits", wanted="VideoClassifier", option="--judge: ")
    own, other = ((each.num_frames, *each.frame_shape) for each in (model, judge))
    if own != other:
        given, made = ("x".join(map(str, shape)) for shape in (other, own))
        raise UsageError(
            f"--judge {path} takes clips of {given} (frames, channels, height, width), those made are of {made}: name "
            "one that was trained on such clips"
        )
    return judge


def judged(
    model: Any, judge: Any, path: Path, data: Any, split: Split, number: int, batch_size: int, seed: int
) -> Judged:
    """How often a classifier sees the class of the statics' and of the dynamics' clip in what is made of the two.

    Args:
        model: a method that swaps.
        judge: a VideoClassifier.
        path: its checkpoint, for messages.
        data: a DataModule of clips.
        split: of it.
        number: of pairs at most; those of two clips of one class tell nothing and are left out.
        batch_size: pairs at a time.
        seed: of pairs and intervals.

    Raises:
        UsageError: for data without classes, or of other classes than the judge's, or if no pair has two classes.
    """
    import torch

    pairs, facts = pairs_of(data, split, number, seed, "--num_judged")
    _check_classes(judge, path, data, facts.labels)
    assert facts.labels is not None
    pairs = pairs[facts.labels[pairs[:, 0]] != facts.labels[pairs[:, 1]]]
    if not len(pairs):
        raise UsageError(f"--num_judged {number}: no two of the {split} clips drawn are of two classes; raise it")
    clips = [clips_at(data, split, rows.tolist()).split(batch_size) for rows in pairs.T]
    with torch.no_grad():
        made = [model.swap(*(each.to(model.device) for each in both)) for both in zip(*clips, strict=True)]
        seen, real = (_guesses(judge, parts) for parts in (made, clips[0]))
    ours, theirs = facts.labels[pairs].unbind(1)
    right = {"statics": seen == ours, "dynamics": seen == theirs, "unswapped": real == ours}
    videos = facts.videos[pairs[:, 0]]
    return Judged(len(pairs), {name: _share(values, videos, seed) for name, values in right.items()})


def lines_of(found: Judged) -> list[str]:
    """As lines of text."""
    lines = [f"Judge on {found.number} swapped clips of two classes each (95 % intervals):"]
    for name, (share, low, high) in found.shares.items():
        interval = "" if isnan(low) else f" ({low:.1%} to {high:.1%})"
        lines.append(f"  {WORDS[name]} {share:.1%}{interval}")
    return lines


def plain(found: Judged) -> dict[str, Any]:
    """For JSON."""
    shares = {name: share._asdict() for name, share in found.shares.items()}
    rows = {
        name: {key: None if isnan(value) else value for key, value in share.items()} for name, share in shares.items()
    }
    return {"num_judged": found.number, "rows": rows}


def _guesses(judge: Any, parts: Any) -> Tensor:
    """Classes (N,) of clips that come in parts."""
    import torch

    return torch.cat([judge.class_logits(part.to(judge.device)).argmax(1).cpu() for part in parts])


def _share(values: Tensor, videos: Tensor, seed: int) -> Share:
    from lightning_zoo.metrics.keypoint_displacement import bootstrap_interval

    return Share(float(values.double().mean()), *bootstrap_interval(values.double(), videos, resamples=1000, seed=seed))


def _check_classes(judge: Any, path: Path, data: Any, labels: Tensor | None) -> None:
    own = getattr(data, "class_names", None)
    if labels is None or not own:
        raise UsageError(f"--judge: {type(data).__name__} has no classes; leave the option out")
    known = list(judge.hparams["class_names"])
    if known != list(own):
        raise UsageError(
            f"--judge {path} knows {len(known)} classes ({', '.join(known[:3])}, ...), {type(data).__name__} has "
            f"{len(own)} ({', '.join(own[:3])}, ...): name a judge that was trained on the same classes"
        )
