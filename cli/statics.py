"""`lightning_zoo statics`: what all frames of a clip have in common, and how it is warped onto each."""

from __future__ import annotations

from typing import Literal

from .errors import UsageError


def statics(
    ckpt_path: str,
    *,
    num_clips: int = 6,
    split: Literal["train", "val", "test"] = "test",
    root: str | None = None,
    output: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    log: bool = True,
) -> None:
    """Draw a clip, its statics warped onto each of its frames, and its frames drawn from statics and dynamics.

    The first column of a clip's second and third rows is the statics S themselves (figure 7.3).

    Args:
        ckpt_path: a checkpoint of StaticsDynamics, or `last` or `best` for the newest run's.
        num_clips: how many.
        split: of the dataset that the checkpoint was trained on.
        root: the dataset's folder, if it is not where it was.
        output: a PNG file; null for pictures/statics_<split>.png in the checkpoint's run.
        device: where to compute.
        log: add the picture to the checkpoint's MLflow run.
    """
    import torch

    from .pictures import destination, write_grid
    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, mistakes
    from .video_data import clips_of, load_video, video_data_of
    from .video_files import strips

    quiet()
    check_numbers(num_clips=num_clips)
    path = find_checkpoint(ckpt_path)
    target, folder = destination(output, path, f"statics_{split}")
    if folder:
        raise UsageError(f"--output {output}: name a PNG file")
    model = load_video(path, device, "draw statics", "decode_statics", "strips")
    with mistakes(), torch.no_grad():
        clips = clips_of(video_data_of(path, root), split, num_clips).to(model.device)
        pictures = model.strips(clips).float().cpu()
    frames, warped, drawn = pictures[:, :, 1:].unbind(1)
    error = (warped - frames).square().mean(), (drawn - frames).square().mean()
    print(f"Mean squared error per pixel: warped statics {error[0]:.4f}, drawn frames {error[1]:.4f}")
    print(
        "Rows: frames; statics, then warped onto each frame; statics, then drawn with each frame's dynamics; and so on"
    )
    write_grid(target, strips(pictures.flatten(0, 1)), path, log)
