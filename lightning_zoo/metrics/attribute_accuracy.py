"""How often a classifier of binary attributes is right, per attribute, beside an answer that knows only frequencies."""

import torch
from torch import Tensor
from torchmetrics import Metric


class AttributeAccuracy(Metric):
    """Accuracy and balanced accuracy of each of N attributes, from how often each answer met each truth.

    Many attributes are rare: who never says "bald" is right 98 times of 100. The balanced accuracy, the mean of the
    shares of right answers among the images with and among those without an attribute, is one half for any constant
    answer.

    Args:
        num_attributes: N.
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor

    def __init__(self, num_attributes: int) -> None:
        super().__init__()
        self.num_attributes = num_attributes
        self.add_state("counts", torch.zeros(num_attributes, 2, 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, attributes: Tensor) -> None:
        """Count logits (B, N), positive for "yes", against attributes (B, N) in {-1, +1}; zeros are not counted.

        Raises:
            ValueError: for other shapes.
        """
        if logits.shape != attributes.shape or logits.dim() != 2 or logits.shape[1] != self.num_attributes:
            got = " and ".join(str(tuple(values.shape)) for values in (logits, attributes))
            raise ValueError(f"logits and attributes must both be (B, {self.num_attributes}), got {got}")
        said = logits > 0
        for truth, there in enumerate((attributes < 0, attributes > 0)):
            self.counts[:, truth, 0] += (there & ~said).sum(0)
            self.counts[:, truth, 1] += (there & said).sum(0)

    def compute(self) -> dict[str, list[float]]:
        """N numbers each, nan for an attribute that was never counted.

        Returns:
            "accuracy": share of right answers.
            "balanced_accuracy": mean over both truths of the share of right answers; of one truth where there is only
                that one.
            "frequency": share of images that have the attribute.
        """
        counts = self.counts.cpu().double()  # (N, truth, answer)
        truths, right = counts.sum(2), counts.diagonal(dim1=1, dim2=2)
        total = truths.sum(1)
        return {
            "accuracy": (right.sum(1) / total).tolist(),
            "balanced_accuracy": (right / truths).nanmean(1).tolist(),
            "frequency": (truths[:, 1] / total).tolist(),
        }


def constant_accuracy(frequencies: Tensor, training_frequencies: Tensor) -> Tensor:
    """Accuracy (N,) of always giving the answer that was the more frequent one in training.

    Args:
        frequencies: (N,) share of the judged images that have each attribute.
        training_frequencies: (N,) that of the training images; nan, where it is not known, gives nan.
    """
    accuracy = torch.where(training_frequencies > 0.5, frequencies, 1 - frequencies)
    return torch.where(training_frequencies.isnan(), training_frequencies, accuracy)
