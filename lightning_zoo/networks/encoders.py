"""Which encoder a method uses, and how frames reach it."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_zoo.networks.impala_cnn import ImpalaCNN
from lightning_zoo.networks.nature_cnn import NatureCNN

EncoderName = Literal["nature", "impala"]
Encoder = NatureCNN | ImpalaCNN


def make_encoder(
    name: EncoderName,
    *,
    input_channels: int = 1,
    feature_size: int = 256,
    channels: Sequence[int] | None = None,
    kernel_sizes: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    paddings: Sequence[int] | None = None,
) -> Encoder:
    """Build an encoder for frames of 210x160.

    Args:
        name: "nature" or "impala".
        input_channels: 1 for gray frames, 3 for colour.
        feature_size: length of the global feature vector.
        channels: per layer, None for the encoder's own.
        kernel_sizes: of "nature" alone, per layer, None for its own.
        strides: of "nature" alone, per layer, None for its own.
        paddings: of "nature" alone, per layer, None for its own.

    Raises:
        ValueError: for an unknown name, or geometry given to an encoder that has none.
    """
    geometry = {"kernel_sizes": kernel_sizes, "strides": strides, "paddings": paddings}
    given: dict[str, Any] = {key: tuple(value) for key, value in geometry.items() if value is not None}
    if channels is not None:
        given["channels"] = tuple(channels)
    if name == "nature":
        return NatureCNN(input_channels=input_channels, feature_size=feature_size, **given)
    if name == "impala":
        if set(given) - {"channels"}:
            raise ValueError(f"{', '.join(sorted(set(given) - {'channels'}))} can be set for encoder 'nature' alone")
        return ImpalaCNN(input_channels=input_channels, feature_size=feature_size, **given)
    raise ValueError(f"encoder must be 'nature' or 'impala', got {name!r}")


def as_float(frames: Tensor, input_channels: int) -> Tensor:
    """Frames (..., C, H, W) as float in [0, 1]; uint8 is divided by 255, float is taken as it is.

    Raises:
        ValueError: if the frames have another number of channels than the network was built for.
    """
    if frames.shape[-3] != input_channels:
        raise ValueError(
            f"input_channels={input_channels} but the frames have {frames.shape[-3]} channels "
            f"(shape {tuple(frames.shape)}): set --model.input_channels {frames.shape[-3]} or change --data.color"
        )
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames


def checked_images(frames: Tensor) -> Tensor:
    """The frames as they are.

    Raises:
        ValueError: if they are not single frames (B, C, H, W).
    """
    if frames.dim() != 4:
        raise ValueError(
            f"single frames (B, C, H, W) are wanted, got shape {tuple(frames.shape)}: "
            "set --data.serve images, or labelled where labels are needed"
        )
    return frames


def checked_clips(frames: Tensor, length: int | None = None) -> Tensor:
    """The frames as they are.

    Args:
        frames: what a batch holds.
        length: frames per clip, None for any number.

    Raises:
        ValueError: if they are not clips (B, T, C, H, W), or of another length.
    """
    if frames.dim() != 5 or length not in (None, frames.shape[1]):
        wanted = "T" if length is None else length
        raise ValueError(
            f"clips (B, {wanted}, C, H, W) are wanted, got shape {tuple(frames.shape)}: "
            f"set --data.serve clips and --data.clip_length {'to two or more' if length is None else length}"
        )
    return frames
