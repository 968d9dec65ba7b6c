"""Clips two by two, for `lightning_zoo swap`: of two videos, and of other people and classes where it can be."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .video_data import facts_of, numbers_all_videos

if TYPE_CHECKING:
    from torch import Tensor

    from .image_data import Split
    from .video_data import ClipFacts


def pairs_of(data: Any, split: Split, number: int, seed: int, option: str) -> tuple[Tensor, ClipFacts]:
    """Rows int64 (n, 2) of a split's clips, n at most `number`, and what is known of these; a line tells of fewer.

    Args:
        data: a DataModule of clips.
        split: of it.
        number: of pairs.
        seed: of who is paired with whom.
        option: that asked for so many, in messages.

    Raises:
        UsageError: if there are no two clips of two videos.
    """
    # Stored clips lie video by video: the first ones would all be of one.
    facts = facts_of([], [], data, split, None if numbers_all_videos(data) else 2 * number)
    clips, videos = len(facts.videos), len(facts.videos.unique())
    if clips < 2:
        raise UsageError(f"{option} {number}: the {split} split has {clips} clip, a swap takes two")
    if videos < 2:
        raise UsageError(
            f"{option} {number}: all {clips} clips of the {split} split are of one video, a swap takes two"
        )
    pairs = paired(facts, number, seed)
    if len(pairs) < number:
        print(f"The {split} split has clips for {len(pairs)} swaps.", file=sys.stderr)
    return pairs, facts


def paired(facts: ClipFacts, number: int, seed: int) -> Tensor:
    """Rows int64 (n, 2), no row twice, in an order of chance; the two of a pair are never of one video.

    Of those left, a clip gets the first of another actor and another class, else of one of the two.
    """
    import torch

    order = torch.randperm(len(facts.videos), generator=torch.Generator().manual_seed(seed))
    place = facts.videos.unique(return_inverse=True)[1][order]
    groups = [known[order] for known in (facts.actors, facts.labels) if known is not None]
    free, left = torch.ones(len(order), dtype=torch.bool), place.bincount()
    pairs: list[Tensor] = []
    while len(pairs) < number:
        most = int(left.argmax())
        # Half of what is left: whoever pairs others now leaves some of these without a partner.
        candidates = free & (place == most) if 2 * left[most] >= left.sum() else free
        first = int(candidates.int().argmax())
        others = free & (place != place[first])
        if not (free[first] and others.any()):
            break
        score = others.int()
        for group in groups:
            score = score + (others & (group != group[first]))
        both = torch.tensor([first, int(score.argmax())])
        free[both] = False
        left[place[both]] -= 1
        pairs.append(order[both])
    return torch.stack(pairs)
