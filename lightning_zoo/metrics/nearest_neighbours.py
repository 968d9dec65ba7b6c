"""Nearest neighbours of feature vectors in a database, exactly, by one matrix product per chunk of queries.

The thesis searches for "the nearest neighbors in the feature space of P" (chapter 7, dynamics-relevant retrieval) and
leaves the metric open. P enters an LSTM, never a dot product, so that neither its scale nor its length means anything:
the default is the Euclidean distance after each feature was brought to mean 0 and deviation 1 over the database.
"""

from difflib import get_close_matches
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

NeighbourMetric = Literal["zscored_l2", "cosine"]
METRICS: tuple[str, ...] = get_args(NeighbourMetric)

_SPARE = 8
_NUMBERS_AT_ONCE = 2**23


class Neighbours(NamedTuple):
    """The k nearest clips of each query, nearest first.

    Attributes:
        indices: int64 (Q, k), rows of the database; of equally near rows the lower one comes first.
        distances: float64 (Q, k): in standard deviations of the database's features, or 1 - cosine.
    """

    indices: Tensor
    distances: Tensor


class Candidates:
    """Which clips of a database each query may be answered with.

    Args:
        num_queries: Q.
        num_clips: N, clips in the database.
        exclude: int64 (Q,), the row of the database that is the query itself, -1 where none is.
        forbidden: ids of the groups (say, actors) of the queries (Q,) and of the database (N,), both integers: no clip
            of a query's own group answers it.

    Raises:
        ValueError: for ids of another shape or type, or a row that the database does not have.
    """

    def __init__(
        self,
        num_queries: int,
        num_clips: int,
        *,
        exclude: Tensor | None = None,
        forbidden: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.num_queries, self.num_clips = num_queries, num_clips
        self.exclude = None if exclude is None else _ids("exclude", exclude, num_queries)
        self.groups: tuple[Tensor, Tensor] | None = None
        if forbidden is not None:
            ours, theirs = forbidden
            self.groups = (
                _ids("forbidden: the queries' groups", ours, num_queries),
                _ids("forbidden: the database's groups", theirs, num_clips),
            )
        if self.exclude is not None and not ((self.exclude >= -1) & (self.exclude < num_clips)).all():
            raise ValueError(f"exclude must hold rows of the database, 0 to {num_clips - 1}, or -1 for none")

    def allowed(self, queries: slice) -> Tensor:
        """True where a query of the slice may be answered with a clip: bool (q, N) on the CPU."""
        numbers = torch.arange(self.num_queries)[queries]
        allowed = torch.ones(len(numbers), self.num_clips, dtype=torch.bool)
        if self.groups is not None:
            allowed = self.groups[0][queries, None] != self.groups[1]
        if self.exclude is not None:
            rows = (self.exclude[queries] >= 0).nonzero().squeeze(1)
            allowed[rows, self.exclude[queries][rows]] = False
        return allowed

    def counts(self) -> Tensor:
        """How many clips may answer each query: int64 (Q,)."""
        counts = torch.full((self.num_queries,), self.num_clips)
        alone = torch.ones(self.num_queries, dtype=torch.bool)  # where exclude forbids what no group does
        if self.groups is not None:
            _, numbers = torch.cat(self.groups).unique(return_inverse=True)
            ours, theirs = numbers.split((self.num_queries, self.num_clips))
            counts -= theirs.bincount(minlength=int(numbers.max()) + 1)[ours]
            if self.exclude is not None:
                alone = theirs[self.exclude] != ours
        return counts if self.exclude is None else counts - (alone & (self.exclude >= 0)).long()

    def require(self, k: int) -> None:
        """Make sure that every query has k clips that may answer it.

        Raises:
            ValueError: naming the first query that has not.
        """
        if k < 1:
            raise ValueError(f"k={k} neighbours: it must be at least 1")
        counts = self.counts()
        short = (counts < k).nonzero().squeeze(1)
        if len(short):
            query = int(short[0])
            raise ValueError(
                f"k={k} neighbours, but query {query} may be answered with {int(counts[query])} of the database's "
                f"{self.num_clips} clips ({len(short)} such queries); enlarge it, or loosen exclude or forbidden"
            )


def nearest(
    queries: Tensor,
    database: Tensor,
    k: int = 1,
    metric: NeighbourMetric = "zscored_l2",
    *,
    chunk: int = 512,
    exclude: Tensor | None = None,
    forbidden: tuple[Tensor, Tensor] | None = None,
) -> Neighbours:
    """The k nearest rows of the database for each query; exact, and the same for every size of chunk.

    A product in float64 lists a few rows more than asked for, and their distances are summed up feature by feature.
    Where rounding could have kept a nearer row off the list, the list is made longer.

    Args:
        queries: (Q, D) features.
        database: (N, D) features, on the same device.
        k: neighbours per query.
        metric: "zscored_l2", the Euclidean distance between features standardised by the database's mean and standard
            deviation, where a feature that is the same in all of the database counts nothing; or "cosine".
        chunk: queries at once; chunk x N float64 numbers are held.
        exclude: as for `Candidates`.
        forbidden: as for `Candidates`.

    Raises:
        ValueError: for other shapes, features that are not finite, an unknown metric, a vector of zeros under "cosine",
            or a query with fewer than k clips that may answer it.
    """
    _check_features(queries, database)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} queries at once: it must be at least 1")
    candidates = Candidates(len(queries), len(database), exclude=exclude, forbidden=forbidden)
    candidates.require(k)
    points, rows = _comparable(queries.double(), database.double(), metric)
    norms = rows.square().sum(1)
    found = []
    for start in range(0, len(points), chunk):
        part = slice(start, start + chunk)
        found.append(_nearest_rows(points[part], rows, norms, candidates.allowed(part).to(points.device), k))
    squared = torch.cat([distances for _, distances in found])
    distances = squared.sqrt() if metric == "zscored_l2" else squared / 2
    return Neighbours(torch.cat([indices for indices, _ in found]), distances)


