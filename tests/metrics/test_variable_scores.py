import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from lightning_zoo.metrics.variable_scores import (
    VariableAccuracy,
    VariableScores,
    category_means,
    mean_over_categories,
    named_scores,
)

CATEGORIES = {"x": ["position"], "y": ["position"], "lives": ["count", "misc"], "colour": []}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_scores_equal_scikit_learn(data):
    variables, rows = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    # A narrow range makes hits and unseen classes likely; the wide one reaches both ends of a byte.
    values = data.draw(st.sampled_from([st.integers(0, 3), st.integers(250, 255), st.integers(0, 255)]))
    table = st.lists(st.lists(values, min_size=variables, max_size=variables), min_size=rows, max_size=rows)
    predictions, labels = np.array(data.draw(table)), np.array(data.draw(table))
    metric = VariableScores(variables)
    cut = data.draw(st.integers(0, rows))
    for part in (slice(0, cut), slice(cut, rows)):
        metric.update(torch.tensor(predictions[part]), torch.tensor(labels[part]))
    scores = metric.compute()
    for k in range(variables):
        truth, guess = labels[:, k], predictions[:, k]
        expected = f1_score(truth, guess, average="weighted", zero_division=0)
        assert scores["f1"][k] == pytest.approx(expected, abs=1e-12)
        assert scores["accuracy"][k] == pytest.approx(accuracy_score(truth, guess), abs=1e-12)
        assert scores["mean_absolute_error"][k] == pytest.approx(np.abs(truth - guess).mean(), abs=1e-9)


def test_variables_do_not_mix():
    metric = VariableScores(2)
    metric.update(torch.tensor([[255, 0], [255, 0]]), torch.tensor([[255, 1], [255, 1]]))
    assert metric.compute()["accuracy"] == [1.0, 0.0]


def test_accuracy_over_unequal_batches():
    metric = VariableAccuracy(2)
    metric.update(torch.tensor([[1, 2]]), torch.tensor([[1, 3]]))
    metric.update(torch.tensor([[1, 2], [1, 2], [1, 2]]), torch.tensor([[0, 2], [0, 2], [1, 2]]))
    assert metric.compute().tolist() == [0.5, 0.75]
    metric.reset()
    metric.update(torch.tensor([[1, 2]]), torch.tensor([[0, 2]]))
    assert metric.compute().tolist() == [0.0, 1.0]


def test_a_variable_may_count_twice_or_never():
    values = {"x": 0.0, "y": 1.0, "lives": 0.2, "colour": 100.0, "unheard_of": 100.0}
    assert category_means(values, CATEGORIES) == {"count": 0.2, "misc": 0.2, "position": 0.5}
    assert mean_over_categories(values, CATEGORIES) == pytest.approx(0.3)


def test_missing_variables_take_their_category_with_them():
    assert mean_over_categories({"x": 0.7}, CATEGORIES) == 0.7
    assert math.isnan(mean_over_categories({"colour": 1.0}, CATEGORIES))


def test_names_that_a_logger_accepts():
    metric = VariableScores(2)
    metric.update(torch.tensor([[5, 1], [6, 1]]), torch.tensor([[5, 1], [8, 1]]))
    named = named_scores(metric.compute(), ["x", "lives"], CATEGORIES)
    assert named["accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert named["accuracy_over_variables"] == 0.75
    assert named["f1_position"] == pytest.approx(0.5)  # class 5: 1 (half the labels), class 8: 0
    assert named["variables/x/mean_absolute_error"] == 1.0
    assert "f1" not in named_scores(metric.compute(), ["a", "b"], {})
