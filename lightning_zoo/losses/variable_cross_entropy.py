"""Cross-entropy of many classifiers that are trained side by side."""

import torch
from torch import Tensor
from torch.nn import functional as F


def variable_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each of K classifiers, in nats and in float32 at least.

    Args:
        logits: (K, B, C), classifier first.
        labels: int64 (B, K), variable last as the data have them.

    Returns:
        (K,); its sum has for each classifier the gradient of its own mean.
    """
    count, rows, classes = logits.shape
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    entropy = F.cross_entropy(logits.reshape(-1, classes), labels.T.reshape(-1), reduction="none")
    return entropy.view(count, rows).mean(1)
