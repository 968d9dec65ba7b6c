import math
import statistics
from itertools import pairwise

import pytest
import torch

from lightning_zoo.losses.importance import StreamedMean, importance_weighted_bound, mean_and_standard_error


def log_weights(items=3, draws=7, spread=2.0):
    generator = torch.Generator().manual_seed(items * draws)
    return spread * torch.randn(items, draws, generator=generator, dtype=torch.float64) - 90


def test_bound_equals_a_double_loop_in_value_and_gradient():
    weights = log_weights().requires_grad_()
    bound = importance_weighted_bound(weights)
    coefficients = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (bound * coefficients).sum().backward()
    for item in range(3):
        # Shifted by 90, for exp to have digits.
        total = sum(math.exp(weights[item, draw].item() + 90) for draw in range(7))
        assert bound[item].item() == pytest.approx(math.log(total / 7) - 90, abs=1e-12)
        for draw in range(7):
            share = math.exp(weights[item, draw].item() + 90) / total
            assert weights.grad[item, draw].item() == pytest.approx(coefficients[item].item() * share, abs=1e-12)


def test_one_draw_is_its_own_bound():
    weights = log_weights(draws=1)
    assert torch.equal(importance_weighted_bound(weights), weights[:, 0])


def test_bound_grows_with_the_number_of_draws_towards_the_log_likelihood():
    # Weights exp(N(m, s)) have the mean exp(m + s^2 / 2): the likelihood is known.
    weights = log_weights(40_000, 16, spread=1.5)
    bounds, errors = [], []
    for k in (1, 2, 4, 16):
        values = importance_weighted_bound(weights[:, :k])
        bounds.append(values.mean().item())
        errors.append(values.std().item() / 200)
    assert bounds[0] == pytest.approx(-90, abs=5 * errors[0])
    for (less, more), error in zip(pairwise(bounds), errors, strict=False):
        assert more > less + 5 * error
    assert bounds[-1] < -90 + 1.5**2 / 2


@pytest.mark.parametrize("sizes", [(7,), (1, 6), (3, 3, 1), (1,) * 7])
def test_streaming_equals_one_shot(sizes):
    weights = log_weights(spread=300.0)
    streamed = StreamedMean()
    for chunk in weights.split(list(sizes), 1):
        streamed.update(chunk)
    assert streamed.count == 7
    torch.testing.assert_close(streamed.log_mean(), importance_weighted_bound(weights))
    torch.testing.assert_close(streamed.mean_log(), weights.mean(1))


def test_weights_beyond_the_range_of_exp_stream():
    streamed = StreamedMean()
    for value in (-5000.0, 3000.0, -1e30):
        streamed.update(torch.full((1, 2), value))
    assert streamed.log_mean().item() == pytest.approx(3000 + math.log(2 / 6))


def test_mean_and_standard_error_equal_the_statistics_module():
    values = [80.0, 83.5, 79.25, 120.0]
    mean, error = mean_and_standard_error(sum(values), sum(value**2 for value in values), len(values))
    assert mean == pytest.approx(statistics.mean(values))
    assert error == pytest.approx(statistics.stdev(values) / 2)
    assert math.isnan(mean_and_standard_error(3.0, 9.0, 1)[1])
    assert mean_and_standard_error(3 * 80.1, 3 * 80.1**2, 3)[1] == pytest.approx(0, abs=1e-6)
