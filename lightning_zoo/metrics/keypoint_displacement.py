"""Average keypoint displacement distance: how alike two clips move, by what their keypoints do from frame to frame.

Thesis, section 7.5.2 and Table 7.1: keypoints are tracked in the query and in the clip retrieved for it, and the L1
norm of the difference of their displacements between frames is averaged. Neither where things are nor what they look
like counts. The text leaves open what is summed and what is averaged. Two readings are offered:

"mean": over keypoints and steps, in pixels per step, of |dx - dx'| + |dy - dy'|. Ours for bodies and faces.
"sum": over keypoints and steps, in pixels per clip. With `unordered` it is the reading for two moving digits: clips of
    eight frames by rule A of `datamodules.moving_digits`, digits at whole pixels, are then about 70 from a random clip
    and about 12 from the nearest of 10,000 by this very distance. The published 61 / 24 / 24 lie between the two; a
    mean over the digits would put random clips at 35, below what is published.

A displacement is known where both frames have the keypoint, and compared where both clips know it. Others are skipped
in the mean, and count as much as the mean of those compared in the sum.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import permutations
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_zoo.metrics.nearest_neighbours import Candidates

Reduction = Literal["mean", "sum"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)
MOST_UNORDERED = 6
"""Keypoints without an order that are still tried in all orders: 720 of them."""

_NUMBERS_AT_ONCE = 2**22


def displacement_distance(
    query: Tensor, retrieved: Tensor, reduction: Reduction = "mean", unordered: bool = False
) -> Tensor:
    """Distance of each query to the clip retrieved for it.

    Args:
        query: (Q, T, K, 2), K keypoints (x, y) in pixels; nan where unknown.
        retrieved: the same of the retrieved clips.
        reduction: "mean" per keypoint and step or "sum" over both, see above.
        unordered: keypoints have no names, as the digits of a clip: one matching of the two clips' keypoints, the best,
            holds for all frames.

    Returns:
        float64 (Q,), in pixels; nan where no displacement is known in both clips.

    Raises:
        ValueError: for other shapes, fewer than two frames, an unknown reduction, or more than `MOST_UNORDERED`
            unordered keypoints.
    """
    _check("query", query, "retrieved", retrieved, reduction, unordered)
    if len(query) != len(retrieved):
        raise ValueError(f"query has {len(query)} clips, retrieved {len(retrieved)}; give one for each")
    first, second = _tracks(query, unordered), _tracks(retrieved, unordered)
    differences = (first[:, :, None] - second[:, None]).abs().permute(1, 2, 0, 3)  # (G, G, Q, F)
    return _best_mean(differences.nansum(-1), (~differences.isnan()).sum(-1)) * _scale(query, reduction)


class DistanceRow(NamedTuple):
    """One row of a table of retrieval distances.

    Attributes:
        mean: over the judged queries, in pixels; nan if there are none.
        low: lower end of the 95 % bootstrap interval of the mean.
        high: its upper end; both are nan where fewer than two videos are judged.
        judged: queries with a distance; the others share no known displacement with what was retrieved for them.
        distances: float64 (Q,), of each query, nan where it is not judged.
    """

    mean: float
    low: float
    high: float
    judged: int
    distances: Tensor


class RetrievalDistance:
    """Mean displacement distance of retrieved clips, between that of random and that of the nearest possible clips.

    Args:
        queries: (Q, T, K, 2), keypoints of the query clips in pixels; nan where unknown.
        database: (N, T, K, 2), those of the clips that may be retrieved.
        reduction: as for `displacement_distance`.
        unordered: as for `displacement_distance`.
        exclude: as for `Candidates`: the same as the retrieval had, so that both ends obey it.
        forbidden: as for `Candidates`.
        videos: int64 (Q,), the video that each query is cut from: clips of one video move alike, and the intervals draw
            whole videos. Without it each query counts as a video.
        resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: as `displacement_distance` and `Candidates`, or for a query that no clip may answer.

    Example:
        >>> clips = torch.cumsum(torch.tensor([[0.0], [1.0], [3.0]]).expand(3, 8).contiguous(), 1)
        >>> keypoints = torch.stack([clips, clips], -1)[:, :, None]
        >>> RetrievalDistance(keypoints[:1], keypoints[1:]).table({"P": torch.tensor([1])})["P"].mean
        6.0
    """

    def __init__(
        self,
        queries: Tensor,
        database: Tensor,
        *,
        reduction: Reduction = "mean",
        unordered: bool = False,
        exclude: Tensor | None = None,
        forbidden: tuple[Tensor, Tensor] | None = None,
        videos: Tensor | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        _check("queries", queries, "database", database, reduction, unordered)
        self.queries, self.database = queries.cpu(), database.cpu()
        self.reduction, self.unordered = reduction, unordered
        self.candidates = Candidates(len(queries), len(database), exclude=exclude, forbidden=forbidden)
        self.candidates.require(1)
        self.videos = torch.arange(len(queries)) if videos is None else videos.cpu()
        if self.videos.shape != (len(queries),):
            raise ValueError(f"videos must name the video of each of {len(queries)} queries, got {len(self.videos)}")
        self.resamples, self.seed = resamples, seed

    def of(self, indices: Tensor) -> DistanceRow:
        """The row of retrieved clips.

        Args:
            indices: int64 (Q,) or (Q, k), rows of the database; a query's distance is the mean over its k clips.

        Raises:
            ValueError: for other shapes, rows that the database does not have, or rows that may not answer their query.
        """
        indices = indices.cpu().reshape(len(indices), -1)
        self._check_indices(indices)
        columns = [
            displacement_distance(self.queries, self.database[column], self.reduction, self.unordered)
            for column in indices.T
        ]
        return self._row(torch.stack(columns).nanmean(0))

    @cached_property
    def random(self) -> DistanceRow:
        """What a clip drawn at random would give: each query's distance is its mean over all clips it may have."""
        return self._row(self._ends[0])

    @cached_property
    def oracle(self) -> DistanceRow:
        """What the nearest clip by this very distance gives: no retrieval can be lower."""
        return self._row(self._ends[1])

    @property
    def oracle_indices(self) -> Tensor:
        """int64 (Q,), the clips of the oracle; -1 where no clip shares a known displacement with the query."""
        return self._ends[2]

    def table(self, retrieved: Mapping[str, Tensor]) -> dict[str, DistanceRow]:
        """Rows by name: "random", those of the given indices in their order, "oracle".

        Raises:
            ValueError: as `of`.
        """
        rows = {name: self.of(indices) for name, indices in retrieved.items()}
        return {"random": self.random} | rows | {"oracle": self.oracle}

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each query the mean and the lowest distance over the clips it may have, and where the lowest is."""
        queries, database = _tracks(self.queries, self.unordered), _tracks(self.database, self.unordered)
        at_once = max(1, _NUMBERS_AT_ONCE // (queries.shape[1] ** 2 * len(database)))
        parts = []
        for start in range(0, len(queries), at_once):
            some = slice(start, start + at_once)
            block = _all_pairs(queries[some], database).masked_fill_(~self.candidates.allowed(some), torch.nan)
            parts.append((block.nanmean(1), *block.masked_fill_(block.isnan(), torch.inf).min(1)))
        expected, lowest, indices = (torch.cat(values) for values in zip(*parts, strict=True))
        unknown, scale = lowest.isinf(), _scale(self.queries, self.reduction)
        return (
            expected * scale,
            lowest.masked_fill(unknown, torch.nan) * scale,
            indices.masked_fill(unknown, -1),
        )

    def _check_indices(self, indices: Tensor) -> None:
        if len(indices) != len(self.queries) or not indices.numel() or indices.is_floating_point():
            raise ValueError(f"indices must be integers, k for each of {len(self.queries)} queries")
        if not ((indices >= 0) & (indices < len(self.database))).all():
            raise ValueError(f"indices must be rows of the database, 0 to {len(self.database) - 1}")
        for start in range(0, len(indices), 512):
            some = slice(start, start + 512)
            refused = ~self.candidates.allowed(some).gather(1, indices[some])
            if refused.any():
                query, column = refused.nonzero()[0].tolist()
                row = int(indices[start + query, column])
                raise ValueError(
                    f"indices: query {start + query} may not be answered with row {row}; "
                    "retrieve with the same exclude and forbidden"
                )

    def _row(self, distances: Tensor) -> DistanceRow:
        known = ~distances.isnan()
        values = distances[known]
        low, high = bootstrap_interval(values, self.videos[known], resamples=self.resamples, seed=self.seed)
        return DistanceRow(float(values.mean()), low, high, len(values), distances)


def bootstrap_interval(values: Tensor, videos: Tensor, *, resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values (n,) when whole videos (n,) are drawn, all with the same chance.

    Not a number for fewer than two videos.
    """
    groups = videos.unique(return_inverse=True)[1]
    sums, counts = groups.bincount(weights=values), groups.bincount().double()
    if len(sums) < 2:
        return float("nan"), float("nan")
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(resamples):
        drawn = torch.randint(len(sums), (len(sums),), generator=generator)
        means.append(sums[drawn].sum() / counts[drawn].sum())
    low, high = torch.stack(means).quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high


