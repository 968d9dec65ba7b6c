"""Which frames of which video make a clip: in order for evaluation, drawn for training."""

import torch
from torch import Tensor


def clips_in_order(starts: Tensor, lengths: Tensor, videos: Tensor, num_frames: int) -> Tensor:
    """All clips of some videos that do not overlap, from each video's first frame on.

    Args:
        starts: first frame (V,) of every video of the dataset.
        lengths: frames (V,) of every video.
        videos: numbers (N,) of those that are wanted.
        num_frames: of a clip.

    Returns:
        int64 (M, 2): the video and the first frame of each clip.
    """
    counts = lengths[videos] // num_frames
    repeated = videos.repeat_interleave(counts)
    first_clip = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.arange(len(repeated)) - first_clip
    return torch.stack([repeated, starts[repeated] + place * num_frames], 1)


def draw_order(num_videos: int, rounds: int, batch: int, generator: torch.Generator) -> Tensor:
    """Every video once per round, in an order of its own, so that no batch holds a video twice.

    Args:
        num_videos: V, at least ``batch``.
        rounds: how often each video occurs.
        batch: rows per batch, over all processes.
        generator: on the CPU.

    Returns:
        int64 (rounds * V,).
    """
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(rounds):
        following = torch.randperm(num_videos, generator=generator)
        begun = len(order) % batch
        if begun:
            # The batch that spans two rounds is filled up with videos that it does not hold yet.
            fresh = following[~torch.isin(following, order[-begun:])][: batch - begun]
            following = torch.cat([fresh, following[~torch.isin(following, fresh)]])
        order = torch.cat([order, following])
    return order


def draw_starts(lengths: Tensor, num_frames: int, generator: torch.Generator) -> Tensor:
    """The first frame (N,) of a clip within each of N videos of ``lengths`` frames, all equally likely."""
    return draw_below(lengths - num_frames + 1, generator)


def draw_pairs(lengths: Tensor, gap: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Two frames (N, 2) of each of N videos, source and target, in either order.

    Their distance is drawn from ``gap`` = (least, greatest), as far as a video goes; then their place.
    """
    greatest = (lengths - 1).clamp(max=gap[1])
    least = greatest.clamp(max=gap[0])
    distance = least + draw_below(greatest - least + 1, generator)
    first = draw_below(lengths - distance, generator)
    pair = torch.stack([first, first + distance], 1)
    swapped = torch.rand(len(pair), generator=generator) < 0.5
    return torch.where(swapped[:, None], pair.flip(1), pair)


def draw_below(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """Integers (N,), each drawn from 0 ... bound - 1 of its own bound."""
    uniform = torch.rand(len(bounds), generator=generator, dtype=torch.float64)
    return torch.minimum((uniform * bounds).long(), bounds - 1)
