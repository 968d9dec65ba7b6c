"""Clips and single frames on their way into and out of a method."""

import torch
from torch import Tensor

from lightning_zoo.networks.frame_autoencoder import Pixels


def to_pixels(frames: Tensor, frame_shape: tuple[int, int, int], pixels: Pixels) -> Tensor:
    """Frames (..., C, H, W), uint8 or in [0, 1], as floats in the range that a network works in.

    Raises:
        ValueError: for frames of another shape than the network was built for.
    """
    if frames.shape[-3:] != torch.Size(frame_shape):
        wanted, got = "x".join(map(str, frame_shape)), "x".join(map(str, frames.shape[-3:]))
        raise ValueError(f"frames must be {wanted} (channels, height, width), got {got}: see --model.frame_size")
    values = frames.float() / 255 if frames.dtype == torch.uint8 else frames
    return values if pixels == "unit" else 2 * values - 1


def from_pixels(frames: Tensor, pixels: Pixels) -> Tensor:
    """What a network draws as float32 frames in [0, 1]."""
    values = frames.float()
    return (values if pixels == "unit" else (values + 1) / 2).clamp(0, 1)


def check_clips(clips: Tensor, num_frames: int) -> None:
    """Refuse what is no batch of clips (B, T, C, H, W) of so many frames.

    Raises:
        ValueError: for another number of dimensions or of frames.
    """
    if clips.dim() != 5 or clips.shape[1] != num_frames:
        raise ValueError(f"clips must be (B, {num_frames}, C, H, W), got {tuple(clips.shape)}: see --model.num_frames")


def ends_of(clips: Tensor) -> Tensor:
    """First and last frames (B, 2, C, H, W) of clips (B, T, C, H, W): pairs for evaluation, always the same."""
    return clips[:, [0, -1]]