def _tracks(keypoints: Tensor, unordered: bool) -> Tensor:
    """Displacements in float64 by what is matched: (Q, K, (T-1)*2) if unordered, else all as one, (Q, 1, K*(T-1)*2)."""
    steps = keypoints.double().diff(dim=1)  # (Q, T-1, K, 2)
    steps = steps.masked_fill(steps.isnan().any(-1, keepdim=True), torch.nan)
    tracks = steps.transpose(1, 2).flatten(2)
    return tracks if unordered else tracks.flatten(1)[:, None]


def _best_mean(totals: Tensor, known: Tensor) -> Tensor:
    """Lowest mean per displacement over all matchings; nan where none has a known one.

    Args:
        totals: (G, G, ...), sum of the known differences of coordinates between tracks g and h.
        known: (G, G, ...), how many they are.
    """
    best = torch.full(totals.shape[2:], torch.nan, dtype=totals.dtype, device=totals.device)
    for order in permutations(range(len(totals))):
        total, count = totals[0, order[0]].clone(), known[0, order[0]].clone()
        for track, other in enumerate(order[1:], 1):
            total += totals[track, other]
            count += known[track, other]
        total.masked_fill_(count == 0, torch.nan)  # rounding may have left a little there
        best = torch.fmin(best, total.div_(count).mul_(2))  # two coordinates are one displacement
    return best


