"""Nearest neighbours against a search query by query, and the lines that wrong arguments get."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_zoo.metrics import nearest_neighbours
from lightning_zoo.metrics.nearest_neighbours import METRICS, Candidates, nearest


def slowly(query, database, metric):
    """Distances (N,) of one query, clip by clip."""
    if metric == "cosine":
        return np.array([1 - query @ row / np.linalg.norm(query) / np.linalg.norm(row) for row in database])
    mean, spread = database.mean(0), database.std(0)
    kept = np.array([len(set(column)) > 1 for column in database.T])
    scaled = [((row - mean) / np.where(kept, spread, 1))[kept] for row in (query, *database)]
    return np.array([np.sqrt(((scaled[0] - row) ** 2).sum()) for row in scaled[1:]])


def features(generator, rows, size):
    """Small whole numbers, so that equal rows and equal distances abound; never a row of zeros."""
    values = generator.integers(-1, 2, (rows, size)).astype(np.float64)
    values[:, 0] = generator.integers(1, 3, rows)
    return values


def check(found, distances, allowed, k):
    """The k nearest allowed, in order."""
    for query, (indices, measured) in enumerate(zip(found.indices.tolist(), found.distances.tolist(), strict=True)):
        expected = np.sort(distances[query][allowed[query]])[:k]
        assert len(set(indices)) == k
        assert allowed[query][indices].all()
        assert measured == pytest.approx(expected.tolist(), abs=1e-7)
        assert distances[query][indices] == pytest.approx(expected, abs=1e-7)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_neighbours_equal_a_search_one_by_one(data):
    queries, rows = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    metric, size = data.draw(st.sampled_from(METRICS)), data.draw(st.integers(1, 6))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    ours, theirs = features(generator, queries, size), features(generator, rows, size)
    allowed, constraints = np.ones((queries, rows), dtype=bool), {}
    if data.draw(st.booleans()):
        itself = generator.integers(-1, rows, queries)
        constraints["exclude"] = torch.from_numpy(itself)
        allowed &= itself[:, None] != np.arange(rows)
    if data.draw(st.booleans()):
        groups = generator.integers(0, 3, queries), generator.integers(0, 4, rows)
        constraints["forbidden"] = (torch.from_numpy(groups[0]), torch.from_numpy(groups[1]))
        allowed &= groups[0][:, None] != groups[1]
    candidates = Candidates(queries, rows, **constraints)
    assert candidates.counts().tolist() == allowed.sum(1).tolist()
    assert candidates.allowed(slice(None)).numpy().tolist() == allowed.tolist()
    k = data.draw(st.integers(1, max(1, int(allowed.sum(1).min()))))
    arguments = (torch.from_numpy(ours).float(), torch.from_numpy(theirs).float(), k, metric)
    if allowed.sum(1).min() < k:
        with pytest.raises(ValueError, match="may be answered with 0 of the database's"):
            nearest(*arguments, **constraints)
        return
    found = nearest(*arguments, chunk=data.draw(st.integers(1, 10)), **constraints)
    check(found, [slowly(query, theirs, metric) for query in ours], allowed, k)
    again = nearest(*arguments, chunk=data.draw(st.integers(1, 10)), **constraints)
    assert torch.equal(found.indices, again.indices)
    assert torch.equal(found.distances, again.distances)


@pytest.mark.parametrize("metric", METRICS)
def test_of_equal_rows_the_lower_comes_first(metric):
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(4, 19, generator=generator)
    copies = torch.randint(4, (200,), generator=generator)
    found = nearest(few, few[copies], k=12, metric=metric, chunk=3)
    for query in range(4):
        assert found.indices[query].tolist() == (copies == query).nonzero().flatten()[:12].tolist()
    assert found.distances.max() < 1e-7


def test_rows_that_rounding_kept_off_the_list_are_found(monkeypatch):
    # Far from the origin a product in float64 cannot tell these rows apart; their differences can.
    monkeypatch.setattr(nearest_neighbours, "_SPARE", 1)
    monkeypatch.setattr(nearest_neighbours, "_comparable", lambda queries, database, metric: (queries, database))
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(-500, 500, (300, 3), generator=generator).double()
    database, queries = 2.0**27 + steps / 2**20, 2.0**27 + steps[:20].flip(1) / 2**20
    exact = torch.stack([(database - query).square().sum(1) for query in queries])
    found = nearest(queries, database, k=2)
    assert torch.equal(found.distances, exact.sqrt().sort(dim=1).values[:, :2])
    product = torch.cdist(queries, database, compute_mode="use_mm_for_euclid_dist").argmin(1)
    assert (product != found.indices[:, 0]).any()


def test_the_database_alone_sets_the_scale():
    generator = torch.Generator().manual_seed(1)
    database, queries = torch.randn(50, 4, generator=generator), torch.randn(10, 4, generator=generator)
    stretch, shift = torch.tensor([1.0, 100.0, 0.01, 7.0]), torch.tensor([0.0, 5.0, -3.0, 1.0])
    found = nearest(queries, database)
    moved = nearest(queries * stretch + shift, database * stretch + shift)
    assert torch.equal(found.indices, moved.indices)
    torch.testing.assert_close(found.distances, moved.distances, rtol=1e-4, atol=1e-4)
    alone = torch.cat([nearest(query[None], database).indices for query in queries])
    assert torch.equal(found.indices, alone)


def test_a_feature_that_never_changes_counts_nothing():
    database = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]])
    found = nearest(torch.tensor([[9.0, 3.5], [-9.0, 1.1]]), database)
    assert found.indices.tolist() == [[2], [0]]
    assert found.distances.max() < 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"metric": "cosin"}, "metric='cosin' is none of 'zscored_l2', 'cosine'; did you mean 'cosine'"),
        ({"metric": "zzz"}, "metric='zzz' is none of 'zscored_l2', 'cosine'"),
        ({"k": 0}, "k=0 neighbours"),
        ({"k": 4}, r"k=4 neighbours, but query 0 may be answered with 3 of the database's 3 clips \(2 such"),
        ({"chunk": 0}, "chunk=0"),
        ({"database": torch.ones(3, 5)}, "queries have 2 features, the database 5"),
        ({"queries": torch.ones(2)}, "queries must be"),
        ({"database": torch.ones(0, 2)}, "database must be"),
        ({"queries": torch.tensor([[1.0, 1.0], [1.0, torch.nan]])}, "queries row 1 has a feature that is not finite"),
        ({"database": torch.eye(2)[[0, 1, 1]] * torch.inf}, "database row 0 has a feature that is not finite"),
        ({"queries": torch.zeros(2, 2), "metric": "cosine"}, "queries row 0 is all zeros"),
        ({"exclude": torch.tensor([0, 3])}, "exclude must hold rows of the database, 0 to 2, or -1"),
        ({"exclude": torch.tensor([0])}, "exclude must be 2 integers"),
        ({"forbidden": (torch.zeros(2), torch.zeros(3))}, "forbidden: the queries' groups must be 2 integers"),
        (
            {"forbidden": (torch.tensor([4, 5]), torch.tensor([5, 5, 5]))},
            r"query 1 may be answered with 0 of the database's 3 clips \(1 such queries\)",
        ),
    ],
)
def test_a_wrong_argument_gets_one_line(arguments, line):
    fitting = {"queries": torch.ones(2, 2), "database": torch.tensor([[1.0, 2.0], [3.0, 5.0], [2.0, 2.0]])}
    with pytest.raises(ValueError, match=line) as raised:
        nearest(**(fitting | arguments))
    assert "\n" not in str(raised.value)