def _nearest_rows(points: Tensor, rows: Tensor, norms: Tensor, allowed: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and squared distances, both (q, k), of the nearest allowed rows of points (q, D)."""
    lengths = points.square().sum(1)
    rough = torch.addmm(norms, points, rows.T, alpha=-2).masked_fill_(~allowed, torch.inf)  # less |point|^2
    length = min(k + _SPARE, len(rows))
    roughest, listed = rough.topk(length, dim=1, largest=False)
    indices, squared = _ranked(points, rows, listed.sort(dim=1).values, allowed, k)
    if length < len(rows):
        # No row off the list is nearer than its last one, but for the rounding of a sum of D products.
        slack = (points.shape[1] + 4) * torch.finfo(points.dtype).eps * 2 * (lengths + norms.max())
        reach = squared[:, -1] - lengths + slack
        for row in (roughest[:, -1] <= reach).nonzero().flatten().tolist():
            one, within = slice(row, row + 1), (rough[row] <= reach[row]).nonzero().T
            indices[one], squared[one] = _ranked(points[one], rows, within, allowed[one], k)
    return indices, squared


def _ranked(points: Tensor, rows: Tensor, listed: Tensor, allowed: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the listed rows (q, m), which ascend, so that a stable sort breaks ties by row."""
    parts = []
    at_once = max(1, _NUMBERS_AT_ONCE // (listed.shape[1] * points.shape[1]))
    for some, their in zip(points.split(at_once), listed.split(at_once), strict=True):
        parts.append((rows[their] - some[:, None]).square().sum(2))
    squared = torch.cat(parts).masked_fill_(~allowed.gather(1, listed), torch.inf)
    squared, order = squared.sort(dim=1, stable=True)
    return listed.gather(1, order[:, :k]), squared[:, :k]


def _comparable(queries: Tensor, database: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """Both so that the squared Euclidean distance ranks them as the metric does."""
    if metric == "zscored_l2":
        mean, spread = database.mean(0), database.std(0, correction=0)
        still = spread <= torch.finfo(torch.float32).eps * database.abs().amax(0)
        scale = torch.where(still, 0.0, 1 / spread)
        return (queries - mean) * scale, (database - mean) * scale
    if metric == "cosine":
        return _directions("queries", queries), _directions("database", database)
    near = get_close_matches(str(metric), METRICS, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"metric={metric!r} is none of {', '.join(map(repr, METRICS))}{hint}")


def _directions(name: str, features: Tensor) -> Tensor:
    # The largest feature first, so that the square of a tiny one does not vanish.
    features = features / features.abs().amax(1, keepdim=True)
    if features.isnan().any():
        row = int(features.isnan().any(1).nonzero()[0])
        raise ValueError(f"{name} row {row} is all zeros and has no direction; use metric='zscored_l2'")
    return features / features.norm(dim=1, keepdim=True)


def _check_features(queries: Tensor, database: Tensor) -> None:
    for name, features in (("queries", queries), ("database", database)):
        if features.dim() != 2 or not features.numel():
            raise ValueError(f"{name} must be (rows, features) and not empty, got {tuple(features.shape)}")
        if not features.isfinite().all():
            row = int((~features.isfinite()).any(1).nonzero()[0])
            raise ValueError(f"{name} row {row} has a feature that is not finite")
    if queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} features, the database {database.shape[1]}; "
            "take both from the same method and the same representation"
        )


def _ids(name: str, ids: Tensor, length: int) -> Tensor:
    if ids.shape != (length,) or ids.is_floating_point():
        raise ValueError(f"{name} must be {length} integers, got {ids.dtype} of shape {tuple(ids.shape)}")
    return ids.cpu().long()
