"""Which rows make an epoch: clips of consecutive frames, or single frames."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from datamodules.atari_protocol import Protocol
from datamodules.atari_splits import Episodes
from datamodules.index_batches import epoch_generator, permutation

LONGEST_DENSE_CLIP = 3
"""Clips of up to this many frames start at every frame of an epoch."""

Plan = Callable[[int], Tensor]


def clip_rows(episodes: Episodes, clip_length: int, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Every clip of an episode set.

    Args:
        episodes: where clips may lie.
        clip_length: frames per clip.
        protocol: whether an episode's first frame is paired with its last one; for pairs alone.

    Returns:
        clips (n, clip_length) of rows, earlier frames first, and the episode (n,) of each.
    """
    wrap = protocol.first_pairs == "wrap" and clip_length == 2
    clips, index = [], []
    for episode, (start, length) in enumerate(zip(episodes.starts, episodes.lengths, strict=True)):
        first = np.arange(start - wrap, start + length - clip_length + 1)
        rows = first[:, None] + np.arange(clip_length)
        if wrap:
            rows[0, 0] = start + length - 1
        clips.append(rows)
        index.append(np.full(len(rows), episode))
    return np.concatenate(clips), np.concatenate(index)


def clips_per_epoch(num_clips: int, num_episodes: int, clip_length: int, protocol: Protocol) -> int:
    """How many clips an epoch shows.

    Pairs and triples: as many as there are. Longer clips overlap in nearly all their frames: "frame" sampling shows
    each frame about once, "episode" sampling draws ``clip_length`` clips per episode, as the released CPC did.
    """
    if clip_length <= LONGEST_DENSE_CLIP:
        return num_clips
    return num_episodes * clip_length if protocol.sampling == "episode" else max(num_clips // clip_length, 1)


def training_plan(episode_of_item: np.ndarray, protocol: Protocol, num_items: int, seed: int) -> Plan:
    """The items (clips or frames) of each epoch.

    Args:
        episode_of_item: (n,) episode of each item.
        protocol: "frame" shows no item twice in an epoch, "episode" draws episodes uniformly and then one of their
            items.
        num_items: items per epoch, at most n for "frame".
        seed: of the order.
    """
    if protocol.sampling == "episode":
        return episode_uniform(episode_of_item, num_items, seed)
    order = permutation(len(episode_of_item), seed)
    return lambda epoch: order(epoch)[:num_items]


def episode_uniform(episode_of_item: np.ndarray, num_items: int, seed: int) -> Plan:
    """Draw an episode uniformly, then one of its items, with replacement."""
    _, inverse, counts = np.unique(episode_of_item, return_inverse=True, return_counts=True)
    weights = torch.from_numpy(1.0 / counts[inverse])

    def plan(epoch: int) -> Tensor:
        return torch.multinomial(weights, num_items, replacement=True, generator=epoch_generator(seed, epoch))

    return plan


def with_same_episode_rows(plan: Plan, episodes: Episodes, episode_of_item: np.ndarray, seed: int) -> Plan:
    """Beside each item of a plan a random row of the item's own episode: (n, 2) of items and rows."""
    starts = torch.from_numpy(episodes.starts[episode_of_item])
    lengths = torch.from_numpy(episodes.lengths[episode_of_item])

    def both(epoch: int) -> Tensor:
        items = plan(epoch)
        draws = torch.rand(len(items), generator=epoch_generator(seed + 1, epoch), dtype=torch.float64)
        return torch.stack([items, starts[items] + (draws * lengths[items]).long()], dim=1)

    return both
