"""Every InfoNCE formula, value and gradient, against explicit sums over queries and keys."""

import math

import pytest
import torch

from lightning_zoo.losses.gather import gather_keys
from lightning_zoo.losses.infonce import (
    global_local_logits,
    infonce,
    local_local_logits,
    matching_accuracy,
    pair_logits,
    three_frame_infonce,
)


def random(*shape, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (torch.randn(shape, generator=generator) * scale).requires_grad_()


def slow_infonce(scores, first_positive=0):
    """Minus the mean over queries of log(exp(positive) / sum over keys), one number at a time, in float64."""
    total = 0.0
    for i, row in enumerate(scores):
        denominator = sum(torch.exp(score.double()) for score in row)
        total = total - torch.log(torch.exp(row[first_positive + i].double()) / denominator)
    return total / len(scores)


def check_equal(fast, slow, inputs):
    torch.testing.assert_close(fast.double(), slow.double(), rtol=1e-5, atol=1e-6)
    fast_gradients = torch.autograd.grad(fast, inputs)
    slow_gradients = torch.autograd.grad(slow, inputs)
    for fast_gradient, slow_gradient in zip(fast_gradients, slow_gradients, strict=True):
        assert slow_gradient.abs().max() > 1e-3  # a comparison of zeros would prove nothing
        torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-4, atol=1e-6)


def test_local_scores_compare_the_same_place_of_different_items():
    queries, keys = random(3, 4, 5, seed=1), random(6, 4, 5, seed=2)
    logits = local_local_logits(queries, keys)
    assert logits.shape == (4, 3, 6)
    for place in range(4):
        for i in range(3):
            for j in range(6):
                expected = sum(queries[i, place, c] * keys[j, place, c] for c in range(5))
                torch.testing.assert_close(logits[place, i, j], expected)


def test_global_scores_compare_one_query_with_every_place():
    queries, keys = random(3, 5, seed=1), random(3, 4, 5, seed=2)
    logits = global_local_logits(queries, keys)
    for place in range(4):
        torch.testing.assert_close(logits[place], queries @ keys[:, place].T)


def test_global_scores_with_a_query_per_place():
    queries, keys = random(3, 4, 5, seed=1), random(3, 4, 5, seed=2)
    logits = global_local_logits(queries, keys)
    for place in range(4):
        torch.testing.assert_close(logits[place], queries[:, place] @ keys[:, place].T)


def test_pair_scores():
    queries, keys = random(3, 5, seed=1), random(4, 5, seed=2)
    expected = torch.stack([torch.stack([(q * k).sum() for k in keys]) for q in queries])
    torch.testing.assert_close(pair_logits(queries, keys), expected)


def test_infonce_is_the_mean_over_places_of_the_explicit_sum():
    queries, keys = random(4, 3, 5, seed=1), random(4, 3, 5, seed=2)
    fast = infonce(local_local_logits(queries, keys))
    slow = sum(slow_infonce(queries[:, p] @ keys[:, p].T) for p in range(3)) / 3
    check_equal(fast, slow, (queries, keys))


def test_infonce_with_keys_of_other_processes():
    logits = random(2, 6)
    check_equal(infonce(logits, first_positive=2), slow_infonce(logits, first_positive=2), (logits,))


@pytest.mark.parametrize("number", [2, 7, 64])
def test_infonce_at_chance_is_the_logarithm_of_the_number_of_keys(number):
    assert infonce(torch.full((3, number, number), 0.7)).item() == pytest.approx(math.log(number), rel=1e-5)


def test_matching_accuracy_counts_rows_whose_own_key_wins():
    logits = torch.tensor([[[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], [[0.0, 1.0, 0.0]] * 3])
    assert matching_accuracy(logits).item() == pytest.approx(
        3 / 6
    )  # rows 0 and 2 of the first place, row 1 of the other
    assert matching_accuracy(logits[:, :2], first_positive=1).item() == pytest.approx(2 / 4)


@pytest.mark.parametrize("make", [local_local_logits, global_local_logits, pair_logits])
def test_scores_stay_in_float32_under_bfloat16_autocast(make):
    shapes = {local_local_logits: ((8, 3, 64), (8, 3, 64)), global_local_logits: ((8, 64), (8, 3, 64))}
    first, second = shapes.get(make, ((8, 64), (8, 64)))
    queries, keys = random(*first, scale=3.0).bfloat16(), random(*second, scale=3.0, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        logits = make(queries, keys)
        loss = infonce(logits)
    assert logits.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(logits, make(queries.float(), keys.float()), rtol=1e-5, atol=1e-3)


def slow_three_frames(s12, s13, s23):
    """Eq. 5 of the study with its N^3 scores written out."""
    total = 0.0
    number = len(s12)
    for i in range(number):
        positive = torch.exp(s12[i, i].double() + s13[i, i] + s23[i, i])
        denominator = sum(
            torch.exp(s12[i, j].double() + s13[i, k] + s23[j, k]) for j in range(number) for k in range(number)
        )
        total = total - torch.log(positive / denominator)
    return total / number


def test_three_frame_infonce_is_the_explicit_sum_over_pairs():
    scores = [random(4, 4, seed=seed) for seed in (1, 2, 3)]
    check_equal(three_frame_infonce(*scores), slow_three_frames(*scores), scores)


def test_three_frame_infonce_of_some_queries_among_the_followers_of_all():
    s12, s13, s23 = (random(4, 4, seed=seed) for seed in (1, 2, 3))
    parts = [three_frame_infonce(s12[a:b], s13[a:b], s23, first_positive=a) for a, b in ((0, 1), (1, 4))]
    check_equal((parts[0] + 3 * parts[1]) / 4, slow_three_frames(s12, s13, s23), (s12, s13, s23))


def test_three_frame_infonce_averages_over_places():
    scores = [random(2, 3, 3, seed=seed) for seed in (1, 2, 3)]
    slow = (slow_three_frames(*(s[0] for s in scores)) + slow_three_frames(*(s[1] for s in scores))) / 2
    check_equal(three_frame_infonce(*scores), slow, scores)


def test_three_frame_infonce_at_chance():
    zeros = torch.zeros(2, 5, 5)
    assert three_frame_infonce(zeros, zeros, zeros).item() == pytest.approx(2 * math.log(5), rel=1e-6)


def test_three_frames_without_the_last_term_are_two_separate_losses():
    s12, s13 = random(4, 4, seed=1), random(4, 4, seed=2)
    joint = three_frame_infonce(s12, s13, torch.zeros(4, 4))
    torch.testing.assert_close(joint, infonce(s12) + infonce(s13))


def test_three_frame_infonce_with_scores_that_would_overflow():
    # The third term prefers the pair that the first likes least, so that no factor reaches its own peak.
    s12, s13, s23 = (random(3, 3, scale=150.0, seed=seed) for seed in (1, 2, 3))
    cube = s12.double()[:, :, None] + s13.double()[:, None, :] + s23.double()[None]
    expected = cube.flatten(1).logsumexp(1).mean() - (s12 + s13 + s23).double().diagonal().mean()
    loss = three_frame_infonce(s12, s13, s23)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-4)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, (s12, s13, s23)))


def test_without_processes_there_is_nothing_to_gather():
    keys = random(3, 2)
    gathered, first = gather_keys(keys)
    assert gathered is keys
    assert first == 0
