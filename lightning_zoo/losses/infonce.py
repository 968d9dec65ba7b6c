"""InfoNCE with bilinear scores over all places of a feature map at once (van den Oord et al. 2018, arXiv 1807.03748).

Scores and losses are computed in float32 under autocast too: a bfloat16 score of 50 is only known to 0.2 nats.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def by_place(feature_map: Tensor) -> Tensor:
    """Local features (B, P, C) of a feature map (B, C, H, W), in the memory order that the products below want."""
    return feature_map.flatten(2).transpose(1, 2).contiguous()


def global_local_logits(queries: Tensor, keys: Tensor) -> Tensor:
    """Scores of global queries against the local features of every place, eq. 3 of ST-DIM (left).

    Args:
        queries: (N, C) projected global features, or (N, P, C) if each place has its own projection.
        keys: (M, P, C) local features at P places.

    Returns:
        (P, N, M): at each place, every query against every key.
    """
    if queries.dim() == 3:
        return local_local_logits(queries, keys)
    with torch.autocast(queries.device.type, enabled=False):
        scores = keys.float().flatten(0, 1) @ queries.float().T  # (M * P, N)
        return scores.unflatten(0, keys.shape[:2]).permute(1, 2, 0)


def local_local_logits(queries: Tensor, keys: Tensor) -> Tensor:
    """Scores of local queries against the local features at the same place, eq. 3 of ST-DIM (right).

    Args:
        queries: (N, P, C) projected local features at P places.
        keys: (M, P, C) local features at the same places.

    Returns:
        (P, N, M): at each place, every query against every key.
    """
    with torch.autocast(queries.device.type, enabled=False):
        return torch.bmm(queries.float().transpose(0, 1), keys.float().permute(1, 2, 0))


def pair_logits(queries: Tensor, keys: Tensor) -> Tensor:
    """Scores (N, M) of queries (N, D) against keys (M, D), vectors of whole frames."""
    with torch.autocast(queries.device.type, enabled=False):
        return queries.float() @ keys.float().T


def infonce(logits: Tensor, *, first_positive: int = 0) -> Tensor:
    """Cross-entropy of each query's own key among all keys, eq. 1 of the ST-DIM study, in nats.

    Args:
        logits: (..., N, M) with M >= N; the positive of query i is key ``first_positive + i``.
        first_positive: index of query 0's positive; differs from 0 where keys were gathered from several processes.

    Returns:
        Scalar: mean over queries and leading dimensions; log M at chance.

    Example:
        >>> import math, torch
        >>> bool(infonce(torch.zeros(2, 5, 5)).isclose(torch.tensor(math.log(5))))
        True
    """
    number, keys = logits.shape[-2:]
    targets = torch.arange(first_positive, first_positive + number, device=logits.device)
    rows = logits.float().reshape(-1, keys)
    return F.cross_entropy(rows, targets.repeat(rows.shape[0] // number))


def matching_accuracy(logits: Tensor, *, first_positive: int = 0) -> Tensor:
    """Share of queries whose own key has the highest score; arguments as for `infonce`."""
    number = logits.shape[-2]
    targets = torch.arange(first_positive, first_positive + number, device=logits.device)
    return (logits.argmax(-1) == targets).float().mean()


def three_frame_infonce(
    first_second: Tensor, first_third: Tensor, second_third: Tensor, *, first_positive: int = 0
) -> Tensor:
    """InfoNCE over triples, eq. 5 of the ST-DIM study, for f(a, b, c) = s12(a, b) + s13(a, c) + s23(b, c).

    The denominator runs over all M x M pairs (b_j, c_k). With a pairwise sum it is the bilinear form
    exp(s12[i]) exp(s23) exp(s13[i])^T, so that no N x M x M tensor is ever built; without s23 it would fall apart into
    two separate InfoNCE terms.

    Args:
        first_second: (..., N, M) scores s12 of first frames (rows) against second frames, M >= N.
        first_third: (..., N, M) scores s13 of first frames (rows) against third frames.
        second_third: (..., M, M) scores s23 of second frames (rows) against third frames.
        first_positive: index of the frames that follow first frame 0, as for `infonce`.

    Returns:
        Scalar: mean over queries and leading dimensions, in nats; 2 log M at chance.
    """
    # Every factor is divided by its peak, per row, so that only scores some 700 apart lose mass in float64.
    s12, s13, s23 = (scores.double() for scores in (first_second, first_third, second_third))
    peak23 = s23.amax(-1).detach()  # (..., M) over third frames
    s12_peaked = s12 + peak23.unsqueeze(-2)
    peak12 = s12_peaked.amax(-1, keepdim=True).detach()
    peak13 = s13.amax(-1, keepdim=True).detach()
    mass = torch.matmul((s12_peaked - peak12).exp(), (s23 - peak23.unsqueeze(-1)).exp())
    mass = (mass * (s13 - peak13).exp()).sum(-1)
    log_denominator = mass.log() + (peak12 + peak13).squeeze(-1)
    own = slice(first_positive, first_positive + s12.shape[-2])
    positive = sum(scores.diagonal(dim1=-2, dim2=-1) for scores in (s12[..., own], s13[..., own], s23[..., own, own]))
    return (log_denominator - positive).mean().float()