def _all_pairs(queries: Tensor, database: Tensor) -> Tensor:
    """Mean distance (q, N) of tracks (q, G, F) to tracks (N, G, F)."""
    blind, blank = queries.isnan(), database.isnan()
    count, whole = queries.shape[1], not (blind.any() or blank.any())
    queries, database = queries.nan_to_num(0), database.nan_to_num(0)
    totals = queries.new_empty(count, count, len(queries), len(database))
    known = totals.new_tensor(queries.shape[2]).expand_as(totals) if whole else torch.empty_like(totals)
    for track in range(count):
        for other in range(count):
            first, second = queries[:, track].contiguous(), database[:, other].contiguous()
            total = torch.cdist(first, second, p=1)
            if not whole:
                # With 0 for nan, a coordinate that one of the two knows alone has added its own size.
                unseen, missing = blind[:, track].double(), blank[:, other].double()
                total -= first.abs() @ missing.T + unseen @ second.abs().T
                known[track, other] = (1 - unseen) @ (1 - missing).T
            totals[track, other] = total.clamp_(min=0)
    return _best_mean(totals, known)


def _scale(keypoints: Tensor, reduction: str) -> int:
    """What the mean per keypoint and step is multiplied with."""
    return 1 if reduction == "mean" else (keypoints.shape[1] - 1) * keypoints.shape[2]


def _check(name: str, first: Tensor, other: str, second: Tensor, reduction: str, unordered: bool) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is none of {', '.join(map(repr, REDUCTIONS))}")
    for argument, keypoints in ((name, first), (other, second)):
        shape = tuple(keypoints.shape)
        if len(shape) != 4 or shape[3] != 2 or shape[1] < 2 or not keypoints.numel():
            raise ValueError(f"{argument} must be (clips, two or more frames, keypoints, 2), got {shape}")
    if first.shape[1:] != second.shape[1:]:
        shapes = f"{tuple(first.shape[1:])} and {tuple(second.shape[1:])}"
        raise ValueError(f"{name} and {other} must agree in frames and keypoints, got {shapes}")
    if unordered and first.shape[2] > MOST_UNORDERED:
        raise ValueError(
            f"unordered=True tries all orders, of at most {MOST_UNORDERED} keypoints, got {first.shape[2]}; "
            "give keypoints in an order and unordered=False"
        )
