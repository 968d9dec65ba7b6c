"""Scores of many byte-valued variables at once, and their means over categories as the AtariARI benchmark has them."""

from collections.abc import Mapping, Sequence
from math import nan

import torch
from torch import Tensor
from torchmetrics import Metric

VALUES = 256
"""How many values a RAM byte can have, which is the number of classes of a variable."""


class VariableScores(Metric):
    """Weighted F1, accuracy and mean absolute error of each of K variables, from K confusion matrices.

    Args:
        num_variables: K.
        num_classes: classes of each variable.
    """

    full_state_update = False
    higher_is_better = True
    confusion: Tensor

    def __init__(self, num_variables: int, *, num_classes: int = VALUES) -> None:
        super().__init__()
        self.num_variables = num_variables
        self.num_classes = num_classes
        zeros = torch.zeros(num_variables, num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", zeros, dist_reduce_fx="sum")

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Count predictions (B, K) and labels (B, K), both int64 in [0, num_classes)."""
        cells = self.num_classes**2
        offsets = torch.arange(self.num_variables, device=labels.device) * cells
        index = offsets + labels * self.num_classes + predictions
        counts = torch.bincount(index.flatten(), minlength=self.num_variables * cells)
        self.confusion += counts.view_as(self.confusion)

    def compute(self) -> dict[str, list[float]]:
        """Scores of each variable, zero where nothing was counted.

        Returns:
            K numbers each, in lists since torchmetrics makes a scalar of a tensor with one element:
            "f1": mean over classes of F1, weighted by how often a class is a label; a class never predicted has 0.
            "accuracy": share of right predictions.
            "mean_absolute_error": in units of the RAM byte.
        """
        confusion = self.confusion.cpu().double()  # (K, label, prediction)
        right = confusion.diagonal(dim1=1, dim2=2)
        labelled, predicted = confusion.sum(2), confusion.sum(1)
        total = labelled.sum(1).clamp(min=1)
        f1 = 2 * right / (labelled + predicted).clamp(min=1)
        values = torch.arange(self.num_classes, dtype=confusion.dtype)
        distance = (values[:, None] - values).abs()
        return {
            "f1": ((f1 * labelled).sum(1) / total).tolist(),
            "accuracy": (right.sum(1) / total).tolist(),
            "mean_absolute_error": ((confusion * distance).sum((1, 2)) / total).tolist(),
        }


class VariableAccuracy(Metric):
    """Accuracy of each of K variables, for validation in every epoch where K confusion matrices would be waste.

    Args:
        num_variables: K.
    """

    full_state_update = False
    higher_is_better = True
    right: Tensor
    total: Tensor

    def __init__(self, num_variables: int) -> None:
        super().__init__()
        self.add_state("right", torch.zeros(num_variables, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Count predictions (B, K) and labels (B, K)."""
        self.right += (predictions == labels).sum(0)
        self.total += len(labels)

    def compute(self) -> Tensor:
        """Shares of right predictions, float64 on the CPU: (K,), or a scalar for K = 1, since torchmetrics squeezes."""
        return self.right.cpu().double() / self.total.cpu().clamp(min=1)


def category_means(values: Mapping[str, float], categories: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Mean of the variables of each category.

    Args:
        values: one number per variable.
        categories: per variable the categories it counts in: several, one or none.

    Returns:
        Category to mean, for the categories that have a variable in ``values``, in alphabetical order.

    Example:
        >>> category_means({"x": 0.0, "y": 0.5, "lives": 1.0}, {"x": ["place"], "y": ["place"], "lives": ["count"]})
        {'count': 1.0, 'place': 0.25}
    """
    members: dict[str, list[float]] = {}
    for variable, value in values.items():
        for category in categories.get(variable, ()):
            members.setdefault(category, []).append(value)
    return {category: sum(found) / len(found) for category, found in sorted(members.items())}


def mean_over_categories(values: Mapping[str, float], categories: Mapping[str, Sequence[str]]) -> float:
    """Unweighted mean of the category means, the benchmark's score of a game; nan if no variable has a category.

    It differs from the mean over variables: a category with one variable counts as much as one with twenty.
    """
    means = category_means(values, categories)
    return sum(means.values()) / len(means) if means else nan


def named_scores(
    scores: Mapping[str, Sequence[float]], variables: Sequence[str], categories: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Scores under the names they are logged by.

    Args:
        scores: what `VariableScores.compute` returned.
        variables: names of the K variables.
        categories: per variable the categories it counts in.

    Returns:
        "f1", "accuracy" (means over categories, left out if there are none), "f1_<category>", "accuracy_<category>",
        "f1_over_variables", "accuracy_over_variables" and "variables/<name>/<score>".
    """
    named: dict[str, float] = {}
    for score, numbers in scores.items():
        values = dict(zip(variables, numbers, strict=True))
        if score != "mean_absolute_error":
            means = category_means(values, categories)
            if means:
                named[score] = mean_over_categories(values, categories)
            named |= {f"{score}_{category}": mean for category, mean in means.items()}
            named[f"{score}_over_variables"] = sum(values.values()) / len(values)
        named |= {f"variables/{variable}/{score}": value for variable, value in values.items()}
    return named
