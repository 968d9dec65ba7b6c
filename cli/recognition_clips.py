"""The clips that `lightning_zoo recognize` works on: encoded once, and found again for the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from .image_data import Split
    from .recognition import Examples, FoldScores


@dataclass(frozen=True)
class Recognized:
    """What came out.

    Attributes:
        rows: by name of what was read, the scores of each fold.
        examples: all clips.
        places: of each clip its split and its row there.
    """

    rows: dict[str, list[FoldScores]]
    examples: Examples
    places: list[tuple[Split, int]]


class _Whole:
    """A video method whose S and P are one feature, so that each clip is encoded once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = model.device

    def features(self, clips: Tensor) -> dict[str, Tensor]:
        import torch

        found = self.model.features(clips)
        return {"whole": torch.cat([found["statics"], found["dynamics"]], 1)}


def collected(
    model: Any, data: Any, splits: tuple[Split, ...], number: int | None
) -> tuple[Examples, list[tuple[Split, int]], Tensor]:
    """S and P of the clips of some splits, encoded once; split and row of each, and its actor (N,), -1 if unknown."""
    import torch

    from .recognition import Examples
    from .video_data import facts_of

    size, seen = model.feature_size, set[int]()
    kept: list[tuple[Tensor, ...]] = []
    for split in splits:
        facts = facts_of([_Whole(model)], ["whole"], data, split, number)
        if facts.labels is None:
            raise UsageError(f"{type(data).__name__} has videos without a class, which cannot be recognized")
        actors = facts.videos.new_full((len(facts.videos),), -1) if facts.actors is None else facts.actors
        # Stored videos without a validation split serve the test's in its place.
        other = [video not in seen for video in facts.videos.tolist()] if hasattr(data, "clips_dataloader") else None
        rows = torch.arange(len(facts.videos)) if other is None else torch.tensor(other).nonzero().flatten()
        offset = 0 if other is not None else 1 + max((int(part[1].max()) for part in kept), default=-1)
        seen |= set(facts.videos.tolist())
        kept.append((facts.features[0][rows], facts.videos[rows] + offset, facts.labels[rows], actors[rows], rows))
    whole, videos, labels, actors = (torch.cat([part[place] for part in kept]) for place in range(4))
    places = [(split, row) for split, part in zip(splits, kept, strict=True) for row in part[4].tolist()]
    return Examples(whole[:, :-size], whole[:, -size:], videos, labels), places, actors


def frames_of(model: Any, data: Any, split: Any, number: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """BlockSTN's features s_t (N, T, c h w), in half precision, of a split's clips, their labels and videos (N,)."""
    import torch

    from lightning_zoo.video.clips import to_pixels

    from .image_data import batches_of
    from .video_data import InOrder

    kept: list[tuple[Tensor, ...]] = []
    for batch in batches_of(InOrder(data, number), split, number):
        with torch.no_grad():
            frames = to_pixels(batch["clips"].to(model.device), model.frame_shape, model.hparams["pixels"])
            found = model.transformer.encode(frames).flatten(2).half().cpu()
        kept.append((found, batch["labels"].cpu(), batch["videos"].cpu()))
    features, labels, videos = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return features, labels, videos


def middle_frames(data: Any, found: Recognized, rows: list[int]) -> Tensor:
    """The middle frame (n, C, H, W), uint8, of some clips."""
    import torch

    from .video_data import clips_at

    frames: dict[int, Tensor] = {}
    for split in {found.places[row][0] for row in rows}:
        of_split = [row for row in rows if found.places[row][0] == split]
        clips = clips_at(data, split, [found.places[row][1] for row in of_split])
        frames |= dict(zip(of_split, clips[:, clips.shape[1] // 2], strict=True))
    return torch.stack([frames[row] for row in rows])
