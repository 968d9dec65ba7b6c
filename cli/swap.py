"""`lightning_zoo swap`: what one clip shows, moving as another one does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from .swap_judge import Judged


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
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Draw clips from the statics of one clip and the dynamics of another (figure 7.4a).

    Three rows each: the clip that gives its statics, the clip that gives its dynamics, and what is made of both. The
    two are of two videos, and of two people and two classes as far as there are such.

    Args:
        ckpt_path: a checkpoint of StaticsDynamics, or `last` or `best` for the newest run's.
        num_clips: of each kind.
        split: of the dataset that the checkpoint was trained on.
        judge: a checkpoint of a VideoClassifier, or `last` or `best`: print how often it sees the class of either clip
            in what was made.
        num_judged: clips that are made for the judge.
        root: the dataset's folder, if it is not where it was.
        output: a PNG file; an mp4, and the judge's JSON, lie beside it; null for pictures/swap_<split>.png in the
            checkpoint's run.
        batch_size: clips at a time.
        seed: of which clip is swapped with which, and of the bootstrap intervals.
        device: where to compute.
        log: add picture and result to the checkpoint's MLflow run.
    """
    from .clip_pairs import pairs_of
    from .pictures import destination, write_grid
    from .quiet import quiet
    from .swap_judge import judged, lines_of, load_judge
    from .trained import check_numbers, find_checkpoint, mistakes
    from .video_data import clips_at, load_video, video_data_of
    from .video_files import side_by_side, strips, write_mp4

    quiet()
    check_numbers(seed, num_clips=num_clips, num_judged=num_judged, batch_size=batch_size)
    path = find_checkpoint(ckpt_path)
    target, folder = destination(output, path, f"swap_{split}")
    if folder:
        raise UsageError(f"--output {output}: name a PNG file")
    model = load_video(path, device, "swap", "swap")
    judge_path = None if judge is None else find_checkpoint(judge)
    judging = None if judge_path is None else load_judge(judge_path, device, model)
    data, found = video_data_of(path, root), None
    with mistakes():
        pairs, _ = pairs_of(data, split, num_clips, seed, "--num_clips")
        statics_of, dynamics_of = (clips_at(data, split, rows.tolist()) for rows in pairs.T)
        made = swapped(model, statics_of, dynamics_of, batch_size)
        if judge_path is not None:
            found = judged(model, judging, judge_path, data, split, num_judged, batch_size, seed)
            print("\n".join(lines_of(found)))
    print("Rows: statics of, dynamics of, drawn from both; and so on")
    rows = rows_of(statics_of, dynamics_of, made)
    write_grid(target, strips(rows), path, log)
    write_mp4(target.with_suffix(".mp4"), side_by_side(rows))
    if found is not None and judge_path is not None:
        _write(found, data, {"split": split, "seed": seed, "judge": str(judge_path)}, target, path, log)


def swapped(model: Any, statics_of: Tensor, dynamics_of: Tensor, batch_size: int) -> Tensor:
    """Clips (N, T, C, H, W) in [0, 1]."""
    import torch

    parts = zip(statics_of.split(batch_size), dynamics_of.split(batch_size), strict=True)
    with torch.no_grad():
        return torch.cat([model.swap(*(clips.to(model.device) for clips in pair)).cpu() for pair in parts])


def rows_of(statics_of: Tensor, dynamics_of: Tensor, made: Tensor) -> list[Tensor]:
    """Of each pair its two clips and what was made of them, one after the other."""
    return [clip for three in zip(statics_of, dynamics_of, made, strict=True) for clip in three]


def _write(found: Judged, data: Any, settings: dict[str, Any], picture: Path, checkpoint: Path, log: bool) -> None:
    from .score_report import fingerprint_hash
    from .swap_judge import plain
    from .video_files import write_result

    entry = settings | {"data": type(data).__name__, "fingerprint": fingerprint_hash(data)} | plain(found)
    name = f"{checkpoint.stem}_{settings['split']}_judged_by_{settings['judge']}"
    values = {f"swap/{settings['split']}/{name}": share.share for name, share in found.shares.items()}
    write_result(picture.with_suffix(".json"), name, entry, values, checkpoint, log)
