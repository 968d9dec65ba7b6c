"""Distances and scores against slow computations in numpy and scipy."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from lightning_zoo.metrics.image_quality import (
    check_possible,
    checked_metrics,
    frechet_distance,
    inception_score,
    kernel_distance,
    measure,
    possible_metrics,
)


def draw(number, size, seed, scale=1.0, shift=0.0):
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(size, size))
    return torch.from_numpy(scale * random.normal(size=(number, size)) @ mixing + shift).float()


def slow_frechet(first, second):
    means, covariances = [], []
    for features in (first.double().numpy(), second.double().numpy()):
        mean = sum(features) / len(features)
        means.append(mean)
        covariances.append(sum(np.outer(row - mean, row - mean) for row in features) / (len(features) - 1))
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    difference = means[0] - means[1]
    return difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * root)


def slow_kernel(first, second):
    first, second = first.double().numpy(), second.double().numpy()
    size = first.shape[1]

    def kernel(x, y):
        return (float(x @ y) / size + 1) ** 3

    n, m = len(first), len(second)
    within = [
        sum(kernel(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j)
        for rows in (first, second)
    ]
    across = sum(kernel(x, y) for x in first for y in second)
    return within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * across / (n * m)


def slow_inception(logits):
    probabilities = [np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in logits.double().numpy()]
    marginal = sum(probabilities) / len(probabilities)
    divergences = [sum(p * math.log(p / q) for p, q in zip(row, marginal, strict=True)) for row in probabilities]
    return math.exp(sum(divergences) / len(divergences))


def test_frechet_distance_by_the_matrix_root():
    first, second = draw(60, 5, 0), draw(80, 5, 1, scale=1.7, shift=0.6)
    found = frechet_distance(first, second)
    assert found.value == pytest.approx(slow_frechet(first, second), rel=1e-6)
    assert (found.num_real, found.num_generated, found.deviation) == (60, 80, None)
    assert frechet_distance(second, first).value == pytest.approx(found.value, rel=1e-9)


def test_frechet_distance_of_the_same_and_of_shifted_images():
    features = draw(50, 6, 2)
    assert frechet_distance(features, features).value == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0, 3.0])
    assert frechet_distance(features, features + shift).value == pytest.approx(float(shift @ shift), rel=1e-5)


def test_frechet_distance_of_fewer_images_than_features():
    features = draw(10, 30, 3)
    assert frechet_distance(features, features).value == pytest.approx(0, abs=1e-2)
    assert frechet_distance(features, features + 1).value == pytest.approx(30, rel=1e-3)


def test_a_large_common_mean_costs_no_digits():
    first, second = draw(40, 4, 4).double(), draw(40, 4, 5).double()
    far = frechet_distance(first + 1e5, second + 1e5).value
    assert far == pytest.approx(frechet_distance(first, second).value, rel=1e-6)


def test_kernel_distance_by_double_sums():
    first, second = draw(12, 4, 6), draw(12, 4, 7, shift=0.3)
    found = kernel_distance(first, second)
    assert found.value == pytest.approx(slow_kernel(first, second), rel=1e-6)
    assert found.deviation is None, "one subset is all there is"


def test_kernel_distance_has_no_bias():
    values = [kernel_distance(draw(20, 3, 2 * k), draw(20, 3, 2 * k + 1)).value for k in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5
    assert min(values) < 0


def test_kernel_distance_over_subsets():
    first, second = draw(30, 3, 8), draw(40, 3, 9, shift=1.0)
    torch.manual_seed(4)
    subsets = [slow_kernel(first[torch.randperm(30)[:10]], second[torch.randperm(40)[:10]]) for _ in range(5)]
    found = kernel_distance(first, second, subsets=5, subset_size=10, seed=4)
    assert found.value == pytest.approx(np.mean(subsets), rel=1e-6)
    assert found.deviation == pytest.approx(np.std(subsets), rel=1e-6)


def test_inception_score_over_splits():
    logits = draw(50, 4, 10)
    torch.manual_seed(3)
    shuffled = logits[torch.randperm(50)]
    scores = [slow_inception(shuffled[start : start + 5]) for start in range(0, 50, 5)]
    found = inception_score(logits, seed=3)
    assert found.value == pytest.approx(np.mean(scores), rel=1e-6)
    assert found.deviation == pytest.approx(np.std(scores, ddof=1), rel=1e-6)
    assert (found.num_real, found.num_generated) == (0, 50)


def test_inception_score_at_its_two_ends():
    alike = torch.zeros(40, 5)
    assert inception_score(alike).value == pytest.approx(1)
    certain = 100 * torch.eye(5).repeat(400, 1)
    assert inception_score(certain, splits=2).value == pytest.approx(5, rel=1e-2)
    with pytest.raises(ValueError, match="splits must be at least 2, got 1"):
        inception_score(certain, splits=1)


def test_nothing_is_drawn_from_the_global_generator():
    features, logits = {"features": draw(30, 3, 11)}, {"features": draw(30, 3, 12), "logits": draw(30, 3, 13)}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = measure(features, logits, checked_metrics(["fid", "kid", "inception"]), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert measure(features, logits, ("frechet", "kernel", "inception"), seed=1) == first
    other = measure(features, logits, ("inception",), seed=2)
    assert other[0].value != first[2].value, "another seed, other splits"
    assert [quality.name for quality in first] == ["frechet_distance", "kernel_distance", "inception_score"]


def test_names():
    assert checked_metrics(["inception", "kid", "kernel"]) == ("kernel", "inception")
    assert possible_metrics(None) == ("frechet", "kernel")
    for names in (["fidd"], []):
        with pytest.raises(ValueError, match="metrics must be some of frechet, kernel, inception"):
            checked_metrics(names)
    with pytest.raises(ValueError, match="inception needs class probabilities"):
        check_possible(("inception",), None, "random")


def test_too_few_images_and_broken_ones():
    features = draw(5, 3, 14)
    with pytest.raises(ValueError, match="two real images or more are needed, got 1"):
        frechet_distance(features[:1], features)
    with pytest.raises(ValueError, match="needs 20 images or more, got 5"):
        inception_score(features)
    with pytest.raises(ValueError, match="no real images"):
        measure({}, {"features": features}, ("frechet",))
    broken = features.clone()
    broken[0, 0] = math.nan
    with pytest.raises(ValueError, match="generated images are not finite"):
        kernel_distance(features, broken)
