"""`lightning_zoo swap`: what one clip shows, moving as another one does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def swap(
    ckpt_path: str,
    *,
    num_clips: int = 6,
    split: Literal["train", "val", "test"] = "test",
    judge: str | None = None,
    num_judged: int = 500,
    root: str | None = None,
    output: str | None = None,
    batch_size: int = 50,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Draw clips from the statics of one clip and the dynamics of another (figure 7.4a).

    Three rows each: the clip that gives its statics, the clip that gives its dynamics, and what is made of both.

    Args:
        ckpt_path: a checkpoint of StaticsDynamics, or `last` or `best` for the newest run's.
        num_clips: of each kind.
        split: of the dataset that the checkpoint was trained on.
        judge: a checkpoint of a VideoClassifier: print how often it sees the class of either clip in what was made.
        num_judged: clips that are made for the judge.
        root: the dataset's folder, if it is not where it was.
        output: a PNG file; an mp4 lies beside it; null for pictures/swap_<split>.png in the checkpoint's run.
        batch_size: clips at a time.
        device: where to compute.
        log: add the picture to the checkpoint's MLflow run.
    """
    from .pictures import destination, write_grid
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, mistakes
    from .video_data import clips_of, load_video, video_data_of
    from .video_files import side_by_side, strips, write_mp4

    quiet()
    check_numbers(num_clips=num_clips, num_judged=num_judged, batch_size=batch_size)
    path = find_checkpoint(ckpt_path)
    target, folder = destination(output, path, f"swap_{split}")
    if folder:
        raise UsageError(f"--output {output}: name a PNG file")
    model = load_video(path, device, "swap", "swap")
    judging = None if judge is None else load_video(Path(judge), device, "judge clips", "class_logits")
    data = video_data_of(path, root)
    with mistakes():
        statics_of, dynamics_of = clips_of(data, split, 2 * num_clips).unflatten(0, (-1, 2)).unbind(1)
        made = swapped(model, statics_of, dynamics_of, batch_size)
        if judging is not None:
            print("\n".join(judged(model, judging, data, split, num_judged, batch_size)))
    rows = [clip for three in zip(statics_of, dynamics_of, made, strict=True) for clip in three]
    print("Rows: statics of, dynamics of, drawn from both; and so on")
    write_grid(target, strips(rows), path, log)
    write_mp4(target.with_suffix(".mp4"), side_by_side(rows))


def swapped(model: Any, statics_of: Tensor, dynamics_of: Tensor, batch_size: int) -> Tensor:
    """Clips (N, T, C, H, W) in [0, 1]."""
    import torch

    parts = zip(statics_of.split(batch_size), dynamics_of.split(batch_size), strict=True)
    with torch.no_grad():
        return torch.cat([model.swap(*(clips.to(model.device) for clips in pair)).cpu() for pair in parts])


def judged(model: Any, judge: Any, data: Any, split: Any, number: int, batch_size: int) -> list[str]:
    """How often a classifier sees the class of the first or of the second clip, as lines of text.

    Raises:
        UsageError: for data without classes.
    """
    import torch

    from .image_data import batches_of

    batches = list(batches_of(data, split, 2 * number))
    if "labels" not in batches[0]:
        raise UsageError(f"--judge: {type(data).__name__} has no classes; leave the option out")
    clips, labels = (torch.cat([batch[name] for batch in batches]) for name in ("clips", "labels"))
    clips, labels = clips[: len(clips) // 2 * 2], labels[: len(labels) // 2 * 2]
    first, second = clips.unflatten(0, (-1, 2)).unbind(1)
    ours, theirs = labels.unflatten(0, (-1, 2)).unbind(1)
    differ = ours != theirs
    made = swapped(model, first[differ], second[differ], batch_size)
    with torch.no_grad():
        guesses = [judge.class_logits(part.to(judge.device)).argmax(1).cpu() for part in (*made.split(batch_size),)]
        real = [
            judge.class_logits(part.to(judge.device)).argmax(1).cpu() for part in (*first[differ].split(batch_size),)
        ]
    seen, right = torch.cat(guesses), torch.cat(real)
    return [
        f"Judge on {int(differ.sum())} swapped clips of two classes each:",
        f"  class of the statics' clip  {(seen == ours[differ]).float().mean():.1%}",
        f"  class of the dynamics' clip {(seen == theirs[differ]).float().mean():.1%}",
        f"  on the statics' clips themselves it is right in {(right == ours[differ]).float().mean():.1%}",
    ]
