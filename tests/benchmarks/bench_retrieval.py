"""Nearest neighbours by one product per chunk of queries, against measuring the whole database for each query."""

import torch
from measure import Result, seconds

from lightning_zoo.metrics.nearest_neighbours import nearest

CLIPS = 10_000
FEATURES = 512
SAMPLED_QUERIES = 100


def retrieval() -> Result:
    generator = torch.Generator().manual_seed(0)
    database = torch.randn(CLIPS, FEATURES, generator=generator)
    queries = torch.randn(CLIPS, FEATURES, generator=generator)
    nearest(queries[:SAMPLED_QUERIES], database)
    found = []
    ours = seconds(lambda: found.append(nearest(queries, database)))
    expected = _one_by_one(queries[:SAMPLED_QUERIES], database)
    assert found[0].indices[:SAMPLED_QUERIES, 0].tolist() == expected
    # One query costs what any other costs, so that a few are timed and the rest counted.
    theirs = CLIPS / SAMPLED_QUERIES * seconds(lambda: _one_by_one(queries[:SAMPLED_QUERIES], database))
    detail = (
        f"{CLIPS:,} queries in {CLIPS:,} clips of {FEATURES} features: one by one {theirs:.0f} s "
        f"({SAMPLED_QUERIES} queries timed), by products in chunks {ours:.1f} s"
    )
    return Result("nearest neighbours against one by one", theirs / ours, "x", 4, True, detail)


def _one_by_one(queries: torch.Tensor, database: torch.Tensor) -> list[int]:
    mean, spread = database.mean(0), database.std(0, correction=0)
    rows = (database - mean) / spread
    return [int((rows - (query - mean) / spread).square().sum(1).argmin()) for query in queries]
