"""What `lightning_zoo retrieve` computes: which clips may answer, the nearest by each method, and which are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError, nearest
from .video_data import ClipFacts, difference, numbers_all_videos, video_data_of

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_zoo.metrics.keypoint_displacement import DistanceRow, RetrievalDistance
    from lightning_zoo.metrics.nearest_neighbours import NeighbourMetric


@dataclass(frozen=True)
class Method:
    """One of the methods that are compared.

    Attributes:
        name: of its row.
        model: the method.
        feature: which of its features.
        path: its checkpoint.
    """

    name: str
    model: Any
    feature: str
    path: Path


@dataclass(frozen=True)
class Answers:
    """What a method retrieves for Q queries.

    Attributes:
        indices: int64 (Q,), rows of the database.
        distances: (Q,), between features.
        size: of the features, D.
    """

    indices: Tensor
    distances: Tensor
    size: int


def methods_of(models: Sequence[Any], features: Sequence[str], paths: Sequence[Path]) -> list[Method]:
    """With a name for each; equal ones are numbered."""
    labels = [f"{type(model).__name__}, {feature}" for model, feature in zip(models, features, strict=True)]
    names = [f"{n} ({labels[: i + 1].count(n)})" if labels.count(n) > 1 else n for i, n in enumerate(labels)]
    return [Method(*each) for each in zip(names, models, features, paths, strict=True)]


def check_alike(models: Sequence[Any], paths: Sequence[Path], data: Any, root: str | None) -> None:
    """Refuse methods of other clips than the first one's, or that were trained on clips which are to be unknown.

    Args:
        models: the methods.
        paths: their checkpoints.
        data: what the first was trained on.
        root: the dataset's folder, if it is not where it was.

    Raises:
        UsageError: naming the first such method.
    """
    for model, path in zip(models[1:], paths[1:], strict=True):
        if (model.num_frames, model.frame_shape) != (models[0].num_frames, models[0].frame_shape):
            raise UsageError(
                f"--ckpt_path: {path} takes clips of another shape than {paths[0]}; compare them one by one"
            )
        other = difference(data, video_data_of(path, root))
        if other is not None:
            raise UsageError(f"--ckpt_path: {paths[0]} and {path} had other data ({other}); compare them one by one")


def limits_of(data: Any, asked: ClipFacts, searched: ClipFacts, same_split: bool) -> dict[str, Any]:
    """Which clips may not answer a query: those of the same actor, or of the same video.

    Without videos of its own, a split of stored ones serves those of another, which are then in both.
    """
    if asked.actors is not None and searched.actors is not None:
        return {"forbidden": (asked.actors, searched.actors)}
    if same_split or numbers_all_videos(data):
        return {"forbidden": (asked.videos, searched.videos)}
    return {}


def answers_of(asked: ClipFacts, searched: ClipFacts, metric: NeighbourMetric, limits: dict[str, Any]) -> list[Answers]:
    """The nearest clip for each query, by each method."""
    from lightning_zoo.metrics.nearest_neighbours import nearest as nearest_clips

    answers = []
    for ours, theirs in zip(asked.features, searched.features, strict=True):
        found = nearest_clips(ours, theirs, 1, metric, **limits)
        answers.append(Answers(found.indices[:, 0], found.distances[:, 0], theirs.shape[1]))
    return answers


def judge_of(
    data: Any, asked: ClipFacts, searched: ClipFacts, limits: dict[str, Any], seed: int
) -> RetrievalDistance | None:
    """What measures how far answers move from their queries; None for data without keypoints."""
    from lightning_zoo.metrics.keypoint_displacement import RetrievalDistance

    if asked.keypoints is None or searched.keypoints is None:
        return None
    unordered = bool(getattr(data, "keypoints_unordered", False))
    return RetrievalDistance(
        asked.keypoints,
        searched.keypoints,
        reduction="sum" if unordered else "mean",
        unordered=unordered,
        videos=asked.videos,
        seed=seed,
        **limits,
    )


def shown_queries(data: Any, asked: ClipFacts, clips: Sequence[str] | None, number: int) -> list[int]:
    """Rows of the queries to be shown: those given by row or by name of the video, or a few of different videos.

    Raises:
        UsageError: for a clip that is no query.
    """
    firsts: dict[int, int] = {}
    for row, video in enumerate(asked.videos.tolist()):
        firsts.setdefault(video, row)
    if clips is None:
        again = [row for row in range(len(asked.videos)) if row not in set(firsts.values())]
        return [*firsts.values(), *again][:number]
    known = getattr(data, "video_names", None) or []
    named = {known[video]: row for video, row in firsts.items()} if known else {}
    return [_row_of(word, named, len(asked.videos)) for word in clips]


def _row_of(word: str, named: dict[str, int], number: int) -> int:
    if word in named:
        return named[word]
    if word.isdecimal() and int(word) < number:
        return int(word)
    if word.isdecimal() or not named:
        names = "" if named else ", and their videos have no names"
        raise UsageError(f"--clips {word}: the queries are clips 0 to {number - 1}{names}; see --num_queries")
    raise UsageError(f"--clips {word}: no query is of such a video.{nearest(word, named)}")


def described(data: Any, facts: ClipFacts, row: int) -> dict[str, Any]:
    """A clip by its row, the name of its video and its class, as far as there are such."""
    found: dict[str, Any] = {"clip": row}
    names = getattr(data, "video_names", None)
    if names:
        found["video"] = names[int(facts.videos[row])]
    if facts.labels is not None and data.class_names:
        found["class"] = data.class_names[int(facts.labels[row])]
    return found


def pairs_shown(
    data: Any,
    queries: Sequence[int],
    facts: tuple[ClipFacts, ClipFacts],
    methods: Sequence[Method],
    answers: Sequence[Answers],
    rows: dict[str, DistanceRow],
) -> list[dict[str, Any]]:
    """Of each shown query and method: the query, what is retrieved, and how far it is.

    Args:
        data: a DataModule of clips.
        queries: their rows.
        facts: of the queries and of the database.
        methods: that are compared.
        answers: of each.
        rows: of the table, by name; empty for data without keypoints.
    """
    found = []
    for query in queries:
        for method, answer in zip(methods, answers, strict=True):
            entry: dict[str, Any] = {"query": described(data, facts[0], query), "by": method.name}
            entry["retrieved"] = described(data, facts[1], int(answer.indices[query]))
            entry["feature_distance"] = float(answer.distances[query])
            apart = float(rows[method.name].distances[query]) if rows else float("nan")
            found.append(entry | {"displacement": None if isnan(apart) else apart})
    return found
