"""Verdicts on whole videos of which only clips are classified: "all sequences within a video vote together".

Thesis of Shang, section 7.5.3: the logits of a video's clips are averaged, and the largest mean is the answer.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def mean_by_video(values: Tensor, videos: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the clips of each video; gradients pass through.

    Args:
        values: (N, K) of N clips.
        videos: int64 (N,), the video of each, in any order.

    Returns:
        (V, K), and the videos' numbers (V,), ascending.
    """
    numbers, place = videos.unique(return_inverse=True)
    sums = values.new_zeros(len(numbers), *values.shape[1:]).index_add(0, place, values)
    return sums / place.bincount()[:, None], numbers


def labels_by_video(labels: Tensor, videos: Tensor) -> Tensor:
    """The labels (V,) of the videos of `mean_by_video`, of labels (N,) that agree within each video."""
    numbers, place = videos.unique(return_inverse=True)
    return labels.new_zeros(len(numbers)).scatter(0, place, labels)


def share_right(answers: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy, and its mean over the classes that there are (balanced accuracy); int64 (V,) both."""
    right = (answers == labels).double()
    classes, place = labels.unique(return_inverse=True)
    by_class = right.new_zeros(len(classes)).index_add(0, place, right) / place.bincount()
    return right.mean().item(), by_class.mean().item()


class VideoAccuracy(Metric):
    """Accuracy and balanced accuracy by video; clips of one video may come in any batch and any process."""

    full_state_update = False
    higher_is_better = True
    logits: list[Tensor]
    labels: list[Tensor]
    videos: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "labels", "videos"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, videos: Tensor) -> None:
        """Note logits (B, K) of clips, and the classes and videos (B,) of these."""
        self.logits.append(logits.detach().float())
        self.labels.append(labels)
        self.videos.append(videos)

    def compute(self) -> dict[str, Tensor]:
        """The shares "video_accuracy" and "video_balanced_accuracy" of all videos that were noted."""
        logits, labels, videos = (dim_zero_cat(noted) for noted in (self.logits, self.labels, self.videos))
        means, _ = mean_by_video(logits, videos)
        shares = share_right(means.argmax(1), labels_by_video(labels, videos))
        return dict(zip(("video_accuracy", "video_balanced_accuracy"), map(torch.tensor, shares), strict=True))
