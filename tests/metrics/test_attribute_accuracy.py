"""Accuracies of binary attributes against slow counts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from lightning_zoo.metrics.attribute_accuracy import AttributeAccuracy, constant_accuracy


def slowly(logits, attributes):
    """(accuracy, balanced accuracy, frequency) of one attribute, image by image."""
    right = {-1: [], 1: []}
    for logit, truth in zip(logits, attributes, strict=True):
        if truth:
            right[truth].append((logit > 0) == (truth > 0))
    counted = right[-1] + right[1]
    if not counted:
        return math.nan, math.nan, math.nan
    shares = [sum(answers) / len(answers) for answers in right.values() if answers]
    return sum(counted) / len(counted), sum(shares) / len(shares), len(right[1]) / len(counted)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_scores_equal_a_slow_count(data):
    number, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 30))

    def table(values):
        return data.draw(st.lists(st.lists(values, min_size=number, max_size=number), min_size=rows, max_size=rows))

    logits = np.array(table(st.sampled_from([-2.0, -0.1, 0.0, 0.1, 3.0])))
    attributes = np.array(table(st.sampled_from([-1, -1, 0, 1])))
    metric = AttributeAccuracy(number)
    cut = data.draw(st.integers(0, rows))
    for part in (slice(0, cut), slice(cut, rows)):
        metric.update(torch.tensor(logits[part]), torch.tensor(attributes[part], dtype=torch.int8))
    scores = metric.compute()
    for column in range(number):
        found = [scores[name][column] for name in ("accuracy", "balanced_accuracy", "frequency")]
        expected = slowly(logits[:, column].tolist(), attributes[:, column].tolist())
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
        known = attributes[:, column] != 0
        if known.any():
            truth, said = attributes[known, column] > 0, logits[known, column] > 0
            assert found[0] == pytest.approx(accuracy_score(truth, said), abs=1e-12)


def test_a_constant_answer_is_balanced_to_one_half():
    metric = AttributeAccuracy(1)
    attributes = torch.tensor([[1]] + [[-1]] * 49)
    metric.update(torch.full((50, 1), -1.0), attributes)
    scores = metric.compute()
    assert scores == {"accuracy": [0.98], "balanced_accuracy": [0.5], "frequency": [0.02]}
    metric.reset()
    assert math.isnan(metric.compute()["accuracy"][0])


def test_the_constant_answer_is_that_of_training():
    frequencies, training = torch.tensor([0.9, 0.9, 0.2, 0.5]), torch.tensor([0.8, 0.1, 0.2, float("nan")])
    accuracy = constant_accuracy(frequencies, training)
    torch.testing.assert_close(accuracy, torch.tensor([0.9, 0.1, 0.8, float("nan")]), equal_nan=True)


def test_other_shapes_are_refused():
    metric = AttributeAccuracy(3)
    for logits, attributes in ((torch.zeros(2, 3), torch.ones(2, 2)), (torch.zeros(2, 4), torch.ones(2, 4))):
        with pytest.raises(ValueError, match=r"must both be \(B, 3\), got"):
            metric.update(logits, attributes)
